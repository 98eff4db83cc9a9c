//! The report as text for a terminal: a line a case while it runs, the clauses of
//! each file at the end.

use std::fmt::Write as _;

use super::{Report, word};
use crate::clause::Clause;
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

/// The lines of the cases that differ, once more: the run may be long, and only its
/// end kept.
pub(crate) fn differing(report: &Report) -> String {
    let differs = report.cases.iter().filter(|case| case.mark == Mark::Differs);
    differs.fold(String::new(), |text, case| text + &line(case) + "\n")
}

/// How many clauses of each file are checked, and how they fare.
pub(crate) fn clauses(report: &Report) -> String {
    let mut files: Vec<&str> = report.clauses.iter().map(|clause| clause.file.as_str()).collect();
    files.dedup();
    let mut text = format!("{:18}", "clauses of");
    for column in COLUMNS {
        let _ = write!(text, " {column:>8}");
    }
    for file in files {
        let _ = write!(text, "\n{file:18}");
        let clauses: Vec<_> = report.clauses.iter().filter(|clause| clause.file == file).collect();
        for column in COLUMNS {
            let count = clauses.iter().filter(|clause| state(report, clause) == column).count();
            let _ = write!(text, " {count:>8}");
        }
    }
    text + "\n"
}

const COLUMNS: [&str; 4] = ["hold", "do not", "not run", "no case"];

/// A clause holds if a case of it passed and none failed.
fn state(report: &Report, clause: &Clause) -> &'static str {
    let cases = report.of(clause);
    let failed =
        |case: &&Verdict| matches!(case.mark, Mark::Known | Mark::Differs | Mark::Unsupported);
    match () {
        () if clause.untested.is_some() => "no case",
        () if cases.iter().any(failed) => "do not",
        () if cases.iter().any(|case| case.mark == Mark::Passed) => "hold",
        () => "not run",
    }
}
