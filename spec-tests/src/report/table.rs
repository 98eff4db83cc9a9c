//! The report as text for a terminal: a line a case while it runs, the clauses of
//! each file at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Report, word};
use crate::verdict::{Mark, Verdict};

/// The line of a case.
pub(crate) fn line(verdict: &Verdict) -> String {
    let mark = word(verdict.mark);
    let mut line = format!("{mark:11} {:>6.2} s  {}", verdict.seconds, verdict.id);
    if !verdict.reason.is_empty() {
        let _ = write!(line, "\n            {}", verdict.reason.replace('\n', "\n            "));
    }
    line
}

/// How many clauses of each file are checked, and how they fare.
pub(crate) fn clauses(report: &Report) -> String {
    let mut files: Vec<&str> = report.clauses.iter().map(|clause| clause.file.as_str()).collect();
    files.dedup();
    let mut text =
        format!("{:20} {:>8} {:>8} {:>8} {:>8}\n", "file", "clauses", "hold", "do not", "no case");
    for file in files {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let clauses = report.clauses.iter().filter(|clause| clause.file == file);
        for clause in clauses.clone() {
            let cases = report.of(clause);
            let bad = |case: &&&Verdict| {
                matches!(case.mark, Mark::Known | Mark::Differs | Mark::Unsupported)
            };
            let good = |case: &&&Verdict| case.mark == Mark::Passed;
            let state = match () {
                () if clause.untested.is_some() => "no case",
                () if cases.iter().any(|case| bad(&case)) => "bad",
                () if cases.iter().any(|case| good(&case)) => "good",
                () => "not run",
            };
            *counts.entry(state).or_default() += 1;
        }
        let count = |state: &str| counts.get(state).copied().unwrap_or_default();
        let all = clauses.count();
        let _ = writeln!(
            text,
            "{file:20} {all:>8} {:>8} {:>8} {:>8}",
            count("good"),
            count("bad"),
            count("no case") + count("not run")
        );
    }
    text
}
