//! CRIU as a process of ours (`criu swrk`), and one conversation with it.
//!
//! A request goes out; CRIU asks back by notifications, each of which must be
//! answered, until its response comes. What the notifications mean is the caller's
//! business.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use nix::sys::wait::WaitStatus;
use orlop_init::sys;
use prost::Message;

use super::messages::{Kind, Notify, Request, Response};
use crate::error::{self, Error, Result};
use crate::launch::{Inherited, Program, kill, owned, receive, wait_any};

/// Longest message of CRIU's.
const MESSAGE_MAX: usize = 40 * 1024;

/// Descriptor of the socket in CRIU: the first after the standard streams.
const SOCKET: i32 = 3;

/// Descriptor in CRIU of the first of those that are given to it.
pub(crate) const FIRST_GIVEN: i32 = SOCKET + 1;

/// How long CRIU may take to end after its last word, in milliseconds.
const ENDING: i64 = 60_000;

/// What the program is started with.
pub(crate) struct Start<'a> {
    /// Its standard streams.
    pub streams: [BorrowedFd<'a>; 3],
    /// What follows the socket, from [`FIRST_GIVEN`] on.
    pub given: &'a [BorrowedFd<'a>],
    /// A tree to be mounted over a directory, for it alone.
    pub mount: Option<(BorrowedFd<'a>, &'a Path)>,
    /// What it leaves to the processes that it brings back.
    pub inherited: Option<Inherited<'a>>,
    /// Readable when the caller wants no more of it.
    pub interrupt: Option<Arc<OwnedFd>>,
}

/// A notification.
pub(crate) struct Asked<'a> {
    /// What is about to be done, or was: the name of CRIU's action script.
    pub script: &'a str,
    /// The process that it is about.
    pub pid: i32,
    /// What came with it.
    pub fd: Option<OwnedFd>,
}

