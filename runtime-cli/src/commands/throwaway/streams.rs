//! The caller's standard streams, where the container's user is another one than
//! the caller.
//!
//! Writing to an open descriptor needs no permission, but `/dev/stderr` opens it
//! once more. Decides which streams become the container's for that, and which stay
//! the caller's.

use std::io::{IsTerminal as _, stderr, stdin, stdout};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Uid, fchown};

use super::isolation::Identity;

/// `PIPEFS_MAGIC` of linux/magic.h: a pipe that is found at no path.
const PIPEFS: FsType = FsType(0x5049_5045);

/// Streams that have their owner back when this is dropped.
pub(super) struct Streams {
    kept: Vec<Kept>,
}

/// A stream that the stage hands over.
struct Kept {
    fd: OwnedFd,
    owner: u32,
    /// Whom the stage hands it to; the group stays.
    whom: u32,
}

impl Streams {
    /// Hands over what is nobody else's: pipes. Without a user namespace the stage
    /// hands over all of them, so that the others are to be taken back.
    pub(super) fn lend(whom: Identity) -> Self {
        let (stdin, stdout, stderr) = (stdin(), stdout(), stderr());
        Self::of([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()], whom)
    }

    fn of<const N: usize>(streams: [BorrowedFd; N], whom: Identity) -> Self {
        let mut kept = Vec::new();
        if !whom.is_strange() {
            return Self { kept };
        }
        for fd in streams {
            if fstatfs(fd).is_ok_and(|fs| fs.filesystem_type() == PIPEFS) {
                // Where it can't be, programs have the descriptor still.
                let _ = fchown(fd, Some(Uid::from_raw(whom.uid())), None);
            } else if let Identity::User { uid, .. } = whom
                && let Some(owner) = owner(fd)
                && owner != uid
                && let Ok(fd) = fd.try_clone_to_owned()
            {
                kept.push(Kept { fd, owner, whom: uid });
            }
        }
        Self { kept }
    }
}

/// Whose a stream is that the stage may hand over, which a device is not, unless
/// it is a terminal.
fn owner(fd: BorrowedFd) -> Option<u32> {
    let stat = fstat(fd).ok()?;
    let kind = stat.st_mode & SFlag::S_IFMT.bits();
    let device = kind == SFlag::S_IFCHR.bits() || kind == SFlag::S_IFBLK.bits();
    (!device || fd.is_terminal()).then_some(stat.st_uid)
}

impl Drop for Streams {
    fn drop(&mut self) {
        for Kept { fd, owner: former, whom } in &self.kept {
            // If it is another one's by now, it was given to him meanwhile.
            if owner(fd.as_fd()) == Some(*whom) {
                let _ = fchown(fd, Some(Uid::from_raw(*former)), None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{MetadataExt as _, fchown};

    use super::*;

    const WHOM: Identity = Identity::User { uid: 4001, gid: 4002 };

    /// A file that is lent, is then given by the stage or by others, and what has
    /// become of it.
    fn lent(given: &[u32]) -> Option<u32> {
        let file = tempfile::tempfile().unwrap();
        if fchown(&file, Some(5), None).is_err() {
            println!("SKIP what_is_lent_comes_back: needs root");
            return None;
        }
        let streams = Streams::of([file.as_fd(), file.as_fd()], WHOM);
        for uid in given {
            fchown(&file, Some(*uid), None).unwrap();
        }
        drop(streams);
        Some(file.metadata().unwrap().uid())
    }

    #[test]
    fn what_is_lent_comes_back() {
        // Another has it in the end.
        for (given, becomes) in [(&[4001][..], 5), (&[], 5), (&[4001, 7], 7)] {
            assert!(lent(given).is_none_or(|uid| uid == becomes), "{given:?}");
        }
    }

    #[test]
    fn devices_are_not_lent() {
        for path in ["/dev/null", "/dev/zero"] {
            let device = File::open(path).unwrap();
            assert!(Streams::of([device.as_fd()], WHOM).kept.is_empty(), "{path}");
        }
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Streams::of([file.as_fd()], WHOM).kept.len(), 1);
    }
}
