//! What goes between the standard streams of a process in the foreground and ours: over
//! a terminal of its own, or over pipes.

use std::collections::VecDeque;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use rustix::termios::{tcgetwinsize, tcsetwinsize};

use crate::ending::Ending;

/// Most that is kept for a side that does not read.
const BUFFER: usize = 64 * 1024;

/// Most that a pipe holds (pipe(7), `pipe-max-size`); a terminal holds less.
const HELD: usize = 1024 * 1024;

/// The streams of a foreground process, joined to ours.
pub(crate) struct Session {
    /// From our input to the process, and back.
    flows: Vec<Flow>,
    /// The master of the process's terminal, if it has one.
    master: Option<Rc<OwnedFd>>,
    /// The settings of our terminal, once it was made raw.
    ours: Option<Termios>,
    /// Whether ours is a terminal that belongs to another job by now: not to be read
    /// from, nor to be set.
    away: bool,
}

/// Bytes on their way.
struct Flow {
    /// Where they come from, as long as more may come.
    from: Option<Rc<dyn AsFd>>,
    /// Where they go, as long as they are taken there.
    to: Option<Rc<dyn AsFd>>,
    bytes: VecDeque<u8>,
    /// Whether what is not taken is thrown away, so that its writer goes on: it is a
    /// terminal. Of a pipe he learns that nobody reads.
    discards: bool,
}

impl Session {
    /// Over the terminal whose master comes out of the socket.
    pub(crate) fn of_terminal(socket: &OwnedFd) -> Result<Self> {
        let master = Rc::new(orlop::launch::receive_terminal(socket.as_fd())?);
        let flows = vec![
            Flow::new(Rc::new(stdin()), master.clone(), false),
            Flow::new(master.clone(), Rc::new(stdout()), true),
        ];
        let mut session = Self { flows, master: Some(master), ours: None, away: false };
        session.come_or_go()?;
        Ok(session)
    }

    /// Over our ends of pipes to its input and from its output and error.
    pub(crate) fn of_pipes([input, output, error]: [OwnedFd; 3]) -> Self {
        let flows = vec![
            Flow::new(Rc::new(stdin()), Rc::new(input), false),
            Flow::new(Rc::new(output), Rc::new(stdout()), false),
            Flow::new(Rc::new(error), Rc::new(stderr()), false),
        ];
        Self { flows, master: None, ours: None, away: is_away() }
    }

    /// Looks whose our terminal is: a shell that gives it to us makes us go on.
    pub(crate) fn come_or_go(&mut self) -> Result<()> {
        self.away = is_away();
        if self.away || self.master.is_none() || !stdin().is_terminal() {
            return Ok(());
        }
        let now = tcgetattr(stdin()).context("reading the terminal's settings")?;
        let mut raw = self.ours.get_or_insert(now).clone();
        cfmakeraw(&mut raw);
        // Lines come as the process ends them, and are ours to show.
        raw.output_flags.insert(OutputFlags::OPOST);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw).context("setting the terminal raw")?;
        self.resize();
        Ok(())
    }

    /// Gives the process's terminal the size of ours. Whether it has one.
    pub(crate) fn resize(&self) -> bool {
        let Some(master) = &self.master else { return false };
        if self.ours.is_some()
            && let Ok(size) = tcgetwinsize(stdin())
        {
            let _ = tcsetwinsize(master, size);
        }
        true
    }

    /// What to wait for.
    pub(crate) fn wants(&self) -> Vec<PollFd<'_>> {
        let mut fds = Vec::new();
        for (index, flow) in self.flows.iter().enumerate() {
            if let Some(from) = flow.reads().filter(|_| index > 0 || !self.away) {
                fds.push(PollFd::new(from, PollFlags::POLLIN));
            }
            if let Some(to) = flow.writes() {
                fds.push(PollFd::new(to, PollFlags::POLLOUT));
            }
        }
        fds
    }

    /// Moves what can be moved without waiting.
    pub(crate) fn copy(&mut self) {
        for (index, flow) in self.flows.iter_mut().enumerate() {
            flow.copy(index > 0 || !self.away);
        }
    }

    /// The process has ended: what was written last is still on its way. No more than a
    /// terminal or a pipe can hold, since one that the process left behind may write for
    /// ever; or, with pipes and `others`, all until the last of those has ended too. Neither
    /// they nor a reader of ours that has stopped are waited for against the caller's will.
    pub(crate) fn drain(&mut self, signals: &SignalFd, others: bool) -> Result<()> {
        let input = &mut self.flows[0];
        (input.from, input.to) = (None, None);
        if self.master.is_some() || !others {
            self.flows.iter_mut().for_each(Flow::take_the_last);
        }
        loop {
            let mut fds = self.wants();
            if fds.is_empty() {
                return Ok(());
            }
            fds.push(PollFd::new(signals.as_fd(), POLL_IN));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("writing the last of the output"),
            }
            drop(fds);
            self.flows.iter_mut().for_each(|flow| flow.copy(true));
            while let Some(info) = signals.read_signal().context("reading a signal")? {
                let signal = Signal::try_from(info.ssi_signo.cast_signed());
                if signal.is_ok_and(Ending::is_asked_by) {
                    return Ok(());
                }
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(before) = &self.ours
            && !is_away()
        {
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, before);
        }
    }
}

