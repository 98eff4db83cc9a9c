//! A pidfd for who wants to hold the process by more than its number.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use crate::error::{Error, Result};
use crate::launch::connect;

/// Who takes it: a connected unix socket.
pub(super) struct PidfdReceiver {
    socket: OwnedFd,
    path: PathBuf,
}

impl PidfdReceiver {
    /// Connects, while nothing is made yet.
    pub(super) fn connect(path: Option<&Path>) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let socket = connect(path, "connecting to the pidfd socket")?;
        Ok(Some(Self { socket, path: path.to_path_buf() }))
    }

    /// Sends the descriptor. COMPAT(runc): the word with it says whose it is.
    pub(super) fn send(self, word: &str, pidfd: BorrowedFd<'_>) -> Result<()> {
        let fds = [pidfd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let text = [IoSlice::new(word.as_bytes())];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(self.socket.as_raw_fd(), &text, &rights, flags, None)
            .map(drop)
            .map_err(|errno| Error::os(errno as i32, "sending the pidfd").at_path(&self.path))
    }
}
