//! What `create`, `run` and `start` have in common when systemd waits for the container
//! to be ready: where it listens, and that a container that runs on its own is waited
//! for.

use std::path::PathBuf;

use orlop::container::Started;

use crate::herald::Herald;

/// Where whoever has started us wants to hear that we are ready (sd_notify(3)).
pub(super) fn socket() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Passes the container's word on, once it is ready, with its init as the process to be
/// watched.
///
/// COMPAT(runc): it runs, whatever becomes of that.
pub(super) fn wait(started: &Started) {
    if let (Some(notify), Some(socket)) = (&started.notify, socket())
        && let Err(error) = notify.forward(&socket, started.pid)
    {
        log::warn!("{error}");
    }
}

/// The same for a process in the foreground: who waits for it is to be watched.
pub(super) fn herald(started: &mut Started) -> Option<Herald> {
    Some(Herald::new(started.notify.take()?, socket()?))
}
