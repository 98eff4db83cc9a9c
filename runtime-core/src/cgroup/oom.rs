//! Being told when the kernel ends a process of a cgroup for want of memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::directory::{Directory, refused};
use crate::error::Result;

/// Counts what the kernel tells of a cgroup.
#[derive(Debug)]
pub struct OutOfMemory(Source);

#[derive(Debug)]
enum Source {
    /// v2: `memory.events` has changed, and how many it told last.
    File { inotify: Inotify, cgroup: Directory, told: u64 },
    /// v1: the kernel counts up, for as long as the file is open.
    Counter { counter: EventFd, _file: OwnedFd },
}

impl OutOfMemory {
    pub(super) fn v2(cgroup: Directory) -> Result<Self> {
        let failed = |errno| refused(errno, "watching the cgroup's memory", cgroup.path());
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).map_err(failed)?;
        let file = cgroup.path().join("memory.events");
        inotify.add_watch(&file, AddWatchFlags::IN_MODIFY).map_err(failed)?;
        let told = kills(&cgroup).map_err(failed)?;
        Ok(Self(Source::File { inotify, cgroup, told }))
    }

    /// Linux, cgroup-v1/memory.rst, section 10.
    pub(super) fn v1(cgroup: &Directory) -> Result<Self> {
        let failed = |errno| refused(errno, "watching the cgroup's memory", cgroup.path());
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let counter = EventFd::from_value_and_flags(0, flags).map_err(failed)?;
        let file = cgroup.open_for_reading("memory.oom_control").map_err(failed)?;
        let asked = format!("{} {}", counter.as_fd().as_raw_fd(), file.as_raw_fd());
        cgroup.write("cgroup.event_control", &asked).map_err(failed)?;
        Ok(Self(Source::Counter { counter, _file: file }))
    }

    /// Readable when there may be something to tell.
    #[must_use]
    pub fn readable(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Source::File { inotify, .. } => inotify.as_fd(),
            Source::Counter { counter, .. } => counter.as_fd(),
        }
    }

    /// How often it has happened since this was asked last; never waits.
    pub fn count(&mut self) -> u64 {
        match &mut self.0 {
            Source::File { inotify, cgroup, told } => {
                // The file tells, not the events. It goes with the cgroup.
                while inotify.read_events().is_ok() {}
                let now = kills(cgroup).unwrap_or(*told);
                now.saturating_sub(std::mem::replace(told, now))
            }
            Source::Counter { counter, .. } => counter.read().unwrap_or(0),
        }
    }
}

fn kills(cgroup: &Directory) -> Result<u64, Errno> {
    let events = cgroup.read("memory.events")?;
    let line = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    Ok(line.and_then(|count| count.parse().ok()).unwrap_or(0))
}
