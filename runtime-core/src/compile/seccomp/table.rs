//! The names of system calls and their numbers on each ABI: kernel facts.
//!
//! Written from the UAPI headers of Linux 6.1 and the system call tables of the
//! kernels after it, up to number 471. A test compares what it can with the
//! headers of the machine it runs on. Nothing here knows a profile or BPF.
//!
//! A profile of an engine names some 400 calls and is compiled at each start of
//! a container, so a name is found by a hash that the compiler of this crate
//! computes, not by a map built at run time.

use std::ops::Range;

use super::abi::Abi;

/// The call does not exist on that ABI.
const NO: u16 = u16::MAX;

/// Slots for ordinary numbers; all are below it.
pub(super) const ORDINARY: usize = 1008;
/// Slots of an ABI: the ordinary numbers, then the 16 private ones of Arm.
pub(super) const SLOTS: usize = ORDINARY + 16;

/// From here on a code means a private number of Arm: 0x0f0000 + the low digit.
const PRIVATE: u16 = 0xf000;

/// With a number of `socketcall`.
const SOCKETCALL: u16 = 0x100;
/// With a number of `ipc`.
const IPC: u16 = 0x200;

/// A call of x86 that stands for others, named by its first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Multiplexer {
    Socketcall = 0,
    Ipc = 1,
}

impl Multiplexer {
    /// Its own slot on x86.
    pub(super) fn slot(self) -> usize {
        match self {
            Self::Socketcall => 102,
            Self::Ipc => 117,
        }
    }
}

/// Row number of a call in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call(u16);

impl Call {
    /// The call of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let mut at = hash(name.as_bytes());
        loop {
            let row = INDEX[at];
            if row == NO {
                return None;
            }
            if NAMES[range(usize::from(row))] == *name.as_bytes() {
                return Some(Self(row));
            }
            at = (at + 1) % INDEX_SIZE;
        }
    }

    /// Its slot on an ABI, below [`SLOTS`].
    pub(super) fn slot(self, abi: Abi) -> Option<usize> {
        match NUMBERS[usize::from(self.0)][abi as usize] {
            NO => None,
            code if code >= PRIVATE => Some(ORDINARY + usize::from(code - PRIVATE)),
            code => Some(usize::from(code)),
        }
    }

    /// The multiplexer of x86 that performs the call, too, and the call's number
    /// there (linux/net.h, linux/ipc.h), below 32.
    pub(super) fn behind(self) -> Option<(Multiplexer, usize)> {
        match NUMBERS[usize::from(self.0)][6] {
            NO => None,
            code if code & IPC != 0 => Some((Multiplexer::Ipc, usize::from(code & !IPC))),
            code => Some((Multiplexer::Socketcall, usize::from(code & !SOCKETCALL))),
        }
    }
}

