//! A process in the foreground: signals go to it, its streams are joined to ours, its
//! exit status is ours too.
//!
//! Signals are blocked and read from a descriptor, so that everything happens in
//! one loop and none is lost between the start of the process and the wait.

use std::io::{IsTerminal, stdin};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{Uid, fchown, geteuid};
use oci_spec::runtime::{BoxBuilder, LinuxNamespace, LinuxNamespaceType, Process, Spec};
use orlop::bundle::Bundle;
use orlop::container::{Container, CreateOptions, Started, Terminal};
use orlop::{Error, Kind};
use rustix::process::{Pid, WaitOptions, WaitStatus, wait, waitpid};
use rustix::termios::tcgetwinsize;

use crate::ending::Ending;
use crate::herald::Herald;
use crate::streams::Session;

/// Our ends of a process's streams.
enum Streams {
    /// Somebody else has the other ends.
    Others,
    /// The socket on which the terminal's master arrives.
    Console(OwnedFd),
    /// Of its standard input, output and error.
    Pipes([OwnedFd; 3]),
}

/// Signals taken over for the time of one foreground process.
pub(crate) struct Foreground {
    signals: SignalFd,
    /// How we come to its streams.
    streams: Streams,
    /// That process's streams and ours, when it has ended.
    session: Option<Session>,
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
        let streams = Streams::Others;
        Ok(Self { signals, streams, session: None, ending: None, herald: None, status: None })
    }

    /// The same for the first process of a container: its streams or its terminal come to
    /// us, if nobody else takes it, and its orphans, if we are their `subreaper`.
    pub(crate) fn of(
        bundle: &mut Bundle,
        options: &mut CreateOptions,
        subreaper: bool,
    ) -> Result<Self> {
        if subreaper {
            nix::sys::prctl::set_child_subreaper(true).context("becoming a subreaper")?;
        }
        let mut foreground = Self::new()?;
        foreground.join(&mut bundle.spec, options)?;
        Ok(foreground)
    }

    /// Has the streams of a container's first process come to us.
    pub(crate) fn join(&mut self, spec: &mut Spec, options: &mut CreateOptions) -> Result<()> {
        let process = spec.process().as_ref();
        if process.is_none_or(|process| process.terminal() != Some(true)) {
            let owner = process.and_then(|process| owner(spec, process));
            options.stdio = Some(self.pipes(owner)?);
        } else if matches!(options.terminal, Terminal::None)
            && let Some(process) = spec.process_mut()
        {
            options.terminal = self.terminal(process)?;
        }
        Ok(())
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
        self.streams = Streams::Console(ours);
        Ok(Terminal::Joined(theirs))
    }

    /// The standard streams of a process without a terminal: pipes, whose other ends this
    /// program reads and writes. With ours it would have our terminal, and what it is given
    /// of ours would become its user's, who opens `/dev/stdout` only then.
    ///
    /// COMPAT(runc): so it is there, too.
    pub(crate) fn pipes(&mut self, owner: Option<u32>) -> Result<[OwnedFd; 3]> {
        let pipe = || {
            let made = nix::unistd::pipe2(OFlag::O_CLOEXEC);
            made.map_err(|errno| Error::os(errno as i32, "making a pipe"))
        };
        let ((input, to), (from, output), (from_error, error)) = (pipe()?, pipe()?, pipe()?);
        let theirs = [input, output, error];
        if let Some(owner) = owner.map(Uid::from_raw).filter(|owner| *owner != geteuid()) {
            for fd in &theirs {
                // Where it can't be, the process has the descriptors still.
                let _ = fchown(fd, Some(owner), None);
            }
        }
        self.streams = Streams::Pipes([to, from, from_error]);
        Ok(theirs)
    }

    /// Waits until the process has ended. Returns its exit status as a shell
    /// would tell it: 128 and the signal's number when a signal ended it. What it wrote
    /// last is still on its way then: [`Self::finish`].
    pub(crate) fn wait(&mut self, started: &Started) -> Result<i32> {
        let mut session = match std::mem::replace(&mut self.streams, Streams::Others) {
            Streams::Others => None,
            Streams::Console(socket) => Some(Session::of_terminal(&socket)?),
            Streams::Pipes(pipes) => Some(Session::of_pipes(pipes)),
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
        self.session = session;
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

    /// Waits until all is written that the process has said; with `others`, what those say
    /// that it has left behind with its pipes, too, until they end.
    ///
    /// COMPAT(runc): so does `exec`.
    pub(crate) fn finish(mut self, others: bool) -> Result<()> {
        self.session.take().map_or(Ok(()), |mut session| session.drain(&self.signals, others))
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
                Ok(Signal::SIGWINCH)
                    if session.as_ref().is_some_and(|session| session.resize()) => {}
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

/// Who has a process's ids outside of the container; nobody who is known, if its user
/// namespace is another's.
pub(crate) fn owner(spec: &Spec, process: &Process) -> Option<u32> {
    let user = process.user().uid();
    let linux = spec.linux().as_ref()?;
    let kinds = linux.namespaces().iter().flatten().map(LinuxNamespace::typ);
    let mappings = linux.uid_mappings().as_deref().unwrap_or_default();
    if mappings.is_empty() {
        return (!kinds.into_iter().any(|kind| kind == LinuxNamespaceType::User)).then_some(user);
    }
    mappings.iter().find_map(|one| {
        let offset = user.checked_sub(one.container_id()).filter(|offset| *offset < one.size())?;
        one.host_id().checked_add(offset)
    })
}
