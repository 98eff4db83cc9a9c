//! Namespaces for an engine and all that it starts.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::{self, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, wait};
use orlop_init::sys;

use crate::command;

/// Where systemd and the bus are, for a runtime that has it make the cgroups.
const KEPT: [&str; 2] = ["/run/systemd", "/run/dbus"];

/// Goes on in a child, in a mount namespace with a /run that holds nothing but systemd's,
/// so that no socket of the system's engine is there, and in a network namespace with nothing but loopback. What was
/// this process becomes the parent of whatever the child's own leave behind, and ends as
/// the child does.
///
/// # Errors
/// Of the kernel: this needs root, and a process without threads.
pub fn enter() -> Result<()> {
    set_child_subreaper(true).context("becoming a subreaper")?;
    match sys::copy::fork_alone() {
        Ok(0) => set_pdeathsig(Signal::SIGKILL).context("asking for a death signal")?,
        Ok(child) => process::exit(reap_until(child)),
        Err(sys::Errno(errno)) => bail!("forking: {}", Errno::from_raw(errno)),
    }
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("unsharing namespaces")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("making mounts private")?;
    let kept: Vec<_> =
        KEPT.iter().filter_map(|path| Some((path, File::open(path).ok()?))).collect();
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none)
        .context("mounting an empty /run")?;
    for (path, folder) in kept {
        fs::create_dir(path)?;
        let from = format!("/proc/self/fd/{}", folder.as_raw_fd());
        mount(Some(&*from), *path, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
            .with_context(|| format!("keeping {path}"))?;
    }
    let mut up = Command::new("ip");
    up.args(["link", "set", "lo", "up"]);
    command::run(&mut up, "", Duration::from_secs(10))?.success().map(drop)
}

/// As an init does: a process that nobody waits for keeps its pid namespace from ending.
fn reap_until(child: i32) -> i32 {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == child => return code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == child => {
                return 128 + signal as i32;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
}
