//! Structures and numbers of the kernel's ABI, as include/uapi has them.
//!
//! The numbers are those of the generic ABI, which x86_64 and aarch64 share;
//! where they differ, the name has one value for each.
#![allow(missing_docs)] // names are the kernel's; the man pages describe them

pub const EPERM: i32 = 1;
pub const ENOENT: i32 = 2;
pub const EINTR: i32 = 4;
pub const ENOEXEC: i32 = 8;
pub const EBADF: i32 = 9;
pub const EAGAIN: i32 = 11;
pub const EACCES: i32 = 13;
pub const EFAULT: i32 = 14;
pub const EBUSY: i32 = 16;
pub const EEXIST: i32 = 17;
pub const EXDEV: i32 = 18;
pub const ENODEV: i32 = 19;
pub const ENOTDIR: i32 = 20;
pub const EISDIR: i32 = 21;
pub const EINVAL: i32 = 22;
pub const ENFILE: i32 = 23;
pub const EMFILE: i32 = 24;
pub const EROFS: i32 = 30;
pub const ENAMETOOLONG: i32 = 36;
pub const ENOSYS: i32 = 38;
pub const ELOOP: i32 = 40;
pub const EPROTO: i32 = 71;
pub const EOPNOTSUPP: i32 = 95;
pub const ETIMEDOUT: i32 = 110;

/// Exit status of a stage that lost its own invariants.
pub const PANICKED: i32 = 113;

pub const AT_FDCWD: i32 = -100;
pub const AT_EMPTY_PATH: u32 = 0x1000;
pub const AT_RECURSIVE: u32 = 0x8000;
pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
pub const AT_EACCESS: u32 = 0x200;

pub const O_RDONLY: u32 = 0;
pub const O_WRONLY: u32 = 1;
pub const O_RDWR: u32 = 2;
pub const O_CREAT: u32 = 0o100;
pub const O_NOCTTY: u32 = 0o400;
pub const O_NONBLOCK: u32 = 0o4000;
pub const O_CLOEXEC: u32 = 0o2_000_000;
pub const O_PATH: u32 = 0o10_000_000;
#[cfg(target_arch = "x86_64")]
pub const O_DIRECTORY: u32 = 0o200_000;
#[cfg(target_arch = "x86_64")]
pub const O_NOFOLLOW: u32 = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub const O_DIRECTORY: u32 = 0o40_000;
#[cfg(target_arch = "aarch64")]
pub const O_NOFOLLOW: u32 = 0o100_000;

pub const RESOLVE_NO_XDEV: u64 = 0x01;
pub const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub const RESOLVE_NO_SYMLINKS: u64 = 0x04;
pub const RESOLVE_BENEATH: u64 = 0x08;
pub const RESOLVE_IN_ROOT: u64 = 0x10;

pub const S_IFMT: u32 = 0o170_000;
pub const S_IFIFO: u32 = 0o010_000;
pub const S_IFCHR: u32 = 0o020_000;
pub const S_IFDIR: u32 = 0o040_000;
pub const S_IFBLK: u32 = 0o060_000;
pub const S_IFREG: u32 = 0o100_000;
pub const S_IFLNK: u32 = 0o120_000;

pub const STATX_BASIC_STATS: u32 = 0x7ff;
pub const STATX_MNT_ID: u32 = 0x1000;
/// KERNEL(<6.8): absent, and the number is given to another mount later on.
pub const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
pub const X_OK: u32 = 1;

pub const F_GETFD: u32 = 1;
pub const F_SETFD: u32 = 2;
pub const F_SETFL: u32 = 4;
pub const FD_CLOEXEC: u32 = 1;
pub const CLOSE_RANGE_CLOEXEC: u32 = 4;

pub const PROT_READ: u32 = 1;
pub const PROT_WRITE: u32 = 2;
pub const MAP_PRIVATE: u32 = 2;
pub const MAP_ANONYMOUS: u32 = 0x20;

pub const OPEN_TREE_CLONE: u32 = 1;
pub const OPEN_TREE_CLOEXEC: u32 = O_CLOEXEC;
pub const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
pub const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
pub const FSOPEN_CLOEXEC: u32 = 1;
pub const FSMOUNT_CLOEXEC: u32 = 1;
pub const FSPICK_CLOEXEC: u32 = 1;
pub const FSPICK_EMPTY_PATH: u32 = 8;
pub const FSCONFIG_SET_FLAG: u32 = 0;
pub const FSCONFIG_SET_STRING: u32 = 1;
pub const FSCONFIG_CMD_CREATE: u32 = 6;
pub const FSCONFIG_CMD_RECONFIGURE: u32 = 7;

