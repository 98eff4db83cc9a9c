//! The calls of a task service, and what follows when their steps are done.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use orlop::bundle::Bundle;
use orlop::container::Store;
use orlop_init::sys::{self, Errno};
use prost::Message;
use rustix::process::Signal;

use crate::checkpoint::folder_of_images;
use crate::done::{deleted, unsigned, waited};
use crate::lock;
use crate::logger::Wait;
use crate::messages::events::TaskExecAdded;
use crate::messages::task::{
    CloseIoRequest, ConnectResponse, CreateTaskRequest, ExecProcessRequest, KillRequest,
    PidsResponse, ProcessDetails, ProcessInfo, ProcessRequest, ResizePtyRequest, StateResponse,
    StatsResponse, UpdateTaskRequest,
};
use crate::messages::ttrpc::Request;
use crate::messages::{Any, Empty};
use crate::options;
use crate::shim::{Ends, Shim, failed};
use crate::stdio::Given;
use crate::step::{Made, Step, Work};
use crate::task::{Caller, Freezer, Phase, Process, Stdio, Task};
use crate::ttrpc::{Code, Failure};
use crate::work;

/// The last signal there is (signal(7)); those from 32 on have no names.
const LAST: i32 = 64;

/// An answer: now, or when a step is done.
pub(crate) type Answer = Result<Option<Vec<u8>>, Failure>;

/// What to do when a step is done.
pub(crate) struct Later {
    pub kind: Kind,
    pub caller: Caller,
    pub task: String,
    pub exec: String,
    /// Where the terminal comes from.
    pub console: Option<UnixStream>,
    /// Where a checkpoint is saved.
    pub images: String,
    /// Why something is taken back.
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Start,
    Delete,
    Kill,
    Pause,
    Resume,
    Checkpoint,
    Update,
    /// What a creation has made is of no use.
    Undo,
}

fn decode<M: Message + Default>(payload: &[u8]) -> Result<M, Failure> {
    M::decode(payload)
        .map_err(|error| Failure::new(Code::InvalidArgument, format!("the request: {error}")))
}

pub(crate) fn now(message: &impl Message) -> Answer {
    Ok(Some(message.encode_to_vec()))
}

pub(crate) fn none_such(task: &str, exec: &str) -> Failure {
    let words = match exec {
        "" => format!("container {task} not found: not found"),
        exec => format!("process {exec}: not found"),
    };
    Failure::new(Code::NotFound, words)
}

pub(crate) fn wrong(words: impl Into<String>) -> Failure {
    Failure::new(Code::FailedPrecondition, words)
}

impl Shim {
    pub(crate) fn call(&mut self, caller: Caller, request: &Request) -> Answer {
        let Request { service, method, payload, .. } = request;
        if !matches!(service.as_str(), "containerd.task.v2.Task" | "containerd.task.v3.Task") {
            return Err(Failure::new(Code::Unimplemented, format!("service {service}")));
        }
        match method.as_str() {
            "Create" => self.create(caller, decode(payload)?),
            "Start" => self.start(caller, decode(payload)?),
            "Exec" => self.exec(decode(payload)?),
            "Delete" => self.request_delete(caller, decode(payload)?),
            "State" => self.state(&decode(payload)?),
            "Wait" => self.wait(caller, &decode(payload)?),
            "Kill" => self.kill(caller, decode(payload)?),
            "Pids" => self.pids(&decode(payload)?),
            "Pause" => self.pause(caller, decode(payload)?, Kind::Pause),
            "Resume" => self.pause(caller, decode(payload)?, Kind::Resume),
            "Checkpoint" => self.checkpoint(caller, decode(payload)?),
            "Update" => self.update(caller, decode(payload)?),
            "ResizePty" => self.resize(&decode(payload)?),
            "Stats" => self.stats(&decode(payload)?),
            "CloseIO" => self.close_io(&decode(payload)?),
            "Connect" => self.connect(&decode(payload)?),
            "Shutdown" => self.shutdown(),
            _ => Err(Failure::new(Code::Unimplemented, format!("method {method}"))),
        }
    }

