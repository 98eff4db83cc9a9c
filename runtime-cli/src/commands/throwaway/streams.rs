//! The caller's standard streams, where the container's user is another one than
//! the caller.
//!
//! Writing to an open descriptor needs no permission, but `/dev/stderr` opens it
//! once more. Decides which streams become the container's for that, and which stay
//! the caller's.

use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Uid, fchown};

use super::isolation::Identity;

/// `PIPEFS_MAGIC` of linux/magic.h: a pipe that is found at no path.
const PIPEFS: FsType = FsType(0x5049_5045);

/// Streams that have their owner back when this is dropped.
pub(super) struct Streams {
    kept: Vec<(OwnedFd, Uid)>,
}

impl Streams {
    /// Hands over what is nobody else's: pipes. Without a user namespace the stage
    /// hands over all of them, so that the others are to be taken back.
    pub(super) fn lend(whom: Identity) -> Self {
        let mut kept = Vec::new();
        if !whom.is_strange() {
            return Self { kept };
        }
        let (stdin, stdout, stderr) = (stdin(), stdout(), stderr());
        for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            if fstatfs(fd).is_ok_and(|fs| fs.filesystem_type() == PIPEFS) {
                // Where it can't be, programs have the descriptor still.
                let _ = fchown(fd, Some(Uid::from_raw(whom.uid())), None);
            } else if matches!(whom, Identity::User { .. })
                && let (Ok(stat), Ok(fd)) = (fstat(fd), fd.try_clone_to_owned())
            {
                kept.push((fd, Uid::from_raw(stat.st_uid)));
            }
        }
        Self { kept }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        for (fd, owner) in &self.kept {
            let _ = fchown(fd, Some(*owner), None);
        }
    }
}
