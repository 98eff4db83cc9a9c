//! The parent side: from a plan to a process that has reached a gate.
//!
//! [`launch`] fills the slots, clones the stage and returns a [`Child`];
//! [`Child::drive`] does at each gate what the plan says ([`crate::plan::Outside`])
//! until the stage is ready, has executed its program, or has failed. Nothing of
//! the caller is changed: its working directory, umask, environment, dumpable
//! flag, oom score, signals and descriptors are as before on return.

mod clone;
mod drive;
mod hooks;
mod ids;
mod inherited;
mod listener;
mod mapper;
mod net_devices;
mod netlink;
mod network;
mod program;
mod report;
mod slots;
mod stage;
mod trace;

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, setsockopt, socket, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use orlop_init::sys::{self, Errno, abi};

pub(crate) use clone::owned;
pub(crate) use drive::receive;
pub use drive::{Child, Reached, StateOf, receive_terminal};
pub use hooks::{Around, run as run_hooks};
pub use ids::namespace as user_namespace;
pub(crate) use inherited::Inherited;
pub(crate) use network::{furnish as furnish_network, parameters as network_parameters};
pub use orlop_init::STAGE;
pub(crate) use program::Program;
pub(crate) use report::{StartFailure, StartReport, died, start_report};

use crate::error::{Error, Kind, Result, excerpt};
use crate::plan::{Plan, Slot};

/// How long the stage may take from one message to the next when no hook runs in it.
/// Only a file system that does not answer takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long it may take to be there at all, which is a matter of a millisecond.
const BIRTH: Duration = Duration::from_secs(10);

/// How long a listener may take to make room in its queue, in seconds.
const CONNECTING: i64 = 5;

/// How long a process that was killed may take to end, in milliseconds.
pub(crate) const DYING: i64 = 2_000;

/// What the launcher hands to the stage beside the plan's own fills.
#[derive(Debug, Default)]
pub struct Kit<'a> {
    /// The container's cgroup, for `CLONE_INTO_CGROUP`.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The list in each hierarchy that a process joins by writing to it.
    pub cgroup_procs: &'a [OwnedFd],
    /// The lists of tasks of the resctrl file system, joined in the same way.
    pub resctrl_tasks: &'a [OwnedFd],
    /// The container's root, where the caller has mounted it ([`crate::plan::Fill::Root`]).
    pub root: Option<BorrowedFd<'a>>,
    /// The FIFO whose byte starts the container, and into which it says what goes wrong
    /// before the exec; without one, passing the ready gate is the start.
    pub start: Option<BorrowedFd<'a>>,
    /// A connected socket that takes the terminal's master.
    pub console: Option<BorrowedFd<'a>>,
    /// What becomes the standard streams of the stage; the caller's own, if it is nothing.
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
    /// A pidfd of the process whose namespaces are joined.
    pub target: Option<BorrowedFd<'a>>,
    /// Whether the cgroup is frozen, and the caller wants to wait for its thawing.
    pub paused: bool,
    /// Readable when the caller wants no more of it. Read once for each time.
    pub interrupt: Option<Arc<OwnedFd>>,
}

