//! The plan: a flat list of ops over one byte arena, as plain bytes.
//!
//! The compiler writes it, the stage reads it in place from a read-only mapping.
//! Offsets instead of pointers, so it may be mapped anywhere; fixed-size records,
//! decoded one by one and never transmuted, so a bad byte is an error and not
//! undefined behaviour.
//!
//! ```text
//! header (8 words) | slots (one word each) | ops (16 words each) | arena
//! ```

use core::ffi::CStr;

pub use crate::op::{OP_COUNT, Op};

/// First word of every plan; the last digit is the version of the format.
pub const MAGIC: u32 = u32::from_le_bytes(*b"orl1");
/// Words in the header.
pub const HEADER_WORDS: usize = 8;
/// Words in one op: the code and up to fifteen words of operands.
pub const OP_WORDS: usize = 18;
/// Most ops in one plan: more than 4,096 mounts are a mistake.
pub const MAX_OPS: usize = 16_384;

/// Offset of a NUL-terminated string in the arena. Zero is the empty string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Str(pub u32);

/// A run of bytes in the arena, aligned to eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    /// Offset in the arena.
    pub at: u32,
    /// Length in bytes.
    pub len: u32,
}

/// A list of 32-bit numbers in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Words {
    /// Offset in the arena, a multiple of four.
    pub at: u32,
    /// How many.
    pub len: u32,
}

/// A list of strings in the arena: their offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strs {
    /// Offset of the list of offsets, a multiple of four.
    pub at: u32,
    /// How many.
    pub len: u32,
}

/// A descriptor that only the running launcher knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// The socket on which gates and reports travel. Always filled.
    pub const CONTROL: Self = Self(0);
    /// A FIFO: one byte lets the container start, and what goes wrong between that and
    /// the exec goes back into it.
    pub const START: Self = Self(1);
    /// A connected socket that takes the terminal's master.
    pub const CONSOLE: Self = Self(2);
    /// A memory file with the state that hooks read from standard input.
    pub const HOOK_STATE: Self = Self(3);
    /// The process whose namespaces `exec` joins, as a pidfd.
    pub const TARGET: Self = Self(4);
    /// No descriptor.
    pub const NONE: Self = Self(u32::MAX);
    /// Sources, namespaces and cgroup files are numbered from here.
    pub const FIRST_FREE: u32 = 8;
}

/// A wait of the stage for the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Gate {
    /// The process is in its cgroup: somebody else, systemd, has moved it there.
    Placed = 1,
    /// The ids of the new user namespace are mapped.
    Mapped = 2,
    /// What needs the process's number outside is done: time offsets, network
    /// devices.
    Attached = 3,
    /// The ids of a tree that only the stage could open are mapped. Once for each.
    Tree = 4,
    /// The prestart and createRuntime hooks have run.
    RuntimeHooks = 5,
    /// The seccomp listener has been taken.
    Listener = 6,
    /// All is made; the container counts as created.
    Ready = 7,
}

impl Gate {
    /// The gate of that number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Placed,
            2 => Self::Mapped,
            3 => Self::Attached,
            4 => Self::Tree,
            5 => Self::RuntimeHooks,
            6 => Self::Listener,
            7 => Self::Ready,
            _ => return None,
        })
    }
}

/// What the stage may do about the place of a mount or file in the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Target(pub u32);

