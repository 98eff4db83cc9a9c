//! One bad input: what is given, what is said, and the rules that hold for all.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Bundle, Lab, Output, Picture};

/// Longer than this and it hangs: the longest case, two thousand mounts, takes about a second,
/// and on emulated processors beside another suite twelve.
const PATIENCE: Duration = Duration::from_secs(28);

/// A way to get it wrong.
pub(super) struct Case {
    name: &'static str,
    change: Box<dyn Fn(&mut Bundle)>,
    /// Stands in config.json instead of what the bundle says.
    text: Option<Vec<u8>>,
    verb: &'static str,
    flags: &'static [&'static str],
    variable: Option<(&'static str, &'static str)>,
    end: End,
}

enum End {
    /// With this message.
    Fails(&'static str),
    /// With these words on the container's own stream, as if its process said them.
    Says(&'static str),
    /// With these messages, for the host with cgroup v1 and for that with v2.
    FailsOn { v1: &'static str, v2: &'static str },
    /// With this message for the host with cgroup v2; else it can be started.
    NeedsV1 { v2: &'static str },
    /// The container can be started; these are the warnings.
    Works(&'static [&'static str]),
}

impl Case {
    /// A default bundle and what is different (RFC 7396).
    pub(super) fn patch(name: &'static str, patch: Value) -> Self {
        Self::change(name, move |bundle| merge(&mut bundle.config, &patch))
    }

    /// A default bundle and what is done to it.
    pub(super) fn change(name: &'static str, change: impl Fn(&mut Bundle) + 'static) -> Self {
        Self {
            name,
            change: Box::new(change),
            text: None,
            verb: "create",
            flags: &[],
            variable: None,
            end: End::Works(&[]),
        }
    }

    /// A default bundle with another text as its config.
    pub(super) fn text(name: &'static str, text: impl Into<Vec<u8>>) -> Self {
        Self { text: Some(text.into()), ..Self::change(name, |_| {}) }
    }

    /// What else is done to the bundle.
    pub(super) fn and(self, more: impl Fn(&mut Bundle) + 'static) -> Self {
        let first = self.change;
        let change = Box::new(move |bundle: &mut Bundle| {
            first(bundle);
            more(bundle);
        });
        Self { change, ..self }
    }

    /// Flags of the command.
    pub(super) fn flags(self, flags: &'static [&'static str]) -> Self {
        Self { flags, ..self }
    }

    /// With this in the environment.
    pub(super) fn variable(self, name: &'static str, value: &'static str) -> Self {
        Self { variable: Some((name, value)), ..self }
    }

    /// `run` instead of `create`: it is wrong only when it starts.
    pub(super) fn at_run(self) -> Self {
        Self { verb: "run", ..self }
    }

    /// What is said; `BUNDLE` stands for its directory, `ID` for the
    /// container and `*` for any text.
    pub(super) fn fails(self, message: &'static str) -> Self {
        Self { end: End::Fails(message), ..self }
    }

    /// The kernel does not execute the program: all that is said.
    pub(super) fn says(self, words: &'static str) -> Self {
        Self { end: End::Says(words), ..self }
    }

    /// The same where the two kinds of cgroups say different things.
    pub(super) fn fails_on(self, v1: &'static str, v2: &'static str) -> Self {
        Self { end: End::FailsOn { v1, v2 }, ..self }
    }

    /// It works with cgroup v1, and with v2 this is said.
    pub(super) fn needs_v1(self, v2: &'static str) -> Self {
        Self { end: End::NeedsV1 { v2 }, ..self }
    }

    /// It is no error, but a person is told.
    pub(super) fn warns(self, warnings: &'static [&'static str]) -> Self {
        Self { end: End::Works(warnings), ..self }
    }

    fn wrong(&self, lab: &Lab) -> Vec<String> {
        let mut bundle = lab.bundle(&["sleep"]);
        (self.change)(&mut bundle);
        bundle.write();
        if let Some(text) = &self.text {
            fs::write(bundle.path.join("config.json"), text).unwrap();
        }
        let before = Picture::take(lab);
        let mut wrong = Vec::new();
        let mut command = lab.command(&[self.verb, "--bundle"]);
        command.arg(&bundle.path).args(self.flags).arg(lab.id("a")).envs(self.variable);
        let output = timed(&mut wrong, || lab.begin(command).end());
        wrong.extend(self.judge(lab, &bundle, &output));
        if output.code == 0 && self.verb == "create" {
            let start = timed(&mut wrong, || lab.on("a", &["start"], &[]));
            wrong.extend(silent(&start));
        }
        let delete = timed(&mut wrong, || lab.on("a", &["delete", "--force"], &[]));
        wrong.extend(silent(&delete));
        wrong.extend(before.leaks(lab).into_iter().map(|leak| format!("leaks {leak}")));
        before.sweep(lab);
        wrong
    }

