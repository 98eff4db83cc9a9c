//! What is expected not to pass, from the lists in `known/`: deviations of
//! runtimes, each with its reason, and what can't run on a kind of host.
//!
//! Whatever differs from the lists, in either direction, is told.

use anyhow::{Context, Result};
use serde::Deserialize;

/// A runtime that does not do what a clause asks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deviation {
    /// The runtime's name.
    pub(crate) runtime: String,
    /// The start of its version.
    pub(crate) version: String,
    /// The clause that it does not follow.
    pub(crate) clause: String,
    /// What it does instead.
    pub(crate) why: String,
    /// The cases that show it; none is named for one that shows sometimes.
    #[serde(default)]
    pub(crate) cases: Vec<String>,
    /// A race of the runtime's own: any case may show it, what is seen then begins like
    /// this, and a case that passes is as it should be.
    pub(crate) sometimes: Option<String>,
    /// On these kinds of host; on all, if none is named.
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
}

/// Cases that can't run on some kinds of host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skip {
    /// The kinds of host.
    pub(crate) hosts: Vec<String>,
    /// The reason that is given.
    pub(crate) why: String,
    /// The cases.
    pub(crate) cases: Vec<String>,
}

const DEVIATIONS: &[(&str, &str)] = &[
    ("orlop", include_str!("../known/orlop.json")),
    ("runc", include_str!("../known/runc.json")),
    ("crun", include_str!("../known/crun.json")),
];

/// All deviations.
pub(crate) fn deviations() -> Result<Vec<Deviation>> {
    let mut all = Vec::new();
    for (name, text) in DEVIATIONS {
        let list: Vec<Deviation> =
            serde_json::from_str(text).with_context(|| format!("known/{name}.json"))?;
        all.extend(list);
    }
    Ok(all)
}

/// All skips.
pub(crate) fn skips() -> Result<Vec<Skip>> {
    serde_json::from_str(include_str!("../known/skips.json")).context("known/skips.json")
}
