//! The kernel's door: typed system calls, and nothing above them.
//!
//! One of the two rooms that may say `unsafe`. Every function here is one
//! system call (or one fixed pair of them) with Rust's types around it: no
//! policy, no retry, no path arithmetic. It serves the stage, where no libc
//! exists, and the launcher, where libc's wrappers may not be used.
//!
//! Kernel contract for all of them: arguments are plain integers or pointers to
//! live Rust values whose size is passed along or fixed by the ABI, so the
//! kernel reads and writes nothing but what the signature lends to it.
#![allow(unsafe_code)]

use core::ffi::CStr;

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod abi;
#[cfg(stage)]
mod entry;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(all(stage, target_arch = "aarch64"))]
use aarch64::{copy_bytes, fill_bytes};
#[cfg(target_arch = "aarch64")]
use aarch64::{nr, syscall, trap};
#[cfg(all(stage, target_arch = "x86_64"))]
use x86_64::{copy_bytes, fill_bytes};
#[cfg(target_arch = "x86_64")]
use x86_64::{nr, syscall, trap};

#[cfg(not(stage))]
pub use socket::netlink;
pub use socket::{loopback_up, send, send_fds};

use abi::{CapData, CapHeader, CloneArgs, MountAttr, OpenHow, Rlimit, SchedAttr, Statfs, Statx};

/// A file descriptor number. The stage owns its whole table and ends in an exec
/// that closes it, so numbers need no owner here.
pub type Fd = i32;

/// "No descriptor", and `AT_FDCWD` where a directory is asked for.
pub const NO_FD: Fd = -1;

/// An error number of the kernel, as in errno(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// The result of one system call.
pub type Sys<T> = Result<T, Errno>;

fn check(value: isize) -> Sys<usize> {
    if (-4095..0).contains(&value) { Err(Errno(-value as i32)) } else { Ok(value as usize) }
}

