//! Debian's packages on this machine: where they are from, which are installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::command;

const PLACES: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// Where Debian's packages put a program; another one earlier in `PATH` is not
/// what is tested here.
#[must_use]
pub fn installed(program: &str) -> Option<PathBuf> {
    PLACES.iter().map(|place| Path::new(place).join(program)).find(|path| path.is_file())
}

/// Runs apt-get, with its output in a log.
///
/// # Errors
/// It fails or takes more than ten minutes; the error names the log.
pub fn get(arguments: &[&str], log: &Path) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command::logged(&mut command, log, Duration::from_secs(600))
}

/// Installs packages with what they cannot do without.
///
/// # Errors
/// As [`get`].
pub fn install(packages: &[&str], log: &Path) -> Result<()> {
    get(&[&["install", "--yes", "--no-install-recommends"], packages].concat(), log)
}

/// Installs what is missing of programs, each with the package that holds it, in the
/// words of a dependency: releases differ in what is in which.
///
/// # Errors
/// As [`get`].
pub fn ensure_installed(tools: &[(&str, &str)], log: &Path) -> Result<()> {
    let missing = tools.iter().filter(|(program, _)| installed(program).is_none());
    let mut missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {}", missing.join(", "));
    get(&["update"], log)?;
    get(&["satisfy", "--yes", "--no-install-recommends", &missing.join(", ")], log)
}

/// Debian's own among apt's sources, one a line of the classic format, whatever
/// files they are configured in. Their keys are those that this machine trusts.
///
/// # Errors
/// There is no apt.
pub fn sources() -> Result<Vec<String>> {
    let mut targets = Command::new("apt-get");
    let format = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)";
    targets.args(["indextargets", "--format", format]);
    targets.args(["Created-By: Packages", "Origin: Debian"]);
    let text = command::run(&mut targets, "", Duration::from_secs(30))?.success()?;
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}