impl Target {
    /// It must exist.
    pub const EXISTS: Self = Self(0);
    /// Make a directory, and those above it.
    pub const DIR: Self = Self(1);
    /// Make what the source is: a directory for a directory, else a file.
    pub const LIKE_SOURCE: Self = Self(2);
    /// No symbolic link anywhere on the way (`/proc`, `/sys`).
    pub const NO_SYMLINK: Self = Self(4);
    /// It may lie inside a procfs (the few files that LXCFS covers).
    pub const IN_PROC: Self = Self(8);
    /// The source must be a procfs (a bind mount over `/proc`).
    pub const FROM_PROC: Self = Self(16);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An operand of an op: how it lies in the record.
pub trait Operand: Copy {
    /// Words it takes.
    const WORDS: usize;
    /// Writes it; `words` has [`Self::WORDS`] places.
    fn put(self, words: &mut [u32]);
    /// Reads it, or `None` when it can't be one.
    fn get(words: &[u32], arena: &[u8]) -> Option<Self>;
    /// The same value, for a person or a check.
    fn show(self) -> Shown;
}

/// An operand, told apart by what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // one variant an operand type, named after it
pub enum Shown {
    U32(u32),
    U64(u64),
    I32(i32),
    Str(Str),
    Bytes(Bytes),
    Words(Words),
    Strs(Strs),
    Slot(Slot),
    Gate(Gate),
    Target(Target),
}

macro_rules! one_word {
    ($type:ty, $shown:ident, |$value:ident| $to:expr, |$word:ident, $arena:ident| $from:expr) => {
        impl Operand for $type {
            const WORDS: usize = 1;
            fn put(self, words: &mut [u32]) {
                let $value = self;
                if let Some(word) = words.first_mut() {
                    *word = $to;
                }
            }
            fn get(words: &[u32], $arena: &[u8]) -> Option<Self> {
                let $word = *words.first()?;
                $from
            }
            fn show(self) -> Shown {
                Shown::$shown(self)
            }
        }
    };
}

one_word!(u32, U32, |value| value, |word, _arena| Some(word));
one_word!(i32, I32, |value| value.cast_unsigned(), |word, _arena| Some(word.cast_signed()));
one_word!(Str, Str, |value| value.0, |word, arena| ((word as usize) < arena.len())
    .then_some(Str(word)));
one_word!(Slot, Slot, |value| value.0, |word, _arena| Some(Slot(word)));
one_word!(Gate, Gate, |value| value as u32, |word, _arena| Gate::from_number(word));
one_word!(Target, Target, |value| value.0, |word, _arena| Some(Target(word)));

impl Operand for u64 {
    const WORDS: usize = 2;
    fn put(self, words: &mut [u32]) {
        if let [low, high, ..] = words {
            *low = self as u32;
            *high = (self >> 32) as u32;
        }
    }
    fn get(words: &[u32], _arena: &[u8]) -> Option<Self> {
        match words {
            [low, high, ..] => Some(u64::from(*low) | u64::from(*high) << 32),
            _ => None,
        }
    }
    fn show(self) -> Shown {
        Shown::U64(self)
    }
}

macro_rules! run_of {
    ($type:ident, $align:literal, $size:literal) => {
        impl Operand for $type {
            const WORDS: usize = 2;
            fn put(self, words: &mut [u32]) {
                if let [at, len, ..] = words {
                    *at = self.at;
                    *len = self.len;
                }
            }
            fn get(words: &[u32], arena: &[u8]) -> Option<Self> {
                let [at, len, ..] = words else { return None };
                let end = u64::from(*at) + u64::from(*len) * $size;
                (end <= arena.len() as u64 && at % $align == 0)
                    .then_some(Self { at: *at, len: *len })
            }
            fn show(self) -> Shown {
                Shown::$type(self)
            }
        }
    };
}

run_of!(Bytes, 8, 1);
run_of!(Words, 4, 4);
run_of!(Strs, 4, 4);

/// A plan in place: borrowed bytes whose frame has been checked.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    slots: &'a [u8],
    ops: &'a [u8],
    arena: &'a [u8],
}

impl<'a> Plan<'a> {
    /// Checks the frame: magic, lengths, and that the arena ends in a NUL, so
    /// that every string in it ends.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let word = |i: usize| bytes.get(i * 4..i * 4 + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let (slots, ops, arena) = (word(1)? as usize, word(2)? as usize, word(3)? as usize);
        if word(0)? != MAGIC || slots > MAX_OPS || ops > MAX_OPS {
            return None;
        }
        let (_, rest) = bytes.split_at_checked(HEADER_WORDS * 4)?;
        let (slots, rest) = rest.split_at_checked(slots.next_multiple_of(2) * 4)?;
        let (ops, rest) = rest.split_at_checked(ops * OP_WORDS * 4)?;
        let (arena, _) = rest.split_at_checked(arena)?;
        (arena.last() == Some(&0)).then_some(Self { slots, ops, arena })
    }

    /// Number of ops.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len() / (OP_WORDS * 4)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Op number `index`, or `None` when it is beyond the end or no op.
    #[must_use]
    pub fn op(&self, index: usize) -> Option<Op> {
        let start = index.checked_mul(OP_WORDS * 4)?;
        let record = self.ops.get(start..)?.get(..OP_WORDS * 4)?;
        let mut words = [0u32; OP_WORDS];
        for (word, bytes) in words.iter_mut().zip(record.chunks_exact(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().ok()?);
        }
        Op::decode(&words, self.arena)
    }

    /// The descriptor in a slot, or -1.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> i32 {
        word_at(self.slots, slot.0 as usize).map_or(-1, u32::cast_signed)
    }

    /// All slots in order, the empty ones as -1.
    pub fn slots(&self) -> impl Iterator<Item = i32> + use<'a> {
        let slots = self.slots;
        (0..slots.len() / 4).map(move |i| word_at(slots, i).map_or(-1, u32::cast_signed))
    }

    /// A string.
    #[must_use]
    #[inline(never)] // it stands in nearly every arm of the stage
    pub fn str(&self, str: Str) -> &'a CStr {
        let bytes = self.arena.get(str.0 as usize..).unwrap_or_default();
        CStr::from_bytes_until_nul(bytes).unwrap_or_default()
    }

    /// A run of bytes.
    #[must_use]
    pub fn bytes(&self, bytes: Bytes) -> &'a [u8] {
        let start = bytes.at as usize;
        self.arena.get(start..start.saturating_add(bytes.len as usize)).unwrap_or_default()
    }

    /// A list of numbers.
    pub fn words(&self, words: Words) -> impl Iterator<Item = u32> + use<'a> {
        let run = self.bytes(Bytes { at: words.at, len: words.len.saturating_mul(4) });
        (0..run.len() / 4).map(move |i| word_at(run, i).unwrap_or(0))
    }

    /// A list of strings.
    pub fn strs(&self, strs: Strs) -> impl Iterator<Item = &'a CStr> + use<'a> {
        let plan = *self;
        self.words(Words { at: strs.at, len: strs.len }).map(move |at| plan.str(Str(at)))
    }
}

fn word_at(bytes: &[u8], index: usize) -> Option<u32> {
    let start = index.checked_mul(4)?;
    bytes.get(start..)?.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}
