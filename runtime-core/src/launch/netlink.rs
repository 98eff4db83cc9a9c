//! A conversation with the kernel about network devices and their addresses
//! (netlink(7), rtnetlink(7)): messages as bytes, and one socket.
//!
//! It knows what a request looks like and not what it is for.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use orlop_init::sys::{self, abi, thread};

use super::owned;

/// Length of a message's head and of an attribute's.
const HEAD: usize = 16;
const ATTRIBUTE: usize = 4;
/// The kernel makes the pieces of a listing no longer than this.
const LONGEST: usize = 64 << 10;
/// How long the kernel may take to answer, in seconds, which it does at once.
const PATIENCE: i64 = 10;
/// How long to wait for the thread at once, in milliseconds.
const TURN: i64 = 1000;
/// How often a listing is begun anew that was changed under its reader.
const TRIES: usize = 10;

/// One request.
pub(super) struct Request(Vec<u8>);

/// One answer: what follows the head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer(pub Vec<u8>);

/// A socket in one network namespace.
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Request {
    /// `RTM_*`, with the structure that this kind begins with.
    pub(super) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let flags = flags as u16 | libc::NLM_F_REQUEST as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.resize(HEAD, 0);
        bytes.extend(fixed);
        Self(bytes)
    }

    /// With one more attribute.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let Self(bytes) = &mut self;
        let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self
    }
}

impl Answer {
    /// The attributes behind a structure of `fixed` bytes: kind and value.
    pub(super) fn attributes(&self, fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
        let mut rest = self.0.get(fixed..).unwrap_or_default();
        std::iter::from_fn(move || {
            let length = usize::from(short(rest, 0)?);
            let value = rest.get(ATTRIBUTE..length)?;
            // The two highest bits say how it is to be read.
            let kind = short(rest, 2)? & 0x3fff;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, value))
        })
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The number at a place, 0 where nothing is.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    four.map_or(0, u32::from_ne_bytes)
}

impl Socket {
    /// In the network namespace of the calling thread.
    pub(super) fn new() -> Result<Self, Errno> {
        Self::made(sys::netlink())
    }

    /// In that of another process. A thread of its own makes it, since it has to go
    /// there for that; a bare one, since std's brings much of a libc along.
    pub(super) fn of(pidfd: BorrowedFd<'_>) -> Result<Self, Errno> {
        struct There(sys::Fd, sys::Sys<sys::Fd>);
        let go = |There(pidfd, made): &mut There| {
            *made = sys::setns(*pidfd, abi::CLONE_NEWNET).and_then(|()| sys::netlink());
        };
        let mut there = There(pidfd.as_raw_fd(), Err(sys::Errno(libc::EAGAIN)));
        let begun = thread::beside(&mut [0; 1024], go, &mut there, TURN, &mut || {});
        begun.map_err(|sys::Errno(errno)| Errno::from_raw(errno))?;
        Self::made(there.1)
    }

    fn made(socket: sys::Sys<sys::Fd>) -> Result<Self, Errno> {
        let fd = owned(socket).map_err(Errno::from_raw)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Asks for one thing, or for something to be done.
    pub(super) fn ask(&mut self, mut request: Request) -> Result<Vec<Answer>, Errno> {
        let flags = short(&request.0, 6).unwrap_or_default() | libc::NLM_F_ACK as u16;
        request.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.exchange(&mut request)
    }

    /// Asks for a whole listing.
    pub(super) fn list(&mut self, kind: u16, fixed: &[u8]) -> Result<Vec<Answer>, Errno> {
        let mut result = Err(Errno::EINTR);
        for _ in 0..TRIES {
            result = self.exchange(&mut Request::new(kind, libc::NLM_F_DUMP, fixed));
            if result != Err(Errno::EINTR) {
                break;
            }
        }
        result
    }

    fn exchange(&mut self, Request(request): &mut Request) -> Result<Vec<Answer>, Errno> {
        self.sequence += 1;
        let length = u32::try_from(request.len()).map_err(|_| Errno::EMSGSIZE)?;
        request[..4].copy_from_slice(&length.to_ne_bytes());
        request[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        send(self.fd.as_raw_fd(), request, MsgFlags::empty())?;
        let mut buffer = vec![0; LONGEST];
        let (mut answers, mut changed) = (Vec::new(), false);
        loop {
            let length = recv(self.fd.as_fd().as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC)?;
            let mut rest = buffer.get(..length).ok_or(Errno::EMSGSIZE)?;
            while let Some(message) = rest.get(..word(rest, 0) as usize).filter(|m| m.len() >= HEAD)
            {
                rest = rest.get(message.len().next_multiple_of(4)..).unwrap_or_default();
                if word(message, 8) != self.sequence {
                    continue; // of a listing that was given up
                }
                changed |= i32::from(short(message, 6).unwrap_or(0)) & libc::NLM_F_DUMP_INTR != 0;
                match i32::from(short(message, 4).unwrap_or(0)) {
                    libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                        let errno = -word(message, HEAD).cast_signed();
                        return match errno {
                            0 if changed => Err(Errno::EINTR),
                            0 => Ok(answers),
                            errno => Err(Errno::from_raw(errno)),
                        };
                    }
                    _ => answers.push(Answer(message[HEAD..].to_vec())),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let request = Request::new(16, libc::NLM_F_ACK, &[9; 8]).with(3, b"lo\0").with(53, &[1; 4]);
        assert_eq!(request.0.len(), HEAD + 8 + 8 + 8);
        assert_eq!((short(&request.0, 4), short(&request.0, 6)), (Some(16), Some(5)));
        let answer = Answer(request.0[HEAD..].to_vec());
        let found: Vec<_> = answer.attributes(8).collect();
        assert_eq!(found, [(3, &b"lo\0"[..]), (53, &[1, 1, 1, 1])]);
    }

    #[test]
    fn what_is_cut_ends_the_attributes() {
        let answer = |bytes: &[u8]| Answer(bytes.to_vec()).attributes(0).count();
        assert_eq!(answer(&[]), 0);
        assert_eq!(answer(&[8, 0, 1, 0, 1, 2]), 0, "shorter than it says");
        assert_eq!(answer(&[0, 0, 1, 0, 1, 2, 3, 4]), 0, "an endless row");
        assert_eq!(answer(&[5, 0, 1, 0, 1]), 1, "without what fills it up");
    }

    #[test]
    fn the_loopback_device_is_there_and_another_is_not() {
        let mut socket = Socket::new().expect("a socket");
        let mut named = |name: &[u8]| {
            socket.ask(Request::new(libc::RTM_GETLINK, 0, &[0; 16]).with(libc::IFLA_IFNAME, name))
        };
        assert_eq!(named(b"lo\0").map(|found| found.len()), Ok(1));
        assert_eq!(named(b"orlop-none\0"), Err(Errno::ENODEV));
        let all = socket.list(libc::RTM_GETLINK, &[0; 16]).expect("a list");
        assert!(!all.is_empty());
    }
}
