//! The server: one thread, one loop, and all that it looks after.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use orlop::cgroup::Manager;
use prost::Message;
use rustix::process::{
    Pid, PidfdFlags, WaitId, WaitIdOptions, WaitOptions, kill_process, pidfd_open, wait, waitid,
};

use crate::calls::{Kind, Later, wrong};
use crate::logger::Logger;
use crate::messages::events::TaskOOM;
use crate::messages::ttrpc::Request;
use crate::messages::{Any, Timestamp};
use crate::metrics;
use crate::outbox::Outbox;
use crate::poller::{Interest, Poller, Source};
use crate::step::Step;
use crate::stream::{Late, Stream};
use crate::task::{Caller, Exit, Task};
use crate::ttrpc::connection::{Connection, Fate};
use crate::ttrpc::frame::{self, Frame};
use crate::ttrpc::{Code, Failure, answer};
use crate::work;

/// How long a deletion waits for what a process has written.
const DRAINED: Duration = Duration::from_secs(10);
/// How long a logger has for its end.
const LOGGED: Duration = Duration::from_secs(12);

/// How long after an undo that could not begin, or was killed, there is another.
const AGAIN: Duration = Duration::from_secs(1);

/// All is read that there is, and what is kept is sent when there is room.
const EDGES: Interest = Interest::IN.union(Interest::OUT).union(Interest::ET);

/// COMPAT(containerd): its own shim dumps its stacks, and goes on.
const CURIOUS: Signal = Signal::SIGUSR1;

pub(crate) struct Shim {
    pub namespace: String,
    pub poller: Poller,
    listener: UnixListener,
    /// Somebody may wait there for whom there was no descriptor.
    queued: bool,
    /// Its path, which goes when the end begins.
    socket: PathBuf,
    signals: SignalFd,
    last: u32,
    connections: BTreeMap<u32, Connection>,
    pub steps: BTreeMap<u32, (Step, Later)>,
    /// Whose end a pidfd tells.
    pub exits: BTreeMap<u32, (String, String)>,
    pub streams: BTreeMap<u32, (Stream, String, String)>,
    /// Streams to clients that have not opened their ends yet.
    pub late: Vec<Late>,
    pub tasks: BTreeMap<String, Task>,
    pub outbox: Outbox,
    /// Loggers that shall end, and until when.
    loggers: Vec<(Instant, Logger)>,
    /// Deletions that wait for streams, and until when.
    pub drains: Vec<(Instant, String, String)>,
    /// Tasks that are to be taken back yet, and when.
    undone: Vec<(Instant, String)>,
    /// It ends when the events are sent, until then at most.
    pub ending: Option<Instant>,
}

