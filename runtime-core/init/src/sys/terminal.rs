//! Settings of a terminal (ioctl_tty(2)).

use super::{Fd, Sys, abi, check, nr, syscall};

/// `TIOCSWINSZ`, see ioctl_tty(2). The four fields are rows, columns and pixels.
pub fn set_window_size(fd: Fd, size: &[u16; 4]) -> Sys<()> {
    call!(IOCTL, fd, abi::TIOCSWINSZ, size.as_ptr()).map(drop)
}

/// Takes the mapping of line ends away from a terminal (termios(3), `ONLCR`).
pub fn bare_lines(fd: Fd) -> Sys<()> {
    let mut termios = abi::Termios::default();
    call!(IOCTL, fd, abi::TCGETS, &mut termios as *mut abi::Termios)?;
    termios.output_flags &= !abi::ONLCR;
    call!(IOCTL, fd, abi::TCSETS, &termios as *const abi::Termios).map(drop)
}
