//! epoll(7): which descriptors matter, and what each is to the shim.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

pub(crate) use epoll::EventFlags as Interest;

/// What a descriptor is. The number is that of one connection, step, process, task or stream;
/// none is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Somebody connects.
    Listener,
    /// A child has ended, or the shim shall.
    Signals,
    /// Where events are published.
    Events,
    Connection(u32),
    /// What a step says.
    Step(u32),
    /// A process has ended.
    Exit(u32),
    /// There was not enough memory for a task.
    Memory(u32),
    /// What a stream comes from, and where it goes.
    From(u32),
    To(u32),
}

impl Source {
    fn number(self) -> u64 {
        let (kind, number) = match self {
            Self::Listener => (0, 0),
            Self::Signals => (1, 0),
            Self::Events => (2, 0),
            Self::Connection(number) => (3, number),
            Self::Step(number) => (4, number),
            Self::Exit(number) => (5, number),
            Self::Memory(number) => (6, number),
            Self::From(number) => (7, number),
            Self::To(number) => (8, number),
        };
        kind << 32 | u64::from(number)
    }

    fn of(number: u64) -> Self {
        let own = u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default();
        match number >> 32 {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::Events,
            3 => Self::Connection(own),
            4 => Self::Step(own),
            5 => Self::Exit(own),
            6 => Self::Memory(own),
            7 => Self::From(own),
            _ => Self::To(own),
        }
    }
}

pub(crate) struct Poller(OwnedFd);

impl Poller {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Looks after `fd` from now on, until it is closed or [`Self::forget`]s it.
    pub(crate) fn add(
        &self,
        fd: impl AsFd,
        source: Source,
        interest: Interest,
    ) -> std::io::Result<()> {
        let data = epoll::EventData::new_u64(source.number());
        Ok(epoll::add(&self.0, fd, data, interest)?)
    }

    /// As if nothing had been told of it yet.
    pub(crate) fn again(
        &self,
        fd: impl AsFd,
        source: Source,
        interest: Interest,
    ) -> std::io::Result<()> {
        let data = epoll::EventData::new_u64(source.number());
        Ok(epoll::modify(&self.0, fd, data, interest)?)
    }

    pub(crate) fn forget(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits until something happens, or for so long.
    pub(crate) fn wait(&self, most: Option<Duration>) -> Vec<Source> {
        let mut events = Vec::with_capacity(32);
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        // Interrupted: the same again.
        let _ = epoll::wait(&self.0, spare_capacity(&mut events), most.as_ref());
        events.iter().map(|event| Source::of({ event.data }.u64())).collect()
    }
}
