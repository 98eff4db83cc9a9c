//! The options of cgroup v2, which are the same for every mount of it on the machine.
//!
//! Whoever mounts it without options, outside of any cgroup namespace, takes them away
//! from everybody (cgroup-v2.rst, "Mounting"), and CRIU does. Without `nsdelegate` a
//! container that may write to its cgroup is not kept from its own limits.
//!
//! Of several CRIU at once one may begin when another has taken the options, and take
//! them again when that one's are back. So what has to be back at the end is written on
//! the hierarchy's root, and whoever begins goes by that too. It is there for as long as
//! somebody works, which a shared lock says, or was killed and is not deleted yet.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use orlop_init::sys::{self, abi, xattr};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::launch::owned;

/// The attribute of the root with the options that are owed to the machine.
const OWED: &CStr = c"trusted.orlop.options";

/// Longest text of all options: there are five of some letters.
const LONGEST: usize = 512;

/// What they are, to be put back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Superblock {
    mount: PathBuf,
    options: Vec<String>,
    /// Says that CRIU works for us.
    #[serde(skip)]
    working: Option<Arc<Flock<File>>>,
}

impl Superblock {
    /// Of the hierarchy that is mounted there, before CRIU is asked for anything; none if
    /// there is no such mount.
    pub(crate) fn of(mount: &Path) -> Option<Self> {
        let working = lock(mount, FlockArg::LockSharedNonblock);
        let mut options = options_now(mount)?;
        if let Some(root) = &working {
            options.extend(owed(root));
            options.sort_unstable();
            options.dedup();
            // Who may not write there has no CRIU that could take anything.
            let _ = xattr::fsetxattr(root.as_raw_fd(), OWED, options.join(",").as_bytes());
        }
        Some(Self { mount: mount.to_path_buf(), options, working })
    }

    /// Puts back what is missing by now, when CRIU has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn put_back(&self) -> Result<()> {
        self.give_back()?;
        // Nothing is owed any more if nobody else works. Who does will give it back too.
        let alone = match &self.working {
            Some(root) => {
                root.relock(FlockArg::LockExclusiveNonblock).ok().map(|()| Arc::clone(root))
            }
            None => lock(&self.mount, FlockArg::LockExclusiveNonblock),
        };
        if let Some(root) = alone {
            let _ = xattr::fremovexattr(root.as_raw_fd(), OWED);
        }
        Ok(())
    }

    fn give_back(&self) -> Result<()> {
        let now = options_now(&self.mount).unwrap_or_default();
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
            sys::fsconfig_flag(context.as_raw_fd(), &option)
                .map_err(|sys::Errno(no)| failed(no))?;
        }
        sys::fsconfig_reconfigure(context.as_raw_fd()).map_err(|sys::Errno(no)| failed(no))
    }
}

/// The root of the hierarchy, locked. Anybody may lock it who sees it, so that is not
/// waited for longer than those of us take who have come to their end.
fn lock(mount: &Path, how: FlockArg) -> Option<Arc<Flock<File>>> {
    let mut root = File::open(mount).ok()?;
    for _ in 0..50 {
        match Flock::lock(root, how) {
            Ok(locked) => return Some(Arc::new(locked)),
            Err((back, Errno::EWOULDBLOCK)) if how == FlockArg::LockSharedNonblock => root = back,
            Err(_) => return None,
        }
        sleep(Duration::from_millis(2));
    }
    None
}

/// What others have written down.
fn owed(root: &File) -> Vec<String> {
    let mut text = [0; LONGEST];
    let length = xattr::fgetxattr(root.as_raw_fd(), OWED, &mut text).unwrap_or_default();
    let text = str::from_utf8(&text[..length]).unwrap_or_default();
    text.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

fn options_now(mount: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").ok()?;
    options(&text, mount.to_str()?)
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
