//! The clone: one `clone3` in the manner of vfork(2), whose child does nothing but
//! exec the stage.
//!
//! It may not touch anything that is not its own: no allocation, no lock, no libc.
//! A thread makes it, where no signal is heard: a handler that ran in the child would
//! run on the caller's memory. It waits in the kernel, while the caller waits with a
//! deadline: a child that is born into a frozen cgroup stands
//! still before its exec. `CLONE_VM` alone would spare the thread and cost more: when
//! the cgroup has no memory left, the kernel ends the one that takes most of it, the
//! child seems to have all of its maker's, and who shares its memory ends too. It
//! passes over none but a child whose maker waits for it (mm/oom_kill.c).
//! One of the two rooms that may say `unsafe`.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use orlop_init::sys::{self, Errno, Fd, abi, thread};

use super::{interrupted, kill, wait_readable};
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
    /// What becomes its standard streams, each number above those.
    pub stdio: Option<[Fd; 3]>,
    /// `CLONE_NEW*`
    pub flags: u32,
    /// The cgroup to start in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// How long the exec of the stage may take.
    pub patience: Duration,
    /// Readable when the caller wants no more of it.
    pub interrupt: Option<BorrowedFd<'a>>,
}

/// The new process, a child of the caller.
pub(super) struct Cloned {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// How long the caller does not look whether it is interrupted, in milliseconds.
const TURN: i64 = 50;

struct Child {
    program: Fd,
    inherit: Vec<Fd>,
    stdio: Option<[Fd; 3]>,
    argument: CString,
    raise: bool,
    errno: i32,
}

/// What the thread has that makes the child.
struct Maker<'a> {
    args: abi::CloneArgs,
    pidfd: &'a AtomicI32,
    stack: [u64; 1024],
    child: Child,
    cloned: sys::Sys<i32>,
}

/// Clones and executes the stage. Returns when the stage is running.
///
/// # Errors
/// What clone3(2) or execveat(2) answers; [`Kind::Timeout`] and
/// [`Kind::Interrupted`] when the child does not come to its exec.
pub(super) fn clone(request: &Request<'_>) -> Result<Cloned> {
    let plan = request.plan.as_raw_fd();
    let mut inherit = request.inherit.clone();
    inherit.push(plan);
    let child = Child {
        program: request.program.as_raw_fd(),
        inherit,
        stdio: request.stdio,
        argument: CString::new(plan.to_string()).unwrap_or_default(),
        raise: request.flags & abi::CLONE_NEWUSER != 0,
        errno: 0,
    };
    // Written by the kernel before the child is there.
    let pidfd = AtomicI32::new(sys::NO_FD);
    let mut args = abi::CloneArgs {
        flags: u64::from(request.flags | abi::CLONE_PIDFD) | abi::CLONE_CLEAR_SIGHAND,
        pidfd: pidfd.as_ptr() as u64,
        exit_signal: abi::SIGCHLD,
        ..abi::CloneArgs::default()
    };
    if let Some(cgroup) = request.cgroup {
        args.flags |= abi::CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let mut maker =
        Maker { args, pidfd: &pidfd, stack: [0; 1024], child, cloned: Err(Errno(libc::EAGAIN)) };
    let (begun, mut executed) = (Instant::now(), Ok(()));
    let mut meanwhile = || {
        let pidfd = pidfd.load(Ordering::Acquire);
        if pidfd >= 0 && executed.is_ok() {
            executed = go_on(request, begun);
        }
        // Each time: the number is there a little before the descriptor is.
        if executed.is_err() {
            let _ = sys::pidfd_send_signal(pidfd, abi::SIGKILL);
        }
    };
    thread::beside(&mut [0; 1024], make, &mut maker, TURN, &mut meanwhile).map_err(
        |Errno(errno)| {
            let error = Error::os(errno, "starting a thread");
            match errno {
                libc::EAGAIN => {
                    error.hint("a limit on processes, RLIMIT_NPROC or pids.max, may be reached")
                }
                // clone(2): as after unshare(1) with --pid and without --fork.
                libc::EINVAL => {
                    error.hint("the caller's children may be for another pid namespace")
                }
                _ => error,
            }
        },
    )?;
    let pid = maker.cloned.map_err(|Errno(errno)| clone_failed(errno, request))?;
    let pidfd = owned(Ok(pidfd.load(Ordering::Acquire)))
        .map_err(|errno| Error::os(errno, "taking the pidfd"))?;
    if let Err(error) = executed {
        kill(pid, pidfd.as_fd());
        return Err(error);
    }
    if maker.child.errno != 0 {
        let _ = sys::wait(pid);
        return Err(Error::os(maker.child.errno, "executing the init stage"));
    }
    Ok(Cloned { pid, pidfd })
}

fn make(maker: &mut Maker<'_>) {
    let Maker { args, pidfd, stack, child, cloned } = maker;
    *cloned = sys::vfork(args, stack, become_stage, child);
    if cloned.is_err() {
        // There is no such descriptor, and the number may be another's.
        pidfd.store(sys::NO_FD, Ordering::Release);
    }
}

/// Whether to wait on for the child's exec.
fn go_on(request: &Request<'_>, begun: Instant) -> Result<()> {
    if let Some(fd) = request.interrupt
        && wait_readable(fd, 0)?
    {
        return Err(interrupted(request.interrupt, "starting the init stage"));
    }
    if begun.elapsed() >= request.patience {
        let words = format!("the init stage did not start within {:?}", request.patience);
        return Err(Error::new(Kind::Timeout, words).hint("its cgroup may be frozen"));
    }
    Ok(())
}

fn clone_failed(errno: i32, request: &Request<'_>) -> Error {
    let error = Error::os(errno, "cloning the init process");
    match errno {
        abi::EBUSY if request.cgroup.is_some() => error
            .of_kind(Kind::Cgroup)
            .hint("the cgroup has controllers enabled for cgroups below it"),
        // cgroups(7), "Delegation containment".
        libc::EACCES if request.cgroup.is_some() => error
            .of_kind(Kind::Cgroup)
            .hint("a process may be moved only between cgroups below one that is the caller's"),
        // clone(2): a limit on nested namespaces.
        libc::ENOSPC => error.hint("too many namespaces, see /proc/sys/user"),
        libc::EPERM if request.flags & abi::CLONE_NEWUSER != 0 => {
            error.hint("this host does not let you make user namespaces")
        }
        _ => error,
    }
}

fn become_stage(child: &mut Child) -> ! {
    for fd in &child.inherit {
        // All of them were opened close-on-exec, in a process that may have
        // threads which execute programs too.
        if let Err(Errno(errno)) = sys::fcntl(*fd, abi::F_SETFD, 0) {
            child.errno = errno;
            sys::exit(1)
        }
    }
    for (next, fd) in (0..).zip(child.stdio.iter().flatten()) {
        if let Err(Errno(errno)) = sys::dup3(*fd, next, 0) {
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
    let argv = [c"orlop-init".as_ptr() as usize, child.argument.as_ptr() as usize, 0];
    child.errno = sys::execveat(child.program, c"", &argv, &[0], abi::AT_EMPTY_PATH).0;
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
