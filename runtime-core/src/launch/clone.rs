//! The clone: one vfork-like `clone3` whose child does nothing but exec the stage.
//!
//! The child shares this process's memory until the exec, so it may not touch
//! anything that is not its own: no allocation, no lock, no libc. Signals are
//! blocked around it, because a handler that ran in the child would run on the
//! caller's memory. One of the two rooms that may say `unsafe`.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use orlop_init::sys::{self, Errno, Fd, abi};

use crate::error::{Error, Kind, Result};

/// Takes ownership of a descriptor that a system call has just returned.
pub(crate) fn owned(fd: sys::Sys<Fd>) -> Result<OwnedFd, i32> {
    match fd {
        // SAFETY: every caller passes the result of a system call that makes a
        // new descriptor (pidfd_open(2), open_tree(2), ...), so nobody else owns
        // this number.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(Errno(errno)) => Err(errno),
    }
}

/// What the child needs, all of it made before the clone.
pub(super) struct Request<'a> {
    /// The stage's program.
    pub program: BorrowedFd<'a>,
    /// The plan's file; its number is the stage's argument.
    pub plan: BorrowedFd<'a>,
    /// Descriptors that the stage inherits, apart from the plan's.
    pub inherit: Vec<Fd>,
    /// `CLONE_NEW*`
    pub flags: u32,
    /// The cgroup to start in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// The new process, a child of the caller.
pub(super) struct Cloned {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

struct Child<'a> {
    program: Fd,
    inherit: &'a [Fd],
    argv: [usize; 3],
    envp: [usize; 1],
    raise: bool,
    errno: i32,
}

/// Clones and executes the stage. Returns when the stage is running.
///
/// # Errors
/// What clone3(2) or execveat(2) answers.
pub(super) fn clone(request: &Request<'_>) -> Result<Cloned> {
    let plan = request.plan.as_raw_fd();
    let argument = CString::new(plan.to_string()).unwrap_or_default();
    let mut inherit = request.inherit.clone();
    inherit.push(plan);
    let mut child = Child {
        program: request.program.as_raw_fd(),
        inherit: &inherit,
        argv: [c"orlop-init".as_ptr() as usize, argument.as_ptr() as usize, 0],
        envp: [0],
        raise: request.flags & abi::CLONE_NEWUSER != 0,
        errno: 0,
    };
    let mut pidfd: Fd = sys::NO_FD;
    let mut args = abi::CloneArgs {
        flags: u64::from(request.flags | abi::CLONE_PIDFD) | abi::CLONE_CLEAR_SIGHAND,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: abi::SIGCHLD,
        ..abi::CloneArgs::default()
    };
    if let Some(cgroup) = request.cgroup {
        args.flags |= abi::CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let mut stack = [0u64; 1024];
    let before = sys::block_signals();
    let result = sys::vfork(&mut args, &mut stack, become_stage, &mut child);
    sys::restore_signals(before);
    let pid = result.map_err(|Errno(errno)| clone_failed(errno, request))?;
    let pidfd = owned(Ok(pidfd)).map_err(|errno| Error::os(errno, "taking the pidfd"))?;
    if child.errno != 0 {
        let _ = sys::wait(pid);
        return Err(Error::os(child.errno, "executing the init stage"));
    }
    Ok(Cloned { pid, pidfd })
}

fn clone_failed(errno: i32, request: &Request<'_>) -> Error {
    let error = Error::os(errno, "cloning the init process");
    match errno {
        abi::EBUSY if request.cgroup.is_some() => error
            .of_kind(Kind::Cgroup)
            .hint("the cgroup has controllers enabled for cgroups below it"),
        // clone(2): a limit on nested namespaces.
        libc::ENOSPC => error.hint("too many namespaces, see /proc/sys/user"),
        libc::EPERM if request.flags & abi::CLONE_NEWUSER != 0 => {
            error.hint("this host does not let you make user namespaces")
        }
        _ => error,
    }
}

fn become_stage(child: &mut Child<'_>) -> ! {
    for fd in child.inherit {
        // All of them were opened close-on-exec, in a process that may have
        // threads which execute programs too.
        if let Err(Errno(errno)) = sys::fcntl(*fd, abi::F_SETFD, 0) {
            child.errno = errno;
            sys::exit(1)
        }
    }
    if child.raise
        && let Err(Errno(errno)) = raise_capabilities()
    {
        child.errno = errno;
        sys::exit(1)
    }
    child.errno = sys::execveat(child.program, c"", &child.argv, &child.envp, abi::AT_EMPTY_PATH).0;
    sys::exit(1)
}

/// Makes every capability ambient. An exec with ids that are not mapped yet
/// drops all others, and they are needed to go on (capabilities(7)).
fn raise_capabilities() -> sys::Sys<()> {
    // capset(2) ignores the bits that the kernel does not know.
    let all = abi::CapData { effective: u32::MAX, permitted: u32::MAX, inheritable: u32::MAX };
    sys::capset(&[all, all])?;
    for capability in 0..64 {
        match sys::prctl(abi::PR_CAP_AMBIENT, abi::PR_CAP_AMBIENT_RAISE, capability, 0) {
            Ok(_) => {}
            Err(Errno(abi::EINVAL)) => break, // beyond the last one
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