macro_rules! call {
    ($nr:ident) => { call!($nr, 0, 0, 0, 0, 0, 0) };
    ($nr:ident, $a:expr) => { call!($nr, $a, 0, 0, 0, 0, 0) };
    ($nr:ident, $a:expr, $b:expr) => { call!($nr, $a, $b, 0, 0, 0, 0) };
    ($nr:ident, $a:expr, $b:expr, $c:expr) => { call!($nr, $a, $b, $c, 0, 0, 0) };
    ($nr:ident, $a:expr, $b:expr, $c:expr, $d:expr) => { call!($nr, $a, $b, $c, $d, 0, 0) };
    ($nr:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => { call!($nr, $a, $b, $c, $d, $e, 0) };
    ($nr:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr) => {
        // SAFETY: see the head of this file; each caller below lends the kernel
        // only live values of the size that the call's man page states.
        check(unsafe {
            syscall(nr::$nr, $a as usize, $b as usize, $c as usize, $d as usize, $e as usize, $f as usize)
        })
    };
}

// ---- what the stage has no use for ---------------------------------------------

#[cfg(not(stage))]
pub mod block;
#[cfg(not(stage))]
pub mod bpf;
#[cfg(not(stage))]
pub mod copy;
#[cfg(not(stage))]
pub mod program;
pub mod signal;
mod socket;
pub mod terminal;
#[cfg(not(stage))]
pub mod thread;
pub mod xattr;

// ---- files -----------------------------------------------------------------

/// read(2)
pub fn read(fd: Fd, buffer: &mut [u8]) -> Sys<usize> {
    call!(READ, fd, buffer.as_mut_ptr(), buffer.len())
}

/// write(2)
pub fn write(fd: Fd, bytes: &[u8]) -> Sys<usize> {
    call!(WRITE, fd, bytes.as_ptr(), bytes.len())
}

/// close(2); an unopened number is no error worth telling.
pub fn close(fd: Fd) {
    let _ = call!(CLOSE, fd);
}

/// close_range(2), both ends included.
pub fn close_range(first: u32, last: u32, flags: u32) -> Sys<()> {
    call!(CLOSE_RANGE, first, last, flags).map(drop)
}

/// openat2(2). `how` must not ask for `O_CREAT` without a mode.
pub fn openat2(dir: Fd, path: &CStr, how: &OpenHow) -> Sys<Fd> {
    call!(OPENAT2, dir, path.as_ptr(), how as *const OpenHow, size_of::<OpenHow>())
        .map(|fd| fd as Fd)
}

/// openat(2) without creation: for paths of the host, never for a rootfs.
pub fn openat(dir: Fd, path: &CStr, flags: u32) -> Sys<Fd> {
    call!(OPENAT, dir, path.as_ptr(), flags, 0).map(|fd| fd as Fd)
}

/// statx(2) of the descriptor itself, with type, mode, owner, inode and device.
pub fn fstat(fd: Fd) -> Sys<Statx> {
    let mut stat = Statx::default();
    call!(
        STATX,
        fd,
        c"".as_ptr(),
        abi::AT_EMPTY_PATH,
        abi::STATX_BASIC_STATS | abi::STATX_MNT_ID | abi::STATX_MNT_ID_UNIQUE,
        &mut stat as *mut Statx
    )?;
    Ok(stat)
}

/// fstatfs(2): the magic number of the file system behind `fd`.
pub fn fs_magic(fd: Fd) -> Sys<u64> {
    let mut stat = Statfs::default();
    call!(FSTATFS, fd, &mut stat as *mut Statfs)?;
    Ok(stat.f_type as u64)
}

/// `MOUNT_ATTR_*` that hold for a file, of its mount or of its file system; all but
/// `_NOSYMFOLLOW`.
pub fn attributes(fd: Fd) -> Sys<u64> {
    let mut stat = Statfs::default();
    call!(FSTATFS, fd, &mut stat as *mut Statfs)?;
    // The first four have the same bits as in statfs(2).
    let has = |flag: u64, attribute: u64| if stat.f_flags & flag != 0 { attribute } else { 0 };
    let strict = stat.f_flags & (abi::ST_NOATIME | abi::ST_RELATIME) == 0;
    Ok(stat.f_flags & 0xf
        | has(abi::ST_NOATIME, abi::MOUNT_ATTR_NOATIME)
        | has(abi::ST_NODIRATIME, abi::MOUNT_ATTR_NODIRATIME)
        | if strict { abi::MOUNT_ATTR_STRICTATIME } else { 0 })
}

/// mkdirat(2)
pub fn mkdirat(dir: Fd, name: &CStr, mode: u32) -> Sys<()> {
    call!(MKDIRAT, dir, name.as_ptr(), mode).map(drop)
}

/// mknodat(2); fails with EEXIST on anything that is there, a symlink too.
pub fn mknodat(dir: Fd, name: &CStr, mode: u32, device: u64) -> Sys<()> {
    call!(MKNODAT, dir, name.as_ptr(), mode, device).map(drop)
}

/// symlinkat(2)
pub fn symlinkat(target: &CStr, dir: Fd, name: &CStr) -> Sys<()> {
    call!(SYMLINKAT, target.as_ptr(), dir, name.as_ptr()).map(drop)
}

/// unlinkat(2) of a file that is no directory.
pub fn unlinkat(dir: Fd, name: &CStr) -> Sys<()> {
    call!(UNLINKAT, dir, name.as_ptr(), 0).map(drop)
}

/// readlinkat(2); the result is not terminated.
pub fn readlinkat(dir: Fd, name: &CStr, buffer: &mut [u8]) -> Sys<usize> {
    call!(READLINKAT, dir, name.as_ptr(), buffer.as_mut_ptr(), buffer.len())
}

/// fchownat(2) of the descriptor itself.
pub fn chown_fd(fd: Fd, uid: u32, gid: u32) -> Sys<()> {
    call!(FCHOWNAT, fd, c"".as_ptr(), uid, gid, abi::AT_EMPTY_PATH).map(drop)
}

/// fchmod(2); not for `O_PATH` descriptors.
pub fn fchmod(fd: Fd, mode: u32) -> Sys<()> {
    call!(FCHMOD, fd, mode).map(drop)
}

/// faccessat2(2) with the effective ids (`AT_EACCESS`). KERNEL(<5.8): absent.
pub fn access(dir: Fd, path: &CStr, mode: u32) -> Sys<()> {
    call!(FACCESSAT2, dir, path.as_ptr(), mode, abi::AT_EACCESS).map(drop)
}

/// getdents64(2)
pub fn getdents(dir: Fd, buffer: &mut [u8]) -> Sys<usize> {
    call!(GETDENTS64, dir, buffer.as_mut_ptr(), buffer.len())
}

/// lseek(2) from the start.
pub fn rewind(fd: Fd) -> Sys<()> {
    call!(LSEEK, fd, 0, 0).map(drop)
}

/// sendfile(2) from the current place of `from`.
pub fn sendfile(to: Fd, from: Fd, most: usize) -> Sys<usize> {
    call!(SENDFILE, to, from, 0, most)
}

/// fcntl(2) with an integer argument.
pub fn fcntl(fd: Fd, command: u32, argument: u32) -> Sys<u32> {
    call!(FCNTL, fd, command, argument).map(|value| value as u32)
}

/// dup3(2)
pub fn dup3(from: Fd, to: Fd, flags: u32) -> Sys<()> {
    call!(DUP3, from, to, flags).map(drop)
}

/// ioctl(2) whose argument is an integer passed by value.
pub fn ioctl_value(fd: Fd, request: u32, value: u32) -> Sys<usize> {
    call!(IOCTL, fd, request, value)
}

/// ioctl(2) that reads or writes one 32-bit integer.
pub fn ioctl_u32(fd: Fd, request: u32, value: &mut u32) -> Sys<usize> {
    call!(IOCTL, fd, request, value as *mut u32)
}

/// memfd_create(2)
pub fn memfd_create(name: &CStr, flags: u32) -> Sys<Fd> {
    call!(MEMFD_CREATE, name.as_ptr(), flags).map(|fd| fd as Fd)
}

/// Maps `length` bytes of `fd` read-only for the rest of this process's life.
pub fn map(fd: Fd, length: usize) -> Sys<&'static [u8]> {
    let at = call!(MMAP, 0, length, abi::PROT_READ, abi::MAP_PRIVATE, fd, 0)?;
    // SAFETY: mmap(2) returned a mapping of `length` readable bytes that nothing
    // unmaps; MAP_PRIVATE of a file that its only writer has finished.
    Ok(unsafe { core::slice::from_raw_parts(at as *const u8, length) })
}

