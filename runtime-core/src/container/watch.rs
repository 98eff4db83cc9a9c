//! What a running container uses, and what happens to it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use serde::Serialize;

use super::Container;
use crate::cgroup::{self, Manager, OutOfMemory};
use crate::error::{Error, Kind, Result};
use crate::launch::wait_any;
use crate::resctrl::{self, Class};

/// What a container uses, with the names that `runc events` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Of its cgroup.
    #[serde(flatten)]
    pub cgroup: cgroup::Stats,
    /// Of its class of service; nothing if it has none.
    pub intel_rdt: resctrl::Stats,
}

/// Waits for what happens to a container.
#[derive(Debug)]
pub struct Watch {
    init: OwnedFd,
    out_of_memory: Option<OutOfMemory>,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// There was not enough memory, and the kernel has ended processes.
    OutOfMemory,
    /// The init process has ended.
    Over,
}

impl Container {
    /// What its processes have used.
    ///
    /// # Errors
    /// It has no cgroup, or one that can't be read; the same of a class of service.
    pub fn stats(&self) -> Result<Stats> {
        let cgroup = self.record.manager().stats()?;
        let class = self.record.intel_rdt.as_ref().map(Class::stats);
        Ok(Stats { cgroup, intel_rdt: class.transpose()?.unwrap_or_default() })
    }

    /// Its cgroups, for whoever asks often what they have used: nothing of the container
    /// is read again for that.
    #[must_use]
    pub fn cgroups(&self) -> Manager {
        self.record.manager()
    }

    /// Begins to count how often the kernel ends processes of it for want of memory;
    /// `None` without the memory controller.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn out_of_memory(&self) -> Result<Option<OutOfMemory>> {
        self.record.manager().out_of_memory()
    }

    /// Begins to watch it. Without the memory controller nothing is told of memory.
    ///
    /// # Errors
    /// [`Kind::WrongState`] when its init process has ended; what the kernel refuses.
    pub fn watch(&self) -> Result<Watch> {
        let not_running = || {
            let text = format!("container with id {} is not running", self.record.id);
            Error::new(Kind::WrongState, text)
        };
        let init = self.init()?.ok_or_else(not_running)?;
        Ok(Watch { init, out_of_memory: self.out_of_memory()? })
    }
}

impl Watch {
    /// Waits for the next thing; `None` when `most` has passed without any.
    ///
    /// # Errors
    /// What poll(2) says.
    pub fn next(&mut self, most: Duration) -> Result<Option<Happening>> {
        let milliseconds = i64::try_from(most.as_millis()).unwrap_or(i64::MAX);
        let memory = self.out_of_memory.as_ref().map(OutOfMemory::readable);
        let ready = wait_any(&[Some(self.init.as_fd()), memory], milliseconds)?;
        // What ended the last process is told before its end.
        let happened = self.out_of_memory.as_mut().is_some_and(|memory| memory.count() > 0);
        Ok(match ready {
            _ if happened => Some(Happening::OutOfMemory),
            Some(0) => Some(Happening::Over),
            _ => None,
        })
    }
}
