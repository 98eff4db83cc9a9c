//! Streams: what a process writes goes to where the client reads, and back.
//!
//! The process has a pipe or a terminal, never the client's own end: a reader that is slow
//! or gone stops its stream and nothing else, and a daemon that comes back finds it going on.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PIPE_BUF, PipeFlags, SpliceFlags, pipe_with, splice};

/// Most of what goes at once: others wait meanwhile.
const PORTION: usize = 64 << 10;

pub(crate) struct Stream {
    pub from: OwnedFd,
    pub to: OwnedFd,
    /// Both are pipes, and nothing is copied.
    spliced: bool,
    /// What was taken and has not gone yet.
    rest: Vec<u8>,
    /// Of a terminal: whether its process lives, and others may open it again.
    pub lives: Option<bool>,
    /// Nobody has it open just now.
    pub hung: bool,
}

/// One whose client has not opened its end yet.
pub(crate) struct Late {
    pub number: u32,
    pub from: OwnedFd,
    pub address: String,
    /// As of the stream that it becomes.
    pub lives: Option<bool>,
    pub task: String,
    pub exec: String,
    /// When to look again, and how long after the last time that is.
    pub due: Instant,
    pub pause: Duration,
}

/// What it is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    From,
    To,
    /// Nobody has the terminal open, and somebody may again.
    Hung,
    /// It has come to its end.
    Over,
}

impl Stream {
    pub(crate) fn new(from: OwnedFd, to: OwnedFd, spliced: bool) -> Self {
        Self { from, to, spliced, rest: Vec::new(), lives: None, hung: false }
    }

    pub(crate) fn of_terminal(master: OwnedFd, to: OwnedFd) -> Self {
        Self { lives: Some(true), ..Self::new(master, to, false) }
    }

    /// Moves what can be moved now.
    pub(crate) fn pass(&mut self) -> Turn {
        match self.lives {
            _ if self.spliced => self.splice(),
            Some(false) => self.copy_rest(),
            _ => self.copy(),
        }
    }

    /// What a terminal has when its process is gone: nothing tells that no more comes. The
    /// kernel keeps 12 KiB of it at most, and who writes there still is not waited for.
    fn copy_rest(&mut self) -> Turn {
        for _ in 0..PORTION / PIPE_BUF {
            match self.copy() {
                Turn::From => {}
                turn => return turn,
            }
        }
        Turn::Over
    }

    fn splice(&self) -> Turn {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        match splice(&self.from, None, &self.to, None, PORTION, flags) {
            Ok(0) => Turn::Over,
            Ok(_) | Err(Errno::INTR) => Turn::From,
            // Which of the two it was.
            Err(Errno::AGAIN) if is_ready(self.to.as_fd(), PollFlags::OUT) => Turn::From,
            Err(Errno::AGAIN) => Turn::To,
            Err(_) => Turn::Over,
        }
    }

