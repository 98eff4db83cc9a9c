//! One connection that never blocks: frames in, frames out.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::frame::{Decoder, Frame};

/// Most that is read at once, in bytes: others wait meanwhile.
const PORTION: usize = 64 << 10;

pub(crate) struct Connection {
    socket: UnixStream,
    decoder: Decoder,
    /// What the other end has not taken yet.
    out: VecDeque<u8>,
}

/// What is to become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    /// It is open, and there is more to read.
    More,
    /// The other end is gone, or has gone wrong.
    Closed,
}

impl Connection {
    pub(crate) fn new(socket: UnixStream) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, decoder: Decoder::default(), out: VecDeque::new() })
    }

    /// Reads what there is, or a portion of it.
    pub(crate) fn read(&mut self) -> Fate {
        let (mut buffer, mut taken) = ([0; 8192], 0);
        while taken < PORTION {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Fate::Closed,
                Ok(count) => {
                    self.decoder.push(&buffer[..count]);
                    taken += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Fate::Open,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Fate::Closed,
            }
        }
        Fate::More
    }

    /// The next frame that has come whole.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        self.decoder.next()
    }

    /// Sends bytes, or keeps what can't be sent now for [`Self::flush`].
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Fate {
        self.out.extend(bytes);
        self.flush()
    }

    /// Sends what is kept.
    pub(crate) fn flush(&mut self) -> Fate {
        while !self.out.is_empty() {
            match self.socket.write(self.out.as_slices().0) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Fate::Open,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Fate::Closed,
            }
        }
        self.out = VecDeque::new();
        Fate::Open
    }

    /// Whether something is kept.
    pub(crate) fn is_full(&self) -> bool {
        !self.out.is_empty()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
