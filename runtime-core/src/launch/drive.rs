//! The driver: a loop over the gates at which the stage waits.

use std::fs;
use std::io::{IoSliceMut, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use orlop_init::sys::{self, abi};
use orlop_init::wire::{self, GO, HEAD, Message, MessageKind, MountId, TEXT_MAX};

use super::clone::Cloned;
use super::hooks::{self, Around};
use super::{
    PATIENCE, ids, interrupted, kill, listener, net_devices, owned, reap, report, slots, trace,
    wait_any, wait_readable, write_proc,
};
use crate::error::{Error, Kind, Place, Result};
use crate::plan::{Gate, MappedTree, Op, Plan};

/// Where the stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// It waits at a gate.
    Gate(Gate),
    /// It has executed its program.
    Executed,
}

/// Asked before hooks run or a listener is handed on, with the init's pid and with
/// the pid to tell, which a hook in the container sees otherwise: the container's
/// state as the spec wants it on a hook's standard input.
pub type StateOf<'a> = &'a dyn Fn(i32, i32) -> Result<Vec<u8>>;

/// A stage that is running, a child of this process. Dropping it ends it: the
/// stage exits when its socket closes at a gate, and is killed here anyway.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
    control: OwnedFd,
    hook_state: Option<OwnedFd>,
    /// At the gates of the listener and of a tree: its number in the stage.
    part: u32,
    /// The op that came to the gate.
    op: u32,
    /// The process that cloned the container's init has told of it.
    followed: bool,
    /// The gate that the init was at before that: both write into the same socket.
    early: Option<Gate>,
    released: bool,
    /// It has said that only the exec is left.
    leaving: bool,
    /// What it has mounted or taken away, by op.
    mounts: Vec<(u32, MountId)>,
    /// Readable when the caller wants no more of it.
    interrupt: Option<Arc<OwnedFd>>,
}

impl Child {
    pub(super) fn new(
        cloned: Cloned,
        control: OwnedFd,
        hook_state: Option<OwnedFd>,
        interrupt: Option<Arc<OwnedFd>>,
    ) -> Self {
        let Cloned { pid, pidfd } = cloned;
        Self {
            pid,
            pidfd,
            control,
            hook_state,
            part: 0,
            op: 0,
            followed: false,
            early: None,
            released: false,
            leaving: false,
            mounts: Vec::new(),
            interrupt,
        }
    }

