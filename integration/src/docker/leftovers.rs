//! What a stopped engine must not leave behind: processes, mounts, cgroups and
//! state of its runtime.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::command;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Directories in /run that engines and their runtimes use; ours starts empty.
const RUN_OF_THE_ENGINE: [&str; 2] = ["/run/containerd", "/run/docker"];

/// How things were before.
#[derive(Debug)]
pub struct Leftovers {
    mounts: BTreeSet<String>,
}

impl Leftovers {
    /// Takes the picture to compare with.
    ///
    /// # Errors
    /// The mounts cannot be read.
    pub fn here() -> Result<Self> {
        Ok(Self { mounts: mounts()? })
    }

    /// Compares, once the engine is gone.
    ///
    /// # Errors
    /// All that was left, in one message.
    pub fn compare(&self, engine: &Path, cgroup_parent: &str) -> Result<()> {
        let mut left = Vec::new();
        // Shims end by themselves after their container was removed.
        if !command::until(Duration::from_secs(5), || children().is_empty()) {
            for (pid, name) in children() {
                left.push(format!("process {pid} ({name})"));
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        // The engine's own: its data root, and its network namespace's name.
        let own = [engine.join("data"), engine.join("exec/netns/default")];
        for mount in mounts()?.difference(&self.mounts) {
            if !own.iter().any(|own| Path::new(mount) == own) {
                left.push(format!("mount {mount}"));
            }
        }
        for parent in cgroup_parents(cgroup_parent)? {
            for child in directories(&parent) {
                left.push(format!("cgroup {}", child.display()));
            }
        }
        for state in states(engine) {
            left.push(format!("state {}", state.display()));
        }
        ensure!(left.is_empty(), "left behind: {}", left.join(", "));
        Ok(())
    }
}

fn mounts() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(4)).map(ToOwned::to_owned).collect())
}

/// Our children that live, after those that ended were taken.
fn children() -> Vec<(i32, String)> {
    while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
        waitpid(None, Some(WaitPidFlag::WNOHANG))
    {}
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let pids: String =
        tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect();
    let name = |pid: &str| {
        fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
    };
    pids.split_whitespace().filter_map(|pid| Some((pid.parse().ok()?, name(pid)))).collect()
}

/// Containers that a runtime still knows: below the engine's own state, or where a
/// runtime keeps its state when nobody says where.
fn states(engine: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for runtime in directories(&engine.join("exec")) {
        let name = runtime.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("runtime-") {
            found.extend(directories(&runtime.join("moby")));
        }
    }
    for place in directories(Path::new("/run")) {
        if !RUN_OF_THE_ENGINE.iter().any(|own| place == Path::new(own)) {
            found.extend(directories(&place));
        }
    }
    found
}

fn directories(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_directory).map(|entry| entry.path()).collect()
}

/// Our parent cgroup in each hierarchy: at the top on pure v2, one level below it
/// otherwise.
fn cgroup_parents(name: &str) -> Result<Vec<PathBuf>> {
    let top = Path::new(CGROUPS);
    let mut places = vec![top.to_owned()];
    places.extend(directories(top));
    let mut found = Vec::new();
    for place in places {
        // A runtime may put it below the cgroup that we are in.
        for directory in [place.join(name), place.join(own_cgroup()?).join(name)] {
            if directory.is_dir() && !found.contains(&directory) {
                found.push(directory);
            }
        }
    }
    Ok(found)
}

fn own_cgroup() -> Result<String> {
    let text = fs::read_to_string("/proc/self/cgroup").context("reading our cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(path.unwrap_or_default().to_owned())
}

/// Removes our parent cgroups with all that is in them.
///
/// # Errors
/// One that has processes.
pub fn remove_cgroups(name: &str) -> Result<()> {
    for parent in cgroup_parents(name)? {
        remove_tree(&parent)?;
    }
    Ok(())
}

/// Removes cgroups below which nothing may be left.
///
/// # Errors
/// There is something.
pub fn remove_empty(name: &str) -> Result<()> {
    for directory in cgroup_parents(name)? {
        let left = directories(&directory);
        ensure!(left.is_empty(), "left behind: {left:?}");
        remove_tree(&directory)?;
    }
    Ok(())
}

fn remove_tree(directory: &Path) -> Result<()> {
    for child in directories(directory) {
        remove_tree(&child)?;
    }
    fs::remove_dir(directory).with_context(|| format!("removing {}", directory.display()))
}

/// Removes the engine's directory, after whatever is mounted in it.
///
/// # Errors
/// Something stays mounted in it: then it stays too, lest files of another file
/// system be deleted.
pub fn remove_directory(directory: TempDir) -> Result<()> {
    let inside = || -> Result<Vec<String>> {
        let all = mounts()?;
        Ok(all.into_iter().filter(|at| Path::new(at).starts_with(directory.path())).collect())
    };
    for mount in inside()?.iter().rev() {
        match umount2(mount.as_str(), MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => eprintln!("unmounting {mount}: {errno}"),
        }
    }
    if !inside()?.is_empty() {
        let kept = directory.keep();
        anyhow::bail!("{} is kept, because something is mounted in it", kept.display());
    }
    directory.close().context("removing the engine's directory")
}
