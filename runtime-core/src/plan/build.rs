//! Building a plan: strings and lists into the arena, ops into the list.

use std::borrow::Cow;
use std::ffi::CStr;

use orlop_init::op::MOST_HELD;
use orlop_init::plan::MAX_OPS;

use super::{Bytes, Fill, IdMapping, MappedTree, Op, Origin, Plan, Slot, Str, Strs, Words};
use crate::error::{Error, Result};

/// Longest arena, in bytes: offsets in it have 32 bits, and a text of the config may
/// stand in the plan once for every mount.
const MOST_BYTES: usize = 64 << 20;

/// Most warnings of a plan, one line each.
const MOST_WARNINGS: usize = 32;

/// Where a later op finds something: operands of that name.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The whole path, or empty where nothing but the mount is meant.
    pub at: Str,
    /// The number of a mount that is held, 0 for none.
    pub under: u32,
    /// The path from there.
    pub below: Str,
}

/// A plan under construction. Errors are collected, not returned one by one, so
/// that a person sees all that is wrong with a bundle at once.
#[derive(Debug, Default)]
pub struct Builder {
    plan: Plan,
    /// How many mounts the stage holds.
    held: u32,
    /// Those that are counted alone.
    more_warnings: usize,
    /// Whether something did not fit.
    too_long: bool,
    errors: Vec<Error>,
}

impl Builder {
    /// An empty plan.
    #[must_use]
    pub fn new() -> Self {
        let mut builder = Self::default();
        // As much as most containers need: every growth leaves the smaller one behind.
        builder.plan.ops.reserve(64);
        builder.plan.origins.reserve(64);
        builder.plan.arena.reserve(4096);
        builder.plan.arena.push(0); // offset 0 is the empty string
        builder
    }

    /// Notes an error; the plan will not be built.
    pub fn error(&mut self, error: Error) {
        self.errors.push(error);
    }

    /// Notes what a person should know. Beyond what a person reads they are counted.
    pub fn warn(&mut self, warning: impl Into<String>) {
        if self.plan.warnings.len() < MOST_WARNINGS {
            self.plan.warnings.push(warning.into());
        } else {
            self.more_warnings += 1;
        }
    }

    /// The launcher's half.
    pub fn outside(&mut self) -> &mut super::Outside {
        &mut self.plan.outside
    }

    /// A string. One with a NUL in it was refused when the bundle was read; here
    /// it would be cut, so it is an error again.
    pub fn str(&mut self, text: impl AsRef<[u8]>) -> Str {
        let text = text.as_ref();
        if text.is_empty() {
            return Str(0);
        }
        if text.contains(&0) {
            self.error(Error::config("", format!("{:?} contains a NUL byte", lossy(text))));
            return Str(0);
        }
        Str(self.append(text))
    }

