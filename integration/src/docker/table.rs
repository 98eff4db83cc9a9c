//! The results as a table.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

/// The result of one check.
#[derive(Debug)]
pub struct Row {
    /// The check's name.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What it found.
    pub result: Result<()>,
}

/// All results.
#[derive(Debug)]
pub struct Table {
    /// The log to read when something failed.
    pub log: PathBuf,
    /// In the order of the checks.
    pub rows: Vec<Row>,
}

impl Table {
    /// How many failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.rows.iter().filter(|row| row.result.is_err()).count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            let word = if row.result.is_ok() { "passed" } else { "FAILED" };
            writeln!(f, "{:<20} {word} {:>6.1} s", row.name, row.took.as_secs_f64())?;
            if let Err(error) = &row.result {
                writeln!(f, "    {}", format!("{error:#}").replace('\n', "\n    "))?;
            }
        }
        let failed = self.failed();
        writeln!(f, "{} passed, {failed} failed", self.rows.len() - failed)?;
        if failed > 0 {
            writeln!(f, "the daemon's log is {}", self.log.display())?;
        }
        Ok(())
    }
}
