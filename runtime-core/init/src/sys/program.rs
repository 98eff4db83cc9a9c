//! The first function of a program that has std, in the place of std's own. That one
//! reads /proc/self/maps and sets up a second stack, to tell in words of a stack that
//! overflowed: 15 system calls and a sixth of what a short command executes. Without
//! it the kernel ends such a program at the guard gap all the same.

use super::{Errno, abi, exit, fcntl, openat, signal};

/// Makes a function `fn() -> u8`, which returns the exit status, the program's `main`.
/// The program says `no_main` where [`begin`] stands in for std: with glibc, which
/// tells std the arguments without it, and in no test.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        #[cfg(all(target_env = "gnu", not(test)))]
        #[allow(unsafe_code)]
        // SAFETY: the one definition of this symbol in the program, with C's contract.
        #[unsafe(no_mangle)]
        extern "C" fn main(_: i32, _: *const *const u8) -> i32 {
            $crate::sys::program::begin();
            i32::from($main())
        }

        #[cfg(not(all(target_env = "gnu", not(test))))]
        fn main() -> ::std::process::ExitCode {
            ::std::process::ExitCode::from($main())
        }
    };
}

/// What std's start does for every program: there are three standard streams, so that
/// no file is taken for one, and a reader that is gone is an error of write(2).
pub fn begin() {
    for stream in 0..3 {
        if fcntl(stream, abi::F_GETFD, 0) == Err(Errno(abi::EBADF))
            && openat(abi::AT_FDCWD, c"/dev/null", abi::O_RDWR) != Ok(stream)
        {
            exit(abi::PANICKED)
        }
    }
    signal::ignore(abi::SIGPIPE);
}
