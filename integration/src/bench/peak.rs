//! The memory meter: a small program put before a command (`bin/peak-memory.rs`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The meter and the file that it writes to.
#[derive(Debug)]
pub struct PeakMeter {
    program: PathBuf,
    file: PathBuf,
}

impl PeakMeter {
    /// `programs` is where our own programs are, `directory` the benchmark's.
    #[must_use]
    pub fn new(programs: &Path, directory: &Path) -> Self {
        Self { program: programs.join("peak-memory"), file: directory.join("peak-memory") }
    }

    /// The largest value since the last call, in KiB.
    ///
    /// # Errors
    /// Nothing was measured.
    pub fn take(&self) -> io::Result<u64> {
        let peaks = fs::read_to_string(&self.file)?;
        fs::remove_file(&self.file)?;
        Ok(peaks.lines().filter_map(|line| line.parse().ok()).max().unwrap_or_default())
    }
}

/// A command that reads and prints nothing, with or without the meter before it.
#[must_use]
pub fn command(program: &Path, meter: Option<&PeakMeter>) -> Command {
    let mut command = match meter {
        Some(meter) => {
            let mut command = Command::new(&meter.program);
            command.arg(&meter.file).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
