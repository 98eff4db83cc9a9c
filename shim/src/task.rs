//! What the shim knows of a task and of its processes.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use orlop::cgroup::{Manager, OutOfMemory};

use crate::logger::Logger;
use crate::messages::options::Options;
use crate::messages::task::Status;
use crate::messages::{Any, Mount, Timestamp};

/// Who waits for an answer: the connection, and the stream in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    pub connection: u32,
    pub stream: u32,
}

impl Caller {
    /// No connection has this number.
    pub(crate) const NOBODY: Self = Self { connection: 0, stream: 0 };
}

/// A container with its processes.
pub(crate) struct Task {
    pub bundle: PathBuf,
    pub rootfs: Vec<Mount>,
    pub options: Options,
    /// The folder of the images that it is restored from, if it is.
    pub checkpoint: Option<PathBuf>,
    pub freezer: Freezer,
    /// A step saves it.
    pub saving: bool,
    /// Where it is counted what it uses, once there is such a thing.
    pub cgroups: Option<Manager>,
    /// It has a pid namespace of its own.
    pub own_pids: bool,
    /// What it had used when its init ended, if that can't be read later.
    pub last: Option<Any>,
    /// What the kernel tells of its memory; the number is that of the poller.
    pub memory: Option<(u32, OutOfMemory)>,
    pub init: Process,
    pub execs: BTreeMap<String, Process>,
}

/// Where a client reads and writes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stdio {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A step makes it, or has still to begin.
    New,
    Created,
    /// A step starts it.
    Starting,
    Running,
    Stopped,
    /// A step deletes it.
    Deleting,
}

/// Whether its processes are paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freezer {
    Off,
    /// A step pauses them.
    Begins,
    On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    pub status: u32,
    pub at: Timestamp,
}

pub(crate) struct Process {
    pub phase: Phase,
    pub pid: i32,
    /// Open until it is reaped.
    pub pidfd: Option<OwnedFd>,
    pub stdio: Stdio,
    /// The process as JSON, of an exec that was not started.
    pub spec: Vec<u8>,
    /// The end of the fifo that keeps stdin open.
    pub held: Option<OwnedFd>,
    /// Who reads what it writes, in the place of a client.
    pub logger: Option<Logger>,
    /// The terminal, for its size.
    pub terminal: Option<OwnedFd>,
    /// Streams of what it writes that are not at their end.
    pub streams: Vec<u32>,
    /// That of what it reads, which ends when nobody writes to it any more.
    pub input: Option<u32>,
    pub exit: Option<Exit>,
    /// Its end has been told; nobody hears of it twice.
    pub told: bool,
    pub waiters: Vec<Caller>,
    /// Who waits for its deletion until the streams are at their end.
    pub deleter: Option<Caller>,
}

impl Process {
    pub(crate) fn new(stdio: Stdio, spec: Vec<u8>) -> Self {
        Self {
            phase: Phase::New,
            pid: 0,
            pidfd: None,
            stdio,
            spec,
            held: None,
            logger: None,
            terminal: None,
            streams: Vec::new(),
            input: None,
            exit: None,
            told: false,
            waiters: Vec::new(),
            deleter: None,
        }
    }

    pub(crate) fn all_streams(&self) -> Vec<u32> {
        self.streams.iter().copied().chain(self.input).collect()
    }

    /// Whether all that it has written is where it belongs.
    pub(crate) fn is_drained(&self) -> bool {
        self.streams.is_empty() && self.logger.as_ref().is_none_or(Logger::has_ended)
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running) && self.exit.is_none()
    }

    pub(crate) fn status(&self, freezer: Freezer) -> Status {
        match self.phase {
            _ if self.exit.is_some() => Status::Stopped,
            Phase::New | Phase::Created => Status::Created,
            Phase::Starting | Phase::Running => match freezer {
                Freezer::Off => Status::Running,
                Freezer::Begins => Status::Pausing,
                Freezer::On => Status::Paused,
            },
            Phase::Stopped | Phase::Deleting => Status::Stopped,
        }
    }
}

impl Task {
    /// The images, while there is no process yet.
    pub(crate) fn images(&self) -> Option<&PathBuf> {
        self.checkpoint.as_ref().filter(|_| self.init.pid == 0 && self.init.exit.is_none())
    }

    /// Whether its processes are held: by a pause of ours, or of somebody else.
    pub(crate) fn is_frozen(&self) -> bool {
        let held = |cgroups: &Manager| cgroups.is_frozen().unwrap_or(true);
        self.freezer != Freezer::Off || self.cgroups.as_ref().is_some_and(held)
    }

    /// The init, or the exec of that name.
    pub(crate) fn process(&mut self, exec: &str) -> Option<&mut Process> {
        if exec.is_empty() { Some(&mut self.init) } else { self.execs.get_mut(exec) }
    }
}