    fn judge(&self, lab: &Lab, bundle: &Bundle, output: &Output) -> Option<String> {
        let plain = |message: String| {
            // A column depends on how many namespaces the host's config has.
            let message = without_column(&message);
            let message = message.replace(bundle.path.to_str().unwrap(), "BUNDLE");
            message.replace(&lab.id("a"), "ID")
        };
        let said = |level| told(output, level).into_iter().map(plain).collect::<Vec<_>>();
        let works = |warnings: &[&str]| {
            let (code, said) = (output.code, said("warning"));
            let well = code == 0 && said == warnings;
            let wanted = || format!("should work and warn {warnings:?}");
            (!well).then(|| format!("{}\n    and ended with {code} and {said:?}", wanted()))
        };
        let message = match self.end {
            End::Fails(message) => message,
            End::FailsOn { v1, .. } if !lab.view.is_v2() => v1,
            End::FailsOn { v2, .. } => v2,
            End::NeedsV1 { .. } if !lab.view.is_v2() => return works(&[]),
            End::NeedsV1 { v2 } => v2,
            End::Works(warnings) => return works(warnings),
            End::Says(words) => {
                let (code, said) = (output.code, &output.stderr);
                let well = code == 255 && *said == format!("{words}\n");
                return (!well).then(|| {
                    format!("should say {words:?}\n    and ended with {code} and {said:?}")
                });
            }
        };
        let wanted = format!("orlop {} failed: {message}", self.verb);
        let (code, said) = (output.code, said("error"));
        let well = code == 1 && said.len() == 1 && fits(&said[0], &wanted);
        (!well).then(|| format!("should say {wanted:?}\n    and ended with {code} and {said:?}"))
    }
}

/// Whether a message is what was wanted, in which one `*` stands for any text.
fn fits(message: &str, wanted: &str) -> bool {
    match wanted.split_once('*') {
        Some((start, end)) => {
            message.len() >= start.len() + end.len()
                && message.starts_with(start)
                && message.ends_with(end)
        }
        None => message == wanted,
    }
}

/// A parser's error without the end of its text.
fn without_column(message: &str) -> String {
    let Some((start, rest)) = message.split_once(" at line ") else { return message.to_owned() };
    let end = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let end = end.strip_prefix(" column ").unwrap_or(end);
    format!("{start}{}", end.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// Checks every case, and tells of all that are wrong.
pub(super) fn check(lab: &Lab, cases: &[Case]) {
    let mut failures = String::new();
    for case in cases {
        for wrong in case.wrong(lab) {
            failures += &format!("\n  {}: {wrong}", case.name);
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// The messages of one level; what is no line of the log is given as it is.
pub(super) fn told(output: &Output, level: &str) -> Vec<String> {
    let mark = format!(" level={level} msg=");
    let message = |line: &str| match line.split_once(&mark) {
        Some((_, message)) => serde_json::from_str(message).unwrap(),
        None => format!("(another line) {line}"),
    };
    output.stderr.lines().map(message).collect()
}

/// The one line of a command that failed with `code`.
pub(super) fn refused(output: &Output, code: i32) -> String {
    let said = told(output, "error");
    assert_eq!((output.code, said.len()), (code, 1), "{output:?}");
    said.concat()
}

fn timed(wrong: &mut Vec<String>, act: impl FnOnce() -> Output) -> Output {
    let begun = Instant::now();
    let output = act();
    if begun.elapsed() > PATIENCE {
        wrong.push(format!("{} took {:?}", output.command, begun.elapsed()));
    }
    output
}

fn silent(output: &Output) -> Option<String> {
    let well = output.code == 0 && output.stderr.is_empty();
    (!well).then(|| format!("should be silent: {output:?}"))
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(serde_json::Map::new());
    }
    let object = into.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
