//! The floor's child: from clone to exec, on borrowed memory.
//!
//! It shares the memory of its suspended parent, so it does not allocate, takes
//! no lock and reports a failure by writing it where the parent reads it.
//! Descriptors are closed by the exec.

use std::ffi::{CStr, CString};

use orlop_init::sys::{self, Errno, Fd, Sys, abi};

use super::step;

/// What failed: the step's name and the kernel's number.
type Done<T = ()> = Result<T, (&'static str, Errno)>;

const DIR: u32 = abi::O_PATH | abi::O_DIRECTORY | abi::O_CLOEXEC;
const ANY: u32 = abi::O_PATH | abi::O_CLOEXEC;
const TREE: u32 = abi::OPEN_TREE_CLONE | abi::OPEN_TREE_CLOEXEC;

const NOSUID: u64 = abi::MOUNT_ATTR_NOSUID;
const NOEXEC: u64 = abi::MOUNT_ATTR_NOEXEC;
const NODEV: u64 = abi::MOUNT_ATTR_NODEV;
const RDONLY: u64 = abi::MOUNT_ATTR_RDONLY;

const MASKED: [&CStr; 10] = [
    c"proc/acpi",
    c"proc/asound",
    c"proc/kcore",
    c"proc/keys",
    c"proc/latency_stats",
    c"proc/timer_list",
    c"proc/timer_stats",
    c"proc/sched_debug",
    c"sys/firmware",
    c"proc/scsi",
];
const READ_ONLY: [&CStr; 5] =
    [c"proc/bus", c"proc/fs", c"proc/irq", c"proc/sys", c"proc/sysrq-trigger"];
const DEVICES: [(&CStr, u32, u32); 6] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
];
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];

/// `CAP_KILL`, `CAP_NET_BIND_SERVICE`, `CAP_AUDIT_WRITE`: the bundle's.
const CAPABILITIES: [u32; 3] = [5, 10, 29];
/// The highest capability that the floor of supported kernels has.
const LAST_CAPABILITY: u32 = 40;
const RLIMIT_NOFILE: u32 = 7;

/// The process half: what an exec into a container does too.
pub(super) struct Process<'a> {
    pub(super) program: &'a CStr,
    pub(super) groups: &'a [Fd],
    pub(super) failed: Option<(&'static str, Errno)>,
}

/// A container to be made.
pub(super) struct Container<'a> {
    pub(super) root: &'a CStr,
    pub(super) hierarchies: &'a [CString],
    pub(super) names: &'a [CString],
    pub(super) process: Process<'a>,
}

impl Process<'_> {
    pub(super) fn start(&mut self) -> ! {
        let result = self.join_groups().and_then(|()| self.execute());
        self.failed = result.err();
        sys::exit(127)
    }

    fn join_groups(&self) -> Done {
        for fd in self.groups {
            sys::write(*fd, b"0").map_err(step("joining a cgroup"))?;
        }
        Ok(())
    }

    fn execute(&self) -> Done {
        let limit = abi::Rlimit { soft: 1024, hard: 1024 };
        sys::prlimit(0, RLIMIT_NOFILE, &limit).map_err(step("setting a limit"))?;
        privileges().map_err(step("setting privileges"))?;
        let argv = [self.program.as_ptr() as usize, 0];
        let envp = [c"PATH=/usr/bin:/bin".as_ptr() as usize, c"TERM=xterm".as_ptr() as usize, 0];
        Err(("exec", sys::execveat(abi::AT_FDCWD, self.program, &argv, &envp, 0)))
    }
}

fn privileges() -> Sys<()> {
    for capability in (0..=LAST_CAPABILITY).filter(|number| !CAPABILITIES.contains(number)) {
        sys::prctl(abi::PR_CAPBSET_DROP, capability as usize, 0, 0)?;
    }
    let bits = CAPABILITIES.iter().fold(0, |bits, number| bits | 1 << number);
    let low = abi::CapData { effective: bits, permitted: bits, inheritable: bits };
    sys::capset(&[low, abi::CapData::default()])?;
    for capability in CAPABILITIES {
        sys::prctl(abi::PR_CAP_AMBIENT, abi::PR_CAP_AMBIENT_RAISE, capability as usize, 0)?;
    }
    sys::prctl(abi::PR_SET_NO_NEW_PRIVS, 1, 0, 0).map(drop)
}

