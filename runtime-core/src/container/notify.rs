//! The container says that it is ready: the socket of sd_notify(3), for who listens
//! on the host.
//!
//! ```text
//! program ── /run/notify/notify.sock ── <folder>/notify ── Notify ── READY=1, MAINPID=,
//!                a read-only bind mount                             BARRIER=1 ── systemd
//! ```
//! COMPAT(runc): the places, and that nothing but the word that it is ready goes on.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send,
    sendmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::pipe2;

use crate::error::{Error, Result};
use crate::launch::{wait_any, wait_readable};

/// How long whoever listens on the host may take to make room for a word, in seconds.
const SENDING: i64 = 5;
/// How long he may take to have understood all, in milliseconds.
const BARRIER: i64 = 30_000;
/// Most that is read before the container's end is looked for.
const MOST: usize = 64;

/// The container's end of the conversation, held by us.
#[derive(Debug)]
pub struct Notify {
    /// The container's init.
    pub pid: i32,
    pub(super) socket: OwnedFd,
    /// A pidfd of the init.
    pub(super) init: OwnedFd,
}

impl Notify {
    /// Waits until the container says that it is ready, or ends. The word is passed on
    /// ([`Self::tell`]); returns when it has been understood, for which it waits half a
    /// minute at most.
    ///
    /// # Errors
    /// Nobody listens there, or takes what is sent.
    pub fn forward(&self, to: &Path, main: i32) -> Result<()> {
        // Before the container is waited for: a wrong path is told at once.
        client(to)?;
        loop {
            wait_any(&[Some(self.socket.as_fd()), Some(self.init.as_fd())], -1)?;
            let over = wait_readable(self.init.as_fd(), 0)?;
            if let Some(ready) = self.hear()? {
                return self.tell(to, main, &ready)?.wait();
            }
            if over {
                return Ok(());
            }
        }
    }

    /// Readable when the container has said something.
    #[must_use]
    pub fn readable(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The line by which it has said that it is ready, if it has. Does not wait.
    ///
    /// # Errors
    /// What recv(2) says.
    pub fn hear(&self) -> Result<Option<Vec<u8>>> {
        for _ in 0..MOST {
            let mut buffer = [0; 4096];
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => break,
                length => length.map_err(|errno| {
                    Error::os(errno as i32, "reading what the container notifies of")
                })?,
            };
            let mut lines = buffer[..length].split(|byte| *byte == b'\n');
            if let Some(line) = lines.find(|line| line.starts_with(b"READY=")) {
                return Ok(Some([line, b"\n"].concat()));
            }
        }
        Ok(None)
    }

    /// Passes the word on to the socket `to` (an `@` in front stands for an abstract
    /// one), with `main` as the process to be watched.
    ///
    /// # Errors
    /// Nobody listens there, or takes what is sent.
    pub fn tell(&self, to: &Path, main: i32, ready: &[u8]) -> Result<Barrier> {
        let client = client(to)?;
        let send = |text: &[u8]| send(client.as_raw_fd(), text, MsgFlags::MSG_NOSIGNAL);
        send(ready)
            .and_then(|_| send(format!("MAINPID={main}\n").as_bytes()))
            .and_then(|_| barrier(&client))
            .map(Barrier)
            .map_err(|errno| Error::os(errno as i32, "sending to $NOTIFY_SOCKET").at_path(to))
    }
}

/// Closes at its other end when all that was told has been understood.
#[derive(Debug)]
pub struct Barrier(OwnedFd);

impl Barrier {
    /// Waits for that, half a minute at most: who is older than that word does not
    /// know it.
    ///
    /// # Errors
    /// What poll(2) says.
    pub fn wait(self) -> Result<()> {
        if !wait_readable(self.0.as_fd(), BARRIER)? {
            log::warn!("nobody has let go of the barrier at $NOTIFY_SOCKET for 30 s: ignored");
        }
        Ok(())
    }
}

fn client(to: &Path) -> Result<OwnedFd> {
    connected(to)
        .map_err(|errno| Error::os(errno as i32, "connecting to $NOTIFY_SOCKET").at_path(to))
}

fn connected(to: &Path) -> Result<OwnedFd, Errno> {
    let address = match to.as_os_str().as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
        _ => UnixAddr::new(to)?,
    };
    let flags = SockFlag::SOCK_CLOEXEC;
    let client = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    setsockopt(&client, sockopt::SendTimeout, &TimeVal::seconds(SENDING))?;
    connect(client.as_raw_fd(), &address)?;
    Ok(client)
}

/// Sends a pipe that closes when everything before it has been read
/// (sd_notify_barrier(3)).
fn barrier(client: &OwnedFd) -> Result<OwnedFd, Errno> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    let fds = [theirs.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let text = [IoSlice::new(b"BARRIER=1")];
    sendmsg::<UnixAddr>(client.as_raw_fd(), &text, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(ours)
}

/// A datagram socket at a path, for everybody in the container. The directory is
/// named by its descriptor, since the address of a socket is short.
pub(super) fn bind(directory: &Path, name: &str) -> Result<OwnedFd> {
    let failed = |error: std::io::Error| {
        Error::io(&error, "making the notify socket").at_path(directory.join(name))
    };
    let opened = std::fs::File::open(directory).map_err(failed)?;
    let path = format!("/proc/self/fd/{}/{name}", opened.as_raw_fd());
    let bound = || -> std::io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&path, everybody)?;
        Ok(socket)
    };
    bound().map_err(failed)
}
