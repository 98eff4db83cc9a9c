//! The steps of a case: operations and what is looked at between them.
//!
//! A text is an operation, `"kill TERM fails"`; an object with one member is
//! something with an argument, `{"state": {"status": "created"}}`.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

/// How an operation must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Without an error.
    Works,
    /// With one.
    Fails,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// `create`, `create fails`
    Create(End),
    /// `create may fail`: if it does, the case ends well with nothing left.
    /// `create may fail unless PLACE`: if its features say true there, it must work.
    TryCreate(Option<String>),
    /// `start`, `start fails`
    Start(End),
    /// `refused`: creating it fails, or else starting it.
    Refused,
    /// `kill SIGNAL`, `kill SIGNAL fails`
    Kill(String, End),
    /// `delete`, `delete fails`
    Delete(End),
    /// `delete force`: takes whatever is there away.
    Clear,
    /// `wait STATUS`
    WaitStatus(String),
    /// `wait output`: until the program printed something.
    WaitOutput,
    /// `gone`: nobody knows the container.
    Gone,
    /// `{"state": PATTERN}`
    State(Value),
    /// `{"output": PATTERN}`: the last line that the program printed.
    Output(Value),
    /// `{"log": PATTERN}`: the list of what hooks and the program wrote.
    Log(Value),
    /// `{"config": PATCH}`: changes config.json on the disk.
    Config(Value),
    /// `{"look": {"read /path": PATTERN}}`: from outside.
    Look(Map<String, Value>),
    /// `{"cgroup": {"memory.max": PATTERN}}`: files of the container's cgroups.
    Cgroup(Map<String, Value>),
    /// `{"shell": SCRIPT, "says": PATTERN}`: on the host.
    Shell(String, Value),
    /// `{"agent": PATTERN}`: what the seccomp agent was sent.
    Agent(Value),
    /// `{"features": PATTERN}`: what the runtime says of itself.
    Features(Value),
    /// `{"recognises": LIST}`: what it says of itself is true.
    Recognises(String),
    /// `{"command": WORDS, "fails": true}`: the runtime's command line as it is.
    Command(Vec<String>, End),
    /// `{"command": WORDS, "says": PATTERN}`: and what it prints, as text.
    Says(Vec<String>, Value),
    /// `{"command": WORDS, "json": PATTERN}`: the same as JSON.
    Answers(Vec<String>, Value),
    /// `{"pidfd": WORDS}`: sends a pidfd of a process that is there to the socket that
    /// comes behind these words.
    Pidfd(Vec<String>),
    /// `{"terminal": WORDS, "run": ACTS, "output": PATTERN}`: an `exec` with a terminal,
    /// whose other end is sent to a socket, and what is printed there.
    Terminal(Vec<String>, Vec<String>, Value),
    /// `{"foreground": WORDS, "does": DEEDS, "sees": PATTERN}`: the command line on a
    /// terminal of ours, of 24 lines and 80 columns. Each deed waits for one more line of
    /// the program's; seen are those `lines`, the `status` of the command, and whether the
    /// terminal is as it was, `restored`.
    Foreground(Vec<String>, Vec<Deed>, Value),
    /// `{"notified": PATTERN}`: what was said so far to the one who waits for the
    /// container to be ready, as systemd does, or is said within a moment.
    Notified(Value),
    /// `{"exec": {"process": PATCH, "run": ACTS, "output": PATTERN}}`
    Exec(Exec),
}

/// What somebody at a terminal does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Deed {
    /// `{"keys": TEXT}`
    Keys(String),
    /// `{"resize": [LINES, COLUMNS]}`
    Resize([u16; 2]),
}

/// Another process in the container.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exec {
    /// A merge patch for the config's process.
    #[serde(default)]
    pub(crate) process: Value,
    /// What it does.
    pub(crate) run: Vec<String>,
    /// What it must print.
    pub(crate) output: Value,
}

impl Step {
    /// Reads one.
    pub(crate) fn parse(value: &Value) -> Result<Self> {
        match value {
            Value::String(text) => Self::operation(text),
            Value::Object(members) => Self::argument(members),
            _ => bail!("a step is a text or an object, not {value}"),
        }
    }