/// Makes a file system that is attached nowhere yet.
fn file_system(kind: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> Sys<Fd> {
    let fs = sys::fsopen(kind)?;
    for (key, value) in options {
        match value.is_empty() {
            true => sys::fsconfig_flag(fs, key)?,
            false => sys::fsconfig_string(fs, key, value)?,
        }
    }
    sys::fsconfig_create(fs)?;
    sys::fsmount(fs, attributes as u32)
}

fn attach(mount: Fd, directory: Fd, name: &CStr) -> Sys<()> {
    sys::move_mount(mount, sys::openat(directory, name, DIR)?)
}

fn set_read_only(tree: Fd, flags: u32) -> Sys<()> {
    set_attributes(tree, RDONLY, flags)
}

fn set_attributes(tree: Fd, set: u64, flags: u32) -> Sys<()> {
    let attr = abi::MountAttr { set, ..abi::MountAttr::default() };
    sys::mount_setattr(tree, c"", abi::AT_EMPTY_PATH | flags, &attr)
}

impl Container<'_> {
    pub(super) fn start(&mut self) -> ! {
        let result = self.process.join_groups().and_then(|()| self.set_up());
        self.process.failed = result.and_then(|()| self.process.execute()).err();
        sys::exit(127)
    }

    fn set_up(&self) -> Done {
        let private = abi::MountAttr { propagation: abi::MS_PRIVATE, ..abi::MountAttr::default() };
        sys::mount_setattr(abi::AT_FDCWD, c"/", abi::AT_RECURSIVE, &private)
            .map_err(step("making mounts private"))?;
        let place = sys::openat(abi::AT_FDCWD, self.root, DIR).map_err(step("opening the root"))?;
        let root = sys::open_tree(place, c"", TREE | abi::AT_EMPTY_PATH | abi::AT_RECURSIVE)
            .map_err(step("cloning the root"))?;
        sys::move_mount(root, place).map_err(step("attaching the root"))?;
        sys::umask(0);
        let proc = file_system(c"proc", &[], 0).map_err(step("making proc"))?;
        attach(proc, root, c"proc").map_err(step("attaching proc"))?;
        self.devices(root)?;
        self.sys(root)?;
        set_read_only(root, 0).map_err(step("making the root read-only"))?;
        sys::sethostname(b"runc").map_err(step("setting the host name"))?;
        pivot(root).map_err(step("pivoting"))?;
        mask().map_err(step("masking"))?;
        for path in READ_ONLY {
            read_only(path).map_err(step("making read-only"))?;
        }
        Ok(())
    }

    fn devices(&self, root: Fd) -> Done {
        let dev = file_system(
            c"tmpfs",
            &[(c"mode", c"755"), (c"size", c"65536k")],
            NOSUID | abi::MOUNT_ATTR_STRICTATIME,
        )
        .map_err(step("making /dev"))?;
        attach(dev, root, c"dev").map_err(step("attaching /dev"))?;
        let pts =
            [(c"newinstance", c""), (c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"gid", c"5")];
        let pts = file_system(c"devpts", &pts, NOSUID | NOEXEC).map_err(step("making devpts"))?;
        let shm = [(c"mode", c"1777"), (c"size", c"65536k")];
        let shm =
            file_system(c"tmpfs", &shm, NOSUID | NOEXEC | NODEV).map_err(step("making shm"))?;
        let queue =
            file_system(c"mqueue", &[], NOSUID | NOEXEC | NODEV).map_err(step("making mqueue"))?;
        for (name, mount) in [(c"pts", pts), (c"shm", shm), (c"mqueue", queue)] {
            sys::mkdirat(dev, name, 0o755).map_err(step("making a directory"))?;
            attach(mount, dev, name).map_err(step("attaching in /dev"))?;
        }
        for (name, major, minor) in DEVICES {
            let number = abi::device_number(major, minor);
            sys::mknodat(dev, name, abi::S_IFCHR | 0o666, number)
                .map_err(step("making a device"))?;
        }
        for (to, name) in LINKS {
            sys::symlinkat(to, dev, name).map_err(step("making a link"))?;
        }
        Ok(())
    }

    fn sys(&self, root: Fd) -> Done {
        const FLAGS: u64 = NOSUID | NOEXEC | NODEV | RDONLY;
        let mount = file_system(c"sysfs", &[], FLAGS).map_err(step("making sysfs"))?;
        attach(mount, root, c"sys").map_err(step("attaching sysfs"))?;
        if self.hierarchies.is_empty() {
            let cgroup = file_system(c"cgroup2", &[], FLAGS).map_err(step("making cgroup2"))?;
            return attach(cgroup, mount, c"fs/cgroup").map_err(step("attaching cgroup2"));
        }
        let top = file_system(c"tmpfs", &[(c"mode", c"755")], NOSUID | NOEXEC | NODEV)
            .map_err(step("making the cgroup directory"))?;
        attach(top, mount, c"fs/cgroup").map_err(step("attaching the cgroup directory"))?;
        for (path, name) in self.hierarchies.iter().zip(self.names) {
            let tree =
                sys::open_tree(abi::AT_FDCWD, path, TREE).map_err(step("cloning a hierarchy"))?;
            set_attributes(tree, FLAGS, 0).map_err(step("making a hierarchy read-only"))?;
            sys::mkdirat(top, name, 0o755).map_err(step("making a directory"))?;
            attach(tree, top, name).map_err(step("attaching a hierarchy"))?;
        }
        set_read_only(top, 0).map_err(step("making the cgroup directory read-only"))
    }
}

/// The old root is stacked on the new one and taken away.
fn pivot(root: Fd) -> Sys<()> {
    sys::fchdir(root)?;
    sys::pivot_root(c".", c".")?;
    sys::umount(c".", abi::MNT_DETACH)?;
    sys::chdir(c"/")
}

fn mask() -> Sys<()> {
    let mut empty = None;
    for path in MASKED {
        let place = match sys::openat(abi::AT_FDCWD, path, ANY) {
            Err(Errno(abi::ENOENT)) => continue,
            result => result?,
        };
        if sys::fstat(place)?.kind() != abi::S_IFDIR {
            sys::move_mount(sys::open_tree(abi::AT_FDCWD, c"dev/null", TREE)?, place)?;
        } else if let Some(empty) = empty {
            sys::move_mount(sys::open_tree(empty, c"", TREE | abi::AT_EMPTY_PATH)?, place)?;
        } else {
            let mount = file_system(c"tmpfs", &[], RDONLY)?;
            sys::move_mount(mount, place)?;
            empty = Some(mount);
        }
    }
    Ok(())
}

fn read_only(path: &CStr) -> Sys<()> {
    let place = match sys::openat(abi::AT_FDCWD, path, ANY) {
        Err(Errno(abi::ENOENT)) => return Ok(()),
        result => result?,
    };
    let tree = sys::open_tree(place, c"", TREE | abi::AT_EMPTY_PATH | abi::AT_RECURSIVE)?;
    set_read_only(tree, abi::AT_RECURSIVE)?;
    sys::move_mount(tree, place)
}