impl Flow {
    fn new(from: Rc<dyn AsFd>, to: Rc<dyn AsFd>, discards: bool) -> Self {
        Self { from: Some(from), to: Some(to), bytes: VecDeque::new(), discards }
    }

    /// What is to be read, if there is room.
    fn reads(&self) -> Option<BorrowedFd<'_>> {
        let from = self.from.as_ref().filter(|_| self.bytes.len() < BUFFER);
        from.map(|from| from.as_fd())
    }

    /// What is to be written to, if there is something to write.
    fn writes(&self) -> Option<BorrowedFd<'_>> {
        self.to.as_ref().filter(|_| !self.bytes.is_empty()).map(|to| to.as_fd())
    }

    fn copy(&mut self, reads: bool) {
        if reads && self.reads().is_some_and(|from| ready(from, POLL_IN)) {
            self.fill();
        }
        if let Some(to) = self.writes().filter(|to| ready(*to, PollFlags::POLLOUT)) {
            let (front, _) = self.bytes.as_slices();
            match nix::unistd::write(to, &front[..front.len().min(CHUNK)]) {
                Ok(length) => drop(self.bytes.drain(..length)),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(errno) => {
                    // Who does not read any more knows that.
                    if errno != Errno::EPIPE {
                        let error = orlop::Error::os(errno as i32, "writing what the process says");
                        log::warn!("{error}");
                    }
                    self.to = None;
                }
            }
        }
        if self.to.is_none() {
            self.bytes.clear();
            if !self.discards {
                self.from = None;
            }
        }
        if self.from.is_none() && self.bytes.is_empty() {
            // The other side learns that this was all.
            self.to = None;
        }
    }

    /// Reads once.
    fn fill(&mut self) {
        let Some(from) = &self.from else { return };
        let mut chunk = [0; CHUNK];
        match nix::unistd::read(from.as_fd(), &mut chunk) {
            // EIO of a terminal: every process has closed the other end.
            Ok(0) => self.from = None,
            Ok(length) => self.bytes.extend(&chunk[..length]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.from = None,
        }
    }

    /// Reads what there is, so much at most as can have been there.
    fn take_the_last(&mut self) {
        let most = self.bytes.len() + HELD;
        while let Some(from) = &self.from
            && self.bytes.len() < most
            && ready(from.as_fd(), POLL_IN)
        {
            self.fill();
        }
        self.from = None;
    }
}

/// Whether our terminal is another job's. One that is no terminal of our session has
/// no jobs.
fn is_away() -> bool {
    tcgetpgrp(stdin()).is_ok_and(|group| group != getpgrp())
}

const POLL_IN: PollFlags = PollFlags::POLLIN.union(PollFlags::POLLHUP);

/// A pipe that polls as writable takes at least this much (pipe(7), `PIPE_BUF`).
const CHUNK: usize = 4096;

fn ready(fd: BorrowedFd<'_>, flags: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd, flags)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}
