//! A runtime as its caller sees it: a program, a state directory and runc's
//! command line.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A container runtime under measurement.
#[derive(Debug)]
pub struct Runtime {
    /// The program.
    pub program: PathBuf,
    /// Its state, apart from that of the system.
    pub state: PathBuf,
    /// Where its messages go.
    pub log: PathBuf,
}

impl Runtime {
    /// The command with its global options; `meter`, if any, is put before it.
    ///
    /// # Errors
    /// The log cannot be opened.
    pub fn command(&self, meter: Option<(&Path, &Path)>) -> io::Result<Command> {
        let mut command = match meter {
            Some((meter, file)) => {
                let mut command = Command::new(meter);
                command.arg(file).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        let log = File::options().create(true).append(true).open(&self.log)?;
        command.arg("--root").arg(&self.state);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
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
