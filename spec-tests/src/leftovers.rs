//! What a case leaves behind: processes, cgroups, mounts and state. It is told,
//! and then taken away, so that one failure does not spoil the next case.
//!
//! Every process of a case is a descendant of the one that runs it, which adopts
//! orphans; all names outside of its folder hold the case's tag.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, geteuid, getpid};
use orlop_spec_tests::cgroups;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long what ends by itself may take to do so. A leak costs as much.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the killed may take.
pub(crate) const LAST: Duration = Duration::from_secs(30);

/// The world before a case.
#[derive(Debug)]
pub(crate) struct Before {
    mounts: BTreeSet<String>,
    tag: String,
    state: PathBuf,
}

impl Before {
    /// Looks around. `tag` is part of every name the case gives; `state` is the
    /// folder where the runtime keeps what it knows.
    pub(crate) fn new(tag: &str, state: PathBuf) -> Self {
        Self { mounts: mounts(), tag: tag.to_owned(), state }
    }

    /// What is there that was not, after a moment.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let leaks = self.now();
            if leaks.is_empty() || begun.elapsed() > PATIENCE {
                return leaks;
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn now(&self) -> Vec<String> {
        reap(&[]);
        let processes = descendants(getpid()).into_iter().map(describe);
        let groups =
            cgroups::of(&self.tag).into_iter().map(|path| format!("cgroup {}", path.display()));
        let mounts =
            mounts().difference(&self.mounts).map(|m| format!("mount {m}")).collect::<Vec<_>>();
        // A runtime may keep things of its own there: a cache.
        let state = fs::read_dir(&self.state).into_iter().flatten().flatten();
        let state = state.map(|entry| entry.path()).filter(|path| {
            path.to_string_lossy().rsplit('/').next().unwrap_or("").contains(&self.tag)
        });
        processes
            .chain(groups)
            .chain(mounts)
            .chain(state.map(|path| format!("state {}", path.display())))
            .collect()
    }

    /// Takes away what is left. Mounts end with the case's own namespace.
    pub(crate) fn sweep(&self) {
        let begun = Instant::now();
        loop {
            cgroups::thaw(&self.tag);
            kill_all(getpid());
            reap(&[]);
            let left = descendants(getpid());
            let groups = cgroups::of(&self.tag);
            for path in &groups {
                let _ = fs::remove_dir(path);
            }
            if (left.is_empty() && groups.is_empty()) || begun.elapsed() > LAST {
                return;
            }
            sleep(Duration::from_millis(5));
        }
    }
}

/// Reaps orphans that ended, but for processes that somebody waits for.
pub(crate) fn reap(awaited: &[Pid]) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, flags) {
        match status.pid() {
            Some(pid) if !awaited.contains(&pid) => drop(waitpid(pid, None)),
            _ => return,
        }
    }
}

/// Every process below one, children first in no order.
pub(crate) fn descendants(of: Pid) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![of.as_raw()];
    while let Some(pid) = next.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(Pid::from_raw(child));
            next.push(child);
        }
    }
    found
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Kills every process below one. Each is held by a descriptor and looked at
/// again first, since a number may have a new owner.
pub(crate) fn kill_all(of: Pid) {
    for pid in descendants(of) {
        let Some(number) = rustix::process::Pid::from_raw(pid.as_raw()) else { continue };
        let Ok(held) = pidfd_open(number, PidfdFlags::empty()) else { continue };
        if descendants(of).contains(&pid) {
            let _ = pidfd_send_signal(&held, Signal::KILL);
        }
    }
}

/// Removes the folder of a run whose first process is gone, if nothing is mounted
/// below: that could be a file system of the host.
pub(crate) fn remove(folder: &Path) {
    let below = || -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        points.filter(|point| point.starts_with(folder)).collect()
    };
    for point in below().iter().rev() {
        let _ = umount2(point, MntFlags::MNT_DETACH);
    }
    if below().is_empty() {
        let _ = fs::remove_dir_all(folder);
    }
}

/// Lines of mountinfo without their numbers, and without the options of the file system
/// itself: CRIU changes those of cgroup v2 for a moment, for everybody. Who is not root sees
/// the host's mounts, which may change meanwhile, and can make none of them.
fn mounts() -> BTreeSet<String> {
    if !geteuid().is_root() {
        return BTreeSet::new();
    }
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let of_mount = |line: &str| Some(line.splitn(4, ' ').nth(3)?.rsplit_once(' ')?.0.to_owned());
    text.lines().filter_map(of_mount).collect()
}

fn describe(pid: Pid) -> String {
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("process {pid} {}", words.replace('\0', " ").trim_end())
}