/// FNV-1a, folded to an index.
const fn hash(name: &[u8]) -> usize {
    let mut sum: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() {
        sum = (sum ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (sum ^ (sum >> 15)) as usize % INDEX_SIZE
}

/// Twice the rows: most names are found, or not, at the first looks.
const INDEX_SIZE: usize = 1024;

/// Hash of a name → row, open addressing.
static INDEX: [u16; INDEX_SIZE] = {
    let mut index = [NO; INDEX_SIZE];
    let mut row = 0;
    while row < CALLS.len() {
        let mut at = hash(CALLS[row].0.as_bytes());
        while index[at] != NO {
            at = (at + 1) % INDEX_SIZE;
        }
        index[at] = row as u16;
        row += 1;
    }
    index
};

// `CALLS` is for people and for the compiler of this crate; what gets into the
// program are the tables below. They hold no pointers, so that nothing has to be
// relocated at the start of each process.

/// Columns of a row.
static NUMBERS: [[u16; 7]; CALLS.len()] = {
    let mut numbers = [[NO; 7]; CALLS.len()];
    let mut row = 0;
    while row < CALLS.len() {
        numbers[row] = CALLS[row].1;
        row += 1;
    }
    numbers
};

/// Where the name of a row begins in [`NAMES`], and where the last one ends.
static STARTS: [u16; CALLS.len() + 1] = {
    let mut starts = [0; CALLS.len() + 1];
    let mut row = 0;
    while row < CALLS.len() {
        starts[row + 1] = starts[row] + CALLS[row].0.len() as u16;
        row += 1;
    }
    starts
};

/// All names, one after the other.
static NAMES: [u8; STARTS[CALLS.len()] as usize] = {
    let mut names = [0; STARTS[CALLS.len()] as usize];
    let (mut row, mut at) = (0, 0);
    while row < CALLS.len() {
        let name = CALLS[row].0.as_bytes();
        let mut byte = 0;
        while byte < name.len() {
            names[at] = name[byte];
            (at, byte) = (at + 1, byte + 1);
        }
        row += 1;
    }
    names
};

/// Where the name of a row is in [`NAMES`].
fn range(row: usize) -> Range<usize> {
    STARTS[row].into()..STARTS[row + 1].into()
}

/// A name and its numbers on x86_64, x86, x32 (without bit 30), aarch64, arm and
/// riscv64, in the order of [`Abi`]; then what x86 also has it behind.
type Row = (&'static str, [u16; 7]);

#[rustfmt::skip]
const CALLS: [Row; 488] = [
    ("_llseek", [NO, 140, NO, NO, 140, NO, NO]),
    ("_newselect", [NO, 142, NO, NO, 142, NO, NO]),
    ("_sysctl", [156, 149, NO, NO, 149, NO, NO]),
    ("accept", [43, NO, 43, 202, 285, 202, SOCKETCALL | 5]),
    ("accept4", [288, 364, 288, 242, 366, 242, SOCKETCALL | 18]),
    ("access", [21, 33, 21, NO, 33, NO, NO]),
    ("acct", [163, 51, 163, 89, 51, 89, NO]),
    ("add_key", [248, 286, 248, 217, 309, 217, NO]),
    ("adjtimex", [159, 124, 159, 171, 124, 171, NO]),
    ("afs_syscall", [183, 137, 183, NO, NO, NO, NO]),
    ("alarm", [37, 27, 37, NO, NO, NO, NO]),
    ("arch_prctl", [158, 384, 158, NO, NO, NO, NO]),
    ("arm_fadvise64_64", [NO, NO, NO, NO, 270, NO, NO]),
    ("arm_sync_file_range", [NO, NO, NO, NO, 341, NO, NO]),
    ("bdflush", [NO, 134, NO, NO, 134, NO, NO]),
    ("bind", [49, 361, 49, 200, 282, 200, SOCKETCALL | 2]),
    ("bpf", [321, 357, 321, 280, 386, 280, NO]),
    ("break", [NO, 17, NO, NO, NO, NO, NO]),
    ("breakpoint", [NO, NO, NO, NO, 0xf001, NO, NO]),
    ("brk", [12, 45, 12, 214, 45, 214, NO]),
    ("cacheflush", [NO, NO, NO, NO, 0xf002, NO, NO]),
    ("cachestat", [451, 451, 451, 451, 451, 451, NO]),
    ("capget", [125, 184, 125, 90, 184, 90, NO]),
    ("capset", [126, 185, 126, 91, 185, 91, NO]),
    ("chdir", [80, 12, 80, 49, 12, 49, NO]),
    ("chmod", [90, 15, 90, NO, 15, NO, NO]),
    ("chown", [92, 182, 92, NO, 182, NO, NO]),
    ("chown32", [NO, 212, NO, NO, 212, NO, NO]),
    ("chroot", [161, 61, 161, 51, 61, 51, NO]),
    ("clock_adjtime", [305, 343, 305, 266, 372, 266, NO]),
    ("clock_adjtime64", [NO, 405, NO, NO, 405, NO, NO]),
    ("clock_getres", [229, 266, 229, 114, 264, 114, NO]),
    ("clock_getres_time64", [NO, 406, NO, NO, 406, NO, NO]),
    ("clock_gettime", [228, 265, 228, 113, 263, 113, NO]),
    ("clock_gettime64", [NO, 403, NO, NO, 403, NO, NO]),
    ("clock_nanosleep", [230, 267, 230, 115, 265, 115, NO]),
    ("clock_nanosleep_time64", [NO, 407, NO, NO, 407, NO, NO]),
    ("clock_settime", [227, 264, 227, 112, 262, 112, NO]),
    ("clock_settime64", [NO, 404, NO, NO, 404, NO, NO]),
    ("clone", [56, 120, 56, 220, 120, 220, NO]),
    ("clone3", [435, 435, 435, 435, 435, 435, NO]),
    ("close", [3, 6, 3, 57, 6, 57, NO]),
    ("close_range", [436, 436, 436, 436, 436, 436, NO]),
    ("connect", [42, 362, 42, 203, 283, 203, SOCKETCALL | 3]),
    ("copy_file_range", [326, 377, 326, 285, 391, 285, NO]),
    ("creat", [85, 8, 85, NO, 8, NO, NO]),
    ("create_module", [174, 127, NO, NO, NO, NO, NO]),
    ("delete_module", [176, 129, 176, 106, 129, 106, NO]),
    ("dup", [32, 41, 32, 23, 41, 23, NO]),
    ("dup2", [33, 63, 33, NO, 63, NO, NO]),
    ("dup3", [292, 330, 292, 24, 358, 24, NO]),
    ("epoll_create", [213, 254, 213, NO, 250, NO, NO]),
    ("epoll_create1", [291, 329, 291, 20, 357, 20, NO]),
    ("epoll_ctl", [233, 255, 233, 21, 251, 21, NO]),
    ("epoll_ctl_old", [214, NO, NO, NO, NO, NO, NO]),
    ("epoll_pwait", [281, 319, 281, 22, 346, 22, NO]),
    ("epoll_pwait2", [441, 441, 441, 441, 441, 441, NO]),
    ("epoll_wait", [232, 256, 232, NO, 252, NO, NO]),
    ("epoll_wait_old", [215, NO, NO, NO, NO, NO, NO]),
    ("eventfd", [284, 323, 284, NO, 351, NO, NO]),
    ("eventfd2", [290, 328, 290, 19, 356, 19, NO]),
    ("execve", [59, 11, 520, 221, 11, 221, NO]),
    ("execveat", [322, 358, 545, 281, 387, 281, NO]),
    ("exit", [60, 1, 60, 93, 1, 93, NO]),
    ("exit_group", [231, 252, 231, 94, 248, 94, NO]),
    ("faccessat", [269, 307, 269, 48, 334, 48, NO]),
    ("faccessat2", [439, 439, 439, 439, 439, 439, NO]),
    ("fadvise64", [221, 250, 221, 223, NO, 223, NO]),
    ("fadvise64_64", [NO, 272, NO, NO, NO, NO, NO]),
    ("fallocate", [285, 324, 285, 47, 352, 47, NO]),
    ("fanotify_init", [300, 338, 300, 262, 367, 262, NO]),
    ("fanotify_mark", [301, 339, 301, 263, 368, 263, NO]),
    ("fchdir", [81, 133, 81, 50, 133, 50, NO]),
    ("fchmod", [91, 94, 91, 52, 94, 52, NO]),
    ("fchmodat", [268, 306, 268, 53, 333, 53, NO]),
    ("fchmodat2", [452, 452, 452, 452, 452, 452, NO]),
    ("fchown", [93, 95, 93, 55, 95, 55, NO]),
    ("fchown32", [NO, 207, NO, NO, 207, NO, NO]),
    ("fchownat", [260, 298, 260, 54, 325, 54, NO]),
    ("fcntl", [72, 55, 72, 25, 55, 25, NO]),
    ("fcntl64", [NO, 221, NO, NO, 221, NO, NO]),
    ("fdatasync", [75, 148, 75, 83, 148, 83, NO]),
    ("fgetxattr", [193, 231, 193, 10, 231, 10, NO]),
    ("file_getattr", [468, 468, 468, 468, 468, 468, NO]),
    ("file_setattr", [469, 469, 469, 469, 469, 469, NO]),
    ("finit_module", [313, 350, 313, 273, 379, 273, NO]),
    ("flistxattr", [196, 234, 196, 13, 234, 13, NO]),
    ("flock", [73, 143, 73, 32, 143, 32, NO]),
    ("fork", [57, 2, 57, NO, 2, NO, NO]),
    ("fremovexattr", [199, 237, 199, 16, 237, 16, NO]),
    ("fsconfig", [431, 431, 431, 431, 431, 431, NO]),
    ("fsetxattr", [190, 228, 190, 7, 228, 7, NO]),
    ("fsmount", [432, 432, 432, 432, 432, 432, NO]),
    ("fsopen", [430, 430, 430, 430, 430, 430, NO]),
    ("fspick", [433, 433, 433, 433, 433, 433, NO]),
    ("fstat", [5, 108, 5, 80, 108, 80, NO]),
    ("fstat64", [NO, 197, NO, NO, 197, NO, NO]),
    ("fstatat64", [NO, 300, NO, NO, 327, NO, NO]),
    ("fstatfs", [138, 100, 138, 44, 100, 44, NO]),
    ("fstatfs64", [NO, 269, NO, NO, 267, NO, NO]),
    ("fsync", [74, 118, 74, 82, 118, 82, NO]),
    ("ftime", [NO, 35, NO, NO, NO, NO, NO]),
    ("ftruncate", [77, 93, 77, 46, 93, 46, NO]),
    ("ftruncate64", [NO, 194, NO, NO, 194, NO, NO]),
    ("futex", [202, 240, 202, 98, 240, 98, NO]),
    ("futex_requeue", [456, 456, 456, 456, 456, 456, NO]),
    ("futex_time64", [NO, 422, NO, NO, 422, NO, NO]),
    ("futex_wait", [455, 455, 455, 455, 455, 455, NO]),
    ("futex_waitv", [449, 449, 449, 449, 449, 449, NO]),
    ("futex_wake", [454, 454, 454, 454, 454, 454, NO]),
    ("futimesat", [261, 299, 261, NO, 326, NO, NO]),
    ("get_kernel_syms", [177, 130, NO, NO, NO, NO, NO]),
    ("get_mempolicy", [239, 275, 239, 236, 320, 236, NO]),
    ("get_robust_list", [274, 312, 531, 100, 339, 100, NO]),
    ("get_thread_area", [211, 244, NO, NO, NO, NO, NO]),
    ("get_tls", [NO, NO, NO, NO, 0xf006, NO, NO]),
    ("getcpu", [309, 318, 309, 168, 345, 168, NO]),
    ("getcwd", [79, 183, 79, 17, 183, 17, NO]),
    ("getdents", [78, 141, 78, NO, 141, NO, NO]),
    ("getdents64", [217, 220, 217, 61, 217, 61, NO]),
    ("getegid", [108, 50, 108, 177, 50, 177, NO]),
    ("getegid32", [NO, 202, NO, NO, 202, NO, NO]),
    ("geteuid", [107, 49, 107, 175, 49, 175, NO]),
    ("geteuid32", [NO, 201, NO, NO, 201, NO, NO]),
    ("getgid", [104, 47, 104, 176, 47, 176, NO]),
    ("getgid32", [NO, 200, NO, NO, 200, NO, NO]),
    ("getgroups", [115, 80, 115, 158, 80, 158, NO]),
    ("getgroups32", [NO, 205, NO, NO, 205, NO, NO]),
    ("getitimer", [36, 105, 36, 102, 105, 102, NO]),
    ("getpeername", [52, 368, 52, 205, 287, 205, SOCKETCALL | 7]),
    ("getpgid", [121, 132, 121, 155, 132, 155, NO]),
    ("getpgrp", [111, 65, 111, NO, 65, NO, NO]),
    ("getpid", [39, 20, 39, 172, 20, 172, NO]),
    ("getpmsg", [181, 188, 181, NO, NO, NO, NO]),
    ("getppid", [110, 64, 110, 173, 64, 173, NO]),
    ("getpriority", [140, 96, 140, 141, 96, 141, NO]),
    ("getrandom", [318, 355, 318, 278, 384, 278, NO]),
    ("getresgid", [120, 171, 120, 150, 171, 150, NO]),
    ("getresgid32", [NO, 211, NO, NO, 211, NO, NO]),
    ("getresuid", [118, 165, 118, 148, 165, 148, NO]),
    ("getresuid32", [NO, 209, NO, NO, 209, NO, NO]),
    ("getrlimit", [97, 76, 97, 163, NO, 163, NO]),
    ("getrusage", [98, 77, 98, 165, 77, 165, NO]),
    ("getsid", [124, 147, 124, 156, 147, 156, NO]),
    ("getsockname", [51, 367, 51, 204, 286, 204, SOCKETCALL | 6]),
    ("getsockopt", [55, 365, 542, 209, 295, 209, SOCKETCALL | 15]),
    ("gettid", [186, 224, 186, 178, 224, 178, NO]),
    ("gettimeofday", [96, 78, 96, 169, 78, 169, NO]),
    ("getuid", [102, 24, 102, 174, 24, 174, NO]),
    ("getuid32", [NO, 199, NO, NO, 199, NO, NO]),
    ("getxattr", [191, 229, 191, 8, 229, 8, NO]),
    ("getxattrat", [464, 464, 464, 464, 464, 464, NO]),
    ("gtty", [NO, 32, NO, NO, NO, NO, NO]),
    ("idle", [NO, 112, NO, NO, NO, NO, NO]),
    ("init_module", [175, 128, 175, 105, 128, 105, NO]),
    ("inotify_add_watch", [254, 292, 254, 27, 317, 27, NO]),
    ("inotify_init", [253, 291, 253, NO, 316, NO, NO]),
    ("inotify_init1", [294, 332, 294, 26, 360, 26, NO]),
    ("inotify_rm_watch", [255, 293, 255, 28, 318, 28, NO]),
    ("io_cancel", [210, 249, 210, 3, 247, 3, NO]),
    ("io_destroy", [207, 246, 207, 1, 244, 1, NO]),
    ("io_getevents", [208, 247, 208, 4, 245, 4, NO]),
    ("io_pgetevents", [333, 385, 333, 292, 399, 292, NO]),
    ("io_pgetevents_time64", [NO, 416, NO, NO, 416, NO, NO]),
    ("io_setup", [206, 245, 543, 0, 243, 0, NO]),
    ("io_submit", [209, 248, 544, 2, 246, 2, NO]),
    ("io_uring_enter", [426, 426, 426, 426, 426, 426, NO]),
    ("io_uring_register", [427, 427, 427, 427, 427, 427, NO]),
    ("io_uring_setup", [425, 425, 425, 425, 425, 425, NO]),
    ("ioctl", [16, 54, 514, 29, 54, 29, NO]),
    ("ioperm", [173, 101, 173, NO, NO, NO, NO]),
    ("iopl", [172, 110, 172, NO, NO, NO, NO]),
    ("ioprio_get", [252, 290, 252, 31, 315, 31, NO]),
    ("ioprio_set", [251, 289, 251, 30, 314, 30, NO]),
    ("ipc", [NO, 117, NO, NO, NO, NO, NO]),
    ("kcmp", [312, 349, 312, 272, 378, 272, NO]),
    ("kexec_file_load", [320, NO, 320, 294, 401, 294, NO]),
    ("kexec_load", [246, 283, 528, 104, 347, 104, NO]),
    ("keyctl", [250, 288, 250, 219, 311, 219, NO]),
    ("kill", [62, 37, 62, 129, 37, 129, NO]),
    ("landlock_add_rule", [445, 445, 445, 445, 445, 445, NO]),
    ("landlock_create_ruleset", [444, 444, 444, 444, 444, 444, NO]),
    ("landlock_restrict_self", [446, 446, 446, 446, 446, 446, NO]),
    ("lchown", [94, 16, 94, NO, 16, NO, NO]),
    ("lchown32", [NO, 198, NO, NO, 198, NO, NO]),
    ("lgetxattr", [192, 230, 192, 9, 230, 9, NO]),
    ("link", [86, 9, 86, NO, 9, NO, NO]),
    ("linkat", [265, 303, 265, 37, 330, 37, NO]),
    ("listen", [50, 363, 50, 201, 284, 201, SOCKETCALL | 4]),
    ("listmount", [458, 458, 458, 458, 458, 458, NO]),
    ("listns", [470, 470, 470, 470, 470, 470, NO]),
    ("listxattr", [194, 232, 194, 11, 232, 11, NO]),
    ("listxattrat", [465, 465, 465, 465, 465, 465, NO]),
    ("llistxattr", [195, 233, 195, 12, 233, 12, NO]),
    ("lock", [NO, 53, NO, NO, NO, NO, NO]),
    ("lookup_dcookie", [212, 253, 212, 18, 249, 18, NO]),
    ("lremovexattr", [198, 236, 198, 15, 236, 15, NO]),
    ("lseek", [8, 19, 8, 62, 19, 62, NO]),
    ("lsetxattr", [189, 227, 189, 6, 227, 6, NO]),
    ("lsm_get_self_attr", [459, 459, 459, 459, 459, 459, NO]),
    ("lsm_list_modules", [461, 461, 461, 461, 461, 461, NO]),
    ("lsm_set_self_attr", [460, 460, 460, 460, 460, 460, NO]),
    ("lstat", [6, 107, 6, NO, 107, NO, NO]),
    ("lstat64", [NO, 196, NO, NO, 196, NO, NO]),
    ("madvise", [28, 219, 28, 233, 220, 233, NO]),
    ("map_shadow_stack", [453, 453, 453, 453, 453, 453, NO]),
    ("mbind", [237, 274, 237, 235, 319, 235, NO]),
    ("membarrier", [324, 375, 324, 283, 389, 283, NO]),
    ("memfd_create", [319, 356, 319, 279, 385, 279, NO]),
    ("memfd_secret", [447, 447, 447, 447, NO, 447, NO]),
    ("migrate_pages", [256, 294, 256, 238, 400, 238, NO]),
    ("mincore", [27, 218, 27, 232, 219, 232, NO]),
    ("mkdir", [83, 39, 83, NO, 39, NO, NO]),
    ("mkdirat", [258, 296, 258, 34, 323, 34, NO]),
    ("mknod", [133, 14, 133, NO, 14, NO, NO]),
    ("mknodat", [259, 297, 259, 33, 324, 33, NO]),
    ("mlock", [149, 150, 149, 228, 150, 228, NO]),
    ("mlock2", [325, 376, 325, 284, 390, 284, NO]),
    ("mlockall", [151, 152, 151, 230, 152, 230, NO]),
    ("mmap", [9, 90, 9, 222, NO, 222, NO]),
    ("mmap2", [NO, 192, NO, NO, 192, NO, NO]),
    ("modify_ldt", [154, 123, 154, NO, NO, NO, NO]),
    ("mount", [165, 21, 165, 40, 21, 40, NO]),
    ("mount_setattr", [442, 442, 442, 442, 442, 442, NO]),
    ("move_mount", [429, 429, 429, 429, 429, 429, NO]),
    ("move_pages", [279, 317, 533, 239, 344, 239, NO]),
    ("mprotect", [10, 125, 10, 226, 125, 226, NO]),
    ("mpx", [NO, 56, NO, NO, NO, NO, NO]),
    ("mq_getsetattr", [245, 282, 245, 185, 279, 185, NO]),
    ("mq_notify", [244, 281, 527, 184, 278, 184, NO]),
    ("mq_open", [240, 277, 240, 180, 274, 180, NO]),
    ("mq_timedreceive", [243, 280, 243, 183, 277, 183, NO]),
    ("mq_timedreceive_time64", [NO, 419, NO, NO, 419, NO, NO]),
    ("mq_timedsend", [242, 279, 242, 182, 276, 182, NO]),
    ("mq_timedsend_time64", [NO, 418, NO, NO, 418, NO, NO]),
    ("mq_unlink", [241, 278, 241, 181, 275, 181, NO]),
    ("mremap", [25, 163, 25, 216, 163, 216, NO]),
    ("mseal", [462, 462, 462, 462, 462, 462, NO]),
    ("msgctl", [71, 402, 71, 187, 304, 187, IPC | 14]),
    ("msgget", [68, 399, 68, 186, 303, 186, IPC | 13]),
    ("msgrcv", [70, 401, 70, 188, 302, 188, IPC | 12]),
    ("msgsnd", [69, 400, 69, 189, 301, 189, IPC | 11]),
    ("msync", [26, 144, 26, 227, 144, 227, NO]),
    ("munlock", [150, 151, 150, 229, 151, 229, NO]),
    ("munlockall", [152, 153, 152, 231, 153, 231, NO]),
    ("munmap", [11, 91, 11, 215, 91, 215, NO]),
    ("name_to_handle_at", [303, 341, 303, 264, 370, 264, NO]),
    ("nanosleep", [35, 162, 35, 101, 162, 101, NO]),
    ("newfstatat", [262, NO, 262, 79, NO, 79, NO]),
    ("nfsservctl", [180, 169, NO, 42, 169, 42, NO]),
    ("nice", [NO, 34, NO, NO, 34, NO, NO]),
    ("oldfstat", [NO, 28, NO, NO, NO, NO, NO]),
    ("oldlstat", [NO, 84, NO, NO, NO, NO, NO]),
    ("oldolduname", [NO, 59, NO, NO, NO, NO, NO]),
    ("oldstat", [NO, 18, NO, NO, NO, NO, NO]),
    ("olduname", [NO, 109, NO, NO, NO, NO, NO]),
    ("open", [2, 5, 2, NO, 5, NO, NO]),
    ("open_by_handle_at", [304, 342, 304, 265, 371, 265, NO]),
    ("open_tree", [428, 428, 428, 428, 428, 428, NO]),
    ("open_tree_attr", [467, 467, 467, 467, 467, 467, NO]),
    ("openat", [257, 295, 257, 56, 322, 56, NO]),
    ("openat2", [437, 437, 437, 437, 437, 437, NO]),
    ("pause", [34, 29, 34, NO, 29, NO, NO]),
    ("pciconfig_iobase", [NO, NO, NO, NO, 271, NO, NO]),
    ("pciconfig_read", [NO, NO, NO, NO, 272, NO, NO]),
    ("pciconfig_write", [NO, NO, NO, NO, 273, NO, NO]),
    ("perf_event_open", [298, 336, 298, 241, 364, 241, NO]),
    ("personality", [135, 136, 135, 92, 136, 92, NO]),
    ("pidfd_getfd", [438, 438, 438, 438, 438, 438, NO]),
    ("pidfd_open", [434, 434, 434, 434, 434, 434, NO]),
    ("pidfd_send_signal", [424, 424, 424, 424, 424, 424, NO]),
    ("pipe", [22, 42, 22, NO, 42, NO, NO]),
    ("pipe2", [293, 331, 293, 59, 359, 59, NO]),
    ("pivot_root", [155, 217, 155, 41, 218, 41, NO]),
    ("pkey_alloc", [330, 381, 330, 289, 395, 289, NO]),
    ("pkey_free", [331, 382, 331, 290, 396, 290, NO]),
    ("pkey_mprotect", [329, 380, 329, 288, 394, 288, NO]),
    ("poll", [7, 168, 7, NO, 168, NO, NO]),
    ("ppoll", [271, 309, 271, 73, 336, 73, NO]),
    ("ppoll_time64", [NO, 414, NO, NO, 414, NO, NO]),
    ("prctl", [157, 172, 157, 167, 172, 167, NO]),
    ("pread64", [17, 180, 17, 67, 180, 67, NO]),
    ("preadv", [295, 333, 534, 69, 361, 69, NO]),
    ("preadv2", [327, 378, 546, 286, 392, 286, NO]),
    ("prlimit64", [302, 340, 302, 261, 369, 261, NO]),
    ("process_madvise", [440, 440, 440, 440, 440, 440, NO]),
    ("process_mrelease", [448, 448, 448, 448, 448, 448, NO]),
    ("process_vm_readv", [310, 347, 539, 270, 376, 270, NO]),
    ("process_vm_writev", [311, 348, 540, 271, 377, 271, NO]),
    ("prof", [NO, 44, NO, NO, NO, NO, NO]),
    ("profil", [NO, 98, NO, NO, NO, NO, NO]),
    ("pselect6", [270, 308, 270, 72, 335, 72, NO]),
    ("pselect6_time64", [NO, 413, NO, NO, 413, NO, NO]),
    ("ptrace", [101, 26, 521, 117, 26, 117, NO]),
    ("putpmsg", [182, 189, 182, NO, NO, NO, NO]),
    ("pwrite64", [18, 181, 18, 68, 181, 68, NO]),
    ("pwritev", [296, 334, 535, 70, 362, 70, NO]),
    ("pwritev2", [328, 379, 547, 287, 393, 287, NO]),
    ("query_module", [178, 167, NO, NO, NO, NO, NO]),
    ("quotactl", [179, 131, 179, 60, 131, 60, NO]),
    ("quotactl_fd", [443, 443, 443, 443, 443, 443, NO]),
    ("read", [0, 3, 0, 63, 3, 63, NO]),
    ("readahead", [187, 225, 187, 213, 225, 213, NO]),
    ("readdir", [NO, 89, NO, NO, NO, NO, NO]),
    ("readlink", [89, 85, 89, NO, 85, NO, NO]),
    ("readlinkat", [267, 305, 267, 78, 332, 78, NO]),
    ("readv", [19, 145, 515, 65, 145, 65, NO]),
    ("reboot", [169, 88, 169, 142, 88, 142, NO]),
    ("recv", [NO, NO, NO, NO, 291, NO, SOCKETCALL | 10]),
    ("recvfrom", [45, 371, 517, 207, 292, 207, SOCKETCALL | 12]),
    ("recvmmsg", [299, 337, 537, 243, 365, 243, SOCKETCALL | 19]),
    ("recvmmsg_time64", [NO, 417, NO, NO, 417, NO, NO]),
    ("recvmsg", [47, 372, 519, 212, 297, 212, SOCKETCALL | 17]),
    ("remap_file_pages", [216, 257, 216, 234, 253, 234, NO]),
    ("removexattr", [197, 235, 197, 14, 235, 14, NO]),
    ("removexattrat", [466, 466, 466, 466, 466, 466, NO]),
    ("rename", [82, 38, 82, NO, 38, NO, NO]),
    ("renameat", [264, 302, 264, 38, 329, NO, NO]),
    ("renameat2", [316, 353, 316, 276, 382, 276, NO]),
    ("request_key", [249, 287, 249, 218, 310, 218, NO]),
    ("restart_syscall", [219, 0, 219, 128, 0, 128, NO]),
    ("riscv_flush_icache", [NO, NO, NO, NO, NO, 259, NO]),
    ("riscv_hwprobe", [NO, NO, NO, NO, NO, 258, NO]),
    ("rmdir", [84, 40, 84, NO, 40, NO, NO]),
    ("rseq", [334, 386, 334, 293, 398, 293, NO]),
    ("rseq_slice_yield", [471, 471, 471, 471, 471, 471, NO]),
    ("rt_sigaction", [13, 174, 512, 134, 174, 134, NO]),
    ("rt_sigpending", [127, 176, 522, 136, 176, 136, NO]),
    ("rt_sigprocmask", [14, 175, 14, 135, 175, 135, NO]),
    ("rt_sigqueueinfo", [129, 178, 524, 138, 178, 138, NO]),
    ("rt_sigreturn", [15, 173, 513, 139, 173, 139, NO]),
    ("rt_sigsuspend", [130, 179, 130, 133, 179, 133, NO]),
    ("rt_sigtimedwait", [128, 177, 523, 137, 177, 137, NO]),
    ("rt_sigtimedwait_time64", [NO, 421, NO, NO, 421, NO, NO]),
    ("rt_tgsigqueueinfo", [297, 335, 536, 240, 363, 240, NO]),
    ("sched_get_priority_max", [146, 159, 146, 125, 159, 125, NO]),
    ("sched_get_priority_min", [147, 160, 147, 126, 160, 126, NO]),
    ("sched_getaffinity", [204, 242, 204, 123, 242, 123, NO]),
    ("sched_getattr", [315, 352, 315, 275, 381, 275, NO]),
    ("sched_getparam", [143, 155, 143, 121, 155, 121, NO]),
    ("sched_getscheduler", [145, 157, 145, 120, 157, 120, NO]),
    ("sched_rr_get_interval", [148, 161, 148, 127, 161, 127, NO]),
    ("sched_rr_get_interval_time64", [NO, 423, NO, NO, 423, NO, NO]),
    ("sched_setaffinity", [203, 241, 203, 122, 241, 122, NO]),
    ("sched_setattr", [314, 351, 314, 274, 380, 274, NO]),
    ("sched_setparam", [142, 154, 142, 118, 154, 118, NO]),
    ("sched_setscheduler", [144, 156, 144, 119, 156, 119, NO]),
    ("sched_yield", [24, 158, 24, 124, 158, 124, NO]),
    ("seccomp", [317, 354, 317, 277, 383, 277, NO]),
    ("security", [185, NO, 185, NO, NO, NO, NO]),
    ("select", [23, 82, 23, NO, NO, NO, NO]),
    ("semctl", [66, 394, 66, 191, 300, 191, IPC | 3]),
    ("semget", [64, 393, 64, 190, 299, 190, IPC | 2]),
    ("semop", [65, NO, 65, 193, 298, 193, IPC | 1]),
    ("semtimedop", [220, NO, 220, 192, 312, 192, IPC | 4]),
    ("semtimedop_time64", [NO, 420, NO, NO, 420, NO, NO]),
    ("send", [NO, NO, NO, NO, 289, NO, SOCKETCALL | 9]),
    ("sendfile", [40, 187, 40, 71, 187, 71, NO]),
    ("sendfile64", [NO, 239, NO, NO, 239, NO, NO]),
    ("sendmmsg", [307, 345, 538, 269, 374, 269, SOCKETCALL | 20]),
    ("sendmsg", [46, 370, 518, 211, 296, 211, SOCKETCALL | 16]),
    ("sendto", [44, 369, 44, 206, 290, 206, SOCKETCALL | 11]),
    ("set_mempolicy", [238, 276, 238, 237, 321, 237, NO]),
    ("set_mempolicy_home_node", [450, 450, 450, 450, 450, 450, NO]),
    ("set_robust_list", [273, 311, 530, 99, 338, 99, NO]),
    ("set_thread_area", [205, 243, NO, NO, NO, NO, NO]),
    ("set_tid_address", [218, 258, 218, 96, 256, 96, NO]),
    ("set_tls", [NO, NO, NO, NO, 0xf005, NO, NO]),
    ("setdomainname", [171, 121, 171, 162, 121, 162, NO]),
    ("setfsgid", [123, 139, 123, 152, 139, 152, NO]),
    ("setfsgid32", [NO, 216, NO, NO, 216, NO, NO]),
    ("setfsuid", [122, 138, 122, 151, 138, 151, NO]),
    ("setfsuid32", [NO, 215, NO, NO, 215, NO, NO]),
    ("setgid", [106, 46, 106, 144, 46, 144, NO]),
    ("setgid32", [NO, 214, NO, NO, 214, NO, NO]),
    ("setgroups", [116, 81, 116, 159, 81, 159, NO]),
    ("setgroups32", [NO, 206, NO, NO, 206, NO, NO]),
    ("sethostname", [170, 74, 170, 161, 74, 161, NO]),
    ("setitimer", [38, 104, 38, 103, 104, 103, NO]),
    ("setns", [308, 346, 308, 268, 375, 268, NO]),
    ("setpgid", [109, 57, 109, 154, 57, 154, NO]),
    ("setpriority", [141, 97, 141, 140, 97, 140, NO]),
    ("setregid", [114, 71, 114, 143, 71, 143, NO]),
    ("setregid32", [NO, 204, NO, NO, 204, NO, NO]),
    ("setresgid", [119, 170, 119, 149, 170, 149, NO]),
    ("setresgid32", [NO, 210, NO, NO, 210, NO, NO]),
    ("setresuid", [117, 164, 117, 147, 164, 147, NO]),
    ("setresuid32", [NO, 208, NO, NO, 208, NO, NO]),
    ("setreuid", [113, 70, 113, 145, 70, 145, NO]),
    ("setreuid32", [NO, 203, NO, NO, 203, NO, NO]),
    ("setrlimit", [160, 75, 160, 164, 75, 164, NO]),
    ("setsid", [112, 66, 112, 157, 66, 157, NO]),
    ("setsockopt", [54, 366, 541, 208, 294, 208, SOCKETCALL | 14]),
    ("settimeofday", [164, 79, 164, 170, 79, 170, NO]),
    ("setuid", [105, 23, 105, 146, 23, 146, NO]),
    ("setuid32", [NO, 213, NO, NO, 213, NO, NO]),
    ("setxattr", [188, 226, 188, 5, 226, 5, NO]),
    ("setxattrat", [463, 463, 463, 463, 463, 463, NO]),
    ("sgetmask", [NO, 68, NO, NO, NO, NO, NO]),
    ("shmat", [30, 397, 30, 196, 305, 196, IPC | 21]),
    ("shmctl", [31, 396, 31, 195, 308, 195, IPC | 24]),
    ("shmdt", [67, 398, 67, 197, 306, 197, IPC | 22]),
    ("shmget", [29, 395, 29, 194, 307, 194, IPC | 23]),
    ("shutdown", [48, 373, 48, 210, 293, 210, SOCKETCALL | 13]),
    ("sigaction", [NO, 67, NO, NO, 67, NO, NO]),
    ("sigaltstack", [131, 186, 525, 132, 186, 132, NO]),
    ("signal", [NO, 48, NO, NO, NO, NO, NO]),
    ("signalfd", [282, 321, 282, NO, 349, NO, NO]),
    ("signalfd4", [289, 327, 289, 74, 355, 74, NO]),
    ("sigpending", [NO, 73, NO, NO, 73, NO, NO]),
    ("sigprocmask", [NO, 126, NO, NO, 126, NO, NO]),
    ("sigreturn", [NO, 119, NO, NO, 119, NO, NO]),
    ("sigsuspend", [NO, 72, NO, NO, 72, NO, NO]),
    ("socket", [41, 359, 41, 198, 281, 198, SOCKETCALL | 1]),
    ("socketcall", [NO, 102, NO, NO, NO, NO, NO]),
    ("socketpair", [53, 360, 53, 199, 288, 199, SOCKETCALL | 8]),
    ("splice", [275, 313, 275, 76, 340, 76, NO]),
    ("ssetmask", [NO, 69, NO, NO, NO, NO, NO]),
    ("stat", [4, 106, 4, NO, 106, NO, NO]),
    ("stat64", [NO, 195, NO, NO, 195, NO, NO]),
    ("statfs", [137, 99, 137, 43, 99, 43, NO]),
    ("statfs64", [NO, 268, NO, NO, 266, NO, NO]),
    ("statmount", [457, 457, 457, 457, 457, 457, NO]),
    ("statx", [332, 383, 332, 291, 397, 291, NO]),
    ("stime", [NO, 25, NO, NO, NO, NO, NO]),
    ("stty", [NO, 31, NO, NO, NO, NO, NO]),
    ("swapoff", [168, 115, 168, 225, 115, 225, NO]),
    ("swapon", [167, 87, 167, 224, 87, 224, NO]),
    ("symlink", [88, 83, 88, NO, 83, NO, NO]),
    ("symlinkat", [266, 304, 266, 36, 331, 36, NO]),
    ("sync", [162, 36, 162, 81, 36, 81, NO]),
    ("sync_file_range", [277, 314, 277, 84, NO, 84, NO]),
    ("sync_file_range2", [NO, NO, NO, NO, 341, NO, NO]),
    ("syncfs", [306, 344, 306, 267, 373, 267, NO]),
    ("sysfs", [139, 135, 139, NO, 135, NO, NO]),
    ("sysinfo", [99, 116, 99, 179, 116, 179, NO]),
    ("syslog", [103, 103, 103, 116, 103, 116, NO]),
    ("tee", [276, 315, 276, 77, 342, 77, NO]),
    ("tgkill", [234, 270, 234, 131, 268, 131, NO]),
    ("time", [201, 13, 201, NO, NO, NO, NO]),
    ("timer_create", [222, 259, 526, 107, 257, 107, NO]),
    ("timer_delete", [226, 263, 226, 111, 261, 111, NO]),
    ("timer_getoverrun", [225, 262, 225, 109, 260, 109, NO]),
    ("timer_gettime", [224, 261, 224, 108, 259, 108, NO]),
    ("timer_gettime64", [NO, 408, NO, NO, 408, NO, NO]),
    ("timer_settime", [223, 260, 223, 110, 258, 110, NO]),
    ("timer_settime64", [NO, 409, NO, NO, 409, NO, NO]),
    ("timerfd_create", [283, 322, 283, 85, 350, 85, NO]),
    ("timerfd_gettime", [287, 326, 287, 87, 354, 87, NO]),
    ("timerfd_gettime64", [NO, 410, NO, NO, 410, NO, NO]),
    ("timerfd_settime", [286, 325, 286, 86, 353, 86, NO]),
    ("timerfd_settime64", [NO, 411, NO, NO, 411, NO, NO]),
    ("times", [100, 43, 100, 153, 43, 153, NO]),
    ("tkill", [200, 238, 200, 130, 238, 130, NO]),
    ("truncate", [76, 92, 76, 45, 92, 45, NO]),
    ("truncate64", [NO, 193, NO, NO, 193, NO, NO]),
    ("tuxcall", [184, NO, 184, NO, NO, NO, NO]),
    ("ugetrlimit", [NO, 191, NO, NO, 191, NO, NO]),
    ("ulimit", [NO, 58, NO, NO, NO, NO, NO]),
    ("umask", [95, 60, 95, 166, 60, 166, NO]),
    ("umount", [NO, 22, NO, NO, NO, NO, NO]),
    ("umount2", [166, 52, 166, 39, 52, 39, NO]),
    ("uname", [63, 122, 63, 160, 122, 160, NO]),
    ("unlink", [87, 10, 87, NO, 10, NO, NO]),
    ("unlinkat", [263, 301, 263, 35, 328, 35, NO]),
    ("unshare", [272, 310, 272, 97, 337, 97, NO]),
    ("uprobe", [336, NO, 336, NO, NO, NO, NO]),
    ("uretprobe", [335, NO, 335, NO, NO, NO, NO]),
    ("uselib", [134, 86, NO, NO, 86, NO, NO]),
    ("userfaultfd", [323, 374, 323, 282, 388, 282, NO]),
    ("usr26", [NO, NO, NO, NO, 0xf003, NO, NO]),
    ("usr32", [NO, NO, NO, NO, 0xf004, NO, NO]),
    ("ustat", [136, 62, 136, NO, 62, NO, NO]),
    ("utime", [132, 30, 132, NO, NO, NO, NO]),
    ("utimensat", [280, 320, 280, 88, 348, 88, NO]),
    ("utimensat_time64", [NO, 412, NO, NO, 412, NO, NO]),
    ("utimes", [235, 271, 235, NO, 269, NO, NO]),
    ("vfork", [58, 190, 58, NO, 190, NO, NO]),
    ("vhangup", [153, 111, 153, 58, 111, 58, NO]),
    ("vm86", [NO, 166, NO, NO, NO, NO, NO]),
    ("vm86old", [NO, 113, NO, NO, NO, NO, NO]),
    ("vmsplice", [278, 316, 532, 75, 343, 75, NO]),
    ("vserver", [236, 273, NO, NO, 313, NO, NO]),
    ("wait4", [61, 114, 61, 260, 114, 260, NO]),
    ("waitid", [247, 284, 529, 95, 280, 95, NO]),
    ("waitpid", [NO, 7, NO, NO, NO, NO, NO]),
    ("write", [1, 4, 1, 64, 4, 64, NO]),
    ("writev", [20, 146, 516, 66, 146, 66, NO]),
];