    /// A run of bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Bytes {
        self.align();
        let at = self.append(bytes);
        Bytes { at, len: bytes.len() as u32 }
    }

    /// What goes beyond the most is left out, and [`Self::finish`] refuses the plan.
    fn append(&mut self, bytes: &[u8]) -> u32 {
        let at = self.plan.arena.len();
        if at + bytes.len() < MOST_BYTES {
            self.plan.arena.extend_from_slice(bytes);
            self.plan.arena.push(0);
        } else {
            self.too_long = true;
        }
        at as u32
    }

    /// A list of numbers.
    pub fn words(&mut self, words: &[u32]) -> Words {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let Bytes { at, .. } = self.bytes(&bytes);
        Words { at, len: words.len() as u32 }
    }

    /// A list of strings.
    pub fn strs<T: AsRef<[u8]>>(&mut self, texts: impl IntoIterator<Item = T>) -> Strs {
        let offsets: Vec<u32> = texts.into_iter().map(|text| self.str(text).0).collect();
        let Words { at, len } = self.words(&offsets);
        Strs { at, len }
    }

    /// A slot that the launcher fills with `fill`.
    pub fn slot(&mut self, fill: Fill) -> Slot {
        self.plan.fills.push(fill);
        Slot(Slot::FIRST_FREE + self.plan.fills.len() as u32 - 1)
    }

    /// Has the launcher map the ids of the tree that the next op binds.
    pub fn map_next(&mut self, ids: IdMapping) {
        let op = self.plan.ops.len() as u32;
        self.plan.outside.trees.push(MappedTree { op, ids });
    }

    /// Appends an op. `pointer` is its JSON pointer or empty, `doing` the words
    /// that an error about it begins with.
    pub fn push(
        &mut self,
        op: Op,
        pointer: impl Into<Cow<'static, str>>,
        doing: impl Into<Cow<'static, str>>,
    ) {
        // What is beyond the most is left out, and `finish` refuses the plan: each place is
        // looked for among all ops before it.
        if self.plan.ops.len() > MAX_OPS {
            return;
        }
        self.plan.ops.push(op);
        self.plan.origins.push(Origin { pointer: pointer.into(), doing: doing.into() });
    }

    /// A place in the root for an op that comes later than the mounts: the last mount
    /// on the way there, which the stage shall hold, and the path from it.
    pub fn place(&mut self, path: &str) -> Place {
        let at = self.str(path);
        let mut ops = self.plan.ops.iter().enumerate().rev();
        let found = ops.find_map(|(index, op)| match op {
            Op::Mount { at, .. } | Op::Bind { at, .. } => {
                Some((index, below(path, self.bytes_of(*at))?))
            }
            _ => None,
        });
        let Some((index, rest)) = found else {
            return Place { at, under: 0, below: Str(0) };
        };
        let under = self.held(index);
        Place { at, under, below: self.str(rest) }
    }

    /// The mount that the entry at `pointer` has made at a path, wherever that leads by
    /// now: no whole path, so that nothing else is found by it. `None` without one.
    pub fn made(&mut self, pointer: &str, path: &str) -> Option<Place> {
        let steps = self.plan.ops.iter().zip(&self.plan.origins);
        let index = steps.into_iter().rposition(|(op, origin)| match op {
            Op::Mount { at, .. } | Op::Bind { at, .. } => {
                origin.pointer == pointer && self.bytes_of(*at) == path.as_bytes()
            }
            _ => false,
        })?;
        Some(Place { at: Str(0), under: self.held(index), below: Str(0) })
    }

    /// Has the stage hold the mount that an op makes: its number.
    fn held(&mut self, index: usize) -> u32 {
        let number = self.held + 1;
        match self.plan.ops.get_mut(index) {
            Some(Op::Mount { hold, .. } | Op::Bind { hold, .. }) => {
                if *hold == 0 {
                    (*hold, self.held) = (number, number);
                }
                *hold
            }
            _ => 0,
        }
    }

    fn bytes_of(&self, text: Str) -> &[u8] {
        let bytes = self.plan.arena.get(text.0 as usize..).unwrap_or_default();
        CStr::from_bytes_until_nul(bytes).unwrap_or_default().to_bytes()
    }

    /// Whether the stage has a procfs for its own writes by now.
    #[must_use]
    pub fn has_procfs(&self) -> bool {
        self.plan.ops.iter().any(|op| matches!(op, Op::Mount { keep: 1, .. } | Op::OpenProc {}))
    }

    /// The plan, or all that is wrong with it.
    ///
    /// # Errors
    /// Those noted by [`Self::error`], and a plan that is too long.
    pub fn finish(mut self) -> Result<Plan, Vec<Error>> {
        if self.plan.ops.len() > MAX_OPS {
            self.error(Error::config(
                "",
                format!("the bundle needs more than {MAX_OPS} steps: too many mounts or devices"),
            ));
        }
        if self.too_long {
            self.error(Error::config("", format!("the plan needs more than {MOST_BYTES} bytes")));
        }
        if self.held as usize > MOST_HELD {
            let what = format!("more than {MOST_HELD} mounts are covered or changed later");
            self.error(Error::unsupported("/mounts", what));
        }
        if self.more_warnings > 0 {
            self.plan.warnings.push(format!("and {} warnings more", self.more_warnings));
        }
        if self.errors.is_empty() { Ok(self.plan) } else { Err(self.errors) }
    }

    fn align(&mut self) {
        let length = self.plan.arena.len().next_multiple_of(8);
        self.plan.arena.resize(length, 0);
    }
}

/// The path from a directory to what is in it, or empty for itself.
fn below<'a>(path: &'a str, directory: &[u8]) -> Option<&'a [u8]> {
    let rest = path.as_bytes().strip_prefix(directory)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_warnings_the_first_are_told() {
        let mut builder = Builder::new();
        (0..50_000).for_each(|number| builder.warn(format!("{number}")));
        let warnings = builder.finish().unwrap().warnings;
        assert_eq!(warnings.len(), MOST_WARNINGS + 1);
        assert_eq!(warnings[MOST_WARNINGS - 1..], ["31", "and 49968 warnings more"]);
    }

    #[test]
    fn a_plan_beyond_its_most_is_refused_and_takes_no_more_memory() {
        let half = vec![b'x'; MOST_BYTES / 2];
        let mut builder = Builder::new();
        for _ in 0..4 {
            builder.str(&half);
        }
        assert!(builder.plan.arena.len() <= MOST_BYTES);
        let errors = builder.finish().expect_err("two halves and a NUL are more");
        assert_eq!(errors.len(), 1);
        let text = errors[0].to_string();
        assert!(text.starts_with("the plan needs more than 67108864 bytes"), "{text}");
    }
}
