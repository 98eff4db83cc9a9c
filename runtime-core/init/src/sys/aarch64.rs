//! The system call convention and numbers of aarch64 (syscall(2)).

use core::arch::asm;

/// One system call.
///
/// # Safety
/// The arguments must be what the call's man page asks for.
pub(super) unsafe fn syscall(
    nr: usize,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> isize {
    let result: isize;
    // SAFETY: the caller keeps the call's contract; the kernel returns in x0 and
    // keeps every other register.
    unsafe {
        asm!(
            "svc 0",
            in("x8") nr,
            inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

/// An instruction that no process survives.
pub(super) fn trap() -> ! {
    // SAFETY: it touches no memory and never returns.
    unsafe { asm!("brk 1", options(noreturn, nomem, nostack)) }
}

/// `clone3` or `clone`, whose child calls `entry(data)` on the stack named in the
/// arguments.
///
/// # Safety
/// As for [`super::vfork`]: `entry` never returns.
pub(super) unsafe fn clone_onto(nr: usize, args: [usize; 3], entry: usize, data: usize) -> isize {
    let result: isize;
    // SAFETY: the child starts with an empty, 16-byte aligned stack and all other
    // registers as here, calls `entry` and never comes back; the parent goes on
    // behind the label with nothing but x0 changed.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, 0",
            "mov x0, x4",
            "blr x3",
            "brk 1",
            "2:",
            in("x8") nr,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") entry, in("x4") data,
            // Written by the child alone, in its own registers.
            lateout("x30") _,
        );
    }
    result
}

/// Copies upwards.
///
/// # Safety
/// As memcpy(3).
#[cfg(stage)]
pub(super) unsafe fn copy_bytes(to: *mut u8, from: *const u8, length: usize) {
    for i in 0..length {
        // SAFETY: the caller lends both for `length` bytes. The volatile read
        // keeps the compiler from turning this loop into a call of memcpy.
        unsafe { *to.add(i) = from.add(i).read_volatile() };
    }
}

/// Sets every byte.
///
/// # Safety
/// As memset(3).
#[cfg(stage)]
pub(super) unsafe fn fill_bytes(to: *mut u8, byte: u8, length: usize) {
    for i in 0..length {
        // SAFETY: as above, and volatile for the same reason.
        unsafe { to.add(i).write_volatile(byte) };
    }
}

// The kernel enters with the argument count at the top of the stack.
#[cfg(stage)]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, 0",
    "mov x0, sp",
    "bl {entry}",
    "brk 1",
    entry = sym super::entry::enter,
);
pub(super) mod nr {
    //! include/uapi/asm-generic/unistd.h
    pub(in crate::sys) const GETCWD: usize = 17;
    pub(in crate::sys) const DUP3: usize = 24;
    pub(in crate::sys) const FCNTL: usize = 25;
    pub(in crate::sys) const IOCTL: usize = 29;
    pub(in crate::sys) const IOPRIO_SET: usize = 30;
    pub(in crate::sys) const MKNODAT: usize = 33;
    pub(in crate::sys) const MKDIRAT: usize = 34;
    pub(in crate::sys) const UNLINKAT: usize = 35;
    pub(in crate::sys) const SYMLINKAT: usize = 36;
    pub(in crate::sys) const UMOUNT2: usize = 39;
    pub(in crate::sys) const PIVOT_ROOT: usize = 41;
    pub(in crate::sys) const FSTATFS: usize = 44;
    pub(in crate::sys) const CHDIR: usize = 49;
    pub(in crate::sys) const FCHDIR: usize = 50;
    pub(in crate::sys) const CHROOT: usize = 51;
    pub(in crate::sys) const FCHMOD: usize = 52;
    pub(in crate::sys) const FCHOWNAT: usize = 54;
    pub(in crate::sys) const OPENAT: usize = 56;
    pub(in crate::sys) const CLOSE: usize = 57;
    pub(in crate::sys) const GETDENTS64: usize = 61;
    pub(in crate::sys) const LSEEK: usize = 62;
    pub(in crate::sys) const READ: usize = 63;
    pub(in crate::sys) const WRITE: usize = 64;
    pub(in crate::sys) const SENDFILE: usize = 71;
    pub(in crate::sys) const PPOLL: usize = 73;
    pub(in crate::sys) const READLINKAT: usize = 78;
    pub(in crate::sys) const CAPSET: usize = 91;
    pub(in crate::sys) const PERSONALITY: usize = 92;
    pub(in crate::sys) const EXIT_GROUP: usize = 94;
    #[cfg(not(stage))]
    pub(in crate::sys) const EXIT: usize = 93;
    #[cfg(not(stage))]
    pub(in crate::sys) const FUTEX: usize = 98;
    pub(in crate::sys) const UNSHARE: usize = 97;
    pub(in crate::sys) const SCHED_SETAFFINITY: usize = 122;
    pub(in crate::sys) const RT_SIGACTION: usize = 134;
    pub(in crate::sys) const RT_SIGPROCMASK: usize = 135;
    pub(in crate::sys) const SETRESUID: usize = 147;
    pub(in crate::sys) const SETRESGID: usize = 149;
    pub(in crate::sys) const SETSID: usize = 157;
    pub(in crate::sys) const SETGROUPS: usize = 159;
    pub(in crate::sys) const SETHOSTNAME: usize = 161;
    pub(in crate::sys) const SETDOMAINNAME: usize = 162;
    pub(in crate::sys) const UMASK: usize = 166;
    pub(in crate::sys) const PRCTL: usize = 167;
    pub(in crate::sys) const GETPID: usize = 172;
    pub(in crate::sys) const GETPPID: usize = 173;
    pub(in crate::sys) const SENDTO: usize = 206;
    pub(in crate::sys) const SENDMSG: usize = 211;
    pub(in crate::sys) const KEYCTL: usize = 219;
    pub(in crate::sys) const MMAP: usize = 222;
    pub(in crate::sys) const SET_MEMPOLICY: usize = 237;
    pub(in crate::sys) const WAIT4: usize = 260;
    pub(in crate::sys) const PRLIMIT64: usize = 261;
    pub(in crate::sys) const SOCKET: usize = 198;
    pub(in crate::sys) const SETNS: usize = 268;
    pub(in crate::sys) const SCHED_SETATTR: usize = 274;
    pub(in crate::sys) const SECCOMP: usize = 277;
    pub(in crate::sys) const MEMFD_CREATE: usize = 279;
    pub(in crate::sys) const FSETXATTR: usize = 7;
    #[cfg(not(stage))]
    pub(in crate::sys) const FGETXATTR: usize = 10;
    #[cfg(not(stage))]
    pub(in crate::sys) const FREMOVEXATTR: usize = 16;
    #[cfg(not(stage))]
    pub(in crate::sys) const BPF: usize = 280;
    pub(in crate::sys) const CLONE: usize = 220;
    pub(in crate::sys) const EXECVE: usize = 221;
    pub(in crate::sys) const EXECVEAT: usize = 281;
    pub(in crate::sys) const STATX: usize = 291;
    pub(in crate::sys) const PIDFD_SEND_SIGNAL: usize = 424;
    pub(in crate::sys) const OPEN_TREE: usize = 428;
    pub(in crate::sys) const MOVE_MOUNT: usize = 429;
    pub(in crate::sys) const FSOPEN: usize = 430;
    pub(in crate::sys) const FSCONFIG: usize = 431;
    pub(in crate::sys) const FSMOUNT: usize = 432;
    pub(in crate::sys) const FSPICK: usize = 433;
    pub(in crate::sys) const PIDFD_OPEN: usize = 434;
    pub(in crate::sys) const CLONE3: usize = 435;
    pub(in crate::sys) const CLOSE_RANGE: usize = 436;
    pub(in crate::sys) const OPENAT2: usize = 437;
    pub(in crate::sys) const PIDFD_GETFD: usize = 438;
    pub(in crate::sys) const FACCESSAT2: usize = 439;
    pub(in crate::sys) const MOUNT_SETATTR: usize = 442;
}
