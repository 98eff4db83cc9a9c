//! A program of the host, started beside the container: a hook, one that writes an id
//! map, or CRIU.
//!
//! It gets nothing of the caller's but what it is given: every signal as after boot,
//! and no descriptor but its standard streams.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use orlop_init::sys::{self, Errno, Fd, abi};

use super::inherited::Inherited;
use super::owned;

/// What is started, and with what.
pub(crate) struct Program<'a> {
    /// Its path, absolute.
    pub(crate) path: &'a CString,
    /// Its arguments, from its name on.
    pub(crate) arguments: &'a [CString],
    /// `NAME=VALUE`
    pub(crate) environment: &'a [CString],
    /// Where it works; where the caller does, if nowhere.
    pub(crate) directory: Option<BorrowedFd<'a>>,
    /// What it has open: the standard streams, and whatever follows them. Each number
    /// is above all that they become.
    pub(crate) given: &'a [BorrowedFd<'a>],
    /// A tree that is mounted over a directory where nobody else sees it.
    pub(crate) mount: Option<(BorrowedFd<'a>, &'a CString)>,
    /// Whether it is killed when the thread that starts it ends, however that does.
    pub(crate) ends_with_us: bool,
    /// What it has for its children; all of the caller's, if that is not said.
    pub(crate) inherited: Option<&'a Inherited<'a>>,
}

/// What the child needs; it shares our memory until it executes the program.
struct Start<'a> {
    path: &'a CString,
    argv: &'a [usize],
    envp: &'a [usize],
    directory: Option<Fd>,
    given: &'a [Fd],
    mount: Option<(Fd, &'a CString)>,
    ends_with_us: bool,
    inherited: Option<&'a Inherited<'a>>,
    errno: i32,
}

impl Program<'_> {
    /// Starts it as a child of ours; its id and a pidfd.
    ///
    /// # Errors
    /// What clone3(2), fchdir(2), execve(2) or one of what is inherited answers.
    pub(crate) fn start(&self) -> Result<(i32, OwnedFd), i32> {
        let pointers = |strings: &[CString]| -> Vec<usize> {
            strings.iter().map(|string| string.as_ptr() as usize).chain([0]).collect()
        };
        let (argv, envp) = (pointers(self.arguments), pointers(self.environment));
        let given: Vec<Fd> = self.given.iter().map(AsRawFd::as_raw_fd).collect();
        let own_mounts = if self.mount.is_some() { abi::CLONE_NEWNS } else { 0 };
        let mut start = Start {
            path: self.path,
            argv: &argv,
            envp: &envp,
            directory: self.directory.map(|directory| directory.as_raw_fd()),
            given: &given,
            mount: self.mount.map(|(tree, at)| (tree.as_raw_fd(), at)),
            ends_with_us: self.ends_with_us,
            inherited: self.inherited,
            errno: 0,
        };
        let mut pidfd: Fd = sys::NO_FD;
        let mut args = abi::CloneArgs {
            flags: u64::from(abi::CLONE_PIDFD | own_mounts) | abi::CLONE_CLEAR_SIGHAND,
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
pub(crate) fn printed(mut output: File, most: u64) -> String {
    let mut text = Vec::new();
    let read = output.rewind().and_then(|()| output.take(most).read_to_end(&mut text));
    let text = read.map(|_| String::from_utf8_lossy(&text).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { String::new() } else { format!(", output: {text:?}") }
}

/// Runs in our memory: nothing but system calls.
fn become_program(start: &mut Start<'_>) -> ! {
    sys::reset_signals();
    let mut result = start.directory.map_or(Ok(()), sys::fchdir);
    if let Some((tree, at)) = start.mount {
        result = result.and_then(|()| mount(tree, at));
    }
    if start.ends_with_us {
        let deadly = sys::prctl(abi::PR_SET_PDEATHSIG, abi::SIGKILL as usize, 0, 0);
        result = result.and(deadly.map(drop));
    }
    result = result.and_then(|()| start.inherited.map_or(Ok(()), Inherited::take));
    let mut next = 0;
    for fd in start.given {
        result = result.and_then(|()| sys::dup3(*fd, next, 0));
        next += 1;
    }
    let result = result.and_then(|()| sys::close_range(next.cast_unsigned(), u32::MAX, 0));
    start.errno = match result {
        Ok(()) => sys::execve(start.path, start.argv, start.envp).0,
        Err(errno) => errno.0,
    };
    sys::exit(1)
}

/// In a mount namespace of our own, from which nothing comes back.
fn mount(tree: Fd, at: &CString) -> Result<(), Errno> {
    let attr = abi::MountAttr { propagation: abi::MS_SLAVE, ..abi::MountAttr::default() };
    sys::mount_setattr(abi::AT_FDCWD, c"/", abi::AT_RECURSIVE, &attr)?;
    let place = sys::openat(abi::AT_FDCWD, at, abi::O_PATH | abi::O_DIRECTORY)?;
    sys::move_mount(tree, place)
}
