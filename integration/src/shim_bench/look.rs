//! What can be seen of a server from outside: its memory, its descriptors, its time.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// Memory of one process, or of several together, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// What is in memory of all that it has mapped.
    pub resident: u64,
    /// Of that what is in no file: it is this process's alone, and has been written.
    pub private: u64,
    /// Resident, with its share alone of what others have, too.
    pub proportional: u64,
}

/// Whatever must not grow.
#[derive(Debug, Clone, Copy)]
pub struct Holdings {
    /// Open descriptors.
    pub descriptors: usize,
    /// Mounts that it sees.
    pub mounts: usize,
    /// Processes that are children of it.
    pub children: usize,
    /// Its memory.
    pub memory: Memory,
}

impl Memory {
    /// Of a process, now.
    pub(super) fn of(pid: Pid) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).context(path)?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.with_context(|| format!("no {name} in smaps_rollup"))
        };
        Ok(Self {
            resident: field("Rss")?,
            private: field("Anonymous")?,
            proportional: field("Pss")?,
        })
    }
}

impl Holdings {
    /// Of a process, now.
    pub(super) fn of(pid: Pid) -> Result<Self> {
        let lines = |path: String| -> Result<usize> {
            Ok(fs::read_to_string(&path).context(path)?.lines().count())
        };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        Ok(Self {
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            mounts: lines(format!("/proc/{pid}/mountinfo"))?,
            children: children.split_whitespace().count(),
            memory: Memory::of(pid)?,
        })
    }
}

/// What all threads of a process have used until now, those that have ended too.
pub(super) fn own_time(pid: Pid) -> Result<Duration> {
    let clock = clock_getcpuclockid(pid).context("the process's clock")?;
    Ok(clock.now()?.into())
}

/// What the children have used that it has waited for, and theirs: in the kernel's ticks of
/// a hundredth of a second, so this is for the sum of many.
pub(super) fn childrens_time(pid: Pid) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may have anything in it: fields 16 and 17 of the whole.
    let (_, rest) = text.rsplit_once(')').context("/proc/PID/stat")?;
    let ticks = rest.split_whitespace().skip(13).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(10 * ticks))
}