    fn copy(&mut self) -> Turn {
        if self.rest.is_empty() {
            if !is_ready(self.to.as_fd(), PollFlags::OUT) {
                return Turn::To;
            }
            let mut buffer = [0; PIPE_BUF];
            match rustix::io::read(&self.from, &mut buffer) {
                Ok(0) => return Turn::Over,
                Ok(count) => self.rest.extend_from_slice(&buffer[..count]),
                // The last one who had the terminal has closed it.
                Err(Errno::IO) if self.lives == Some(true) => return Turn::Hung,
                // What still has it when its process is gone is not waited for.
                Err(Errno::AGAIN) if self.lives != Some(false) => return Turn::From,
                Err(Errno::INTR) => return Turn::From,
                Err(_) => return Turn::Over,
            }
        }
        while !self.rest.is_empty() {
            match rustix::io::write(&self.to, &self.rest) {
                Ok(count) => drop(self.rest.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Turn::To,
                // A file: what has no room is lost, and the process goes on.
                Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => self.rest.clear(),
                Err(_) => return Turn::Over,
            }
        }
        Turn::From
    }
}

pub(crate) fn is_ready(fd: BorrowedFd<'_>, what: PollFlags) -> bool {
    let mut fds = [PollFd::new(&fd, what)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// A pipe for the process: reading end, writing end.
pub(crate) fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// How the one thread opens what may be anything: it waits for nobody, and a terminal does
/// not become its own.
pub(crate) const AT_ONCE: i32 = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();

/// A fifo's both ends, so that writers see no reader that is gone; or a file, to which is
/// appended. And whether it is a pipe. A file may be anything: it has to wait for nobody.
///
/// None where the client has not opened its end yet: what is written until then would be
/// lost if it ended as well, and so would its end, for which the client waits.
pub(crate) fn open_output(address: &str) -> std::io::Result<Option<(OwnedFd, bool)>> {
    if let Some(path) = address.strip_prefix("file://") {
        let path = Path::new(path);
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        let mut options = File::options();
        options.append(true).create(true).mode(0o644).custom_flags(AT_ONCE);
        return Ok(unless_late(options.open(path))?.map(|file| (file.into(), false)));
    }
    let path = path_of(address)?;
    let mut both = File::options();
    // A file is appended to, as by containerd's own shim.
    both.append(true).custom_flags(AT_ONCE);
    // Before there is a reading end of ours, after which nobody could tell.
    let Some(_writing) = unless_late(both.open(path))? else { return Ok(None) };
    let file = both.read(true).open(path)?;
    let fifo = file.metadata()?.file_type().is_fifo();
    Ok(Some((file.into(), fifo)))
}

/// None of a fifo that nobody reads yet, which is not waited for: others would be, too.
fn unless_late(opened: std::io::Result<File>) -> std::io::Result<Option<File>> {
    match opened {
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Ok(None),
        opened => opened.map(Some),
    }
}

/// A fifo that the client writes to.
pub(crate) fn open_input(address: &str) -> std::io::Result<OwnedFd> {
    let path = path_of(address)?;
    Ok(File::options().read(true).custom_flags(AT_ONCE).open(path)?.into())
}

/// Its writing end, which keeps it from being at its end until it is closed.
pub(crate) fn hold_input(address: &str) -> std::io::Result<OwnedFd> {
    let path = path_of(address)?;
    Ok(File::options().write(true).custom_flags(AT_ONCE).open(path)?.into())
}

fn path_of(address: &str) -> std::io::Result<&Path> {
    match address.split_once("://") {
        None => Ok(Path::new(address)),
        Some(("fifo", path)) => Ok(Path::new(path)),
        Some((scheme, _)) => {
            let words = format!("streams of the kind {scheme:?} are not supported");
            Err(std::io::Error::new(ErrorKind::Unsupported, words))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonblocking() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
    }

    fn read(from: &OwnedFd) -> usize {
        let mut buffer = vec![0; PORTION];
        rustix::io::read(from, &mut buffer).unwrap_or(0)
    }

    #[test]
    fn a_file_without_room_stops_nobody() {
        let (from, into) = nonblocking();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut stream = Stream::new(from, full.into(), false);
        for _ in 0..3 {
            rustix::io::write(&into, b"text").unwrap();
            assert_eq!(stream.pass(), Turn::From);
        }
        assert_eq!(stream.pass(), Turn::From);
        drop(into);
        // A child that another test is about to start may have the end for a moment more.
        let begun = Instant::now();
        while stream.pass() != Turn::Over {
            assert!(begun.elapsed().as_secs() < 10, "it has no end");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_has_been_taken_goes_when_there_is_room() {
        let ((from, into), (out, to)) = (nonblocking(), nonblocking());
        let mut filled = 0;
        while let Ok(count) = rustix::io::write(&to, &[0; PIPE_BUF]) {
            filled += count;
        }
        let mut stream = Stream::new(from, to, false);
        stream.rest = b"first".to_vec();
        rustix::io::write(&into, b"second").unwrap();
        assert_eq!(stream.pass(), Turn::To);
        while filled > 0 {
            filled -= read(&out);
        }
        assert_eq!((stream.pass(), read(&out)), (Turn::From, 5));
        assert_eq!((stream.pass(), read(&out)), (Turn::From, 6));
    }

    #[test]
    fn what_is_left_by_a_process_that_is_gone_is_all_and_the_end() {
        let ((from, into), (out, to)) = (nonblocking(), nonblocking());
        let mut stream = Stream::of_terminal(from, to);
        rustix::io::write(&into, &[0; 3 * PIPE_BUF]).unwrap();
        assert_eq!(stream.pass(), Turn::From);
        stream.lives = Some(false);
        // Somebody has it open still.
        assert_eq!((stream.pass(), read(&out)), (Turn::Over, 3 * PIPE_BUF));
        drop(into);
    }
}