/// Fresh zeroed memory for the rest of this process's life.
pub fn map_words(count: usize) -> Sys<&'static mut [usize]> {
    let flags = abi::MAP_PRIVATE | abi::MAP_ANONYMOUS;
    let at = call!(
        MMAP,
        0,
        count * size_of::<usize>(),
        abi::PROT_READ | abi::PROT_WRITE,
        flags,
        NO_FD,
        0
    )?;
    // SAFETY: mmap(2) returned a fresh zeroed mapping of that many words, page
    // aligned, that nobody else knows of and nothing unmaps.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut usize, count) })
}

// ---- mounts ----------------------------------------------------------------

/// open_tree(2). KERNEL(<5.2): absent.
pub fn open_tree(dir: Fd, path: &CStr, flags: u32) -> Sys<Fd> {
    call!(OPEN_TREE, dir, path.as_ptr(), flags).map(|fd| fd as Fd)
}

/// move_mount(2) of the mount `from` onto the object `to`; both are descriptors.
pub fn move_mount(from: Fd, to: Fd) -> Sys<()> {
    let flags = abi::MOVE_MOUNT_F_EMPTY_PATH | abi::MOVE_MOUNT_T_EMPTY_PATH;
    call!(MOVE_MOUNT, from, c"".as_ptr(), to, c"".as_ptr(), flags).map(drop)
}

