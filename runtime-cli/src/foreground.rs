//! A process in the foreground: signals go to it, its terminal is ours, its exit
//! status is ours too.
//!
//! Signals are blocked and read from a descriptor, so that everything happens in
//! one loop and none is lost between the start of the process and the wait.

use std::collections::VecDeque;
use std::io::{IsTerminal, Stdin, Stdout, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use oci_spec::runtime::{BoxBuilder, Process};
use orlop::bundle::Bundle;
use orlop::container::{Container, CreateOptions, Started, Terminal};
use orlop::{Error, Kind};
use rustix::process::{Pid, WaitOptions, WaitStatus, wait, waitpid};
use rustix::termios::{tcgetwinsize, tcsetwinsize};

use crate::ending::Ending;
use crate::herald::Herald;

/// Most that is kept for a side that does not read.
const BUFFER: usize = 64 * 1024;

/// Signals taken over for the time of one foreground process.
pub(crate) struct Foreground {
    signals: SignalFd,
    /// Our end of the socket on which the terminal's master arrives.
    console: Option<OwnedFd>,
    /// How the process ends when we are asked to, if not by its own will alone.
    ending: Option<Ending>,
    /// Who tells that the process is ready.
    herald: Option<Herald>,
    /// How the process has ended, once it is known.
    status: Option<WaitStatus>,
}

impl Foreground {
    /// Takes over the signals; call it before the process is started.
    pub(crate) fn new() -> Result<Self> {
        let all = SigSet::all();
        all.thread_block().context("blocking signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&all, flags)
            .map_err(|errno| Error::os(errno as i32, "reading signals"))?;
        Ok(Self { signals, console: None, ending: None, herald: None, status: None })
    }

    /// The same for the first process of a container: its terminal comes to us, if it
    /// wants one that nobody else takes, and its orphans, if we are their `subreaper`.
    pub(crate) fn of(
        bundle: &mut Bundle,
        options: &mut CreateOptions,
        subreaper: bool,
    ) -> Result<Self> {
        if subreaper {
            nix::sys::prctl::set_child_subreaper(true).context("becoming a subreaper")?;
        }
        let mut foreground = Self::new()?;
        if bundle.wants_terminal()
            && matches!(options.terminal, Terminal::None)
            && let Some(process) = bundle.spec.process_mut()
        {
            options.terminal = foreground.terminal(process)?;
        }
        Ok(foreground)
    }

    /// Readable when a signal asks this program to end. While there is no process yet
    /// to take it, or no more, this is whom it means.
    pub(crate) fn interrupt(&self) -> Result<OwnedFd> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&Ending::asking(), flags)
            .map_err(|errno| Error::os(errno as i32, "reading signals"))?;
        Ok(signals.into())
    }

    /// A signal that asks this program to end shall end the process, whether or
    /// not it listens.
    pub(crate) fn end_when_asked(&mut self) {
        self.ending = Some(Ending::default());
    }

    /// Somebody waits for the word that the process is ready.
    pub(crate) fn herald(&mut self, herald: Option<Herald>) {
        self.herald = herald;
    }

    /// Where the terminal of `process` shall go: to this program. It has the size
    /// of ours from the first, since the process may look before we come to wait.
    pub(crate) fn terminal(&mut self, process: &mut Process) -> Result<Terminal> {
        if stdin().is_terminal()
            && let Ok(ours) = tcgetwinsize(stdin())
        {
            let size = BoxBuilder::default().height(ours.ws_row).width(ours.ws_col).build()?;
            process.set_console_size(Some(size));
        }
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)
            .context("making the console socket")?;
        self.console = Some(ours);
        Ok(Terminal::Joined(theirs))
    }

    /// Waits until the process has ended. Returns its exit status as a shell
    /// would tell it: 128 and the signal's number when a signal ended it.
    pub(crate) fn wait(&mut self, started: &Started) -> Result<i32> {
        let mut session = match self.console.take() {
            Some(socket) => Some(Session::new(&socket)?),
            None => None,
        };
        loop {
            let (ended, signalled) = self.poll(started, session.as_mut())?;
            if signalled {
                self.forward(started, session.as_mut())?;
            }
            if let Some(ending) = &mut self.ending {
                ending.insist(started);
            }
            if ended {
                break;
            }
            if let Some(herald) = &mut self.herald {
                herald.look();
            }
        }
        if let Some(herald) = self.herald.take() {
            herald.end();
        }
        // What came too late for it is not meant for what comes next.
        self.forward(started, None)?;
        if let Some(session) = &mut session {
            session.drain(&self.signals)?;
        }
        self.reap(started.pid).context("waiting for the process")?;
        if self.status.is_none() {
            // It is traced: its end goes to the tracer first.
            let ended = waitpid(Pid::from_raw(started.pid), WaitOptions::empty());
            self.status = ended.context("waiting for the process")?.map(|(_, status)| status);
        }
        // A signal by its number: the real-time ones are none of nix's.
        let status = self.status.context("the process is not a child of ours")?;
        if let Some(signal) = status.terminating_signal() {
            let cause = self.ending.as_ref().map_or(signal, |ending| ending.cause(signal));
            return Ok(128 + cause);
        }
        status.exit_status().context("the process has not ended")
    }

    fn poll(&self, started: &Started, session: Option<&mut Session>) -> Result<(bool, bool)> {
        let mut fds = vec![
            PollFd::new(started.pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(session) = &session {
            fds.extend(session.wants());
        }
        let word = self.herald.as_ref().and_then(Herald::readable);
        fds.extend(word.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let patience = self.ending.as_ref().and_then(Ending::patience);
        let timeout = patience.and_then(|patience| PollTimeout::try_from(patience).ok());
        match poll(&mut fds, timeout.unwrap_or(PollTimeout::NONE)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("waiting for the process"),
        }
        let ready = |index: usize| fds.get(index).is_some_and(|fd| fd.any() == Some(true));
        let (ended, signalled) = (ready(0), ready(1));
        drop(fds);
        if let Some(session) = session {
            session.copy();
        }
        Ok((ended, signalled))
    }

    fn forward(&mut self, started: &Started, mut session: Option<&mut Session>) -> Result<()> {
        while let Some(info) = self.signals.read_signal().context("reading a signal")? {
            let signal = Signal::try_from(info.ssi_signo.cast_signed());
            if signal == Ok(Signal::SIGCONT)
                && let Some(session) = &mut session
            {
                session.come_or_go()?;
            }
            match signal {
                Ok(Signal::SIGCHLD) => self.reap(started.pid).context("waiting for a process")?,
                Ok(Signal::SIGWINCH) if session.is_some() => {
                    if let Some(session) = &session {
                        session.resize();
                    }
                }
                // Meant for this program by its own runtime or job control, or by the
                // kernel for what it wrote.
                Ok(Signal::SIGURG | Signal::SIGPIPE | Signal::SIGXFSZ) => {}
                Ok(Signal::SIGTTOU | Signal::SIGTTIN) => {}
                _ => self.pass_on(started, info.ssi_signo.cast_signed()),
            }
        }
        Ok(())
    }

    /// Takes the end of the process, and of orphans that came to us as their subreaper.
    fn reap(&mut self, process: i32) -> Result<(), rustix::io::Errno> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == process => {
                    self.status = Some(status);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn pass_on(&mut self, started: &Started, number: i32) {
        match (&mut self.ending, Signal::try_from(number)) {
            (Some(ending), Ok(signal)) if Ending::is_asked_by(signal) => {
                ending.ask(started, signal);
            }
            _ => {
                // It may have ended meanwhile, which the loop will notice.
                let _ = started.signal(number);
            }
        }
    }
}

/// Deletes the container of a process that has ended. Its exit status is what the
/// command answers; that something could not be deleted is told beside it.
pub(crate) fn delete(container: &Container) {
    match container.delete() {
        // By somebody else who did not wait for us.
        Err(error) if error.kind() == Kind::NotFound => {}
        Err(error) => log::warn!("deleting the container: {error}"),
        Ok(()) => {}
    }
}

/// The terminal of a foreground process, joined to ours.
struct Session {
    input: Stdin,
    output: Stdout,
    master: OwnedFd,
    /// The settings of ours, once it was made raw.
    ours: Option<Termios>,
    /// Whether ours is a terminal that belongs to another job by now: not to be read
    /// from, nor to be set.
    away: bool,
    to_process: VecDeque<u8>,
    to_us: VecDeque<u8>,
    input_open: bool,
    output_open: bool,
}

impl Session {
    fn new(socket: &OwnedFd) -> Result<Self> {
        let master = orlop::launch::receive_terminal(socket.as_fd())?;
        let mut session = Self {
            input: stdin(),
            output: stdout(),
            master,
            ours: None,
            away: false,
            to_process: VecDeque::new(),
            to_us: VecDeque::new(),
            input_open: true,
            output_open: true,
        };
        session.come_or_go()?;
        Ok(session)
    }

    /// Looks whose our terminal is: a shell that gives it to us makes us go on.
    fn come_or_go(&mut self) -> Result<()> {
        if !stdin().is_terminal() {
            return Ok(());
        }
        self.away = is_away();
        if !self.away {
            let now = tcgetattr(stdin()).context("reading the terminal's settings")?;
            let mut raw = self.ours.get_or_insert(now).clone();
            cfmakeraw(&mut raw);
            // Lines come as the process ends them, and are ours to show.
            raw.output_flags.insert(OutputFlags::OPOST);
            tcsetattr(stdin(), SetArg::TCSANOW, &raw).context("setting the terminal raw")?;
            self.resize();
        }
        Ok(())
    }

    /// Gives the process's terminal the size of ours.
    fn resize(&self) {
        if self.ours.is_some()
            && let Ok(size) = tcgetwinsize(stdin())
        {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    fn wants(&self) -> Vec<PollFd<'_>> {
        let mut fds = Vec::new();
        if self.reads() {
            fds.push(PollFd::new(self.input.as_fd(), PollFlags::POLLIN));
        }
        if self.output_open {
            let mut flags = PollFlags::empty();
            if self.to_us.len() < BUFFER {
                flags |= PollFlags::POLLIN;
            }
            if !self.to_process.is_empty() {
                flags |= PollFlags::POLLOUT;
            }
            // Even if nothing is wanted, poll tells that the other end is closed.
            if !flags.is_empty() {
                fds.push(PollFd::new(self.master.as_fd(), flags));
            }
        }
        if !self.to_us.is_empty() {
            fds.push(PollFd::new(self.output.as_fd(), PollFlags::POLLOUT));
        }
        fds
    }
}

impl Session {
    fn reads(&self) -> bool {
        self.input_open && !self.away && self.to_process.len() < BUFFER
    }

    /// Moves what can be moved without waiting.
    fn copy(&mut self) {
        if self.reads() && ready(self.input.as_fd(), POLL_IN) {
            self.input_open = fill(self.input.as_fd(), &mut self.to_process);
        }
        if !self.to_process.is_empty() && ready(self.master.as_fd(), PollFlags::POLLOUT) {
            empty(self.master.as_fd(), &mut self.to_process);
        }
        if self.output_open && self.to_us.len() < BUFFER && ready(self.master.as_fd(), POLL_IN) {
            // EIO: every process has closed the other end.
            self.output_open = fill(self.master.as_fd(), &mut self.to_us);
        }
        if !self.to_us.is_empty() && ready(self.output.as_fd(), PollFlags::POLLOUT) {
            empty(self.output.as_fd(), &mut self.to_us);
        }
    }

    /// The process has ended: what it wrote last is still on its way. No more of it
    /// than a terminal can hold, since one that it left behind may write for ever; and
    /// a reader of ours that has stopped is not waited for against the caller's will.
    fn drain(&mut self, signals: &SignalFd) -> Result<()> {
        let mut left = BUFFER;
        loop {
            while self.output_open && left > 0 && ready(self.master.as_fd(), POLL_IN) {
                let before = self.to_us.len();
                self.output_open = fill(self.master.as_fd(), &mut self.to_us);
                left = left.saturating_sub(self.to_us.len() - before);
            }
            if self.to_us.is_empty() {
                return Ok(());
            }
            let wanted = [(self.output.as_fd(), PollFlags::POLLOUT), (signals.as_fd(), POLL_IN)];
            let mut fds = wanted.map(|(fd, flags)| PollFd::new(fd, flags));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("writing the last of the output"),
            }
            if fds[0].any() == Some(true) {
                empty(self.output.as_fd(), &mut self.to_us);
            }
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

/// Reads once; false when there is nothing more to come.
fn fill(fd: BorrowedFd<'_>, buffer: &mut VecDeque<u8>) -> bool {
    let mut chunk = [0; CHUNK];
    match nix::unistd::read(fd, &mut chunk) {
        Ok(0) => false,
        Ok(length) => {
            buffer.extend(&chunk[..length]);
            true
        }
        Err(errno) => matches!(errno, Errno::EINTR | Errno::EAGAIN),
    }
}

/// Writes once; what nobody takes any more is thrown away.
fn empty(fd: BorrowedFd<'_>, buffer: &mut VecDeque<u8>) {
    let (front, _) = buffer.as_slices();
    match nix::unistd::write(fd, &front[..front.len().min(CHUNK)]) {
        Ok(length) => drop(buffer.drain(..length)),
        Err(Errno::EINTR | Errno::EAGAIN) => {}
        Err(_) => buffer.clear(),
    }
}