/// Starts the stage with `plan`.
///
/// # Errors
/// A source, namespace or descriptor that can't be had, and what clone3(2) says.
pub fn launch(plan: &Plan, kit: &Kit<'_>) -> Result<Child> {
    check_preserved(plan)?;
    let program = stage::program()?;
    let (control, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|errno| Error::os(errno as i32, "making the control socket"))?;
    let filled = slots::fill(plan, kit)?;
    // Only what hooks read: most containers have none.
    let hook_state = if plan.steps().any(|(op, _)| matches!(op, crate::plan::Op::Hook { .. })) {
        Some(memfd(c"orlop-hook-state")?)
    } else {
        None
    };
    let mut table = vec![sys::NO_FD; Slot::FIRST_FREE as usize + filled.len()];
    let fixed = [
        (Slot::CONTROL, Some(theirs.as_fd())),
        (Slot::START, kit.start),
        (Slot::CONSOLE, kit.console),
        (Slot::HOOK_STATE, hook_state.as_ref().map(AsFd::as_fd)),
        (Slot::TARGET, kit.target),
    ];
    for (slot, fd) in fixed {
        table[slot.0 as usize] = fd.map_or(sys::NO_FD, |fd| fd.as_raw_fd());
    }
    for (place, fd) in table.iter_mut().skip(Slot::FIRST_FREE as usize).zip(&filled) {
        *place = fd.as_raw_fd();
    }
    let plan_file = plan_file(plan, &table)?;
    let low = |streams: &[BorrowedFd<'_>; 3]| streams.iter().any(|fd| fd.as_raw_fd() < 3);
    let copies = kit.stdio.filter(low).map(above_streams).transpose()?;
    let stdio = copies.as_ref().map(|fds| fds.each_ref().map(AsFd::as_fd)).or(kit.stdio);
    let preserved = 3..3 + preserved(plan).cast_signed();
    let inherit = table.iter().copied().filter(|fd| *fd >= 0).chain(preserved).collect();
    let cloned = clone::clone(&clone::Request {
        program,
        plan: plan_file.as_fd(),
        inherit,
        stdio: stdio.map(|fds| fds.map(|fd| fd.as_raw_fd())),
        flags: plan.outside.clone_flags,
        cgroup: kit.cgroup,
        patience: if kit.paused { PATIENCE } else { BIRTH },
        interrupt: kit.interrupt.as_ref().map(|fd| fd.as_fd()),
    })?;
    trace::begun(plan, cloned.pid);
    Ok(Child::new(cloned, control, hook_state, kit.interrupt.clone()))
}

/// Copies with numbers that none of the standard streams has: one becomes another's
/// neighbour, and not its victim.
fn above_streams(streams: [BorrowedFd<'_>; 3]) -> Result<[OwnedFd; 3]> {
    let [input, output, error] = streams.map(|fd| fd.try_clone_to_owned());
    let all = input.and_then(|input| Ok([input, output?, error?]));
    all.map_err(|error| Error::io(&error, "copying the standard streams"))
}

fn preserved(plan: &Plan) -> u32 {
    plan.steps()
        .find_map(|(op, _)| match op {
            crate::plan::Op::KeepFds { preserve } => Some(*preserve),
            _ => None,
        })
        .unwrap_or(0)
}

/// Descriptors that the caller wants to pass on must be open, or the stage's own
/// could take their numbers. They must be open for programs that are executed, as
/// those are that we inherited: all that are opened by this process are not, and a
/// number that nobody gave us may be one of them by now, a directory of the host.
fn check_preserved(plan: &Plan) -> Result<()> {
    let count = preserved(plan);
    for fd in 3..count.saturating_add(3) {
        let errno = match sys::fcntl(fd.cast_signed(), abi::F_GETFD, 0) {
            Ok(flags) if flags & abi::FD_CLOEXEC == 0 => continue,
            Ok(_) => libc::EBADF,
            Err(Errno(errno)) => errno,
        };
        // COMPAT(runc): the words of its own check.
        return Err(Error::os(errno, format!("unable to stat preserved-fd {fd} (of {count})")));
    }
    Ok(())
}

fn plan_file(plan: &Plan, table: &[i32]) -> Result<OwnedFd> {
    let fd = memfd(c"orlop-plan")?;
    let mut file = std::fs::File::from(fd);
    file.write_all(&plan.encode(table)).map_err(|error| Error::io(&error, "writing the plan"))?;
    Ok(file.into())
}

/// Waits until `fd` is readable: false when `milliseconds` passed. A negative
/// number waits for ever.
///
/// # Errors
/// What poll(2) says.
pub fn wait_readable(fd: BorrowedFd<'_>, milliseconds: i64) -> Result<bool> {
    Ok(wait_any(&[Some(fd)], milliseconds)?.is_some())
}

/// Waits until nobody holds the other end of a FIFO any more, or the process that
/// should has ended: false when `milliseconds` passed.
pub(crate) fn wait_closed(
    fifo: BorrowedFd<'_>,
    process: BorrowedFd<'_>,
    interrupt: Option<BorrowedFd<'_>>,
    milliseconds: i64,
) -> Result<bool> {
    let closed = PollFd::new(fifo, PollFlags::empty()); // poll(2) tells POLLHUP unasked
    let mut polled = vec![closed, PollFd::new(process, PollFlags::POLLIN)];
    polled.extend(interrupt.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    match wait_polled(&mut polled, milliseconds)? {
        Some(2) => Err(interrupted(interrupt, "waiting for the program")),
        woken => Ok(woken.is_some()),
    }
}

/// The error for a wait that the caller gave up. What it said by that is read: the
/// waits that follow, of the clean-up, are given up one by one.
pub(crate) fn interrupted(interrupt: Option<BorrowedFd<'_>>, doing: impl Into<String>) -> Error {
    if let Some(fd) = interrupt {
        let _ = nix::unistd::read(fd, &mut [0; 128]);
    }
    Error::new(Kind::Interrupted, format!("{}: interrupted", doing.into()))
}

/// Waits until one of several is readable or closed at its other end: the first
/// that is, or none when `milliseconds` passed, which a signal on the way does not
/// prolong. A negative number waits for ever.
pub(crate) fn wait_any(fds: &[Option<BorrowedFd<'_>>], milliseconds: i64) -> Result<Option<usize>> {
    let (indexes, mut polled): (Vec<_>, Vec<_>) = fds
        .iter()
        .enumerate()
        .filter_map(|(index, fd)| Some((index, PollFd::new((*fd)?, PollFlags::POLLIN))))
        .unzip();
    let ready = wait_polled(&mut polled, milliseconds)?;
    Ok(ready.and_then(|at| indexes.get(at).copied()))
}

fn wait_polled(polled: &mut [PollFd<'_>], milliseconds: i64) -> Result<Option<usize>> {
    let begin = Instant::now();
    loop {
        let passed = i64::try_from(begin.elapsed().as_millis()).unwrap_or(i64::MAX);
        let left = if milliseconds < 0 { -1 } else { (milliseconds - passed).max(0) };
        // Longer than poll(2) can wait at once: 24 days.
        let turn = i32::try_from(left).unwrap_or(i32::MAX);
        match poll(polled, PollTimeout::try_from(turn).unwrap_or(PollTimeout::NONE)) {
            Ok(0) if i64::from(turn) == left => return Ok(None),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(polled.iter().position(|fd| fd.any() == Some(true))),
            Err(errno) => return Err(Error::os(errno as i32, "waiting")),
        }
    }
}

/// Connects to a unix socket. A listener that takes nobody, or nothing, may not keep
/// us: connect(2) would wait for ever for room in its queue, and a send for a reader.
///
/// # Errors
/// What connect(2) says; [`Kind::Timeout`].
pub(crate) fn connect(path: &Path, doing: &'static str) -> Result<OwnedFd> {
    let failed = |errno: nix::errno::Errno| match errno {
        nix::errno::Errno::EAGAIN => Error::new(Kind::Timeout, doing).hint("nobody accepts there"),
        errno => Error::os(errno as i32, doing),
    };
    let connected = || {
        let family = AddressFamily::Unix;
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(CONNECTING))?;
        nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(socket)
    };
    connected().map_err(|errno| failed(errno).at_path(path))
}

/// Ends a child of this process and waits for it, but not for ever: one that a
/// freezer or a device holds is left. Its wait status, if it could be had.
pub(crate) fn kill(pid: i32, pidfd: BorrowedFd<'_>) -> Option<i32> {
    let _ = sys::pidfd_send_signal(pidfd.as_raw_fd(), abi::SIGKILL);
    reap(pid, pidfd)
}

/// The wait status of a child that is ending.
fn reap(pid: i32, pidfd: BorrowedFd<'_>) -> Option<i32> {
    match wait_readable(pidfd, DYING) {
        Ok(true) => sys::wait(pid).ok(),
        _ => None,
    }
}

/// Writes a file of process `pid` in /proc. The process is our child and not
/// waited for yet, so the number is its own.
fn write_proc(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, text).map_err(|error| {
        // COMPAT(runc): the words engines know; the value helps a person.
        Error::io(&error, format!("failed to update {path} with {:?}", excerpt(text.trim_end())))
    })
}

/// A memory file that can't be executed where the kernel knows how to say so.
fn memfd(name: &std::ffi::CStr) -> Result<OwnedFd> {
    // KERNEL(<6.3): MFD_NOEXEC_SEAL is unknown.
    let fd = match sys::memfd_create(name, abi::MFD_CLOEXEC | abi::MFD_NOEXEC_SEAL) {
        Err(Errno(abi::EINVAL)) => sys::memfd_create(name, abi::MFD_CLOEXEC),
        result => result,
    };
    owned(fd).map_err(|errno| Error::os(errno, "making a memory file"))
}
