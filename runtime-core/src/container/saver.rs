//! CRIU while it works for a container, as the record knows it: whoever deletes the
//! container ends it, and puts back what it has taken from the machine.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use orlop_init::sys::{self, Errno};
use serde::{Deserialize, Serialize};

use super::state::start_time;
use crate::cgroup::Manager;
use crate::criu::{Superblock, Worker};
use crate::error::{Error, Kind, Result};
use crate::launch::{DYING, owned, wait_readable};

/// One process of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Saver {
    pid: i32,
    /// Its start in clock ticks since boot (proc(5)): with the pid, its identity.
    start_time: u64,
    /// The options of cgroup v2 before it was asked for anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    superblock: Option<Superblock>,
}

impl Saver {
    /// One that waits for its request.
    pub(super) fn new(worker: &Worker, manager: &Manager) -> Result<Self> {
        let pid = worker.pid();
        let gone = || Error::new(Kind::ChildDied, "criu has ended before it was asked");
        let start_time = start_time(pid)?.ok_or_else(gone)?;
        let groups = manager.groups();
        let unified = groups.into_iter().find(|group| group.controllers.is_empty());
        let superblock = unified.and_then(|group| Superblock::of(&group.mount));
        Ok(Self { pid, start_time, superblock })
    }

    /// Kills it, if it is there; its pidfd.
    pub(super) fn kill(&self) -> Result<Option<OwnedFd>> {
        let pidfd = match owned(sys::pidfd_open(self.pid)) {
            Ok(pidfd) => pidfd,
            // KERNEL(<6.13): EINVAL for a number that is a thread's by now.
            Err(libc::ESRCH | libc::EINVAL) => return Ok(None),
            Err(errno) => return Err(Error::os(errno, "opening the process of criu")),
        };
        // After the pidfd is there, the number can't be taken over unnoticed.
        if start_time(self.pid)? != Some(self.start_time) {
            return Ok(None);
        }
        match sys::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL.cast_unsigned()) {
            Ok(()) | Err(Errno(libc::ESRCH)) => Ok(Some(pidfd)),
            Err(Errno(errno)) => Err(Error::os(errno, "killing criu")),
        }
    }

    /// The same for one that has lost whom it worked for, and puts back what it has
    /// taken.
    pub(super) fn end(&self) -> Result<()> {
        if let Some(pidfd) = self.kill()?
            && !wait_readable(pidfd.as_fd(), DYING)?
        {
            return Err(Error::new(Kind::Timeout, "criu does not end"));
        }
        self.put_back();
        Ok(())
    }

    /// cgroup v2 has the options again that it had before.
    pub(super) fn put_back(&self) {
        if let Some(superblock) = &self.superblock
            && let Err(error) = superblock.put_back()
        {
            log::warn!("{error}");
        }
    }
}
