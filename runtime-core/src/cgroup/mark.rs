//! Whose a cgroup is: a mark on its directory, left by whoever took it last.
//!
//! Knows nothing of what the mark says. A cgroup without any is nobody's.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use orlop_init::sys::{self, xattr};

/// Which attribute has it. The first is for who has CAP_SYS_ADMIN in the first user
/// namespace, and hides the other from him: no container without it can change that.
///
/// KERNEL(<5.7): no `user.` on cgroups.
const NAMES: [&CStr; 2] = [c"trusted.orlop", c"user.orlop"];

/// Marks a cgroup. One that can't be marked is nobody's for us as soon as the
/// container's first process has ended: what it leaves there stays.
pub(super) fn set(cgroup: impl AsFd, mark: &str) {
    let fd = cgroup.as_fd().as_raw_fd();
    let _ = NAMES.iter().any(|name| xattr::fsetxattr(fd, name, mark.as_bytes()).is_ok());
}

/// Whether a cgroup has this very mark.
pub(super) fn is(cgroup: impl AsFd, mark: &str) -> bool {
    let fd = cgroup.as_fd().as_raw_fd();
    let mut value = [0; 64];
    let found = NAMES.iter().map(|name| xattr::fgetxattr(fd, name, &mut value));
    match found.into_iter().find(|result| !matches!(result, Err(sys::Errno(libc::ENODATA)))) {
        Some(Ok(length)) => value[..length] == *mark.as_bytes(),
        _ => false,
    }
}
