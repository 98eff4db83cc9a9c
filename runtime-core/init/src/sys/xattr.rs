//! Extended attributes of an open file.

use core::ffi::CStr;

use super::{Fd, Sys, check, nr, syscall};

/// fsetxattr(2), whether there is one of that name or not.
pub fn fsetxattr(fd: Fd, name: &CStr, value: &[u8]) -> Sys<()> {
    call!(FSETXATTR, fd, name.as_ptr(), value.as_ptr(), value.len(), 0).map(drop)
}

/// fremovexattr(2)
#[cfg(not(stage))]
pub fn fremovexattr(fd: Fd, name: &CStr) -> Sys<()> {
    call!(FREMOVEXATTR, fd, name.as_ptr()).map(drop)
}

/// fgetxattr(2): how much of `value` it fills. `ERANGE` when it is longer.
#[cfg(not(stage))]
pub fn fgetxattr(fd: Fd, name: &CStr, value: &mut [u8]) -> Sys<usize> {
    call!(FGETXATTR, fd, name.as_ptr(), value.as_mut_ptr(), value.len())
}
