//! What a run of the suite found, as a document, and how it is shown.

pub(crate) mod page;
pub(crate) mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clause::{Clause, Edition};
use crate::runtime::Identity;
use crate::verdict::{Mark, Verdict};

/// Everything about one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The text that was checked against.
    pub(crate) specification: Edition,
    /// The runtime.
    pub(crate) runtime: Identity,
    /// The kind of host.
    pub(crate) host: String,
    /// How many cases have each mark.
    pub(crate) summary: BTreeMap<String, usize>,
    /// The cases.
    pub(crate) cases: Vec<Verdict>,
    /// The clauses.
    pub(crate) clauses: Vec<Clause>,
}

impl Report {
    /// Puts it together.
    pub(crate) fn new(
        specification: Edition,
        runtime: Identity,
        host: String,
        cases: Vec<Verdict>,
        clauses: Vec<Clause>,
    ) -> Self {
        let mut summary = BTreeMap::new();
        for case in &cases {
            *summary.entry(word(case.mark).to_owned()).or_default() += 1;
        }
        Self { specification, runtime, host, summary, cases, clauses }
    }

    /// Whether all is as the lists have it.
    pub(crate) fn is_as_expected(&self) -> bool {
        self.cases.iter().all(|case| case.mark != Mark::Differs)
    }

    /// The cases of a clause that ran.
    pub(crate) fn of(&self, clause: &Clause) -> Vec<&Verdict> {
        self.cases.iter().filter(|case| case.clauses.contains(&clause.id)).collect()
    }

    /// `12 passed, 1 skipped`
    pub(crate) fn sum(&self) -> String {
        let parts: Vec<String> =
            self.summary.iter().map(|(word, count)| format!("{count} {word}")).collect();
        parts.join(", ")
    }
}

/// A mark in a word.
pub(crate) fn word(mark: Mark) -> &'static str {
    match mark {
        Mark::Passed => "passed",
        Mark::Known => "known",
        Mark::Unsupported => "unsupported",
        Mark::Skipped => "skipped",
        Mark::Differs => "differs",
    }
}
