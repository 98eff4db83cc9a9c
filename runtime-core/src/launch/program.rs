//! A program of the host, started beside the container: a hook, or one that writes
//! an id map.
//!
//! It gets nothing of the caller's but what it is given: every signal as after boot,
//! and no descriptor but its standard streams.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use orlop_init::sys::{self, Errno, Fd, abi};

use super::owned;

/// What is started, and with what.
pub(super) struct Program<'a> {
    /// Its path, absolute.
    pub(super) path: &'a CString,
    /// Its arguments, from its name on.
    pub(super) arguments: &'a [CString],
    /// `NAME=VALUE`
    pub(super) environment: &'a [CString],
    /// Where it works; where the caller does, if nowhere.
    pub(super) directory: Option<BorrowedFd<'a>>,
    /// Its standard input. The number is above the standard streams'.
    pub(super) input: &'a File,
    /// Where both of its outputs go. The number is above the standard streams'.
    pub(super) output: &'a File,
}

/// What the child needs; it shares our memory until it executes the program.
struct Start<'a> {
    path: &'a CString,
    argv: &'a [usize],
    envp: &'a [usize],
    directory: Option<Fd>,
    input: Fd,
    output: Fd,
    errno: i32,
}

impl Program<'_> {
    /// Starts it as a child of ours; its id and a pidfd.
    ///
    /// # Errors
    /// What clone3(2), fchdir(2) or execve(2) answers.
    pub(super) fn start(&self) -> Result<(i32, OwnedFd), i32> {
        let pointers = |strings: &[CString]| -> Vec<usize> {
            strings.iter().map(|string| string.as_ptr() as usize).chain([0]).collect()
        };
        let (argv, envp) = (pointers(self.arguments), pointers(self.environment));
        let mut start = Start {
            path: self.path,
            argv: &argv,
            envp: &envp,
            directory: self.directory.map(|directory| directory.as_raw_fd()),
            input: self.input.as_raw_fd(),
            output: self.output.as_raw_fd(),
            errno: 0,
        };
        let mut pidfd: Fd = sys::NO_FD;
        let mut args = abi::CloneArgs {
            flags: u64::from(abi::CLONE_PIDFD) | abi::CLONE_CLEAR_SIGHAND,
            pidfd: std::ptr::from_mut(&mut pidfd) as u64,
            exit_signal: abi::SIGCHLD,
            ..abi::CloneArgs::default()
        };
        let mut stack = [0u64; 1024];
        let before = sys::block_signals();
        let result = sys::vfork(&mut args, &mut stack, become_program, &mut start);
        sys::restore_signals(before);
        let child = result.map_err(|Errno(errno)| errno)?;
        let pidfd = owned(Ok(pidfd))?;
        if start.errno != 0 {
            let _ = sys::wait(child);
            return Err(start.errno);
        }
        Ok((child, pidfd))
    }
}

/// What a program printed, so many bytes at most, as the end of an error's words; nothing
/// if it did not.
pub(super) fn printed(mut output: File, most: u64) -> String {
    let mut text = Vec::new();
    let read = output.rewind().and_then(|()| output.take(most).read_to_end(&mut text));
    let text = read.map(|_| String::from_utf8_lossy(&text).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { String::new() } else { format!(", output: {text:?}") }
}

/// Runs in our memory: nothing but system calls.
fn become_program(start: &mut Start<'_>) -> ! {
    sys::reset_signals();
    let mut result = start.directory.map_or(Ok(()), sys::fchdir);
    result = result.and_then(|()| sys::dup3(start.input, 0, 0));
    for stream in 1..3 {
        result = result.and_then(|()| sys::dup3(start.output, stream, 0));
    }
    let result = result.and_then(|()| sys::close_range(3, u32::MAX, 0));
    start.errno = match result {
        Ok(()) => sys::execve(start.path, start.argv, start.envp).0,
        Err(errno) => errno.0,
    };
    sys::exit(1)
}
