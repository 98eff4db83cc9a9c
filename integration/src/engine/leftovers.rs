//! What a stopped engine must not leave behind: processes, mounts, cgroups and
//! state of its runtime.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::table::Row;
use super::{LEFTOVERS, Options, PATIENCE};
use crate::command;

const CGROUPS: &str = "/sys/fs/cgroup";

/// An engine that was stopped.
#[derive(Debug)]
pub struct Stopped {
    /// Its folder, for a look at what is left in there.
    pub directory: TempDir,
    /// Whether it ended by itself.
    pub ended: bool,
    /// The cgroups below which its containers were, or slices of systemd's at the top.
    pub groups: Vec<String>,
    /// Mounts that are its own.
    pub own: Vec<PathBuf>,
}

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

    /// The last check, if it is asked for; then what the engine had is removed. `states`
    /// are asked for when no process is left that could take them away.
    ///
    /// # Errors
    /// Something can't be removed; what was left is in the row.
    pub fn check(
        &self,
        engine: Stopped,
        states: impl Fn(&Path) -> Vec<PathBuf>,
        options: &Options,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let Stopped { directory, ended, groups, own } = engine;
        if options.wants(LEFTOVERS) {
            let start = Instant::now();
            command::until(PATIENCE, || orphans().is_empty());
            let result = self.compare(&own, &groups, states(directory.path())).and_then(|()| {
                ensure!(ended, "the daemon did not stop by itself and was killed");
                Ok(())
            });
            rows.push(Row { name: LEFTOVERS, took: start.elapsed(), result });
        }
        groups.iter().try_for_each(|group| remove_cgroups(group))?;
        remove_directory(directory)
    }

    /// Compares, once the engine is gone. Mounts in `own` are its own; `states` is what a
    /// runtime has left in folders.
    ///
    /// # Errors
    /// All that was left, in one message.
    fn compare(&self, own: &[PathBuf], groups: &[String], states: Vec<PathBuf>) -> Result<()> {
        let mut left = Vec::new();
        // Shims end by themselves after their container was removed.
        if !command::until(Duration::from_secs(5), || orphans().is_empty()) {
            for (pid, name) in orphans() {
                left.push(format!("process {pid} ({name})"));
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        for mount in mounts()?.difference(&self.mounts) {
            if !own.iter().any(|own| Path::new(mount) == own) {
                left.push(format!("mount {mount}"));
            }
        }
        for group in groups {
            for parent in cgroup_parents(group)? {
                let children = directories(&parent);
                left.extend(children.iter().map(|child| format!("cgroup {}", child.display())));
            }
        }
        for state in states {
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

/// What lives and has lost its parent: our parent, who waits for it, has it then. And our
/// own children.
fn orphans() -> Vec<(i32, String)> {
    let ours = i32::try_from(std::process::id()).unwrap_or_default();
    let parent = std::os::unix::process::parent_id();
    let name = |pid: i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
    };
    let found = children(ours.unsigned_abs()).into_iter().chain(children(parent));
    found.filter(|pid| *pid != ours).map(|pid| (pid, name(pid))).collect()
}

fn children(pid: u32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let pids: String =
        tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect();
    pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The folders in a folder.
#[must_use]
pub fn directories(parent: &Path) -> Vec<PathBuf> {
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

/// Removes our parent cgroups with all that is in them. A slice is systemd's to remove.
///
/// # Errors
/// One that has processes.
fn remove_cgroups(name: &str) -> Result<()> {
    if name.ends_with(".slice") {
        return stop(name);
    }
    for parent in cgroup_parents(name)? {
        remove_tree(&parent)?;
    }
    Ok(())
}

/// The directory of a slice comes back while systemd has the unit.
fn stop(slice: &str) -> Result<()> {
    let mut stop = Command::new("systemctl");
    command::run(stop.args(["stop", slice]), "", PATIENCE)?.success().map(drop)
}

/// Removes cgroups, or a slice of systemd's, below which nothing may be left.
///
/// # Errors
/// There is something.
pub fn remove_empty(name: &str) -> Result<()> {
    for directory in cgroup_parents(name)? {
        let left = directories(&directory);
        ensure!(left.is_empty(), "left behind: {left:?}");
        if !name.ends_with(".slice") {
            remove_tree(&directory)?;
        }
    }
    match name.rsplit('/').next() {
        Some(slice) if slice.ends_with(".slice") => stop(slice),
        _ => Ok(()),
    }
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
fn remove_directory(directory: TempDir) -> Result<()> {
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
