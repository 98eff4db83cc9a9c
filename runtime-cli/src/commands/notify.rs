//! What `create`, `run` and `start` have in common when systemd waits for the container
//! to be ready: where it listens, and that a container that runs on its own is waited
//! for.

use std::path::PathBuf;
use std::thread::JoinHandle;

use orlop::container::Started;

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

/// Does the same beside us, who are the process to be watched.
pub(super) fn wait_beside(started: &mut Started) -> Option<JoinHandle<()>> {
    let (notify, socket) = (started.notify.take()?, socket()?);
    let main = std::process::id().cast_signed();
    Some(std::thread::spawn(move || {
        if let Err(error) = notify.forward(&socket, main) {
            log::warn!("{error}");
        }
    }))
}