    fn operation(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        Ok(match words[..] {
            ["create"] => Self::Create(End::Works),
            ["create", "fails"] => Self::Create(End::Fails),
            ["create", "may", "fail"] => Self::TryCreate(None),
            ["create", "may", "fail", "unless", place] => Self::TryCreate(Some(place.to_owned())),
            ["start"] => Self::Start(End::Works),
            ["start", "fails"] => Self::Start(End::Fails),
            ["refused"] => Self::Refused,
            ["kill", signal] => Self::Kill(signal.to_owned(), End::Works),
            ["kill", signal, "fails"] => Self::Kill(signal.to_owned(), End::Fails),
            ["delete"] => Self::Delete(End::Works),
            ["delete", "fails"] => Self::Delete(End::Fails),
            ["delete", "force"] => Self::Clear,
            ["wait", "output"] => Self::WaitOutput,
            ["wait", status] => Self::WaitStatus(status.to_owned()),
            ["gone"] => Self::Gone,
            _ => bail!("no such step: \"{text}\""),
        })
    }

    fn argument(members: &Map<String, Value>) -> Result<Self> {
        let words = |value: &Value| serde_json::from_value::<Vec<String>>(value.clone());
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text is needed");
        let names: Vec<&str> = members.keys().map(String::as_str).collect();
        let first = |name: &str| members[name].clone();
        let map = |name: &str| first(name).as_object().cloned().context("an object is needed");
        Ok(match names[..] {
            ["state"] => Self::State(first("state")),
            ["output"] => Self::Output(first("output")),
            ["log"] => Self::Log(first("log")),
            ["config"] => Self::Config(first("config")),
            ["look"] => Self::Look(map("look")?),
            ["cgroup"] => Self::Cgroup(map("cgroup")?),
            ["says", "shell"] => Self::Shell(text(&members["shell"])?, first("says")),
            ["shell"] => Self::Shell(text(&members["shell"])?, Value::Null),
            ["agent"] => Self::Agent(first("agent")),
            ["features"] => Self::Features(first("features")),
            ["recognises"] => Self::Recognises(text(&members["recognises"])?),
            ["command"] => Self::Command(words(&members["command"])?, End::Works),
            ["command", "fails"] => Self::Command(words(&members["command"])?, End::Fails),
            ["command", "says"] => Self::Says(words(&members["command"])?, first("says")),
            ["command", "json"] => Self::Answers(words(&members["command"])?, first("json")),
            ["pidfd"] => Self::Pidfd(words(&members["pidfd"])?),
            ["output", "run", "terminal"] => Self::Terminal(
                words(&members["terminal"])?,
                words(&members["run"])?,
                first("output"),
            ),
            ["does", "foreground", "sees"] => Self::Foreground(
                words(&members["foreground"])?,
                serde_json::from_value(first("does"))?,
                first("sees"),
            ),
            ["notified"] => Self::Notified(first("notified")),
            ["exec"] => Self::Exec(serde_json::from_value(first("exec"))?),
            _ => bail!("no such step: {names:?}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(value: &Value) -> Step {
        Step::parse(value).unwrap()
    }

    #[test]
    fn steps_are_read() {
        assert_eq!(step(&json!("create fails")), Step::Create(End::Fails));
        let unless = Step::TryCreate(Some("a.b".into()));
        assert_eq!(step(&json!("create may fail unless a.b")), unless);
        assert_eq!(step(&json!("kill TERM")), Step::Kill("TERM".into(), End::Works));
        assert_eq!(step(&json!("wait stopped")), Step::WaitStatus("stopped".into()));
        assert_eq!(step(&json!({"state": {"pid": 1}})), Step::State(json!({"pid": 1})));
        let command = Step::Command(vec!["state".into()], End::Fails);
        assert_eq!(step(&json!({"command": ["state"], "fails": true})), command);
        let deeds = json!([{"keys": "a\n"}, {"resize": [3, 4]}]);
        let there = json!({"foreground": ["run"], "does": deeds, "sees": {}});
        let deeds = vec![Deed::Keys("a\n".into()), Deed::Resize([3, 4])];
        assert_eq!(step(&there), Step::Foreground(vec!["run".into()], deeds, json!({})));
    }

    #[test]
    fn others_are_refused() {
        for wrong in [json!("creat"), json!({"stat": 1}), json!(1), json!("kill"), json!({})] {
            assert!(Step::parse(&wrong).is_err(), "{wrong}");
        }
    }
}
