//! Sockets: what is sent through one, and one to the kernel.

use super::{Fd, Sys, abi, check, nr, syscall};

/// A socket for talking with the kernel about the network namespace of the calling
/// thread (rtnetlink(7)), close-on-exec.
#[cfg(not(stage))]
pub fn netlink() -> Sys<Fd> {
    const AF_NETLINK: u32 = 16;
    const SOCK_RAW: u32 = 3;
    const ROUTE: u32 = 0;
    call!(SOCKET, AF_NETLINK, SOCK_RAW | abi::O_CLOEXEC, ROUTE).map(|fd| fd as Fd)
}

/// send(2) on a connected socket, without SIGPIPE.
pub fn send(socket: Fd, bytes: &[u8]) -> Sys<usize> {
    call!(SENDTO, socket, bytes.as_ptr(), bytes.len(), abi::MSG_NOSIGNAL, 0, 0)
}

/// sendmsg(2) of `bytes` together with up to two descriptors (`SCM_RIGHTS`).
pub fn send_fds(socket: Fd, bytes: &[u8], fds: &[Fd]) -> Sys<usize> {
    let mut control = abi::ControlFds::new(fds);
    let mut vector = abi::IoVec { base: bytes.as_ptr(), length: bytes.len() };
    let message = abi::MsgHdr {
        name: 0,
        name_length: 0,
        vector: &mut vector,
        vector_length: 1,
        control: &mut control,
        control_length: control.used(),
        flags: 0,
    };
    call!(SENDMSG, socket, &message as *const abi::MsgHdr, abi::MSG_NOSIGNAL)
}
