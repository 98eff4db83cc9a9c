//! Handing a seccomp listener to its agent (runtime-spec, config-linux,
//! "The Container Process State").

use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use orlop_init::sys;

use super::{connect, owned};
use crate::error::{Error, Result};
use crate::plan::Listener;

/// Takes descriptor `number` of the process behind `pidfd`, which is waiting at
/// a gate, and sends it to the agent together with `state`.
///
/// # Errors
/// pidfd_getfd(2), and the agent's socket.
pub(super) fn hand_on(
    listener: &Listener,
    (pid, pidfd): (i32, BorrowedFd<'_>),
    number: i32,
    state: &[u8],
) -> Result<()> {
    let fd = owned(sys::pidfd_getfd(pidfd.as_raw_fd(), number))
        .map_err(|errno| Error::os(errno, "taking the seccomp listener"))?;
    let agent = UnixStream::from(connect(&listener.path, "failed to connect with seccomp agent")?);
    let message = message(listener, pid, state);
    let fds = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let sent = sendmsg::<()>(
        agent.as_raw_fd(),
        &[IoSlice::new(&message)],
        &rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map_err(|errno| {
        Error::os(errno as i32, "sending the seccomp listener").at_path(&listener.path)
    })?;
    if sent < message.len() {
        std::io::Write::write_all(&mut &agent, &message[sent..]).map_err(|error| {
            Error::io(&error, "sending the container's state").at_path(&listener.path)
        })?;
    }
    Ok(())
}

/// SPEC: the container process state, with the container's state in it.
fn message(listener: &Listener, pid: i32, state: &[u8]) -> Vec<u8> {
    let state = std::str::from_utf8(state).unwrap_or_default();
    let state: serde_json::Value = serde_json::from_str(state).unwrap_or_default();
    let mut message = serde_json::json!({
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": pid,
        "state": state,
    });
    if !listener.metadata.is_empty() {
        message["metadata"] = listener.metadata.as_str().into();
    }
    message.to_string().into_bytes()
}
