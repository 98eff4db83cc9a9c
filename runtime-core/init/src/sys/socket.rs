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

/// Brings up the loopback device of the calling thread's network namespace
/// (netdevice(7)). It takes `CAP_NET_ADMIN` there.
pub fn loopback_up() -> Sys<()> {
    const AF_UNIX: u32 = 1;
    const SOCK_DGRAM: u32 = 2;
    const SIOCSIFFLAGS: u32 = 0x8914;
    const IFF_UP: u16 = 1;
    /// `struct ifreq` with flags.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    let mut request = Request { name: [0; 16], flags: IFF_UP, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    // Any socket will do, and this kind is there without IPv4.
    let socket = call!(SOCKET, AF_UNIX, SOCK_DGRAM | abi::O_CLOEXEC, 0)? as Fd;
    let done = call!(IOCTL, socket, SIOCSIFFLAGS, &request as *const Request);
    super::close(socket);
    done.map(drop)
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
