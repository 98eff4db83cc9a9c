//! Killing everything in a cgroup that has no `cgroup.kill` (v1).
//!
//! Frozen processes can't fork, so one round of signals reaches them all; they
//! die when they are thawed, which happens whatever went wrong. Without a
//! freezer the rounds go on until nothing is left, or the deadline.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::directory::Directory;
use super::freezer::Freezer;
use super::tree::known_processes;
use crate::error::{Error, Kind, Result};

/// How long the processes may take to stand still.
const FREEZING: Duration = Duration::from_secs(2);

/// How long rounds of signals go on without a freezer.
const ROUNDS: Duration = Duration::from_secs(10);

/// Kills all processes in the cgroup `main` and below it. Those that are known get
/// their signal also when others can't be listed.
pub(super) fn all(main: &Path, freezer: Option<&(Directory, Freezer)>) -> Result<()> {
    if let Some((cgroup, freezer)) = freezer {
        let frozen = freezer.freeze(cgroup, FREEZING).is_ok();
        let (list, listed) = known_processes(main);
        let signalled = signal(&list);
        // Thawed before any error is told, or the signals never arrive.
        let thawed = freezer.thaw(cgroup);
        signalled?;
        thawed?;
        listed?;
        if frozen {
            return Ok(());
        }
    }
    let deadline = Instant::now() + ROUNDS;
    let mut pause = Duration::from_micros(100);
    loop {
        let (list, listed) = known_processes(main);
        if list.is_empty() {
            return listed;
        }
        signal(&list)?;
        if Instant::now() >= deadline {
            let text = format!("{} processes did not die", list.len());
            return Err(Error::new(Kind::Timeout, text).at_path(main));
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn signal(list: &[i32]) -> Result<()> {
    let mut result = Ok(());
    // 0 stands for a process that our pid namespace does not show.
    for &pid in list.iter().filter(|pid| **pid > 0) {
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => {
                result = Err(Error::os(errno as i32, format!("killing the process {pid}")));
            }
        }
    }
    result
}
