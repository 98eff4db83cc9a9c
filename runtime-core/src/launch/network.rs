//! The network namespace of a process that is brought back: CRIU leaves it empty, and it
//! gets what the stage makes of a new one. One that is joined has what it has.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use orlop_init::sys::{self, Errno, Sys, abi, thread};

use super::{net_devices, owned};
use crate::error::{Error, Place, Result};
use crate::plan::{Op, Plan};

/// How long to wait for the thread at once, in milliseconds.
const TURN: i64 = 1000;

/// Whether the container has one that is new.
fn is_new(plan: &Plan) -> bool {
    plan.steps().any(|(op, _)| matches!(op, Op::Loopback {}))
}

/// Brings up the loopback device, and moves the devices that the plan names.
///
/// # Errors
/// As when a container is made.
pub(crate) fn furnish(plan: &Plan, process: (i32, BorrowedFd<'_>)) -> Result<()> {
    if !is_new(plan) {
        return Ok(());
    }
    net_devices::loopback_up(process.1)?;
    net_devices::move_all(&plan.outside.net_devices, process)
}

/// Writes the kernel's parameters of this namespace; those of others CRIU brings back.
///
/// # Errors
/// As when a container is made.
pub(crate) fn parameters(plan: &Plan, pidfd: BorrowedFd<'_>) -> Result<()> {
    if !is_new(plan) {
        return Ok(());
    }
    let mut proc = None;
    for (op, origin) in plan.steps() {
        let Op::Sysctl { key, value } = *op else { continue };
        let key = plan.str(key);
        if !key.to_bytes().starts_with(b"net/") {
            continue;
        }
        let failed = |Errno(errno)| {
            Error::os(errno, origin.doing.clone()).at(Place::Config(origin.pointer.to_string()))
        };
        let proc = match &mut proc {
            Some(proc) => proc,
            none => none.insert(procfs().map_err(failed)?),
        };
        write(pidfd, proc, key, plan.bytes(value)).map_err(failed)?;
    }
    Ok(())
}

/// One that nobody can have mounted over.
fn procfs() -> Sys<OwnedFd> {
    let fs = owned(sys::fsopen(c"proc")).map_err(Errno)?;
    sys::fsconfig_create(fs.as_raw_fd())?;
    owned(sys::fsmount(fs.as_raw_fd(), 0)).map_err(Errno)
}

/// Writes one, in the namespace of a process: a thread of its own goes there, since a
/// procfs shows those of whoever looks.
fn write(pidfd: BorrowedFd<'_>, proc: &OwnedFd, key: &CStr, value: &[u8]) -> Sys<()> {
    struct There<'a>(sys::Fd, sys::Fd, &'a CStr, &'a [u8], Sys<()>);
    fn go(there: &mut There<'_>) {
        let There(pidfd, proc, path, value, done) = there;
        *done = sys::setns(*pidfd, abi::CLONE_NEWNET)
            .and_then(|()| sys::openat(*proc, path, abi::O_WRONLY | abi::O_CLOEXEC))
            .and_then(|file| {
                let written = sys::write(file, value);
                sys::close(file);
                written.map(drop)
            });
    }
    let path = [b"sys/", key.to_bytes()].concat();
    let path = CString::new(path).map_err(|_| Errno(abi::EINVAL))?;
    let (pidfd, proc) = (pidfd.as_raw_fd(), proc.as_raw_fd());
    let mut there = There(pidfd, proc, &path, value, Err(Errno(abi::EAGAIN)));
    thread::beside(&mut [0; 1024], go, &mut there, TURN, &mut || {})?;
    there.4
}
