//! What this host is: probed once, then plain data that the compiler reads.
//!
//! Nothing here decides. A test writes a [`HostFacts`] by hand; a caller uses
//! [`HostFacts::probe`].

mod cgroups;
mod mappers;
mod resctrl;

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use caps::CapSet;
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, statfs};
use nix::unistd::{getegid, geteuid};
use orlop_init::sys::{self, abi};

pub(crate) use cgroups::ROOT_SOURCE;
pub use cgroups::{Cgroups, Hierarchy};
pub use mappers::IdMappers;
pub use resctrl::Resctrl;

use crate::error::{Error, Kind, Result};

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Kernel release, major and minor.
    pub kernel: (u32, u32),
    /// Effective user id of the caller.
    pub euid: u32,
    /// Effective group id of the caller.
    pub egid: u32,
    /// Permitted capabilities of the caller, one bit each (capabilities(7)).
    pub capabilities: u64,
    /// Capabilities that the caller's bounding set leaves to a child.
    pub bounding: u64,
    /// Number of the last capability that the kernel knows.
    pub last_capability: u32,
    /// Whether the caller is in a user namespace other than the first.
    pub in_user_namespace: bool,
    /// Whether the caller's mount namespace belongs to its user namespace. Else its
    /// privileges hold in a new one only.
    pub owns_mounts: bool,
    /// Whether setgroups(2) is allowed in the caller's user namespace; those below
    /// it have it from there (user_namespaces(7)).
    pub setgroups: bool,
    /// The programs that map ids which the caller may not map by itself.
    pub id_mappers: IdMappers,
    /// How cgroups are mounted.
    pub cgroups: Cgroups,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether SELinux is on.
    pub selinux: bool,
    /// The resctrl file system, for who has looked for it ([`Resctrl::probe`]).
    pub resctrl: Option<Resctrl>,
    /// Where the caller sees all of a procfs or a sysfs, for who has looked for it
    /// ([`Self::find_revealing`]).
    pub revealing: Vec<PathBuf>,
}

/// CAP_SYS_ADMIN (capabilities(7)).
const SYS_ADMIN: u32 = 21;

impl HostFacts {
    /// Oldest kernel that Orlop runs on: openat2, mount_setattr, clone3 into a
    /// cgroup, pidfd_getfd.
    pub const FLOOR: (u32, u32) = (5, 14);

    /// Looks at the host. A dozen system calls.
    ///
    /// # Errors
    /// A kernel below [`Self::FLOOR`], or a `/proc` that can't be read.
    pub fn probe() -> Result<Self> {
        let kernel = kernel()?;
        if kernel < Self::FLOOR {
            let ((major, minor), (a, b)) = (kernel, Self::FLOOR);
            return Err(Error::new(
                Kind::Unsupported,
                format!("Linux {major}.{minor} is too old: Orlop needs {a}.{b} or newer"),
            ));
        }
        let (bounding, last_capability) = bounding();
        let uid_map = read(Path::new("/proc/self/uid_map"))?;
        let first = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
        let enabled = |path: &str, yes: &str| {
            fs::read_to_string(path).is_ok_and(|text| text.trim_end().starts_with(yes))
        };
        let capabilities = permitted()?;
        Ok(Self {
            kernel,
            euid: geteuid().as_raw(),
            egid: getegid().as_raw(),
            capabilities,
            bounding,
            last_capability,
            in_user_namespace: !first,
            owns_mounts: first || owns_mounts(),
            // The first user namespace allows it, and without any the file does
            // not exist.
            setgroups: first || !enabled("/proc/self/setgroups", "deny"),
            id_mappers: IdMappers::probe(capabilities),
            cgroups: Cgroups::probe()?,
            apparmor: enabled("/sys/module/apparmor/parameters/enabled", "Y"),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            resctrl: None,
            revealing: Vec::new(),
        })
    }

    /// Looks where a procfs or a sysfs is mounted. One of them that is left in a mount
    /// namespace lets a user namespace in it mount another without our masks.
    ///
    /// # Errors
    /// A `/proc` that can't be read; one of them that another mount covers, which no path
    /// leads to.
    pub fn find_revealing(&mut self) -> Result<()> {
        let table = read(Path::new("/proc/self/mountinfo"))?;
        let of = |kind| cgroups::mount_points(table.lines(), kind);
        self.revealing = of("proc").chain(of("sysfs")).collect();
        let covered = |path: &&PathBuf| {
            let found = statfs(*path).map(|found| found.filesystem_type());
            !matches!(found, Ok(PROC_SUPER_MAGIC | SYSFS_MAGIC))
        };
        match self.revealing.iter().find(covered) {
            None => Ok(()),
            Some(path) => {
                let words = "a procfs or sysfs is covered by another mount, and can't be hidden";
                Err(Error::new(Kind::Unsupported, words).at_path(path))
            }
        }
    }

    /// Whether the caller may mount, in its own user namespace.
    #[must_use]
    pub fn may_mount(&self) -> bool {
        self.capabilities >> SYS_ADMIN & 1 == 1
    }

    /// Whether the caller is not root of the machine: some resources are out of
    /// its reach whatever its capabilities say.
    #[must_use]
    pub fn rootless(&self) -> bool {
        self.euid != 0 || self.in_user_namespace
    }
}

/// `SYSFS_MAGIC` (linux/magic.h).
const SYSFS_MAGIC: FsType = FsType(0x6265_6572);

/// `NS_GET_USERNS` (ioctl_ns(2)).
const NS_GET_USERNS: u32 = 0xb701;

/// Asks for the owner of the mount namespace, which is told when it is the caller's
/// user namespace or one below.
fn owns_mounts() -> bool {
    let Ok(mounts) = fs::File::open("/proc/self/ns/mnt") else { return false };
    let owner = sys::ioctl_value(mounts.as_raw_fd(), NS_GET_USERNS, 0);
    owner.is_ok_and(|fd| i32::try_from(fd).map(sys::close).is_ok())
}

/// The calling thread's permitted capabilities.
fn permitted() -> Result<u64> {
    let set = caps::read(None, CapSet::Permitted).map_err(|error| {
        Error::new(Kind::Os, format!("asking for our own capabilities: {error}"))
    })?;
    Ok(set.iter().fold(0, |bits, capability| bits | capability.bitmask()))
}

/// The calling thread's bounding set, and the last capability that the kernel
/// knows: the one after it is refused.
fn bounding() -> (u64, u32) {
    let mut bits = 0;
    for capability in 0..u64::BITS {
        match sys::prctl(abi::PR_CAPBSET_READ, capability as usize, 0, 0) {
            Ok(held) => bits |= (held as u64) << capability,
            Err(_) => return (bits, capability.saturating_sub(1)),
        }
    }
    (bits, u64::BITS - 1)
}

fn kernel() -> Result<(u32, u32)> {
    let name = nix::sys::utsname::uname()
        .map_err(|errno| Error::os(errno as i32, "asking for the kernel's release"))?;
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(Error::new(Kind::Unsupported, format!("the kernel calls itself {release:?}"))),
    }
}

/// A file of /proc: its size is not told, so ask for more than it can have.
fn read(path: &Path) -> Result<String> {
    let mut text = String::with_capacity(4096);
    let read = fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    read.map(|_| text).map_err(|error| Error::io(&error, "reading").at_path(path))
}
