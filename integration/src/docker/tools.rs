//! What the checks need around them: Debian's packages, and namespaces to hide in.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

use crate::{apt, command};

/// A program and the Debian package that holds it.
const TOOLS: [(&str, &str); 6] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("docker-init", "docker.io"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("mmdebstrap", "mmdebstrap"),
];

/// Installs what is missing.
///
/// # Errors
/// Without root, or when apt fails; the error names its log.
pub fn ensure_installed(logs: &Path) -> Result<()> {
    ensure!(Uid::effective().is_root(), "the checks need root");
    let mut missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(program, _)| apt::installed(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {}", missing.join(", "));
    let log = logs.join("apt.log");
    apt::get(&["update"], &log)?;
    apt::install(&missing, &log)
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
