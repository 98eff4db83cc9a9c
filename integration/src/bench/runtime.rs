//! A runtime as its caller sees it: a program, a state directory and runc's
//! command line.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use super::peak::{self, PeakMeter};

/// A container runtime under measurement.
#[derive(Debug)]
pub struct Runtime {
    /// The program.
    pub program: PathBuf,
    /// Its state, apart from that of the system.
    pub state: PathBuf,
    /// Where its messages go.
    pub log: PathBuf,
    /// Whether systemd makes its cgroups.
    pub systemd: bool,
}

impl Runtime {
    /// The command with its global options, and a meter before it if there is one.
    ///
    /// # Errors
    /// The log cannot be opened.
    pub fn command(&self, meter: Option<&PeakMeter>) -> io::Result<Command> {
        let mut command = peak::command(&self.program, meter);
        let log = File::options().create(true).append(true).open(&self.log)?;
        command.stderr(log).arg("--root").arg(&self.state);
        command.args(self.systemd.then_some("--systemd-cgroup"));
        Ok(command)
    }
}

/// The first place in `PATH` (or where Debian's administrators' programs are, which
/// not every `PATH` has) that holds the program.
#[must_use]
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}
