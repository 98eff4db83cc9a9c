//! The system call convention and numbers of x86_64 (syscall(2)).

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
    // SAFETY: the caller keeps the call's contract; the kernel clobbers rcx and
    // r11 and returns in rax.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") nr as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// An instruction that no process survives.
pub(super) fn trap() -> ! {
    // SAFETY: it touches no memory and never returns.
    unsafe { asm!("ud2", options(noreturn, nomem, nostack)) }
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
    // behind the label with nothing but rax, rcx and r11 changed.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r8",
            "ud2",
            "2:",
            inlateout("rax") nr as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r8") entry, in("r9") data,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// Copies upwards; one instruction that every processor of this kind has fast.
///
/// # Safety
/// As memcpy(3).
#[cfg(stage)]
pub(super) unsafe fn copy_bytes(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller lends both for `length` bytes; the ABI keeps the
    // direction flag clear.
    unsafe {
        asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _,
            inout("rsi") from => _, options(nostack, preserves_flags));
    }
}

/// Sets every byte.
///
/// # Safety
/// As memset(3).
#[cfg(stage)]
pub(super) unsafe fn fill_bytes(to: *mut u8, byte: u8, length: usize) {
    // SAFETY: as above.
    unsafe {
        asm!("rep stosb", inout("rcx") length => _, inout("rdi") to => _,
            in("al") byte, options(nostack, preserves_flags));
    }
}

// The kernel enters with the argument count at the top of the stack.
#[cfg(stage)]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {entry}",
    "ud2",
    entry = sym super::entry::enter,
);
pub(super) mod nr {
    //! arch/x86/entry/syscalls/syscall_64.tbl
    pub(in crate::sys) const READ: usize = 0;
    pub(in crate::sys) const WRITE: usize = 1;
    pub(in crate::sys) const CLOSE: usize = 3;
    pub(in crate::sys) const LSEEK: usize = 8;
    pub(in crate::sys) const MMAP: usize = 9;
    pub(in crate::sys) const RT_SIGACTION: usize = 13;
    pub(in crate::sys) const RT_SIGPROCMASK: usize = 14;
    pub(in crate::sys) const IOCTL: usize = 16;
    pub(in crate::sys) const GETPID: usize = 39;
    pub(in crate::sys) const SENDFILE: usize = 40;
    pub(in crate::sys) const SENDTO: usize = 44;
    pub(in crate::sys) const SENDMSG: usize = 46;
    pub(in crate::sys) const WAIT4: usize = 61;
    pub(in crate::sys) const FCNTL: usize = 72;
    pub(in crate::sys) const GETCWD: usize = 79;
    pub(in crate::sys) const CHDIR: usize = 80;
    pub(in crate::sys) const FCHDIR: usize = 81;
    pub(in crate::sys) const FCHMOD: usize = 91;
    pub(in crate::sys) const UMASK: usize = 95;
    pub(in crate::sys) const GETPPID: usize = 110;
    pub(in crate::sys) const SETSID: usize = 112;
    pub(in crate::sys) const SETGROUPS: usize = 116;
    pub(in crate::sys) const SETRESUID: usize = 117;
    pub(in crate::sys) const SETRESGID: usize = 119;
    pub(in crate::sys) const CAPSET: usize = 126;
    pub(in crate::sys) const PERSONALITY: usize = 135;
    pub(in crate::sys) const FSTATFS: usize = 138;
    pub(in crate::sys) const PIVOT_ROOT: usize = 155;
    pub(in crate::sys) const PRCTL: usize = 157;
    pub(in crate::sys) const CHROOT: usize = 161;
    pub(in crate::sys) const UMOUNT2: usize = 166;
    pub(in crate::sys) const SETHOSTNAME: usize = 170;
    pub(in crate::sys) const SETDOMAINNAME: usize = 171;
    pub(in crate::sys) const SCHED_SETAFFINITY: usize = 203;
    pub(in crate::sys) const GETDENTS64: usize = 217;
    pub(in crate::sys) const EXIT_GROUP: usize = 231;
    #[cfg(not(stage))]
    pub(in crate::sys) const EXIT: usize = 60;
    #[cfg(not(stage))]
    pub(in crate::sys) const FUTEX: usize = 202;
    pub(in crate::sys) const SET_MEMPOLICY: usize = 238;
    pub(in crate::sys) const KEYCTL: usize = 250;
    pub(in crate::sys) const IOPRIO_SET: usize = 251;
    pub(in crate::sys) const OPENAT: usize = 257;
    pub(in crate::sys) const MKDIRAT: usize = 258;
    pub(in crate::sys) const MKNODAT: usize = 259;
    pub(in crate::sys) const FCHOWNAT: usize = 260;
    pub(in crate::sys) const UNLINKAT: usize = 263;
    pub(in crate::sys) const SYMLINKAT: usize = 266;
    pub(in crate::sys) const READLINKAT: usize = 267;
    pub(in crate::sys) const PPOLL: usize = 271;
    pub(in crate::sys) const UNSHARE: usize = 272;
    pub(in crate::sys) const DUP3: usize = 292;
    pub(in crate::sys) const PRLIMIT64: usize = 302;
    pub(in crate::sys) const SOCKET: usize = 41;
    pub(in crate::sys) const SETNS: usize = 308;
    pub(in crate::sys) const SCHED_SETATTR: usize = 314;
    pub(in crate::sys) const SECCOMP: usize = 317;
    pub(in crate::sys) const MEMFD_CREATE: usize = 319;
    pub(in crate::sys) const FSETXATTR: usize = 190;
    #[cfg(not(stage))]
    pub(in crate::sys) const FGETXATTR: usize = 193;
    #[cfg(not(stage))]
    pub(in crate::sys) const FREMOVEXATTR: usize = 199;
    #[cfg(not(stage))]
    pub(in crate::sys) const BPF: usize = 321;
    pub(in crate::sys) const CLONE: usize = 56;
    pub(in crate::sys) const EXECVE: usize = 59;
    pub(in crate::sys) const EXECVEAT: usize = 322;
    pub(in crate::sys) const STATX: usize = 332;
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