    pub(crate) fn process(&mut self, id: &str, exec: &str) -> Result<&mut Process, Failure> {
        let process = self.tasks.get_mut(id).and_then(|task| task.process(exec));
        process.ok_or_else(|| none_such(id, exec))
    }

    pub(crate) fn task(&mut self, id: &str) -> Result<&mut Task, Failure> {
        self.tasks.get_mut(id).ok_or_else(|| none_such(id, ""))
    }

    /// One that is neither being made nor being deleted: of it nothing is told before its
    /// creation or after its deletion.
    fn whole(&mut self, id: &str) -> Result<&mut Task, Failure> {
        let task = self.task(id)?;
        match task.init.phase {
            Phase::New => Err(wrong(format!("container {id} is being created"))),
            Phase::Deleting => Err(wrong(format!("container {id} is being deleted"))),
            _ => Ok(task),
        }
    }

    pub(crate) fn root(&mut self, id: &str) -> Result<PathBuf, Failure> {
        let namespace = self.namespace.clone();
        Ok(work::root_of(&self.task(id)?.options, &namespace))
    }

    pub(crate) fn step(
        &mut self,
        kept: &[BorrowedFd<'_>],
        later: Later,
        work: Work<'_>,
    ) -> Result<(), Failure> {
        let lock = lock::share(&self.task(&later.task)?.bundle).map_err(|error| failed(&error))?;
        let kept: Vec<_> = kept.iter().copied().chain(lock.as_ref().map(AsFd::as_fd)).collect();
        let step = Step::begin(&kept, work).map_err(|error| failed(&error))?;
        self.begin(step, later)
    }

    fn create(&mut self, caller: Caller, request: CreateTaskRequest) -> Answer {
        let CreateTaskRequest { id, bundle, rootfs, options, .. } = request;
        if self.tasks.contains_key(&id) {
            return Err(Failure::new(Code::AlreadyExists, format!("task {id} already exists")));
        }
        if self.ending.is_some() {
            return Err(wrong("the shim is ending"));
        }
        if !request.parent_checkpoint.is_empty() {
            // Images name the ones that they build upon themselves.
            let words = "a parent checkpoint is not supported";
            return Err(Failure::new(Code::InvalidArgument, words));
        }
        let checkpoint = match &*request.checkpoint {
            "" => None,
            path => Some(folder_of_images(path)?),
        };
        let options = options::of(options)?;
        let bundle = PathBuf::from(bundle);
        if !bundle.is_absolute() {
            // Where the shim works is the bundle of its first task.
            let words = format!("the path of the bundle is not absolute: {bundle:?}");
            return Err(Failure::new(Code::InvalidArgument, words));
        }
        let (stdin, stdout, stderr) = (request.stdin, request.stdout, request.stderr);
        let stdio = Stdio { stdin, stdout, stderr, terminal: request.terminal };
        let init = Process::new(stdio, Vec::new());
        let task = Task {
            bundle,
            rootfs,
            options,
            checkpoint,
            freezer: Freezer::Off,
            saving: false,
            cgroups: None,
            own_pids: false,
            last: None,
            memory: None,
            init,
            execs: std::collections::BTreeMap::new(),
        };
        self.tasks.insert(id.clone(), task);
        let begun = self.begin_creation(caller, &id);
        if let Err(failure) = begun {
            self.forget(&id);
            return Err(failure);
        }
        Ok(None)
    }

    fn begin_creation(&mut self, caller: Caller, id: &str) -> Result<(), Failure> {
        let task = self.task(id)?;
        let mounts = task.rootfs.clone();
        if task.images().is_some() {
            // What is written to its root before it comes back must not be lost below this.
            let later = later(Kind::Create, caller, id);
            let (bundle, options) = (task.bundle.clone(), task.options.clone());
            let work = move || work::mount(&options, &mounts, &bundle);
            return self.step(&[], later, Box::new(work));
        }
        self.begin_with_streams(Kind::Create, caller, id, |creation| {
            work::create(creation, &mounts)
        })
    }

    /// Begins the step that makes the init, which has its streams from here.
    pub(crate) fn begin_with_streams(
        &mut self,
        kind: Kind,
        caller: Caller,
        id: &str,
        make: impl FnOnce(work::Creation<'_>) -> Result<Made, Failure>,
    ) -> Result<(), Failure> {
        let root = self.root(id)?;
        let task = self.task(id)?;
        let (bundle, options) = (task.bundle.clone(), task.options.clone());
        let stdio = task.init.stdio.clone();
        let Given { ends, ours, theirs, wait } = self.streams_of(id, "", &stdio)?;
        let later = Later { console: ours, ..later(kind, caller, id) };
        let kept = kept(&ends, theirs.as_ref(), wait.as_ref());
        let creation = work::Creation {
            id: id.to_owned(),
            bundle,
            root,
            options,
            ends: &ends,
            console: theirs.as_ref(),
            wait: wait.as_ref(),
        };
        self.step(&kept, later, Box::new(move || make(creation)))
    }

    /// Takes back what a creation has made. The task is there until that is done, and why
    /// it failed is told then: another one of that id would lose what it makes. A failure
    /// is to be told now: no step could begin, and one will later.
    pub(crate) fn undo(&mut self, caller: Caller, id: &str, failure: Failure) -> Option<Failure> {
        self.leave(id);
        let error = self.begin_undo(caller, id, Some(failure.clone())).err()?;
        log::error!("taking {id} back: {}", error.message);
        self.undo_later(id);
        Some(failure)
    }

    pub(crate) fn begin_undo(
        &mut self,
        caller: Caller,
        id: &str,
        failure: Option<Failure>,
    ) -> Result<(), Failure> {
        let root = self.root(id)?;
        let bundle = self.task(id)?.bundle.clone();
        let later = Later { failure, ..later(Kind::Undo, caller, id) };
        self.step(&[], later, Box::new(move || work::delete(&root, id, &bundle)))
    }

    /// Ends what a container still has when its init is gone. In a pid namespace of its own
    /// the kernel does that.
    pub(crate) fn end_rest(&mut self, id: &str) -> Result<(), Failure> {
        if self.task(id)?.own_pids {
            return Ok(());
        }
        let root = self.root(id)?;
        let later = later(Kind::Kill, Caller::NOBODY, id);
        let kill = Signal::KILL.as_raw();
        let work = move || work::change(&root, id, |container| container.signal_all(kill));
        self.step(&[], later, Box::new(work))
    }

    fn start(&mut self, caller: Caller, request: ProcessRequest) -> Answer {
        let ProcessRequest { id, exec_id } = request;
        let root = self.root(&id)?;
        let gone = self.task(&id)?.init.exit.is_some();
        let process = self.process(&id, &exec_id)?;
        let later = Later { exec: exec_id.clone(), ..later(Kind::Start, caller, &id) };
        if exec_id.is_empty() {
            if process.phase != Phase::Created {
                return Err(wrong(format!("cannot start a container that is not created: {id}")));
            }
            if let Some(images) = self.task(&id)?.images().cloned() {
                return self.restore(caller, &id, images);
            }
            self.step(
                &[],
                later,
                Box::new({
                    let id = id.clone();
                    move || work::start(&root, &id)
                }),
            )?;
        } else {
            if gone {
                return Err(wrong(format!("container {id} init process is not running")));
            }
            if process.phase != Phase::New {
                return Err(wrong("cannot start a process that was started"));
            }
            self.whole(&id)?;
            let begun = self.begin_exec(later, &root);
            // It may be tried again, with others.
            begun.inspect_err(|_| self.let_go(&id, &exec_id))?;
        }
        let process = self.process(&id, &exec_id)?;
        process.phase = Phase::Starting;
        process.spec = Vec::new();
        Ok(None)
    }

    fn begin_exec(&mut self, mut later: Later, root: &Path) -> Result<(), Failure> {
        let (id, exec_id) = (later.task.clone(), later.exec.clone());
        let process = self.process(&id, &exec_id)?;
        let (stdio, spec) = (process.stdio.clone(), process.spec.clone());
        let Given { ends, ours, theirs, wait } = self.streams_of(&id, &exec_id, &stdio)?;
        later.console = ours;
        let kept = kept(&ends, theirs.as_ref(), wait.as_ref());
        let work = || {
            wait.as_ref().map_or(Ok(()), Wait::wait)?;
            work::exec(root, &id, &spec, &ends, theirs.as_ref())
        };
        self.step(&kept, later, Box::new(work))
    }

    fn exec(&mut self, request: ExecProcessRequest) -> Answer {
        let ExecProcessRequest { id, exec_id, terminal, stdin, stdout, stderr, spec } = request;
        let task = self.whole(&id)?;
        if exec_id.is_empty() {
            return Err(Failure::new(Code::InvalidArgument, "an exec needs an id"));
        }
        // Of an exec with its container's id the end would be that of the container.
        if exec_id == id || task.execs.contains_key(&exec_id) {
            return Err(Failure::new(Code::AlreadyExists, format!("id {exec_id}: already exists")));
        }
        if task.freezer == Freezer::On || task.images().is_some() || task.init.exit.is_some() {
            return Err(wrong("cannot exec in a container that does not run"));
        }
        let spec = spec.map(|spec| spec.value).unwrap_or_default();
        let unreadable = |error: &dyn std::fmt::Display| {
            let words = format!("the process can't be read: {error}");
            Failure::new(Code::InvalidArgument, words)
        };
        let mut document: serde_json::Map<_, _> =
            serde_json::from_slice(&spec).map_err(|error| unreadable(&error))?;
        document.insert("terminal".to_owned(), terminal.into());
        let spec = serde_json::to_vec(&document).unwrap_or_default();
        Bundle::parse_process(&spec).map_err(|error| unreadable(&error))?;
        let stdio = Stdio { stdin, stdout, stderr, terminal };
        task.execs.insert(exec_id.clone(), Process::new(stdio, spec));
        self.outbox.put(&TaskExecAdded { container_id: id, exec_id });
        now(&Empty {})
    }

    fn request_delete(&mut self, caller: Caller, request: ProcessRequest) -> Answer {
        let ProcessRequest { id, exec_id } = request;
        let task = self.task(&id)?;
        let (running, saving) = (task.execs.values().any(Process::is_running), task.saving);
        let process = self.process(&id, &exec_id)?;
        if process.is_running() || (exec_id.is_empty() && running) {
            return Err(wrong("cannot delete a running process"));
        }
        if saving && exec_id.is_empty() {
            return Err(wrong(format!("container {id} is being checkpointed")));
        }
        match process.phase {
            Phase::New if exec_id.is_empty() => return Err(wrong("it is being created")),
            Phase::Starting => return Err(wrong("it is being started")),
            _ if process.deleter.is_some() => return Err(wrong("it is being deleted")),
            Phase::Deleting => return Err(wrong("it is being deleted")),
            _ => process.deleter = Some(caller),
        }
        match process.exit {
            Some(_) => self.drain(&id, &exec_id),
            // It writes until it is ended, or never has.
            None => self.delete(&id, &exec_id),
        }
        Ok(None)
    }

    /// The streams are at their end.
    pub(crate) fn delete(&mut self, id: &str, exec: &str) {
        let Ok(process) = self.process(id, exec) else { return };
        let Some(caller) = process.deleter.take() else { return };
        if !exec.is_empty() {
            let response = deleted(process);
            if let Some(process) = self.task(id).ok().and_then(|task| task.execs.remove(exec)) {
                self.drop_process(id, exec, process);
            }
            return self.reply(caller, Ok(response.encode_to_vec()));
        }
        let begun = self.root(id).and_then(|root| {
            let bundle = self.task(id)?.bundle.clone();
            let later = later(Kind::Delete, caller, id);
            self.step(&[], later, Box::new(move || work::delete(&root, id, &bundle)))?;
            self.task(id)?.init.phase = Phase::Deleting;
            Ok(())
        });
        if let Err(failure) = begun {
            self.reply(caller, Err(failure));
        }
    }

    fn state(&mut self, request: &ProcessRequest) -> Answer {
        let ProcessRequest { id, exec_id } = request;
        let task = self.task(id)?;
        let (freezer, bundle) = (task.freezer, task.bundle.to_string_lossy().into_owned());
        let process = task.process(exec_id).ok_or_else(|| none_such(id, exec_id))?;
        let Stdio { stdin, stdout, stderr, terminal } = process.stdio.clone();
        now(&StateResponse {
            id: id.clone(),
            bundle,
            pid: unsigned(process.pid),
            status: process.status(freezer) as i32,
            stdin,
            stdout,
            stderr,
            terminal,
            exit_status: process.exit.map_or(0, |exit| exit.status),
            exited_at: process.exit.map(|exit| exit.at),
            exec_id: exec_id.clone(),
        })
    }

    fn wait(&mut self, caller: Caller, request: &ProcessRequest) -> Answer {
        let process = self.process(&request.id, &request.exec_id)?;
        // Who asks late hears of it no earlier than others.
        if !process.told {
            process.waiters.push(caller);
            return Ok(None);
        }
        now(&waited(process))
    }

    fn kill(&mut self, caller: Caller, request: KillRequest) -> Answer {
        let KillRequest { id, exec_id, signal, all } = request;
        if exec_id.is_empty() && self.task(&id)?.images().is_some() {
            return self.kill_saved(&id, signal);
        }
        let number = i32::try_from(signal).ok().filter(|number| (0..=LAST).contains(number));
        let number = number.ok_or_else(|| {
            Failure::new(Code::InvalidArgument, format!("there is no signal {signal}"))
        })?;
        // What v1's freezer holds dies only when it is let go, whoever has paused it.
        let task = self.task(&id)?;
        let frozen =
            number == Signal::KILL.as_raw() && task.init.pidfd.is_some() && task.is_frozen();
        if (all || frozen) && exec_id.is_empty() {
            let root = self.root(&id)?;
            let later = later(Kind::Kill, caller, &id);
            let work = move || work::change(&root, &id, |container| container.signal_all(number));
            self.step(&[], later, Box::new(work))?;
            return Ok(None);
        }
        let process = self.process(&id, &exec_id)?;
        let gone = || Failure::new(Code::NotFound, "process already finished: not found");
        if process.phase == Phase::New {
            return Err(wrong("process not created"));
        }
        let pidfd = process.pidfd.as_ref().ok_or_else(gone)?;
        match sys::pidfd_send_signal(pidfd.as_raw_fd(), number.unsigned_abs()) {
            Ok(()) => now(&Empty {}),
            Err(Errno(errno)) if errno == rustix::io::Errno::SRCH.raw_os_error() => Err(gone()),
            Err(Errno(errno)) => Err(failed(&std::io::Error::from_raw_os_error(errno))),
        }
    }

    fn pids(&mut self, request: &ProcessRequest) -> Answer {
        self.whole(&request.id)?;
        let root = self.root(&request.id)?;
        let pids = Store::new(root).open(&request.id).and_then(|found| found.processes());
        let pids = pids.map_err(|error| work::failed(&error))?;
        let execs = &self.task(&request.id)?.execs;
        let info = |pid: i32| {
            let is_it = |exec: &Process| exec.pid == pid && exec.exit.is_none();
            let exec = execs.iter().find(|(_, exec)| is_it(exec));
            let info = exec.map(|(exec_id, _)| Any {
                type_url: ProcessDetails::NAME.to_owned(),
                value: ProcessDetails { exec_id: exec_id.clone() }.encode_to_vec(),
            });
            ProcessInfo { pid: unsigned(pid), info }
        };
        now(&PidsResponse { processes: pids.into_iter().map(info).collect() })
    }

    fn stats(&mut self, request: &ProcessRequest) -> Answer {
        if self.task(&request.id)?.init.phase == Phase::New {
            return Err(wrong("the container is not created"));
        }
        let stats = match self.used(&request.id) {
            Ok(stats) => stats,
            Err(failure) => self.task(&request.id)?.last.clone().ok_or(failure)?,
        };
        now(&StatsResponse { stats: Some(stats) })
    }

    fn pause(&mut self, caller: Caller, request: ProcessRequest, kind: Kind) -> Answer {
        let id = request.id;
        self.whole(&id)?;
        let root = self.root(&id)?;
        let later = later(kind, caller, &id);
        let work = || {
            work::change(&root, &id, |container| match kind {
                Kind::Pause => container.pause(),
                _ => container.resume(),
            })
        };
        self.step(&[], later, Box::new(work))?;
        let task = self.task(&id)?;
        if kind == Kind::Pause && task.freezer == Freezer::Off {
            task.freezer = Freezer::Begins;
        }
        Ok(None)
    }

    fn update(&mut self, caller: Caller, request: UpdateTaskRequest) -> Answer {
        let id = request.id;
        self.whole(&id)?;
        let root = self.root(&id)?;
        let resources = request.resources.map(|any| any.value).unwrap_or_default();
        let resources = serde_json::from_slice(&resources).map_err(|error| {
            Failure::new(Code::InvalidArgument, format!("the resources can't be read: {error}"))
        })?;
        let later = later(Kind::Update, caller, &id);
        let work = move || work::change(&root, &id, |container| container.update(&resources));
        self.step(&[], later, Box::new(work))?;
        Ok(None)
    }

    fn resize(&mut self, request: &ResizePtyRequest) -> Answer {
        let process = self.process(&request.id, &request.exec_id)?;
        if let Some(terminal) = &process.terminal {
            let number = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
            let size = rustix::termios::Winsize {
                ws_row: number(request.height),
                ws_col: number(request.width),
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let done = rustix::termios::tcsetwinsize(terminal, size);
            done.map_err(|error| failed(&error.into()))?;
        }
        now(&Empty {})
    }

    fn close_io(&mut self, request: &CloseIoRequest) -> Answer {
        let process = self.process(&request.id, &request.exec_id)?;
        if request.stdin {
            process.held = None;
        }
        now(&Empty {})
    }

    fn connect(&mut self, request: &ProcessRequest) -> Answer {
        let task_pid = self.tasks.get(&request.id).map_or(0, |task| unsigned(task.init.pid));
        let shim_pid = std::process::id();
        now(&ConnectResponse { shim_pid, task_pid, version: String::new() })
    }

    fn shutdown(&mut self) -> Answer {
        if self.tasks.is_empty() {
            self.end_within(std::time::Duration::from_secs(3));
        }
        now(&Empty {})
    }
}

pub(crate) fn later(kind: Kind, caller: Caller, id: &str) -> Later {
    let (task, exec, images) = (id.to_owned(), String::new(), String::new());
    Later { kind, caller, task, exec, console: None, images, failure: None }
}

/// What a step must have.
fn kept<'a>(
    ends: &'a Ends,
    console: Option<&'a OwnedFd>,
    wait: Option<&'a Wait>,
) -> Vec<BorrowedFd<'a>> {
    let wait = wait.into_iter().flat_map(Wait::descriptors);
    ends.iter().flatten().chain(console).chain(wait).map(AsFd::as_fd).collect()
}
