//! The word that a process in the foreground is ready, on its way to who waits for it
//! as systemd does, while everything else goes on.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use orlop::container::{Barrier, Notify};

/// Waits for the word, passes it on once, and sees that it is understood.
pub(crate) struct Herald {
    to: PathBuf,
    waiting: Option<Notify>,
    told: Option<Barrier>,
}

impl Herald {
    pub(crate) fn new(from: Notify, to: PathBuf) -> Self {
        Self { to, waiting: Some(from), told: None }
    }

    /// Readable when there may be something to pass on.
    pub(crate) fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.waiting.as_ref().map(Notify::readable)
    }

    /// Passes on what is there. COMPAT(runc): the process runs, whatever becomes of it.
    pub(crate) fn look(&mut self) {
        let Some(notify) = &self.waiting else { return };
        let main = std::process::id().cast_signed();
        let told = match notify.hear() {
            Ok(None) => return,
            Ok(Some(ready)) => notify.tell(&self.to, main, &ready),
            Err(error) => Err(error),
        };
        self.waiting = None;
        match told {
            Ok(barrier) => self.told = Some(barrier),
            Err(error) => log::warn!("{error}"),
        }
    }

    /// The process has ended: what it said last is passed on, and we stay until all of
    /// it is understood, since systemd looks who has sent it.
    pub(crate) fn end(mut self) {
        self.look();
        if let Some(Err(error)) = self.told.map(Barrier::wait) {
            log::warn!("{error}");
        }
    }
}
