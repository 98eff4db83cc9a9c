//! A step that may take long: the library's work for one call, in a copy of the shim.
//!
//! Whatever it waits for, a hook or a mount, nobody else does. What it makes is its child
//! first, and the shim's when it has ended: the shim is a subreaper. Its memory, config and
//! all, ends with it. It ends with the shim: who deletes what a killed one has left must find
//! all of it, and nothing may come afterwards.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use nix::sys::signal::SigSet;
use orlop_init::sys::{self, Errno};
use prost::Message;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, getpid, getppid, getrlimit,
    kill_process, pidfd_open, set_parent_process_death_signal, setrlimit, waitpid,
};

use crate::ttrpc::{Code, Failure};

/// What it has made, as far as the shim looks after that.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Made {
    /// The process that it started, if any.
    #[prost(int32, tag = "1")]
    pub pid: i32,
    /// Of a container: the library's record of its cgroups, as JSON. The shim has it from
    /// here, since whoever reads a container's whole record touches half of the program.
    #[prost(bytes = "vec", tag = "2")]
    pub cgroups: Vec<u8>,
    /// Of a container: it has a pid namespace of its own.
    #[prost(bool, tag = "3")]
    pub own_pids: bool,
}

/// What came of it. A killed one tells neither.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Outcome {
    #[prost(message, optional, tag = "1")]
    pub made: Option<Made>,
    /// What went wrong.
    #[prost(message, optional, tag = "2")]
    pub failure: Option<Told>,
}

/// A failure on its way.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Told {
    #[prost(enumeration = "Code", tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

pub(crate) struct Step {
    /// Its process, which is readable when that has ended.
    pub process: OwnedFd,
    told: UnixStream,
    bytes: Vec<u8>,
}

/// How many descriptors the shim was given, which is what all that it starts gets.
static GIVEN: OnceLock<Rlimit> = OnceLock::new();

/// A pod has many streams: the shim takes as many descriptors as it may have.
pub(crate) fn take_descriptors() {
    let given = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: given.maximum, ..given });
    let _ = GIVEN.set(given);
}

/// In a child.
pub(crate) fn give_descriptors_back() {
    if let Some(given) = GIVEN.get() {
        let _ = setrlimit(Resource::Nofile, *given);
    }
}

pub(crate) type Work<'a> = Box<dyn FnOnce() -> Result<Made, Failure> + 'a>;

impl Step {
    /// Begins it. It has the descriptors in `kept` and no other of the shim's, and does
    /// nothing before [`Self::go`]: one that nobody looks after leaves nothing.
    pub(crate) fn begin(kept: &[BorrowedFd<'_>], work: Work<'_>) -> std::io::Result<Self> {
        let (told, tell) = UnixStream::pair()?;
        told.set_nonblocking(true)?;
        let shim = getpid();
        match sys::copy::fork_alone() {
            Err(Errno(errno)) => Err(std::io::Error::from_raw_os_error(errno)),
            Ok(0) => {
                let dies = set_parent_process_death_signal(Some(Signal::KILL));
                // It may have been killed before that.
                if dies.is_err() || getppid() != Some(shim) {
                    sys::exit(1);
                }
                close_others(kept.iter().copied().chain([tell.as_fd()]).chain(crate::log::file()));
                give_descriptors_back();
                let _ = SigSet::empty().thread_set_mask();
                if (&tell).read_exact(&mut [0]).is_err() {
                    sys::exit(1);
                }
                let failed = |Failure { code, message }| Told { code: code as i32, message };
                let outcome = match work() {
                    Ok(made) => Outcome { made: Some(made), failure: None },
                    Err(failure) => Outcome { made: None, failure: Some(failed(failure)) },
                };
                let sent = (&tell).write_all(&outcome.encode_to_vec());
                sys::exit(i32::from(sent.is_err()))
            }
            Ok(pid) => {
                let pid = Pid::from_raw(pid).ok_or(ErrorKind::InvalidData)?;
                Ok(Self { process: hold(pid)?, told, bytes: Vec::new() })
            }
        }
    }

    /// Somebody looks after it. Without this it ends when it is dropped.
    pub(crate) fn go(&self) -> std::io::Result<()> {
        (&self.told).write_all(&[0])
    }

    /// What it has told, if that is all.
    pub(crate) fn read(&mut self) -> Option<Result<Made, Failure>> {
        let mut buffer = [0; 4096];
        loop {
            match (&self.told).read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let lost = || Failure::new(Code::Aborted, "the process that did it was killed");
        let Outcome { made, failure } = Outcome::decode(&*self.bytes).unwrap_or_default();
        Some(match failure {
            Some(told) => Err(Failure { code: told.code(), message: told.message }),
            None => made.ok_or_else(lost),
        })
    }
}

/// A child that was just begun, or nothing of it.
pub(crate) fn hold(child: Pid) -> std::io::Result<OwnedFd> {
    pidfd_open(child, PidfdFlags::empty()).map_err(|errno| {
        // It waits to be reaped: the number is still its own.
        let _ = kill_process(child, Signal::KILL);
        let _ = waitpid(Some(child), WaitOptions::empty());
        errno.into()
    })
}

impl AsFd for Step {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }
}

/// Closes all but the standard streams and these. What the shim's objects own of the rest
/// is not touched again: the process ends without their destructors.
fn close_others<'a>(kept: impl Iterator<Item = BorrowedFd<'a>>) {
    let mut numbers: Vec<u32> =
        kept.filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).filter(|fd| *fd > 2).collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers {
        if number > first {
            let _ = sys::close_range(first, number - 1, 0);
        }
        first = number + 1;
    }
    let _ = sys::close_range(first, u32::MAX, 0);
}
