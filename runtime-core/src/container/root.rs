//! The root of a container that runs, looked at from outside: where a path leads that
//! its processes may change at any moment.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use orlop_init::sys::{self, Errno, abi};

use crate::error::{Error, Result};
use crate::launch::owned;

/// A rename elsewhere makes openat2(2) answer EAGAIN; a storm of them is an attack.
const MOST_RACES: usize = 128;

/// The root directory of a process, as that process sees it.
pub(super) struct Root(File);

impl Root {
    /// The caller makes sure, afterwards, that the process is still the one it means.
    pub(super) fn of(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/root");
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let opened = File::options().read(true).custom_flags(flags).open(&path);
        opened.map(Self).map_err(|error| Error::io(&error, "opening the root").at_path(path))
    }

    /// What is at a path, links followed inside the root; none if there is nothing.
    pub(super) fn find(&self, path: &str) -> Result<Option<OwnedFd>> {
        let failed = |errno| Error::os(errno, format!("looking for {path:?} in the container"));
        let name = CString::new(path).map_err(|_| failed(libc::EINVAL))?;
        let how = abi::OpenHow {
            flags: u64::from(abi::O_PATH | abi::O_CLOEXEC),
            mode: 0,
            resolve: abi::RESOLVE_IN_ROOT | abi::RESOLVE_NO_MAGICLINKS,
        };
        for _ in 0..MOST_RACES {
            match owned(sys::openat2(self.0.as_raw_fd(), &name, &how)) {
                Err(libc::EAGAIN | libc::EINTR) => {}
                Err(libc::ENOENT | libc::ENOTDIR) => return Ok(None),
                result => return result.map(Some).map_err(failed),
            }
        }
        Err(failed(libc::EAGAIN))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The path of what was found in a container: from the root of that mount namespace,
/// so as the container's processes name it.
pub(super) fn path_of(found: &OwnedFd) -> Result<PathBuf> {
    let path = format!("/proc/thread-self/fd/{}", found.as_raw_fd());
    fs::read_link(&path).map_err(|error| Error::io(&error, "reading the path of a mount point"))
}

/// Device and inode number, and the kind of file.
pub(super) fn identity(found: &OwnedFd) -> Result<(u64, u64, u32)> {
    let status = sys::fstat(found.as_raw_fd())
        .map_err(|Errno(errno)| Error::os(errno, "looking at a mount point"))?;
    let device = libc::makedev(status.dev_major, status.dev_minor);
    Ok((device, status.inode, status.kind()))
}

/// The same of a path of the host's, links followed.
pub(super) fn identity_of(source: &std::path::Path) -> Result<(u64, u64, u32)> {
    let name = CString::new(source.as_os_str().as_bytes());
    let name = name.map_err(|_| Error::os(libc::EINVAL, "looking at").at_path(source))?;
    let found = owned(sys::openat(abi::AT_FDCWD, &name, abi::O_PATH | abi::O_CLOEXEC))
        .map_err(|errno| Error::os(errno, "looking at").at_path(source))?;
    identity(&found)
}
