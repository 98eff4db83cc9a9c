//! Being told when the kernel ends a process of a cgroup for want of memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::uio::pread;

use super::directory::{Directory, refused};
use crate::error::Result;

/// Counts what the kernel tells of a cgroup.
#[derive(Debug)]
pub struct OutOfMemory(Source);

#[derive(Debug)]
enum Source {
    /// v2: whether `memory.events` has changed, itself, and how many it told last. A user
    /// has 128 instances of inotify(7) for all containers, but any number of these.
    File { changed: Epoll, events: OwnedFd, told: u64 },
    /// v1: the kernel counts up, for as long as the file is open.
    Counter { counter: EventFd, _file: OwnedFd },
}

impl OutOfMemory {
    pub(super) fn v2(cgroup: &Directory) -> Result<Self> {
        let failed = |errno| refused(errno, "watching the cgroup's memory", cgroup.path());
        let events = cgroup.open_for_reading("memory.events").map_err(failed)?;
        // A file of a cgroup has changed since it was read last (cgroup-v2.rst); one that
        // is gone has for ever, which is worth one event.
        let told = kills(&events).map_err(failed)?;
        let changed = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        let event = EpollEvent::new(EpollFlags::EPOLLPRI | EpollFlags::EPOLLET, 0);
        changed.add(&events, event).map_err(failed)?;
        Ok(Self(Source::File { changed, events, told }))
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
            Source::File { changed, .. } => changed.0.as_fd(),
            Source::Counter { counter, .. } => counter.as_fd(),
        }
    }

    /// How often it has happened since this was asked last; never waits.
    pub fn count(&mut self) -> u64 {
        match &mut self.0 {
            Source::File { changed, events, told } => {
                let _ = changed.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO);
                // The file tells, not the event. It goes with the cgroup.
                let now = kills(events).unwrap_or(*told);
                now.saturating_sub(std::mem::replace(told, now))
            }
            Source::Counter { counter, .. } => counter.read().unwrap_or(0),
        }
    }
}

fn kills(events: &OwnedFd) -> Result<u64, Errno> {
    let mut buffer = [0; 4096];
    let length = pread(events, &mut buffer, 0)?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    Ok(line.and_then(|count| count.parse().ok()).unwrap_or(0))
}
