//! The options of cgroup v2, which are the same for every mount of it on the machine.
//!
//! Whoever mounts it without options, outside of any cgroup namespace, takes them away
//! from everybody (cgroup-v2.rst, "Mounting"), and CRIU does. Without `nsdelegate` a
//! container that may write to its cgroup is not kept from its own limits.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use orlop_init::sys::{self, Errno, abi};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::launch::owned;

/// What they are, to be put back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Superblock {
    mount: PathBuf,
    options: Vec<String>,
}

impl Superblock {
    /// Of the hierarchy that is mounted there; none if there is no such mount.
    pub(crate) fn of(mount: &Path) -> Option<Self> {
        let text = fs::read_to_string("/proc/thread-self/mountinfo").ok()?;
        let options = options(&text, mount.to_str()?)?;
        Some(Self { mount: mount.to_path_buf(), options })
    }

    /// Puts back what is missing by now.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn put_back(&self) -> Result<()> {
        let now = Self::of(&self.mount).map(|now| now.options).unwrap_or_default();
        let mut lost = self.options.iter().filter(|option| !now.contains(option)).peekable();
        if lost.peek().is_none() {
            return Ok(());
        }
        let failed = |errno| {
            Error::os(errno, "giving cgroup v2 back the options that criu has taken")
                .at_path(&self.mount)
        };
        let name = |text: &[u8]| CString::new(text).map_err(|_| failed(libc::EINVAL));
        let path = name(self.mount.as_os_str().as_bytes())?;
        let flags = abi::O_PATH | abi::O_DIRECTORY | abi::O_CLOEXEC;
        let mount = owned(sys::openat(abi::AT_FDCWD, &path, flags)).map_err(failed)?;
        let context = owned(sys::fspick(mount.as_raw_fd())).map_err(failed)?;
        // All that were there: the kernel takes away what is not named.
        for option in &self.options {
            let option = name(option.as_bytes())?;
            sys::fsconfig_flag(context.as_raw_fd(), &option).map_err(|Errno(no)| failed(no))?;
        }
        sys::fsconfig_reconfigure(context.as_raw_fd()).map_err(|Errno(no)| failed(no))
    }
}

/// The options of a mount of cgroup v2 (proc_pid_mountinfo(5)).
fn options(mountinfo: &str, mount: &str) -> Option<Vec<String>> {
    // Of several at the same place the last is seen.
    let found = mountinfo.lines().rev().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let here = left.split(' ').nth(4) == Some(mount) && right.next() == Some("cgroup2");
        if here { right.nth(1) } else { None }
    });
    let listed = found?.split(',').filter(|option| !matches!(*option, "rw" | "ro" | "seclabel"));
    Some(listed.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_the_last_mount_at_the_place() {
        let text = "30 1 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,a\n\
            31 1 0:28 / /sys/fs/cgroup rw,nosuid shared:8 - cgroup2 cgroup2 rw,nsdelegate,b\n\
            32 1 0:28 / /other rw - cgroup2 cgroup2 rw,c\n";
        assert_eq!(options(text, "/sys/fs/cgroup").unwrap(), ["nsdelegate", "b"]);
        assert_eq!(options(text, "/sys/fs"), None);
    }
}