/// fsopen(2)
pub fn fsopen(fs_type: &CStr) -> Sys<Fd> {
    call!(FSOPEN, fs_type.as_ptr(), abi::FSOPEN_CLOEXEC).map(|fd| fd as Fd)
}

/// fsconfig(2) `FSCONFIG_SET_STRING`
pub fn fsconfig_string(fs: Fd, key: &CStr, value: &CStr) -> Sys<()> {
    call!(FSCONFIG, fs, abi::FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr(), 0).map(drop)
}

/// fsconfig(2) `FSCONFIG_SET_FLAG`
pub fn fsconfig_flag(fs: Fd, key: &CStr) -> Sys<()> {
    call!(FSCONFIG, fs, abi::FSCONFIG_SET_FLAG, key.as_ptr(), 0, 0).map(drop)
}

/// fsconfig(2) `FSCONFIG_CMD_CREATE`
pub fn fsconfig_create(fs: Fd) -> Sys<()> {
    call!(FSCONFIG, fs, abi::FSCONFIG_CMD_CREATE, 0, 0, 0).map(drop)
}

/// fsconfig(2) `FSCONFIG_CMD_RECONFIGURE`
pub fn fsconfig_reconfigure(fs: Fd) -> Sys<()> {
    call!(FSCONFIG, fs, abi::FSCONFIG_CMD_RECONFIGURE, 0, 0, 0).map(drop)
}

/// fsmount(2) with `MOUNT_ATTR_*`
pub fn fsmount(fs: Fd, attributes: u32) -> Sys<Fd> {
    call!(FSMOUNT, fs, abi::FSMOUNT_CLOEXEC, attributes).map(|fd| fd as Fd)
}

/// fspick(2) of the mount behind a descriptor.
pub fn fspick(fd: Fd) -> Sys<Fd> {
    call!(FSPICK, fd, c"".as_ptr(), abi::FSPICK_CLOEXEC | abi::FSPICK_EMPTY_PATH).map(|fd| fd as Fd)
}

/// mount_setattr(2) of a descriptor's mount, or a path below. KERNEL(<5.12): absent.
pub fn mount_setattr(dir: Fd, path: &CStr, flags: u32, attr: &MountAttr) -> Sys<()> {
    let size = size_of::<MountAttr>();
    call!(MOUNT_SETATTR, dir, path.as_ptr(), flags, attr as *const MountAttr, size).map(drop)
}

/// pivot_root(2)
pub fn pivot_root(new: &CStr, old: &CStr) -> Sys<()> {
    call!(PIVOT_ROOT, new.as_ptr(), old.as_ptr()).map(drop)
}

/// chroot(2)
pub fn chroot(path: &CStr) -> Sys<()> {
    call!(CHROOT, path.as_ptr()).map(drop)
}

/// umount2(2)
pub fn umount(path: &CStr, flags: u32) -> Sys<()> {
    call!(UMOUNT2, path.as_ptr(), flags).map(drop)
}

/// chdir(2)
pub fn chdir(path: &CStr) -> Sys<()> {
    call!(CHDIR, path.as_ptr()).map(drop)
}

/// fchdir(2)
pub fn fchdir(fd: Fd) -> Sys<()> {
    call!(FCHDIR, fd).map(drop)
}

/// getcwd(2); the kernel writes `(unreachable)` in front of a path outside the
/// root. Returns the length without the terminating NUL.
pub fn getcwd(buffer: &mut [u8]) -> Sys<usize> {
    call!(GETCWD, buffer.as_mut_ptr(), buffer.len()).map(|length| length - 1)
}

// ---- namespaces and processes -----------------------------------------------