pub const MOUNT_ATTR_RDONLY: u64 = 0x01;
pub const MOUNT_ATTR_NOSUID: u64 = 0x02;
pub const MOUNT_ATTR_NODEV: u64 = 0x04;
pub const MOUNT_ATTR_NOEXEC: u64 = 0x08;
pub const MOUNT_ATTR_ATIME: u64 = 0x70;
pub const MOUNT_ATTR_RELATIME: u64 = 0x00;
pub const MOUNT_ATTR_NOATIME: u64 = 0x10;
pub const MOUNT_ATTR_STRICTATIME: u64 = 0x20;
pub const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
pub const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
pub const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;

pub const MS_UNBINDABLE: u64 = 1 << 17;
pub const MS_PRIVATE: u64 = 1 << 18;
pub const MS_SLAVE: u64 = 1 << 19;
pub const MS_SHARED: u64 = 1 << 20;
pub const MNT_DETACH: u32 = 2;

pub const PROC_SUPER_MAGIC: u64 = 0x9fa0;
pub const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

pub const CLONE_VM: u32 = 0x100;
pub const CLONE_FS: u32 = 0x200;
pub const CLONE_FILES: u32 = 0x400;
pub const CLONE_SIGHAND: u32 = 0x800;
pub const CLONE_PIDFD: u32 = 0x1000;
pub const CLONE_VFORK: u32 = 0x4000;
pub const CLONE_PARENT: u32 = 0x8000;
pub const CLONE_THREAD: u32 = 0x1_0000;
pub const CLONE_SYSVSEM: u32 = 0x4_0000;
pub const CLONE_CHILD_CLEARTID: u32 = 0x20_0000;
pub const CLONE_NEWTIME: u32 = 0x80;
pub const CLONE_NEWNS: u32 = 0x0002_0000;
pub const CLONE_NEWCGROUP: u32 = 0x0200_0000;
pub const CLONE_NEWUTS: u32 = 0x0400_0000;
pub const CLONE_NEWIPC: u32 = 0x0800_0000;
pub const CLONE_NEWUSER: u32 = 0x1000_0000;
pub const CLONE_NEWPID: u32 = 0x2000_0000;
pub const CLONE_NEWNET: u32 = 0x4000_0000;
pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

pub const PR_SET_PDEATHSIG: u32 = 1;
pub const PR_SET_DUMPABLE: u32 = 4;
pub const PR_SET_KEEPCAPS: u32 = 8;
pub const PR_CAPBSET_READ: u32 = 23;
pub const PR_CAPBSET_DROP: u32 = 24;
pub const PR_SET_NO_NEW_PRIVS: u32 = 38;
pub const PR_SCHED_CORE: u32 = 62;
pub const PR_SCHED_CORE_CREATE: usize = 1;
/// `PIDTYPE_PGID`
pub const PR_SCHED_CORE_SCOPE_PROCESS_GROUP: usize = 2;
pub const PR_CAP_AMBIENT: u32 = 47;
pub const PR_CAP_AMBIENT_RAISE: usize = 2;
pub const PR_CAP_AMBIENT_CLEAR_ALL: usize = 4;
pub const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;
pub const CAP_SETPCAP: u32 = 8;

pub const SECCOMP_SET_MODE_FILTER: u32 = 1;

pub const ST_NOATIME: u64 = 0x400;
pub const ST_NODIRATIME: u64 = 0x800;
pub const ST_RELATIME: u64 = 0x1000;
pub const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;
pub const TCGETS: u32 = 0x5401;
pub const TCSETS: u32 = 0x5402;
pub const ONLCR: u32 = 4;
pub const TIOCSPTLCK: u32 = 0x4004_5431;
pub const TIOCGPTPEER: u32 = 0x5441;
pub const TIOCSCTTY: u32 = 0x540e;
pub const TIOCSWINSZ: u32 = 0x5414;
pub const TIOCGETD: u32 = 0x5424;

/// As many as any kernel has (NR_CPUS): it looks at no more than its own.
pub const EVERY_PROCESSOR: [u8; 1024] = [0xff; 1024];

pub const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;
pub const KEYCTL_SETPERM: u32 = 5;
/// Of a session keyring: all for the possessor, search and view for its user.
pub const KEY_SESSION: u32 = 0x3f09_0000;

