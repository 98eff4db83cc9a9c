//! Loggers: programs of the host's that are given what a process writes
//! (`binary://PATH?KEY=VALUE`, and `binary-v2://`).
//!
//! They read from the pipes themselves. The shim keeps the reading ends too: a process is
//! not killed because its logger was.

use std::ffi::CString;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::execve;
use orlop_init::sys::abi::SIGPIPE;
use orlop_init::sys::{self, Errno};
use percent_encoding::percent_decode_str;
use rustix::event::PollFlags;
use rustix::process::Pid;

use crate::shim::failed;
use crate::step::{give_descriptors_back, hold};
use crate::stream::{is_ready, pipe};
use crate::ttrpc::{Code, Failure};

/// Where a logger finds what it is given: what is written, what is written of errors, and
/// where it says that it is ready.
const PLACES: [i32; 3] = [3, 4, 5];

/// How long a logger has until it is ready.
const READY: Duration = Duration::from_secs(30);

/// Which of them, by its address.
pub(crate) struct Program<'a> {
    path: Vec<u8>,
    query: &'a str,
    /// It says a byte when it is ready; one of the first version closes its end, or ends.
    says: bool,
}

pub(crate) struct Logger {
    /// Its process.
    pub process: OwnedFd,
    /// The reading ends, with it.
    pub _reading: [OwnedFd; 2],
    /// Where a terminal's output goes, until there is one.
    pub writing: Option<OwnedFd>,
}

/// A logger that has been begun, and what it is told through.
pub(crate) struct Begun {
    pub logger: Logger,
    pub writing: [OwnedFd; 2],
    pub wait: Wait,
}

/// What there is to wait for until it is ready.
pub(crate) struct Wait {
    /// At its end when it has become its program; an errno when it can't.
    failure: OwnedFd,
    ready: OwnedFd,
    says: bool,
    path: String,
}

impl<'a> Program<'a> {
    /// None if the address is of something else.
    pub(crate) fn of(address: &'a str) -> Option<Self> {
        let (scheme, rest) = address.split_once("://")?;
        let says = match scheme {
            "binary" => false,
            "binary-v2" => true,
            _ => return None,
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Some(Self { path: percent_decode_str(path).collect(), query, says })
    }

    /// The path, and each key and each value of the query.
    fn arguments(&self) -> Vec<Vec<u8>> {
        let word = |text: &str| percent_decode_str(&text.replace('+', " ")).collect::<Vec<u8>>();
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.flat_map(|pair| match pair.split_once('=') {
            Some((key, value)) => vec![word(key), word(value)],
            None => vec![word(pair)],
        });
        std::iter::once(self.path.clone()).chain(pairs).collect()
    }

    /// Begins it. It has no descriptor but its own, and of the environment what it is for.
    pub(crate) fn begin(&self, container: &str, namespace: &str) -> Result<Begun, Failure> {
        let text = |bytes: Vec<u8>| {
            CString::new(bytes).map_err(|_| {
                Failure::new(Code::InvalidArgument, "the logger's address has a NUL in it")
            })
        };
        let path = text(self.path.clone())?;
        let arguments: Vec<_> = self.arguments().into_iter().map(text).collect::<Result<_, _>>()?;
        let environment = [
            text(format!("CONTAINER_ID={container}").into())?,
            text(format!("CONTAINER_NAMESPACE={namespace}").into())?,
        ];
        let pipe = || pipe().map_err(|error| failed(&error));
        let (out, error, ready, failure) = (pipe()?, pipe()?, pipe()?, pipe()?);
        match sys::copy::fork_alone() {
            Err(Errno(errno)) => Err(failed(&std::io::Error::from_raw_os_error(errno))),
            Ok(0) => {
                let given = [&out.0, &error.0, &ready.1];
                become_it(given, &failure.1, || execve(&path, &arguments, &environment));
                sys::exit(127)
            }
            Ok(pid) => {
                let pid = Pid::from_raw(pid).ok_or_else(|| ErrorKind::InvalidData.into());
                let process = pid.and_then(hold).map_err(|error| failed(&error))?;
                let path = path.to_string_lossy().into_owned();
                Ok(Begun {
                    logger: Logger { process, _reading: [out.0, error.0], writing: None },
                    writing: [out.1, error.1],
                    wait: Wait { failure: failure.0, ready: ready.0, says: self.says, path },
                })
            }
        }
    }
}

/// Comes back if something has failed, which is told.
fn become_it(
    given: [&OwnedFd; 3],
    tell: &OwnedFd,
    exec: impl FnOnce() -> nix::Result<std::convert::Infallible>,
) {
    // All are out of the way of the places before any is there.
    let above = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 16);
    let Ok(tell) = above(tell) else { return };
    let become_it = || -> Result<(), i32> {
        let mut copies = Vec::new();
        for fd in given {
            copies.push(above(fd).map_err(rustix::io::Errno::raw_os_error)?);
        }
        for (copy, place) in copies.iter().zip(PLACES) {
            sys::dup3(copy.as_raw_fd(), place, 0).map_err(|Errno(errno)| errno)?;
        }
        give_descriptors_back();
        let _ = SigSet::empty().thread_set_mask();
        sys::signal::reset(SIGPIPE);
        match exec() {
            Err(errno) => Err(errno as i32),
            Ok(never) => match never {},
        }
    };
    if let Err(errno) = become_it() {
        let _ = rustix::io::write(&tell, &errno.to_ne_bytes());
    }
}

impl Logger {
    /// Whether it has read all, and gone.
    pub(crate) fn has_ended(&self) -> bool {
        is_ready(self.process.as_fd(), PollFlags::IN)
    }

    /// Nothing happens if it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let signal = rustix::process::Signal::from_named_raw(signal as i32);
        if let Some(signal) = signal {
            let _ = rustix::process::pidfd_send_signal(&self.process, signal);
        }
    }
}

impl Wait {
    /// What a step must have for that.
    pub(crate) fn descriptors(&self) -> [&OwnedFd; 2] {
        [&self.failure, &self.ready]
    }

    /// Waits, in a step.
    pub(crate) fn wait(&self) -> Result<(), Failure> {
        let not = |what: &str| {
            let words = format!("the logger {:?}: {what}", self.path);
            Failure::new(Code::Unknown, words)
        };
        let deadline = Instant::now() + READY;
        let read = |fd: &OwnedFd, bytes: &mut [u8]| {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
            if sys::wait_readable(fd.as_raw_fd(), left) != Ok(true) {
                return Err(not(&format!("it is not ready after {} s", READY.as_secs())));
            }
            Ok(rustix::io::read(fd, bytes).unwrap_or_default())
        };
        let mut bytes = [0; 4];
        if read(&self.failure, &mut bytes)? == bytes.len() {
            return Err(not(&orlop::error::errno_text(i32::from_ne_bytes(bytes))));
        }
        if read(&self.ready, &mut bytes[..1])? == 0 && self.says {
            return Err(not("it has ended before it was ready"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_program_and_its_words() {
        let words = |address| {
            let program = Program::of(address)?;
            let words =
                program.arguments().into_iter().map(|word| String::from_utf8(word).unwrap());
            Some((program.says, words.collect::<Vec<_>>().join(" ")))
        };
        assert_eq!(words("binary:///a/b?x=1&y&z=%2f+c"), Some((false, "/a/b x 1 y z / c".into())));
        assert_eq!(words("binary-v2:///a%20b"), Some((true, "/a b".into())));
        assert_eq!((words("file:///a"), words("/a"), words("fifo:///a")), (None, None, None));
    }
}