/// setns(2)
pub fn setns(fd: Fd, kinds: u32) -> Sys<()> {
    call!(SETNS, fd, kinds).map(drop)
}

/// unshare(2)
pub fn unshare(flags: u32) -> Sys<()> {
    call!(UNSHARE, flags).map(drop)
}

/// clone3(2) in the manner of fork(2): the child gets a copy of the memory and
/// 0. Only for the stage, which has one thread and no locks.
pub(crate) fn fork(args: &CloneArgs) -> Sys<i32> {
    debug_assert!(args.stack == 0 && args.flags & u64::from(abi::CLONE_VM) == 0);
    call!(CLONE3, args as *const CloneArgs, size_of::<CloneArgs>()).map(|pid| pid as i32)
}

/// clone3(2), or clone(2) where that is unknown and can do it, with
/// `CLONE_VM|CLONE_VFORK`: runs `child(data)` on `stack` in the
/// same memory, and returns when it has executed a program or exited.
///
/// `child` must not return, allocate, take a lock or unwind; it sees `data` and
/// whatever that refers to, and may write to it: the caller is suspended.
pub fn vfork<T>(
    args: &mut CloneArgs,
    stack: &mut [u64],
    child: fn(&mut T) -> !,
    data: &mut T,
) -> Sys<i32> {
    struct Lent<'a, T>(fn(&mut T) -> !, &'a mut T);
    extern "C" fn start<T>(lent: *mut Lent<'_, T>) -> ! {
        // SAFETY: the frame below lends `lent` and is suspended until this
        // process is gone from its memory; nothing else refers to it.
        let Lent(child, data) = unsafe { &mut *lent };
        child(data)
    }
    #[cfg(target_arch = "aarch64")]
    use aarch64::clone_onto;
    #[cfg(target_arch = "x86_64")]
    use x86_64::clone_onto;

    args.flags |= u64::from(abi::CLONE_VM | abi::CLONE_VFORK);
    args.run_on(stack);
    let mut lent = Lent(child, data);
    let lent = core::ptr::from_mut(&mut lent) as usize;
    let clone = |nr, args| {
        // SAFETY: clone(2): with CLONE_VM|CLONE_VFORK the child runs on `stack`
        // alone, which this frame lends until the call returns; `lent` outlives the
        // child for the same reason; the parent's registers are its own.
        check(unsafe { clone_onto(nr, args, start::<T> as *const () as usize, lent) })
    };
    let all = [core::ptr::from_ref(args) as usize, size_of::<CloneArgs>(), 0];
    let pid = match (clone(nr::CLONE3, all), u32::try_from(args.flags)) {
        // A filter like Docker's has programs use the older call, whose flags it reads.
        // Where its signal is, one of ours would be.
        (Err(Errno(abi::ENOSYS)), Ok(flags)) if flags & 0xff == 0 => {
            let flags = u64::from(flags) | args.exit_signal;
            let top = args.stack + args.stack_size;
            clone(nr::CLONE, [flags as usize, top as usize, args.pidfd as usize])
        }
        (pid, _) => pid,
    };
    pid.map(|pid| pid as i32)
}

/// execveat(2) of an open file. `argv` and `envp` are NULL-terminated arrays of
/// pointers to C strings; returns only on failure.
pub fn execveat(fd: Fd, path: &CStr, argv: &[usize], envp: &[usize], flags: u32) -> Errno {
    if argv.last() != Some(&0) || envp.last() != Some(&0) {
        return Errno(abi::EFAULT);
    }
    match call!(EXECVEAT, fd, path.as_ptr(), argv.as_ptr(), envp.as_ptr(), flags) {
        Err(errno) => errno,
        Ok(_) => Errno(abi::EFAULT),
    }
}