pub const SIGKILL: u32 = 9;
pub const SIGPIPE: i32 = 13;
pub const SIGCHLD: u64 = 17;
pub const SIG_SETMASK: u32 = 2;
pub const WALL: u32 = 0x4000_0000;
pub const POLLIN: i16 = 1;
pub const MSG_NOSIGNAL: u32 = 0x4000;

pub const MFD_CLOEXEC: u32 = 1;
pub const MFD_ALLOW_SEALING: u32 = 2;
pub const MFD_NOEXEC_SEAL: u32 = 8;
pub const MFD_EXEC: u32 = 0x10;

/// `struct termios` of the kernel (ioctl_tty(2)), the same on every machine that we have.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Termios {
    pub input_flags: u32,
    pub output_flags: u32,
    pub control_flags: u32,
    pub local_flags: u32,
    pub line: u8,
    pub characters: [u8; 19],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenHow {
    pub flags: u64,
    pub mode: u64,
    pub resolve: u64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub userns_fd: u64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

impl CloneArgs {
    /// Has the child run on `stack`, with both ends on 16 bytes: the ABI wants it, and
    /// vector instructions fault on less.
    pub(super) fn run_on(&mut self, stack: &mut [u64]) {
        let (low, size) = (stack.as_mut_ptr() as u64, size_of_val(stack) as u64);
        self.stack = low.next_multiple_of(16);
        self.stack_size = (low + size - self.stack) & !15;
    }
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct StatxTime {
    pub seconds: i64,
    pub nanoseconds: u32,
    pub reserved: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Statx {
    pub mask: u32,
    pub block_size: u32,
    pub attributes: u64,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    pub pad: u16,
    pub inode: u64,
    pub size: u64,
    pub blocks: u64,
    pub attributes_mask: u64,
    pub times: [StatxTime; 4],
    pub rdev_major: u32,
    pub rdev_minor: u32,
    pub dev_major: u32,
    pub dev_minor: u32,
    pub mount: u64,
    pub spare: [u64; 13],
}

impl Statx {
    /// The file type bits of the mode (`S_IFMT`).
    #[must_use]
    pub fn kind(&self) -> u32 {
        u32::from(self.mode) & S_IFMT
    }
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Statfs {
    pub f_type: i64,
    pub sizes: [u64; 9],
    pub f_flags: u64,
    pub spare: [u64; 4],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Rlimit {
    pub soft: u64,
    pub hard: u64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct CapHeader {
    pub version: u32,
    pub pid: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct CapData {
    pub effective: u32,
    pub permitted: u32,
    pub inheritable: u32,
}

#[repr(C)]
#[derive(Debug)]
pub struct SockFprog {
    pub count: u16,
    pub filter: *const u8,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PollFd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

#[repr(C)]
#[derive(Debug)]
pub struct IoVec {
    pub base: *const u8,
    pub length: usize,
}

#[repr(C)]
#[derive(Debug)]
pub struct MsgHdr {
    pub name: usize,
    pub name_length: u32,
    pub vector: *mut IoVec,
    pub vector_length: usize,
    pub control: *mut ControlFds,
    pub control_length: usize,
    pub flags: i32,
}

/// A control message of type `SCM_RIGHTS` with room for two descriptors
/// (cmsg(3)).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ControlFds {
    length: usize,
    level: i32,
    kind: i32,
    fds: [i32; 2],
}

impl ControlFds {
    /// At most two descriptors are taken.
    #[must_use]
    pub fn new(fds: &[i32]) -> Self {
        const SOL_SOCKET: i32 = 1;
        const SCM_RIGHTS: i32 = 1;
        let mut control = Self { length: 16, level: SOL_SOCKET, kind: SCM_RIGHTS, fds: [-1; 2] };
        for (place, fd) in control.fds.iter_mut().zip(fds) {
            *place = *fd;
            control.length += 4;
        }
        control
    }

    /// The space to announce for it in `msg_controllen`.
    #[must_use]
    pub fn used(&self) -> usize {
        self.length.next_multiple_of(8)
    }
}

/// `makedev(3)` for the kernel's 32-bit device numbers.
#[must_use]
pub fn device_number(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    ((major & 0xfff) << 8)
        | ((major & 0xffff_f000) << 32)
        | (minor & 0xff)
        | ((minor & 0xffff_ff00) << 12)
}