/// What answers CRIU's notifications.
pub(crate) type Answer<'a> = &'a mut dyn FnMut(&Asked<'_>) -> Result<()>;

/// A CRIU that waits for its request. Dropped early, it is killed.
pub(crate) struct Worker {
    pid: i32,
    pidfd: OwnedFd,
    socket: OwnedFd,
    interrupt: Option<Arc<OwnedFd>>,
    /// How long it may take for a word, in milliseconds; for ever if -1.
    patience: i64,
    ended: bool,
}

impl Worker {
    pub(super) fn start(program: &Path, start: &Start<'_>) -> Result<Self> {
        let failed = |errno| Error::os(errno, format!("starting {program:?}"));
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|errno| failed(errno as i32))?;
        let all = start.streams.iter().copied().chain([theirs.as_fd()]);
        let all: Vec<_> = all.chain(start.given.iter().copied()).collect();
        // Above the numbers that they get, so that none takes another's.
        let above = i32::try_from(all.len()).unwrap_or(i32::MAX);
        let copies: Vec<OwnedFd> = all
            .iter()
            .map(|fd| {
                let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(above));
                copy.map_err(|errno| errno as i32).and_then(|fd| owned(Ok(fd)))
            })
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let given: Vec<_> = copies.iter().map(AsFd::as_fd).collect();
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| failed(libc::EINVAL));
        let path = text(program.as_os_str().as_bytes())?;
        let arguments =
            [c"criu".to_owned(), c"swrk".to_owned(), text(SOCKET.to_string().as_bytes())?];
        let environment: Vec<CString> = std::env::vars_os()
            .filter_map(|(mut name, value)| {
                name.push("=");
                name.push(value);
                CString::new(name.into_vec()).ok()
            })
            .collect();
        let at = start.mount.map(|(_, at)| text(at.as_os_str().as_bytes())).transpose()?;
        let program = Program {
            path: &path,
            arguments: &arguments,
            environment: &environment,
            directory: None,
            given: &given,
            mount: start.mount.as_ref().map(|(tree, _)| *tree).zip(at.as_ref()),
            ends_with_us: true,
            inherited: start.inherited.as_ref(),
        };
        let (pid, pidfd) = program.start().map_err(|errno| {
            let refused = start.inherited.as_ref().and_then(|taken| taken.failure(errno));
            refused.unwrap_or_else(|| failed(errno))
        })?;
        Ok(Self {
            pid,
            pidfd,
            socket,
            interrupt: start.interrupt.clone(),
            patience: -1,
            ended: false,
        })
    }

    /// Gives it so many milliseconds for each word.
    pub(super) fn answers_within(&mut self, patience: i64) {
        self.patience = patience;
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// One request, all notifications on the way, and the response. A response that
    /// is no success is an error.
    pub(super) fn converse(&mut self, request: &Request, answer: Answer<'_>) -> Result<Response> {
        self.send(request)?;
        loop {
            let (response, fd) = self.next()?;
            let kind = Kind::try_from(response.kind).unwrap_or(Kind::Empty);
            if !response.success {
                return Err(refused(kind, &response));
            }
            if kind != Kind::Notify {
                if response.kind == request.kind {
                    return Ok(response);
                }
                let words =
                    format!("criu has answered {} to a request of another kind", word(kind));
                return Err(Error::new(error::Kind::Internal, words));
            }
            let Notify { script, pid } = response.notify.unwrap_or_default();
            let script = script.unwrap_or_default();
            log::debug!("criu: {script}");
            let asked = Asked { script: &script, pid: pid.unwrap_or(0), fd };
            let answered = answer(&asked);
            // Told no, it takes back what it did.
            let sent = self.send(&Request {
                kind: Kind::Notify as i32,
                notify_success: Some(answered.is_ok()),
                ..Request::default()
            });
            if let Err(error) = answered {
                self.end();
                return Err(error);
            }
            sent?;
        }
    }

    fn send(&self, request: &Request) -> Result<()> {
        let bytes = request.encode_to_vec();
        let sent = nix::sys::socket::send(self.socket.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL);
        sent.map(drop).map_err(|errno| Error::os(errno as i32, "sending a request to criu"))
    }

    /// No deadline in general: how long a dump takes is a matter of the container's memory, and
    /// with lazy pages of whoever fetches them.
    fn next(&self) -> Result<(Response, Option<OwnedFd>)> {
        let interrupt = self.interrupt.as_ref().map(|fd| fd.as_fd());
        let fds = [Some(self.socket.as_fd()), Some(self.pidfd.as_fd()), interrupt];
        match wait_any(&fds, self.patience)? {
            Some(0 | 1) => {}
            Some(_) => return Err(crate::launch::interrupted(interrupt, "waiting for criu")),
            None => return Err(Error::new(error::Kind::Timeout, "criu does not answer")),
        }
        let mut buffer = vec![0; MESSAGE_MAX];
        let (length, fds) = receive(self.socket.as_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
        if length == 0 {
            return Err(Error::new(error::Kind::ChildDied, "criu has ended without an answer"));
        }
        let bytes = buffer.get(..length).filter(|bytes| bytes.len() < MESSAGE_MAX);
        let response = bytes.and_then(|bytes| Response::decode(bytes).ok()).ok_or_else(|| {
            Error::new(error::Kind::Internal, "a message of criu's can't be read")
        })?;
        Ok((response, fds.into_iter().next()))
    }

    /// Waits for its end after its last word; whether it ended well.
    pub(super) fn finish(mut self) -> Result<bool> {
        let _ =
            nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Write);
        if wait_any(&[Some(self.pidfd.as_fd())], ENDING)?.is_none() {
            return Err(Error::new(error::Kind::Timeout, "criu does not end"));
        }
        self.ended = true;
        let status = sys::wait(self.pid)
            .map_err(|sys::Errno(errno)| Error::os(errno, "waiting for the end of criu"))?;
        let pid = nix::unistd::Pid::from_raw(self.pid);
        Ok(matches!(WaitStatus::from_raw(pid, status), Ok(WaitStatus::Exited(_, 0))))
    }

    /// Lets it take back what it did, and end by itself.
    fn end(&mut self) {
        if let Ok(Some(_)) = wait_any(&[Some(self.pidfd.as_fd())], ENDING) {
            self.ended = sys::wait(self.pid).is_ok();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.ended {
            kill(self.pid, self.pidfd.as_fd());
        }
    }
}

/// COMPAT(runc): its words.
fn refused(kind: Kind, response: &Response) -> Error {
    let errno = response.errno.unwrap_or(0);
    let mut words = format!("criu failed: type {} errno {errno}", word(kind));
    if let Some(message) = response.message.as_deref().filter(|message| !message.is_empty()) {
        words = format!("{words}: {}", error::excerpt(message.trim()));
    }
    let kind = match Errno::from_raw(errno) {
        Errno::EEXIST => error::Kind::AlreadyExists,
        _ => error::Kind::Os,
    };
    Error::new(kind, words)
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Empty => "EMPTY",
        Kind::Dump => "DUMP",
        Kind::Restore => "RESTORE",
        Kind::PreDump => "PRE_DUMP",
        Kind::Notify => "NOTIFY",
        Kind::FeatureCheck => "FEATURE_CHECK",
        Kind::Version => "VERSION",
    }
}
