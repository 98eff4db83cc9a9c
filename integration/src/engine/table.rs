//! The results as a table.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::Skip;

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

impl Row {
    fn word(&self) -> &'static str {
        match &self.result {
            Ok(()) => "passed",
            Err(error) if error.is::<Skip>() => "SKIP",
            Err(_) => "FAILED",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20} {:<6} {:>6.1} s", self.name, self.word(), self.took.as_secs_f64())?;
        if let Err(error) = &self.result {
            writeln!(f, "    {}", format!("{error:#}").replace('\n', "\n    "))?;
        }
        Ok(())
    }
}

impl Table {
    fn count(&self, word: &str) -> usize {
        self.rows.iter().filter(|row| row.word() == word).count()
    }

    /// How many failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.count("FAILED")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            row.fmt(f)?;
        }
        let (passed, skipped, failed) = (self.count("passed"), self.count("SKIP"), self.failed());
        if skipped > 0 {
            writeln!(f, "{skipped} skipped")?;
        }
        writeln!(f, "{passed} passed, {failed} failed")?;
        if failed > 0 {
            writeln!(f, "the daemon's log is {}", self.log.display())?;
        }
        Ok(())
    }
}