/// execve(2), the one call of that family that every seccomp profile must allow.
/// `argv` and `envp` are as for [`execveat`]; returns only on failure.
pub fn execve(path: &CStr, argv: &[usize], envp: &[usize]) -> Errno {
    if argv.last() != Some(&0) || envp.last() != Some(&0) {
        return Errno(abi::EFAULT);
    }
    match call!(EXECVE, path.as_ptr(), argv.as_ptr(), envp.as_ptr()) {
        Err(errno) => errno,
        Ok(_) => Errno(abi::EFAULT),
    }
}

/// exit_group(2). Where a seccomp filter denies even that, an illegal
/// instruction: its signal ends process 1 of a pid namespace too.
pub fn exit(status: i32) -> ! {
    let _ = call!(EXIT_GROUP, status);
    trap()
}

/// getpid(2)
pub fn getpid() -> i32 {
    call!(GETPID).map_or(0, |pid| pid as i32)
}

/// getppid(2): 0 when the parent is outside our pid namespace.
pub fn getppid() -> i32 {
    call!(GETPPID).map_or(0, |pid| pid as i32)
}

/// setsid(2)
pub fn setsid() -> Sys<()> {
    call!(SETSID).map(drop)
}

/// prctl(2) with integer arguments.
pub fn prctl(option: u32, a: usize, b: usize, c: usize) -> Sys<usize> {
    call!(PRCTL, option, a, b, c, 0)
}

/// capset(2), version 3.
pub fn capset(data: &[CapData; 2]) -> Sys<()> {
    let header = CapHeader { version: abi::LINUX_CAPABILITY_VERSION_3, pid: 0 };
    call!(CAPSET, &header as *const CapHeader, data.as_ptr()).map(drop)
}

/// setresuid(2) of all three, of this thread alone.
pub fn setresuid(uid: u32) -> Sys<()> {
    call!(SETRESUID, uid, uid, uid).map(drop)
}

/// setresgid(2) of all three, of this thread alone.
pub fn setresgid(gid: u32) -> Sys<()> {
    call!(SETRESGID, gid, gid, gid).map(drop)
}

/// setgroups(2) of an array of 32-bit numbers in native byte order.
pub fn setgroups(groups: &[u8]) -> Sys<()> {
    call!(SETGROUPS, groups.len() / 4, groups.as_ptr()).map(drop)
}

/// umask(2)
pub fn umask(mask: u32) -> u32 {
    call!(UMASK, mask).map_or(0, |before| before as u32)
}

/// prlimit64(2) of a process, 0 being this one.
pub fn prlimit(pid: i32, resource: u32, limit: &Rlimit) -> Sys<()> {
    call!(PRLIMIT64, pid, resource, limit as *const Rlimit, 0).map(drop)
}

/// personality(2)
pub fn personality(persona: u32) -> Sys<()> {
    call!(PERSONALITY, persona).map(drop)
}

/// sched_setattr(2) of this thread.
pub fn sched_setattr(attr: &SchedAttr) -> Sys<()> {
    call!(SCHED_SETATTR, 0, attr as *const SchedAttr, 0).map(drop)
}

/// sched_setaffinity(2) of this thread; one bit per processor.
pub fn sched_setaffinity(mask: &[u8]) -> Sys<()> {
    call!(SCHED_SETAFFINITY, 0, mask.len(), mask.as_ptr()).map(drop)
}

/// ioprio_set(2) of this thread.
pub fn ioprio_set(priority: u32) -> Sys<()> {
    call!(IOPRIO_SET, 1, 0, priority).map(drop)
}

/// set_mempolicy(2); `nodes` is a bit mask in native words.
pub fn set_mempolicy(mode: u32, nodes: &[u8]) -> Sys<()> {
    // A mask of no bits is too long for the kernel, unless there is no mask.
    let mask = if nodes.is_empty() { core::ptr::null() } else { nodes.as_ptr() };
    call!(SET_MEMPOLICY, mode, mask, nodes.len() * 8).map(drop)
}

/// keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING`: the keyring's number; 0 if it was ours before.
pub fn join_session_keyring(name: Option<&CStr>) -> Sys<u32> {
    let name = name.map_or(core::ptr::null(), CStr::as_ptr);
    call!(KEYCTL, abi::KEYCTL_JOIN_SESSION_KEYRING, name).map(|key| key as u32)
}

/// keyctl(2) `KEYCTL_SETPERM`
pub fn set_key_permissions(key: u32, permissions: u32) -> Sys<()> {
    call!(KEYCTL, abi::KEYCTL_SETPERM, key, permissions).map(drop)
}

/// sethostname(2)
pub fn sethostname(name: &[u8]) -> Sys<()> {
    call!(SETHOSTNAME, name.as_ptr(), name.len()).map(drop)
}

/// setdomainname(2)
pub fn setdomainname(name: &[u8]) -> Sys<()> {
    call!(SETDOMAINNAME, name.as_ptr(), name.len()).map(drop)
}

/// seccomp(2): loads an array of `sock_filter`s; the listener, when `flags` asks for one.
pub fn seccomp(flags: u32, program: &[u8]) -> Sys<Fd> {
    let header = abi::SockFprog { count: (program.len() / 8) as u16, filter: program.as_ptr() };
    call!(SECCOMP, abi::SECCOMP_SET_MODE_FILTER, flags, &header as *const abi::SockFprog)
        .map(|fd| fd as Fd)
}

/// Every signal back to its default disposition, and none blocked.
pub fn reset_signals() {
    (1..=64).for_each(signal::reset);
    let none = 0u64;
    let _ = call!(RT_SIGPROCMASK, abi::SIG_SETMASK, &none as *const u64, 0, 8);
}

/// Blocks every signal for this thread; returns what was blocked before.
pub fn block_signals() -> u64 {
    let (all, mut before) = (u64::MAX, 0u64);
    let _ = call!(RT_SIGPROCMASK, abi::SIG_SETMASK, &all as *const u64, &mut before as *mut u64, 8);
    before
}

/// The counterpart of [`block_signals`].
pub fn restore_signals(before: u64) {
    let _ = call!(RT_SIGPROCMASK, abi::SIG_SETMASK, &before as *const u64, 0, 8);
}

/// pidfd_open(2). KERNEL(<5.3): absent.
pub fn pidfd_open(pid: i32) -> Sys<Fd> {
    call!(PIDFD_OPEN, pid, 0).map(|fd| fd as Fd)
}

/// pidfd_getfd(2): a copy of another process's descriptor. KERNEL(<5.6): absent.
pub fn pidfd_getfd(pidfd: Fd, fd: Fd) -> Sys<Fd> {
    call!(PIDFD_GETFD, pidfd, fd, 0).map(|fd| fd as Fd)
}

/// pidfd_send_signal(2)
pub fn pidfd_send_signal(pidfd: Fd, signal: u32) -> Sys<()> {
    call!(PIDFD_SEND_SIGNAL, pidfd, signal, 0, 0).map(drop)
}

/// wait4(2) for one child: its status as in wait(2).
pub fn wait(pid: i32) -> Sys<i32> {
    let mut status = 0i32;
    call!(WAIT4, pid, &mut status as *mut i32, abi::WALL, 0)?;
    Ok(status)
}

/// ppoll(2) for one descriptor to become readable: false when `milliseconds`
/// passed. A negative number waits for ever.
pub fn wait_readable(fd: Fd, milliseconds: i64) -> Sys<bool> {
    let mut poll = abi::PollFd { fd, events: abi::POLLIN, revents: 0 };
    // The kernel writes to it what is left.
    let mut time = [milliseconds / 1000, (milliseconds % 1000) * 1_000_000];
    let timeout = if milliseconds < 0 { core::ptr::null_mut() } else { time.as_mut_ptr() };
    call!(PPOLL, &mut poll as *mut abi::PollFd, 1, timeout, 0, 8).map(|ready| ready > 0)
}
