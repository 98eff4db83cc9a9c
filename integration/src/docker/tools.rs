//! What the checks need around them: Debian's packages, and namespaces to hide in.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

use crate::command;

/// A program and the Debian package that holds it.
const TOOLS: [(&str, &str); 6] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("docker-init", "docker.io"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("mmdebstrap", "mmdebstrap"),
];

const PLACES: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// Where Debian's packages put a program; another one earlier in `PATH` is not
/// what is tested here.
#[must_use]
pub fn debian(program: &str) -> Option<PathBuf> {
    PLACES.iter().map(|place| Path::new(place).join(program)).find(|path| path.is_file())
}

/// Installs what is missing.
///
/// # Errors
/// Without root, or when apt fails; the error names its log.
pub fn ensure_installed(logs: &Path) -> Result<()> {
    ensure!(Uid::effective().is_root(), "the checks need root");
    let mut missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(program, _)| debian(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {}", missing.join(", "));
    apt(&["update"], logs)?;
    apt(&[&["install", "--yes", "--no-install-recommends"], missing.as_slice()].concat(), logs)
}

/// Runs apt-get, with its output in a log.
///
/// # Errors
/// It fails or takes more than ten minutes.
pub(super) fn apt(arguments: &[&str], logs: &Path) -> Result<()> {
    let log = logs.join("apt.log");
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    logged(&mut command, &log, Duration::from_secs(600))
}

/// Runs a long command with its output in a log.
///
/// # Errors
/// It fails or takes too long; the error names the log.
pub(super) fn logged(command: &mut Command, log: &Path, limit: Duration) -> Result<()> {
    let file = File::options().create(true).append(true).open(log)?;
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let status = command::wait(&mut child, limit);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    ensure!(
        status.is_some_and(|status| status.success()),
        "{program} {}; its log is {}",
        status.map_or(format!("did not end in {limit:?}"), |status| format!("failed, {status}")),
        log.display()
    );
    Ok(())
}

/// Moves this process to a mount namespace with an empty /run, where no socket of
/// the system's engine is, and to a network namespace with nothing but loopback;
/// and makes it the parent of whatever its children leave behind.
///
/// # Errors
/// Of the kernel: this needs root, and a process without threads.
pub fn enter_namespaces() -> Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("unsharing namespaces")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("making mounts private")?;
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none)
        .context("mounting an empty /run")?;
    nix::sys::prctl::set_child_subreaper(true).context("becoming a subreaper")?;
    let mut up = Command::new("ip");
    up.args(["link", "set", "lo", "up"]);
    command::run(&mut up, "", Duration::from_secs(10))?.success().map(drop)
}
