//! The network namespace of a process that is brought back: CRIU leaves it empty, and it
//! gets what the stage makes of a new one.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use orlop_init::sys::{self, Errno, Sys, abi, thread};

use super::net_devices;
use crate::error::{Error, Place, Result};
use crate::plan::{Op, Plan};

/// How long to wait for the thread at once, in milliseconds.
const TURN: i64 = 1000;

/// Brings up the loopback device, moves the devices that the plan names, and writes the
/// kernel's parameters of this namespace. One that is joined has what it has.
///
/// # Errors
/// As when a container is made.
pub(crate) fn furnish(plan: &Plan, process: (i32, BorrowedFd<'_>)) -> Result<()> {
    if !plan.steps().any(|(op, _)| matches!(op, Op::Loopback {})) {
        return Ok(());
    }
    let (_, pidfd) = process;
    net_devices::loopback_up(pidfd)?;
    net_devices::move_all(&plan.outside.net_devices, process)?;
    for (op, origin) in plan.steps() {
        let Op::Sysctl { key, value } = *op else { continue };
        let key = plan.str(key);
        if !key.to_bytes().starts_with(b"net/") {
            continue; // of namespaces that CRIU fills itself
        }
        write(pidfd, key, plan.bytes(value)).map_err(|Errno(errno)| {
            Error::os(errno, origin.doing.clone()).at(Place::Config(origin.pointer.to_string()))
        })?;
    }
    Ok(())
}

/// Writes one in the namespace of a process, where a thread of its own goes: /proc/sys
/// shows those of whoever opens it.
fn write(pidfd: BorrowedFd<'_>, key: &CStr, value: &[u8]) -> Sys<()> {
    struct There<'a>(sys::Fd, &'a CStr, &'a [u8], Sys<()>);
    fn go(there: &mut There<'_>) {
        let There(pidfd, path, value, done) = there;
        *done = sys::setns(*pidfd, abi::CLONE_NEWNET)
            .and_then(|()| sys::openat(abi::AT_FDCWD, path, abi::O_WRONLY | abi::O_CLOEXEC))
            .and_then(|file| {
                let written = sys::write(file, value);
                sys::close(file);
                written.map(drop)
            });
    }
    let path = [b"/proc/sys/", key.to_bytes()].concat();
    let path = CString::new(path).map_err(|_| Errno(abi::EINVAL))?;
    let mut there = There(pidfd.as_raw_fd(), &path, value, Err(Errno(abi::EAGAIN)));
    thread::beside(&mut [0; 1024], go, &mut there, TURN, &mut || {})?;
    there.3
}
