//! What this machine must have: a few programs of Debian's. They are installed
//! when that is asked for, else an error names them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Uid;

use super::cache::Cache;
use super::qemu;
use crate::{apt, command};

const LIMIT: Duration = Duration::from_secs(30);

/// A program and the package that holds it.
const TOOLS: [(&str, &str); 4] = [
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("ssh", "openssh-client"),
    (qemu::PROGRAM, QEMU),
];

const QEMU: &str = "qemu-system-x86";

/// For those who are not root: it gives them the ids of a root file system.
const IDS: (&str, &str) = ("newuidmap", "uidmap");

/// Checks that everything is there, and installs what is not, if `install`.
///
/// # Errors
/// Something is missing, and is not to be installed or cannot be.
pub fn ensure(cache: &Cache, install: bool) -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "the lab's machine is built for x86_64 only");
    let missing = missing(install);
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    ensure!(install, "not installed: {names}; --install-packages installs them");
    ensure!(Uid::effective().is_root(), "installing {names} needs root");
    eprintln!("installing {names}");
    let log = cache.log("apt.log");
    apt::get(&["update"], &log)?;
    let (emulator, rest): (Vec<_>, Vec<_>) = missing.into_iter().partition(|name| *name == QEMU);
    if !rest.is_empty() {
        apt::install(&rest, &log)?;
    }
    if !emulator.is_empty() {
        install_qemu(cache)?;
    }
    Ok(())
}

/// What is not there. A QEMU that is too old is good enough where KVM works, and is
/// replaced only when something may be.
fn missing(install: bool) -> Vec<&'static str> {
    let old = || install && qemu().is_ok_and(|(_, version)| version < qemu::EMULATES_SINCE);
    let ids = (!Uid::effective().is_root()).then_some(IDS);
    let tools = TOOLS.into_iter().chain(ids);
    tools
        .filter(|(program, name)| apt::installed(program).is_none() || (*name == QEMU && old()))
        .map(|(_, name)| name)
        .collect()
}

/// From the release's backports where its own is too old.
fn install_qemu(cache: &Cache) -> Result<()> {
    let log = cache.log("apt.log");
    let mut policy = Command::new("apt-cache");
    let policy = command::run(policy.args(["policy", QEMU]), "", LIMIT)?.success()?;
    if candidate(&policy).is_some_and(|major| major >= qemu::EMULATES_SINCE) {
        return apt::install(&[QEMU], &log);
    }
    let release = fs::read_to_string("/etc/os-release")?;
    let release = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let release = release.context("/etc/os-release does not name a release")?;
    let mirror = mirror()?;
    let list = cache.apt().join("backports.list");
    let mut text = String::new();
    for suite in [release.to_owned(), format!("{release}-backports")] {
        text.push_str(&format!("deb {mirror} {suite} main\n"));
    }
    fs::write(&list, text)?;
    let lists = cache.apt().join("lists");
    fs::create_dir_all(lists.join("partial"))?;
    // With lists of its own: this machine's sources stay what they are.
    let options = [
        format!("Dir::Etc::sourcelist={}", list.display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={}", lists.display()),
        "Dir::Cache::pkgcache=".to_owned(),
        "Dir::Cache::srcpkgcache=".to_owned(),
    ];
    let options: Vec<&str> = options.iter().flat_map(|it| ["-o", it.as_str()]).collect();
    apt::get(&[&options, ["update"].as_slice()].concat(), &log)?;
    let target = format!("{release}-backports");
    let install =
        ["--target-release", &target, "--yes", "--no-install-recommends", "install", QEMU];
    apt::get(&[&options, install.as_slice()].concat(), &log)
}

/// The major version that `apt-cache policy` would install.
fn candidate(policy: &str) -> Option<u32> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    version.split('.').next()?.parse().ok()
}

/// Where this machine gets Debian's packages.
///
/// # Errors
/// It does not, or from nowhere that has whole releases.
pub fn mirror() -> Result<String> {
    let sources = apt::sources()?;
    match whole(&sources) {
        Some(mirror) => Ok(mirror.to_owned()),
        None => {
            bail!("apt has no source of a Debian release to make an image from; apt-get update?")
        }
    }
}

/// The first source that is a release, not its updates alone.
fn whole(sources: &[String]) -> Option<&str> {
    sources.iter().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (mirror, release, component) = (words.next()?, words.next()?, words.next()?);
        (component == "main" && !release.contains(['-', '/'])).then_some(mirror)
    })
}

/// QEMU's program and its major version.
///
/// # Errors
/// It is not installed.
pub fn qemu() -> Result<(PathBuf, u32)> {
    let program = apt::installed(qemu::PROGRAM).context("QEMU is not installed")?;
    let text = command::run(Command::new(&program).arg("--version"), "", LIMIT)?.success()?;
    Ok((program, qemu::version(&text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_has_whole_releases() {
        let lines = [
            "deb http://m.example/security bookworm-security main",
            "deb http://m.example/debian bookworm-updates main",
            "deb http://m.example/debian bookworm contrib",
            "deb http://m.example/debian bookworm main",
        ];
        let lines = lines.map(str::to_owned);
        assert_eq!(whole(&lines), Some("http://m.example/debian"));
        assert_eq!(whole(&lines[..3]), None);
    }

    #[test]
    fn candidates_are_read() {
        let text = "qemu-system-x86:\n  Installed: (none)\n  Candidate: 1:7.2+dfsg-7\n";
        assert_eq!(candidate(text), Some(7));
        assert_eq!(candidate("x:\n  Candidate: 10.0.2+ds\n"), Some(10));
        assert_eq!(candidate("x:\n  Candidate: (none)\n"), None);
    }
}
