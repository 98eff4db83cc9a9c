//! Signals, to the init or to every process.

use std::os::fd::{AsRawFd, OwnedFd};

use orlop_init::sys::{self, Errno};

use super::{Container, Started};
use crate::error::{Error, Kind, Result};
use crate::launch::owned;

impl Started {
    /// Sends a signal to the process.
    ///
    /// # Errors
    /// It has ended and was waited for; what pidfd_send_signal(2) says.
    pub fn signal(&self, signal: i32) -> Result<()> {
        send(&self.pidfd, signal)
            .map_err(|errno| Error::os(errno, format!("sending signal {signal} to {}", self.pid)))
    }
}

impl Container {
    /// Sends a signal to the init process. In a pid namespace that others have too,
    /// SIGKILL is for every process of the container, also when the init has ended.
    ///
    /// # Errors
    /// [`Kind::WrongState`] when it has ended; what kill(2) says.
    pub fn kill(&self, signal: i32) -> Result<()> {
        // COMPAT(runc): engines look for "container not running".
        let not_running = || Error::new(Kind::WrongState, "container not running");
        // COMPAT(runc): the others would live on, and nobody else ends them.
        if signal == libc::SIGKILL && !self.record.own_pids {
            let container = self.now()?;
            let left = || -> Result<bool> {
                Ok(!container.is_over()? && !container.record.manager().processes()?.is_empty())
            };
            if container.init()?.is_none() && !left()? {
                return Err(not_running());
            }
            return container.kill_all();
        }
        let pidfd = self.init()?.ok_or_else(not_running)?;
        match send(&pidfd, signal) {
            Ok(()) if signal == libc::SIGKILL => self.let_die(),
            Ok(()) => Ok(()),
            Err(libc::ESRCH) => Err(not_running()),
            Err(errno) => Err(Error::os(errno, format!("sending signal {signal}"))),
        }
    }

    /// What v1's freezer holds dies only when it is let go. So does, with either, a
    /// process that came from outside and has not yet joined the pid namespace: once
    /// the init has ended, nobody can tell whose it is. COMPAT(runc): it thaws too.
    fn let_die(&self) -> Result<()> {
        let manager = self.record.manager();
        if manager.is_frozen()? {
            manager.thaw()?;
        }
        Ok(())
    }

    /// Sends a signal to every process of the container. Sending SIGKILL this way
    /// leaves none behind; with any other signal one that forks may be missed.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it was deleted; the cgroup can't be read or written.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        // Without the lock: it is for ending what has that. By its name the cgroup
        // could be another's, if this one was deleted since it was opened.
        let container = self.now()?;
        if signal == libc::SIGKILL {
            return container.kill_all();
        }
        for pid in container.processes()? {
            let Ok(pidfd) = owned(sys::pidfd_open(pid)) else { continue }; // it has ended
            match send(&pidfd, signal) {
                Ok(()) | Err(libc::ESRCH) => {}
                Err(errno) => {
                    return Err(Error::os(errno, format!("sending signal {signal} to {pid}")));
                }
            }
        }
        Ok(())
    }

    /// Whether nothing of the container can be alive. What is in its cgroup is
    /// another's then: one that is empty may be taken, and its name says nothing.
    ///
    /// While the init lives, nobody else can have it. Later its mark says whether
    /// somebody has taken it, of whatever store.
    pub(super) fn is_over(&self) -> Result<bool> {
        if self.init()?.is_some() {
            return Ok(false);
        }
        let all_ended = self.record.own_pids && self.record.pid != 0;
        Ok(all_ended || !self.record.manager().is_marked(&self.folder().mark()?))
    }

    /// Kills every process. Only of one that is known to be there: its cgroup may be
    /// another container's by now.
    pub(super) fn kill_all(&self) -> Result<()> {
        let manager = self.record.manager();
        // Until it is done nobody takes the cgroup that the init's end empties.
        let _held = manager.hold();
        if self.is_over()? {
            return Ok(());
        }
        // Also where there is no cgroup; with a pid namespace this is all.
        self.kill_init()?;
        manager.kill()
    }

    /// Kills the init, and so ends whatever waits for it. It can't be another
    /// container's.
    pub(super) fn kill_init(&self) -> Result<()> {
        if let Some(pidfd) = self.init()? {
            let _ = send(&pidfd, libc::SIGKILL);
        }
        Ok(())
    }

    /// A pidfd of the init, if it is alive and the one that was created.
    pub(super) fn init(&self) -> Result<Option<OwnedFd>> {
        if self.record.pid == 0 {
            return Ok(None);
        }
        let pidfd = match owned(sys::pidfd_open(self.record.pid)) {
            Ok(pidfd) => pidfd,
            // KERNEL(<6.13): EINVAL for a number that is a thread's by now, or still
            // that of a session without its leader.
            Err(libc::ESRCH | libc::EINVAL) => return Ok(None),
            Err(errno) => return Err(Error::os(errno, "opening the container's init process")),
        };
        // After the pidfd is there, the number can't be taken over unnoticed.
        Ok(self.record.is_alive()?.then_some(pidfd))
    }
}

fn send(pidfd: &OwnedFd, signal: i32) -> Result<(), i32> {
    let result = sys::pidfd_send_signal(pidfd.as_raw_fd(), signal.cast_unsigned());
    result.map_err(|Errno(errno)| errno)
}
