//! The lock of a bundle: who works on its task shares it, and `delete` has it alone.
//!
//! A shim that is killed closes its socket, by which containerd sees that it is gone, a
//! moment before its steps are killed. Who deletes the task then waits for them here.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

/// How long a deletion waits: containerd gives it five seconds in all, and a step that hangs
/// in a hook may belong to a shim that lives.
const PATIENCE: Duration = Duration::from_secs(2);

/// For a step, from before it begins. A bundle that is gone has none.
pub(crate) fn share(bundle: &Path) -> std::io::Result<Option<File>> {
    let Some(folder) = folder(bundle)? else { return Ok(None) };
    match flock(&folder, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Some(folder)),
        Err(Errno::WOULDBLOCK) => {
            Err(Error::new(ErrorKind::ResourceBusy, format!("{bundle:?} is being deleted")))
        }
        Err(errno) => Err(errno.into()),
    }
}

/// For a deletion: no step works on the task while this is held.
pub(crate) fn take(bundle: &Path) -> std::io::Result<Option<File>> {
    let Some(folder) = folder(bundle)? else { return Ok(None) };
    let begun = Instant::now();
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(folder)),
            Err(Errno::WOULDBLOCK) if begun.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(1));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn folder(bundle: &Path) -> std::io::Result<Option<File>> {
    match open(bundle, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(folder) => Ok(Some(folder.into())),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