    /// Its process id, as this process sees it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its pidfd.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn interrupt(&self) -> Option<BorrowedFd<'_>> {
        self.interrupt.as_ref().map(|fd| fd.as_fd())
    }

    /// Does at each gate what `plan` says, until the stage is at [`Gate::Ready`]
    /// or has executed its program. `state` makes the container's state from the
    /// init's pid and the pid to tell, `directory` is where hooks run.
    ///
    /// # Errors
    /// A failure of the stage with its place, a hook, or what a gate's work says.
    pub fn drive(&mut self, plan: &Plan, state: StateOf<'_>, directory: &Path) -> Result<Reached> {
        loop {
            let gate = match self.next(plan)? {
                Reached::Gate(gate) => gate,
                Reached::Executed => return Ok(Reached::Executed),
            };
            let served = self.serve(gate, plan, state, directory);
            // What fails because the stage is gone is no reason of its own.
            served.map_err(|error| self.or_death(error))?;
            if gate == Gate::Ready {
                return Ok(Reached::Gate(gate));
            }
            self.go()?;
        }
    }

    /// Does a gate's work.
    fn serve(
        &mut self,
        gate: Gate,
        plan: &Plan,
        state: StateOf<'_>,
        directory: &Path,
    ) -> Result<()> {
        let outside = &plan.outside;
        match gate {
            // Passed before this, by who knows how (`Child::pass`).
            Gate::Placed => {
                return Err(Error::new(Kind::Internal, "the stage was not put into its cgroup"));
            }
            Gate::Mapped => {
                if let Some(score) = outside.oom_score {
                    write_proc(self.pid, "oom_score_adj", &score.to_string())
                        .map_err(|error| error.at(Place::Config("/process/oomScoreAdj".into())))
                        .map_err(report::oom_score)?;
                }
                if let Some(maps) = &outside.maps {
                    ids::write(self.pid, maps, self.interrupt())?;
                }
            }
            Gate::Attached => {
                if let Some(offsets) = &outside.time_offsets {
                    write_proc(self.pid, "timens_offsets", offsets)
                        .map_err(|error| error.at(Place::Config("/linux/timeOffsets".into())))?;
                }
                net_devices::move_all(&outside.net_devices, (self.pid, self.pidfd()))?;
            }
            Gate::Tree => self.map_tree(plan)?,
            Gate::RuntimeHooks => {
                let inner = self.inner_pid()?;
                self.give_state(&state(self.pid, inner)?)?;
                let state = state(self.pid, self.pid)?;
                let (init, interrupt) = (Some(self.pidfd()), self.interrupt());
                let around = Around { state: &state, directory, init, interrupt };
                hooks::run(&outside.runtime_hooks, around)?;
            }
            Gate::Listener => {
                if let Some(agent) = &outside.listener {
                    let number = self.part.cast_signed();
                    let process = (self.pid, self.pidfd());
                    listener::hand_on(agent, process, number, &state(self.pid, self.pid)?)?;
                }
            }
            Gate::Ready => {
                for limit in &outside.limits {
                    let rlimit = abi::Rlimit { soft: limit.soft, hard: limit.hard };
                    sys::prlimit(self.pid, limit.resource, &rlimit).map_err(
                        |sys::Errno(errno)| {
                            let number = limit.resource;
                            Error::os(errno, format!("error setting rlimit type {number}"))
                        },
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Maps the ids of the tree that the stage holds: it may lack the privileges.
    fn map_tree(&self, plan: &Plan) -> Result<()> {
        let (index, number) = (self.op as usize, self.part.cast_signed());
        let of_op = |tree: &&MappedTree| tree.op == self.op;
        let (Some(mapped), Some(origin)) =
            (plan.outside.trees.iter().find(of_op), plan.origin(index))
        else {
            return Err(Error::new(Kind::Internal, "the stage is at a tree of no entry"));
        };
        let doing = || format!("{}: mapping its ids", origin.doing);
        owned(sys::pidfd_getfd(self.pidfd.as_raw_fd(), number))
            .map_err(|errno| Error::os(errno, doing()))
            .and_then(|tree| slots::map(plan, &tree, &mapped.ids, doing))
            .map_err(|error| error.at(Place::Config(origin.pointer.to_string())))
    }

    /// Does the work of the stage's first gate, while the stage is still on its way
    /// there, and lets it go on.
    ///
    /// # Errors
    /// What `work` says, or a failure of the stage with its place.
    pub fn pass(
        &mut self,
        plan: &Plan,
        gate: Gate,
        work: impl FnOnce(i32) -> Result<()>,
    ) -> Result<()> {
        if let Err(error) = work(self.pid) {
            // It may have failed because the stage had.
            let dead = wait_readable(self.pidfd.as_fd(), 0).is_ok_and(|dead| dead);
            return Err(if dead { self.next(plan).err().unwrap_or(error) } else { error });
        }
        match self.next(plan)? {
            Reached::Gate(found) if found == gate => self.go(),
            found => Err(Error::new(Kind::Internal, format!("the stage is at {found:?}"))),
        }
    }

    /// Lets a stage that is at [`Gate::Ready`] go on, after telling it the state
    /// that its startContainer hooks read. From here on the process lives on
    /// when this value is dropped.
    ///
    /// # Errors
    /// The stage is gone.
    pub fn release(&mut self, state: StateOf<'_>) -> Result<()> {
        if self.hook_state.is_some() {
            self.give_state(&state(self.pid, self.inner_pid()?)?)?;
        }
        self.go()?;
        trace::released();
        self.released = true;
        Ok(())
    }

    /// Waits until a released stage, or one without a ready gate, has executed
    /// its program.
    ///
    /// # Errors
    /// A failure of the stage with its place.
    pub fn executed(&mut self, plan: &Plan) -> Result<()> {
        let result = match self.next(plan) {
            Ok(Reached::Executed) => Ok(()),
            Ok(Reached::Gate(gate)) => {
                Err(Error::new(Kind::Internal, format!("the stage came to {gate:?} too late")))
            }
            Err(error) => Err(error),
        };
        // One that failed is ours to wait for, as before.
        self.released = result.is_ok();
        result
    }

    /// The next message of the stage.
    pub(super) fn next(&mut self, plan: &Plan) -> Result<Reached> {
        let patience = if plan.steps().any(|(op, _)| matches!(op, Op::Hook { .. })) {
            -1 // hooks have timeouts of their own, or none by the user's wish
        } else {
            i64::try_from(PATIENCE.as_millis()).unwrap_or(-1)
        };
        loop {
            let mut buffer = [0; HEAD + TEXT_MAX];
            // Its end is told by the socket, but for one that another process has.
            let fds = [Some(self.control.as_fd()), Some(self.pidfd.as_fd()), self.interrupt()];
            match wait_any(&fds, patience)? {
                Some(0 | 1) => {}
                Some(_) => return Err(interrupted(self.interrupt(), "waiting for the init stage")),
                None => {
                    let words = format!("the init stage did not answer within {PATIENCE:?}");
                    return Err(Error::new(Kind::Timeout, words));
                }
            }
            let (length, fds) = receive(self.control.as_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
            let bytes = buffer.get(..length).unwrap_or_default();
            if bytes.is_empty() {
                return self.silence();
            }
            let message = Message::read(bytes).ok_or_else(|| {
                Error::new(Kind::Internal, "the init stage sent what is no message")
            })?;
            trace::heard(message.kind);
            match message.kind {
                MessageKind::Failure => return Err(report::failure(plan, &message)),
                MessageKind::Leaving => self.leaving = true,
                MessageKind::Mounted => self.mounts.extend(wire::told(message.text)),
                MessageKind::Init => {
                    self.follow(message.number, fds)?;
                    if let Some(gate) = self.early.take() {
                        return Ok(Reached::Gate(gate));
                    }
                }
                MessageKind::Gate => {
                    (self.part, self.op) = (message.part, message.op);
                    self.mounts.extend(wire::told(message.text));
                    let Some(gate) = Gate::from_number(message.number.cast_unsigned()) else {
                        return Err(Error::new(Kind::Internal, "the stage is at an unknown gate"));
                    };
                    let cloned = |(op, _): (&Op, _)| matches!(op, Op::CloneInit { .. });
                    if self.followed || !plan.steps().take(message.op as usize).any(cloned) {
                        return Ok(Reached::Gate(gate));
                    }
                    self.early = Some(gate);
                }
            }
        }
    }

    /// The socket closed: the program was executed, if that was what the stage said
    /// last. It may have ended since, or its filter may not have let it begin: that
    /// is the end of a program, and its status tells.
    fn silence(&mut self) -> Result<Reached> {
        if self.leaving {
            self.released = true;
            return Ok(Reached::Executed);
        }
        Err(self.died())
    }

    /// The error for a stage that has ended without a word, or is about to.
    fn died(&mut self) -> Error {
        let status = reap(self.pid, self.pidfd.as_fd());
        if status.is_some() {
            self.pid = 0;
        }
        report::died(status, self.released)
    }

    /// The stage's death, if it is dead and that may be the reason of `error`.
    fn or_death(&mut self, error: Error) -> Error {
        match error.kind() {
            Kind::Hook | Kind::ChildDied | Kind::Interrupted => error,
            _ if wait_readable(self.pidfd.as_fd(), 0).is_ok_and(|dead| dead) => self.died(),
            _ => error,
        }
    }

    /// The process cloned the container's init, which is our child too, and ends.
    fn follow(&mut self, pid: i32, fds: Vec<OwnedFd>) -> Result<()> {
        let pidfd = fds.into_iter().next().ok_or_else(|| {
            Error::new(Kind::Internal, "the init stage sent no pidfd for its child")
        })?;
        let _ = sys::wait(self.pid);
        self.followed = true;
        self.pid = pid;
        self.pidfd = pidfd;
        Ok(())
    }

    fn go(&mut self) -> Result<()> {
        match sys::send(self.control.as_raw_fd(), &[GO]) {
            Ok(_) => Ok(()),
            Err(sys::Errno(libc::EPIPE | libc::ECONNRESET)) => Err(self.died()),
            Err(sys::Errno(errno)) => Err(Error::os(errno, "telling the init stage to go on")),
        }
    }

    /// SPEC: hooks in the container read its pid as the container sees it.
    fn inner_pid(&self) -> Result<i32> {
        let path = format!("/proc/{}/status", self.pid);
        let status = fs::read_to_string(&path)
            .map_err(|error| Error::io(&error, "reading the pid of the init process"))?;
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let last = numbers.and_then(|numbers| numbers.split_whitespace().next_back()?.parse().ok());
        last.ok_or_else(|| Error::new(Kind::Internal, format!("{path:?} has no pids")))
    }

    fn give_state(&mut self, state: &[u8]) -> Result<()> {
        let Some(fd) = &self.hook_state else { return Ok(()) };
        let written = fd.try_clone().and_then(|fd| {
            let mut file = fs::File::from(fd);
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(state)
        });
        written.map_err(|error| Error::io(&error, "passing the state to hooks"))
    }

    /// What the stage has told so far of its mounts: those that it has made, or taken
    /// away, each with its op.
    #[must_use]
    pub fn mounts(&self) -> &[(u32, MountId)] {
        &self.mounts
    }

    /// Lets a stage that is at [`Gate::Ready`] leave what it has mounted.
    pub fn accept(mut self) {
        // One that was killed meanwhile has taken nothing back.
        let _ = self.go();
    }

    /// Has a stage take back what it has mounted, and waits for its end.
    pub fn refuse(mut self) {
        let control = self.control.as_raw_fd();
        let _ = nix::sys::socket::shutdown(control, nix::sys::socket::Shutdown::Both);
        let patience = i64::try_from(PATIENCE.as_millis()).unwrap_or(-1);
        if self.pid != 0
            && wait_readable(self.pidfd.as_fd(), patience).is_ok_and(|ended| ended)
            && sys::wait(self.pid).is_ok()
        {
            self.pid = 0;
        }
    }

    /// Kills the process and waits for it.
    pub fn abandon(mut self) {
        self.released = false;
        drop(self);
    }

    /// The process, to be watched by its new owner, who must wait for it.
    ///
    /// # Errors
    /// No descriptor is left for its pidfd; the process is killed then.
    pub fn into_process(mut self) -> Result<(i32, OwnedFd)> {
        let pidfd = self.pidfd.try_clone();
        let pidfd = pidfd.map_err(|error| Error::io(&error, "keeping the pidfd"))?;
        self.released = true;
        Ok((self.pid, pidfd))
    }
}

/// One message and the descriptors with it; an empty one when nobody is there to
/// send any.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: MsgFlags,
) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([i32; 2]);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags);
    let message = match message {
        // ECONNRESET: it died without having read what we sent. EAGAIN: it died, and
        // its end of the socket is not closed.
        Err(Errno::ECONNRESET | Errno::EAGAIN) => return Ok((0, Vec::new())),
        message => message.map_err(|errno| Error::os(errno as i32, "receiving a message"))?,
    };
    let mut fds = Vec::new();
    if let Ok(controls) = message.cmsgs() {
        for control in controls {
            if let ControlMessageOwned::ScmRights(rights) = control {
                fds.extend(rights.into_iter().filter_map(|fd| owned(Ok(fd)).ok()));
            }
        }
    }
    Ok((message.bytes, fds))
}

/// Receives the master of a terminal on the socket whose other end was handed
/// out to take it.
///
/// # Errors
/// Nothing came, or no descriptor with it.
pub fn receive_terminal(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut name = [0; 256];
    let (_, fds) = receive(socket, &mut name, MsgFlags::empty())?;
    fds.into_iter().next().ok_or_else(|| {
        Error::new(Kind::ChildDied, "the process sent no terminal to its console socket")
    })
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.released || self.pid == 0 {
            return;
        }
        kill(self.pid, self.pidfd.as_fd());
    }
}