impl Shim {
    pub(crate) fn new(
        listener: UnixListener,
        socket: PathBuf,
        namespace: &str,
        outbox: Outbox,
    ) -> std::io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, CURIOUS, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        listener.set_nonblocking(true)?;
        let poller = Poller::new()?;
        poller.add(&listener, Source::Listener, Interest::IN | Interest::ET)?;
        poller.add(&signals, Source::Signals, Interest::IN)?;
        Ok(Self {
            namespace: namespace.to_owned(),
            poller,
            listener,
            queued: false,
            socket,
            signals,
            last: 0,
            connections: BTreeMap::new(),
            steps: BTreeMap::new(),
            exits: BTreeMap::new(),
            streams: BTreeMap::new(),
            late: Vec::new(),
            tasks: BTreeMap::new(),
            outbox,
            loggers: Vec::new(),
            drains: Vec::new(),
            undone: Vec::new(),
            ending: None,
        })
    }

    /// Serves until it is told to end.
    pub(crate) fn run(&mut self) {
        loop {
            let drains = self.drains.iter().map(|(deadline, ..)| *deadline);
            let loggers = self.loggers.iter().map(|(deadline, _)| *deadline);
            let late = self.late.iter().map(|late| late.due);
            let undone = self.undone.iter().map(|(due, _)| *due);
            let others = self.outbox.deadline.into_iter().chain(self.ending);
            let deadline = drains.chain(loggers).chain(late).chain(undone).chain(others).min();
            let most = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            for source in self.poller.wait(most) {
                self.serve(source);
            }
            self.look_for_readers();
            self.drained();
            self.end_loggers();
            self.undo_again();
            self.publish();
            if self.queued {
                self.accept();
            }
            let busy = !(self.outbox.is_empty() && self.steps.is_empty() && self.undone.is_empty())
                || self.connections.values().any(Connection::is_full);
            if self.ending.is_some_and(|deadline| !busy || deadline <= Instant::now()) {
                break;
            }
        }
    }

    /// Ends when there is nothing left to do or to tell, and after that time at most. Who
    /// starts a shim meanwhile gets another one: nobody finds this one any more.
    pub(crate) fn end_within(&mut self, most: Duration) {
        if self.ending.is_none() {
            self.ending = Some(Instant::now() + most);
            let _ = std::fs::remove_file(&self.socket);
        }
    }

    fn serve(&mut self, source: Source) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.signal(),
            Source::Events => self.outbox.read(),
            Source::Connection(number) => self.converse(number),
            Source::Step(number) => self.finish(number),
            Source::Exit(number) => self.exited(number),
            Source::Memory(number) => self.starved(number),
            Source::From(number) | Source::To(number) => self.pass(number, source),
        }
    }

    fn accept(&mut self) {
        self.queued = false;
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) => {
                    // There is room again when something else has gone.
                    self.queued = error.kind() != ErrorKind::WouldBlock;
                    return;
                }
            };
            let peer = rustix::net::sockopt::socket_peercred(&socket);
            if !peer.is_ok_and(|peer| peer.uid == rustix::process::geteuid()) {
                continue;
            }
            let Ok(connection) = Connection::new(socket) else { continue };
            let number = self.number();
            if self.poller.add(&connection, Source::Connection(number), EDGES).is_ok() {
                self.connections.insert(number, connection);
            }
        }
    }

    fn converse(&mut self, number: u32) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let mut fate = connection.flush();
        self.take_requests(number);
        let connection = self.connections.get_mut(&number);
        if let Some(connection) = connection.filter(|it| fate == Fate::Open && !it.is_full()) {
            fate = connection.read();
            self.take_requests(number);
        }
        let Some(connection) = self.connections.get(&number) else { return };
        let more = || self.poller.again(connection, Source::Connection(number), EDGES);
        if fate == Fate::Closed || (fate == Fate::More && more().is_err()) {
            self.close(number);
        }
    }

    /// Who has gone waits for nothing.
    fn close(&mut self, number: u32) {
        self.connections.remove(&number);
        for task in self.tasks.values_mut() {
            for process in task.execs.values_mut().chain([&mut task.init]) {
                process.waiters.retain(|waiter| waiter.connection != number);
            }
        }
    }

    /// Who does not take his answers has no further ones made for him.
    fn take_requests(&mut self, number: u32) {
        let next = |shim: &mut Self| {
            let connection = shim.connections.get_mut(&number);
            connection.filter(|connection| !connection.is_full()).and_then(Connection::next)
        };
        while let Some(frame) = next(self) {
            match frame {
                Frame::Whole { stream, kind: frame::REQUEST, message } => {
                    self.request(Caller { connection: number, stream }, &message);
                }
                Frame::TooLong { stream, kind: frame::REQUEST, length } => {
                    let words = format!("a message of {length} bytes is too long");
                    let failure = Failure::new(Code::ResourceExhausted, words);
                    self.reply(Caller { connection: number, stream }, Err(failure));
                }
                // Calls are unary: nothing else is said to a server.
                Frame::Whole { .. } | Frame::TooLong { .. } => {}
            }
        }
    }

    fn request(&mut self, caller: Caller, message: &[u8]) {
        let result = match Request::decode(message) {
            Ok(request) => self.call(caller, &request),
            Err(error) => {
                let words = format!("the request can't be read: {error}");
                Err(Failure::new(Code::InvalidArgument, words))
            }
        };
        match result {
            Ok(Some(payload)) => self.reply(caller, Ok(payload)),
            Ok(None) => {}
            Err(failure) => self.reply(caller, Err(failure)),
        }
    }

    pub(crate) fn reply(&mut self, caller: Caller, result: Result<Vec<u8>, Failure>) {
        let Some(connection) = self.connections.get_mut(&caller.connection) else { return };
        if connection.send(&answer(caller.stream, result)) == Fate::Closed {
            self.close(caller.connection);
        }
    }

    fn publish(&mut self) {
        let fresh = self.outbox.push();
        let Some(socket) = self.outbox.socket() else { return };
        // Edges, since both are looked at every time.
        if fresh {
            let _ = self.poller.add(socket, Source::Events, EDGES);
        }
    }

    /// A number that nothing else has.
    pub(crate) fn number(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    /// Looks after a step.
    pub(crate) fn begin(&mut self, step: Step, later: Later) -> Result<(), Failure> {
        let number = self.number();
        let added = self.poller.add(&step, Source::Step(number), Interest::IN);
        added.and_then(|()| step.go()).map_err(|error| failed(&error))?;
        self.steps.insert(number, (step, later));
        Ok(())
    }

    fn finish(&mut self, number: u32) {
        let Some((step, _)) = self.steps.get_mut(&number) else { return };
        let Some(result) = step.read() else { return };
        let Some((step, later)) = self.steps.remove(&number) else { return };
        // Its end follows at once; what it has started is ours from then on.
        let _ = waitid(WaitId::PidFd(step.process.as_fd()), WaitIdOptions::EXITED);
        // What follows may need its descriptors.
        drop(step);
        self.done(later, result);
        self.reap();
    }

    fn signal(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match i32::try_from(signal.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGTERM | Signal::SIGINT)) => {
                    self.end_within(Duration::from_secs(5));
                }
                Ok(Ok(CURIOUS)) => self.describe(),
                _ => {}
            }
        }
        self.reap();
    }

    /// What there is, for the log.
    fn describe(&self) {
        let processes = self.tasks.values().map(|task| 1 + task.execs.len()).sum::<usize>();
        log::info!(
            "{} tasks, {processes} processes, {} steps, {} streams, {} deletions that wait, \
             {} connections, {} events",
            self.tasks.len(),
            self.steps.len(),
            self.streams.len(),
            self.drains.len(),
            self.connections.len(),
            self.outbox.len(),
        );
    }

    /// Ends what has no other parent any more. A step on its way may have started what is
    /// not known yet; of the others' children each is known, or nobody's.
    fn reap(&mut self) {
        let makes = |later: &Later| matches!(later.kind, Kind::Create | Kind::Start);
        if self.steps.values().any(|(_, later)| makes(later)) {
            return;
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let known = self.exits.iter().find_map(|(number, (task, exec))| {
                let process = self.tasks.get(task)?;
                let process =
                    if exec.is_empty() { Some(&process.init) } else { process.execs.get(exec) };
                (process?.pid == pid.as_raw_nonzero().get()).then_some(*number)
            });
            if let Some(number) = known {
                self.over(number, status_of(status.exit_status(), status.terminating_signal()));
            }
        }
    }

    /// Looks after a process that is a child of ours, or will be.
    pub(crate) fn follow(&mut self, task: &str, exec: &str, pid: i32) -> Result<(), Failure> {
        let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH);
        let pid = pid.map_err(|error| failed(&error.into()))?;
        self.hold(task, exec, pid).inspect_err(|_| {
            // Nobody would know of it. It was not waited for yet: the number is its own.
            let _ = kill_process(pid, rustix::process::Signal::KILL);
        })
    }

    fn hold(&mut self, task: &str, exec: &str, pid: Pid) -> Result<(), Failure> {
        self.process(task, exec)?;
        let number = self.number();
        let opened = pidfd_open(pid, PidfdFlags::empty());
        let pidfd = opened.map_err(|error| failed(&error.into()))?;
        self.poller.add(&pidfd, Source::Exit(number), Interest::IN).map_err(|e| failed(&e))?;
        self.exits.insert(number, (task.to_owned(), exec.to_owned()));
        let process = self.process(task, exec)?;
        process.pid = pid.as_raw_nonzero().get();
        process.pidfd = Some(pidfd);
        Ok(())
    }

    /// Nothing is told of the end of a task's init.
    pub(crate) fn leave(&mut self, id: &str) {
        self.exits.retain(|_, (task, _)| task != id);
        let init = self.tasks.get_mut(id).map(|task| &mut task.init);
        if let Some(pidfd) = init.and_then(|init| init.pidfd.take()) {
            self.poller.forget(&pidfd);
        }
    }

    fn exited(&mut self, number: u32) {
        let Some((id, exec)) = self.exits.get(&number) else { return };
        let Some(process) = self.tasks.get_mut(id).and_then(|task| task.process(exec)) else {
            self.exits.remove(&number);
            return;
        };
        let Some(pidfd) = &process.pidfd else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(Some(status)) => {
                self.over(number, status_of(status.exit_status(), status.terminating_signal()));
            }
            // Who traces it has it still, and until then this would be told for ever. A
            // signal tells when it is ours (ptrace(2)).
            Ok(None) | Err(rustix::io::Errno::CHILD) => self.poller.forget(pidfd),
            Err(_) => self.over(number, UNKNOWN),
        }
    }

    /// A process has ended, and was waited for.
    fn over(&mut self, number: u32, status: u32) {
        let Some((id, exec)) = self.exits.remove(&number) else { return };
        let process = self.tasks.get_mut(&id).and_then(|task| task.process(&exec));
        let Some(process) = process else { return };
        if let Some(pidfd) = process.pidfd.take() {
            self.poller.forget(&pidfd);
        }
        process.exit = Some(Exit { status, at: Timestamp::now() });
        self.hang_up(&id, &exec);
        if exec.is_empty() {
            self.remember(&id);
        }
        if exec.is_empty()
            && let Err(failure) = self.end_rest(&id)
        {
            log::error!("ending what {id} has left: {}", failure.message);
        }
        self.ended(&id, &exec);
    }

    /// The init of a task has been ended, and is a child of ours.
    pub(crate) fn must_be_over(&mut self, id: &str) {
        let own = |(number, (task, exec)): (&u32, &(String, String))| {
            (task == id && exec.is_empty()).then_some(*number)
        };
        if let Some(number) = self.exits.iter().find_map(own) {
            self.exited(number);
            self.over(number, KILLED);
        }
    }

    fn cgroups(&mut self, id: &str) -> Result<&Manager, Failure> {
        let cgroups = self.task(id)?.cgroups.as_ref();
        cgroups.ok_or_else(|| wrong(format!("container {id} has no process yet")))
    }

    /// What a task has used until now.
    pub(crate) fn used(&mut self, id: &str) -> Result<Any, Failure> {
        let stats = self.cgroups(id)?.stats().map_err(|error| work::failed(&error))?;
        Ok(metrics::metrics(&stats))
    }

    /// Looks after the memory of a task, where there is such a thing.
    pub(crate) fn watch(&mut self, id: &str) -> Result<(), Failure> {
        let memory = self.cgroups(id)?.out_of_memory().map_err(|error| work::failed(&error))?;
        let Some(memory) = memory else { return Ok(()) };
        let number = self.number();
        let source = Source::Memory(number);
        self.poller.add(memory.readable(), source, Interest::IN).map_err(|e| failed(&e))?;
        self.task(id)?.memory = Some((number, memory));
        Ok(())
    }

    fn starved(&mut self, number: u32) {
        let of = |task: &Task| task.memory.as_ref().is_some_and(|(own, _)| *own == number);
        let Some((id, task)) = self.tasks.iter_mut().find(|(_, task)| of(task)) else { return };
        let happened = task.memory.as_mut().is_some_and(|(_, memory)| memory.count() > 0);
        if happened {
            let id = id.clone();
            self.remember(&id);
            self.outbox.put(&TaskOOM { container_id: id });
        }
    }

    /// What a task has used, before systemd removes its scope, which it may do as soon as
    /// the init has ended: whoever asks why that was so comes later.
    fn remember(&mut self, id: &str) {
        if self.cgroups(id).is_ok_and(Manager::needs_process)
            && let Ok(last) = self.used(id)
            && let Some(task) = self.tasks.get_mut(id)
        {
            task.last = Some(last);
        }
    }

    /// What was told of the memory until the end, and nothing more: the file goes with the
    /// cgroup, which looks as if something had happened.
    pub(crate) fn unwatch(&mut self, id: &str) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let Some((_, mut memory)) = task.memory.take() else { return };
        // A step has its copy, which would go on telling.
        self.poller.forget(memory.readable());
        if memory.count() > 0 {
            self.outbox.put(&TaskOOM { container_id: id.to_owned() });
        }
    }

    /// Goes on with deletions whose streams are at their end, or take too long.
    fn drained(&mut self) {
        let now = Instant::now();
        let due = |shim: &mut Self, (deadline, task, exec): &(Instant, String, String)| {
            let process = shim.tasks.get_mut(task).and_then(|task| task.process(exec));
            *deadline <= now || process.is_none_or(|process| process.is_drained())
        };
        for drain in std::mem::take(&mut self.drains) {
            if due(self, &drain) {
                self.delete(&drain.1, &drain.2);
            } else {
                self.drains.push(drain);
            }
        }
    }

    /// Its task is gone.
    pub(crate) fn release(&mut self, logger: Logger) {
        if logger.has_ended() {
            return;
        }
        logger.signal(Signal::SIGTERM);
        self.loggers.push((Instant::now() + LOGGED, logger));
    }

    fn end_loggers(&mut self) {
        let now = Instant::now();
        self.loggers.retain(|(deadline, logger)| {
            let late = *deadline <= now;
            if late {
                logger.signal(Signal::SIGKILL);
            }
            !late && !logger.has_ended()
        });
    }

    pub(crate) fn undo_later(&mut self, id: &str) {
        self.undone.push((Instant::now() + AGAIN, id.to_owned()));
    }

    fn undo_again(&mut self) {
        let now = Instant::now();
        for (due, id) in std::mem::take(&mut self.undone) {
            if due > now {
                self.undone.push((due, id));
            } else if self.begin_undo(Caller::NOBODY, &id, None).is_err() {
                self.undo_later(&id);
            }
        }
    }

    pub(crate) fn drain(&mut self, task: &str, exec: &str) {
        self.drains.push((Instant::now() + DRAINED, task.to_owned(), exec.to_owned()));
    }
}

/// What is told of who was ended by the shim.
const KILLED: u32 = 128 + 9;

/// What is told of who ended in no known way.
const UNKNOWN: u32 = 255;

/// As shells write it. A signal need not have a name (signal(7)).
fn status_of(exit: Option<i32>, signal: Option<i32>) -> u32 {
    let status = exit.or_else(|| signal.map(|signal| 128 + signal));
    status.and_then(|status| u32::try_from(status).ok()).unwrap_or(UNKNOWN)
}

pub(crate) fn failed(error: &std::io::Error) -> Failure {
    let message = error.raw_os_error().map_or_else(|| error.to_string(), orlop::error::errno_text);
    Failure::new(Code::Internal, message)
}

/// Ends of pipes for a process: closed here when it has them.
pub(crate) type Ends = [Option<OwnedFd>; 3];
