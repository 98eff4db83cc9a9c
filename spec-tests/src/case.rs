//! The cases, from the lists in `cases/`: a change of the base config, what is
//! done, and what must be seen.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::step::Step;
use crate::{pattern, template};

/// One case.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// `subject/name`
    pub(crate) id: String,
    /// What holds when it passes.
    pub(crate) says: String,
    /// The clauses that it checks.
    pub(crate) clauses: Vec<String>,
    /// The release of the specification that has it all.
    #[serde(default = "first_release")]
    pub(crate) since: String,
    /// What the host must have.
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    /// A shell script that runs on the host first.
    #[serde(default)]
    pub(crate) prepare: Option<String>,
    /// Flags of unshare(1) for a process whose namespaces are there to be joined.
    #[serde(default)]
    pub(crate) holder: Option<String>,
    /// Whether the runtime has a network namespace of its own.
    #[serde(default)]
    pub(crate) network: bool,
    /// Whether somebody waits for the container to be ready, at `${notify}`.
    #[serde(default)]
    pub(crate) notify: bool,
    /// A merge patch for the config.
    #[serde(default)]
    pub(crate) config: Value,
    /// Elements for lists of the config, by JSON pointers.
    #[serde(default)]
    pub(crate) add: Map<String, Value>,
    /// What the program in the container does, acts of the probe.
    #[serde(default = "just_report")]
    pub(crate) run: Vec<String>,
    /// What is done and seen; without it one life, and `expect` of its output.
    #[serde(default)]
    pub(crate) steps: Vec<Value>,
    /// What the program must print.
    #[serde(default)]
    pub(crate) expect: Value,
}

/// What ends a case that hangs. It is no measure of speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// For all of it.
    pub(crate) case: Duration,
    /// For each of its commands.
    pub(crate) command: Duration,
}

impl Limits {
    /// Of commands that wait for nothing.
    pub(crate) const USUAL: Self =
        Self { case: Duration::from_secs(60), command: Duration::from_secs(20) };

    /// CRIU works for as long as there is something to save. In a loaded emulated machine
    /// 162 saves and restores took 0.5 to 10.4 s each, and all of a case up to 39 s.
    const WITH_CRIU: Self =
        Self { case: Duration::from_secs(300), command: Duration::from_secs(60) };
}

impl Case {
    /// How long it may take.
    pub(crate) fn limits(&self) -> Limits {
        let with_criu = self.needs.iter().any(|need| need == "criu");
        if with_criu { Limits::WITH_CRIU } else { Limits::USUAL }
    }
}

fn first_release() -> String {
    "1.0.0".to_owned()
}

fn just_report() -> Vec<String> {
    vec!["self".to_owned()]
}

/// The lists, by name.
const LISTS: &[(&str, &str)] = &[
    ("bundle", include_str!("../cases/bundle.json")),
    ("lifecycle", include_str!("../cases/lifecycle.json")),
    ("process", include_str!("../cases/process.json")),
    ("hooks", include_str!("../cases/hooks.json")),
    ("mounts", include_str!("../cases/mounts.json")),
    ("namespaces", include_str!("../cases/namespaces.json")),
    ("devices", include_str!("../cases/devices.json")),
    ("cgroups", include_str!("../cases/cgroups.json")),
    ("rdt", include_str!("../cases/rdt.json")),
    ("seccomp", include_str!("../cases/seccomp.json")),
    ("network", include_str!("../cases/network.json")),
    ("features", include_str!("../cases/features.json")),
    ("commands", include_str!("../cases/commands.json")),
    ("global", include_str!("../cases/global.json")),
    ("foreground", include_str!("../cases/foreground.json")),
    ("activation", include_str!("../cases/activation.json")),
    ("usage", include_str!("../cases/usage.json")),
    ("update", include_str!("../cases/update.json")),
];

/// The config that each case changes.
pub(crate) fn base() -> Result<Value> {
    serde_json::from_str(include_str!("../cases/base.json")).context("cases/base.json")
}

/// All cases, those with rows once for each row.
pub(crate) fn all() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, text) in LISTS {
        let list: Vec<Value> =
            serde_json::from_str(text).with_context(|| format!("cases/{name}.json"))?;
        for entry in list {
            for row in rows(entry) {
                let id = row["id"].to_string();
                let case = read(row).with_context(|| format!("cases/{name}.json: case {id}"))?;
                if !case.id.starts_with(&format!("{name}/")) {
                    bail!("cases/{name}.json: the case {id} belongs elsewhere");
                }
                cases.push(case);
            }
        }
    }
    Ok(cases)
}

/// `each` is a list of rows; what a row names is filled in.
fn rows(mut entry: Value) -> Vec<Value> {
    let each = entry.as_object_mut().and_then(|entry| entry.remove("each"));
    let Some(Value::Array(rows)) = each else { return vec![entry] };
    rows.iter().map(|row| template::fill(&entry, &|name| row.get(name).cloned())).collect()
}

fn read(entry: Value) -> Result<Case> {
    let mut case: Case = serde_json::from_value(entry)?;
    if case.steps.is_empty() {
        case.steps = life(&case.expect);
    } else if !case.expect.is_null() {
        bail!("it has steps, so what is expected must be one of them");
    }
    for step in &case.steps {
        Step::parse(step)?;
        let wrong = pattern::unknown_operators(step);
        anyhow::ensure!(wrong.is_empty(), "no such operators: {wrong:?}");
    }
    let wrong = pattern::unknown_operators(&case.expect);
    anyhow::ensure!(wrong.is_empty(), "no such operators: {wrong:?}");
    Ok(case)
}

/// One life, whose output is looked at.
fn life(expect: &Value) -> Vec<Value> {
    vec![
        json!("create"),
        json!("start"),
        json!("wait stopped"),
        json!({ "output": expect }),
        json!("delete"),
        json!("gone"),
    ]
}
