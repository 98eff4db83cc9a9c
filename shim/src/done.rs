//! What follows when a step is done or a process has ended, and what is told of it, in the
//! order that clients go by: a start before an end, the end of the init after all others.

use std::os::unix::net::UnixStream;

use orlop::cgroup::Manager;
use prost::Message;
use rustix::process::{Signal, pidfd_send_signal};

use crate::calls::{Kind, Later, none_such};
use crate::messages::events::{
    TaskCreate, TaskDelete, TaskExecStarted, TaskExit, TaskIo, TaskPaused, TaskResumed, TaskStart,
};
use crate::messages::task::{DeleteResponse, PidResponse, WaitResponse};
use crate::messages::{Empty, Timestamp};
use crate::shim::Shim;
use crate::step::Made;
use crate::task::{Caller, Exit, Freezer, Phase, Process, Stdio};
use crate::ttrpc::{Code, Failure};

impl Shim {
    /// A step is done.
    pub(crate) fn done(&mut self, later: Later, result: Result<Made, Failure>) {
        let Later { kind, caller, task: id, exec, console, images, failure } = later;
        let result = match (kind, result) {
            (Kind::Undo, result) => {
                let error = result.err();
                if let Some(error) = &error {
                    log::error!("taking {id} back: {}", error.message);
                }
                match error {
                    Some(error) if error.code == Code::Aborted => self.undo_later(&id),
                    _ => self.forget(&id),
                }
                failure.map_or_else(|| Ok(Vec::new()), Err)
            }
            (Kind::Create, result) => match self.created(caller, &id, console, result) {
                Some(result) => result,
                None => return,
            },
            (Kind::Start, result) => self.started(&id, &exec, console, result),
            (Kind::Checkpoint, result) => self.checkpointed(&id, images, result),
            (Kind::Delete, result) => self.deleted(&id, result),
            (Kind::Kill | Kind::Update, result) => result.map(|_| Empty {}.encode_to_vec()),
            (Kind::Pause, result) => {
                self.paused(&id, result.is_ok());
                result.map(|_| {
                    self.outbox.put(&TaskPaused { container_id: id });
                    Empty {}.encode_to_vec()
                })
            }
            (Kind::Resume, result) => result.map(|_| {
                self.set_freezer(&id, Freezer::Off);
                self.outbox.put(&TaskResumed { container_id: id });
                Empty {}.encode_to_vec()
            }),
        };
        self.reply(caller, result);
    }

    fn set_freezer(&mut self, id: &str, freezer: Freezer) {
        if let Some(task) = self.tasks.get_mut(id) {
            task.freezer = freezer;
        }
    }

    /// A pause is done. One that has failed was perhaps the second.
    fn paused(&mut self, id: &str, done: bool) {
        let begins = self.tasks.get(id).is_some_and(|task| task.freezer == Freezer::Begins);
        if done || begins {
            self.set_freezer(id, if done { Freezer::On } else { Freezer::Off });
        }
    }

    /// None: what it has made is taken back first.
    fn created(
        &mut self,
        caller: Caller,
        id: &str,
        console: Option<UnixStream>,
        result: Result<Made, Failure>,
    ) -> Option<Result<Vec<u8>, Failure>> {
        // Who was killed takes nothing back himself.
        let is_left = result.as_ref().err().is_none_or(|error| error.code == Code::Aborted);
        match result.and_then(|made| self.take_created(id, console, &made)) {
            Err(failure) if is_left => self.undo(caller, id, failure).map(Err),
            Err(failure) => {
                self.forget(id);
                Some(Err(failure))
            }
            done => Some(done),
        }
    }

    fn take_created(
        &mut self,
        id: &str,
        console: Option<UnixStream>,
        made: &Made,
    ) -> Result<Vec<u8>, Failure> {
        let pid = made.pid;
        // One that is to be restored has no process yet.
        if pid != 0 {
            self.take_container(id, made, console)?;
        }
        let task = self.task(id)?;
        task.init.phase = Phase::Created;
        let Stdio { stdin, stdout, stderr, terminal } = task.init.stdio.clone();
        let checkpoint = task.checkpoint.as_ref().map(|path| path.to_string_lossy().into_owned());
        let event = TaskCreate {
            container_id: id.to_owned(),
            bundle: task.bundle.to_string_lossy().into_owned(),
            rootfs: task.rootfs.clone(),
            io: Some(TaskIo { stdin, stdout, stderr, terminal }),
            checkpoint: checkpoint.unwrap_or_default(),
            pid: unsigned(pid),
        };
        self.outbox.put(&event);
        Ok(PidResponse { pid: unsigned(pid) }.encode_to_vec())
    }

    /// Looks after a container that a step has made.
    fn take_container(
        &mut self,
        id: &str,
        made: &Made,
        console: Option<UnixStream>,
    ) -> Result<(), Failure> {
        let record = serde_json::from_slice(&made.cgroups).map_err(|error| {
            Failure::new(Code::Unknown, format!("what is recorded of {id}'s cgroups: {error}"))
        })?;
        let task = self.task(id)?;
        task.cgroups = Some(Manager::from_record(record));
        task.own_pids = made.own_pids;
        self.take(id, "", made.pid, console)?;
        self.watch_or_warn(id);
        Ok(())
    }

    /// Looks after a process that a step has made.
    fn take(
        &mut self,
        id: &str,
        exec: &str,
        pid: i32,
        console: Option<UnixStream>,
    ) -> Result<(), Failure> {
        self.follow(id, exec, pid)?;
        self.take_terminal(id, exec, console)
    }

    pub(crate) fn watch_or_warn(&mut self, id: &str) {
        if let Err(failure) = self.watch(id) {
            log::warn!("the memory of {id} is not watched: {}", failure.message);
        }
    }

    fn started(
        &mut self,
        id: &str,
        exec: &str,
        console: Option<UnixStream>,
        result: Result<Made, Failure>,
    ) -> Result<Vec<u8>, Failure> {
        // Of a container that was created before, the process is known.
        let restored = exec.is_empty() && self.task(id)?.checkpoint.is_some();
        let result = result.and_then(|made| match exec {
            "" if restored => self.take_container(id, &made, console),
            "" => Ok(()),
            exec => self.take(id, exec, made.pid, console),
        });
        let process = self.process(id, exec)?;
        if let Err(failure) = result {
            process.phase = Phase::Stopped;
            if restored || !exec.is_empty() {
                process.exit = Some(Exit { status: 255, at: Timestamp::now() });
                process.told = true;
                // It may be there, without a terminal that could be taken.
                if let Some(pidfd) = &process.pidfd {
                    let _ = pidfd_send_signal(pidfd, Signal::KILL);
                }
                self.let_go(id, exec);
            }
            self.ended(id, exec);
            return Err(failure);
        }
        process.phase = Phase::Running;
        let pid = unsigned(process.pid);
        match exec {
            "" => self.outbox.put(&TaskStart { container_id: id.to_owned(), pid }),
            _ => self.outbox.put(&TaskExecStarted {
                container_id: id.to_owned(),
                exec_id: exec.to_owned(),
                pid,
            }),
        }
        // It may have been quicker.
        self.ended(id, exec);
        Ok(PidResponse { pid }.encode_to_vec())
    }

    /// What was begun for a process that there is not.
    pub(crate) fn let_go(&mut self, id: &str, exec: &str) {
        let Ok(process) = self.process(id, exec) else { return };
        let streams = process.all_streams();
        (process.held, process.input) = (None, None);
        process.streams.clear();
        let logger = process.logger.take();
        self.cut(&streams);
        logger.into_iter().for_each(|logger| self.release(logger));
    }

    fn deleted(&mut self, id: &str, result: Result<Made, Failure>) -> Result<Vec<u8>, Failure> {
        if let Err(failure) = result {
            // It may be tried again.
            self.task(id)?.init.phase = Phase::Stopped;
            return Err(failure);
        }
        // Its deletion may have ended it.
        self.must_be_over(id);
        let response = deleted(&self.task(id)?.init);
        self.forget(id);
        self.outbox.put(&TaskDelete {
            container_id: id.to_owned(),
            pid: response.pid,
            exit_status: response.exit_status,
            exited_at: response.exited_at,
            id: String::new(),
        });
        Ok(response.encode_to_vec())
    }

    /// A process has ended, or its start is known to have happened: tells its end when both
    /// are so, and that of the init after all others.
    pub(crate) fn ended(&mut self, id: &str, exec: &str) {
        self.tell(id, exec);
        let Some(task) = self.tasks.get(id) else { return };
        let last = task.init.exit.is_some() && !task.init.told;
        if last && !exec.is_empty() {
            self.tell(id, "");
        }
    }

    fn tell(&mut self, id: &str, exec: &str) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let (busy, saving) = (task.execs.values().any(Process::is_running), task.saving);
        let Some(process) = task.process(exec) else { return };
        let Some(exit) = process.exit else { return };
        let waits = process.phase == Phase::Starting || (exec.is_empty() && (busy || saving));
        if waits || (process.told && process.waiters.is_empty()) {
            return;
        }
        if exec.is_empty() {
            self.unwatch(id);
        }
        let Ok(process) = self.process(id, exec) else { return };
        // A deletion that has ended it goes on.
        if process.phase != Phase::Deleting {
            process.phase = Phase::Stopped;
        }
        let answer = waited(process).encode_to_vec();
        let waiters = std::mem::take(&mut process.waiters);
        let event = TaskExit {
            container_id: id.to_owned(),
            id: if exec.is_empty() { id.to_owned() } else { exec.to_owned() },
            pid: unsigned(process.pid),
            exit_status: exit.status,
            exited_at: Some(exit.at),
        };
        if !std::mem::replace(&mut process.told, true) {
            self.outbox.put(&event);
        }
        for waiter in waiters {
            self.reply(waiter, Ok(answer.clone()));
        }
    }

    /// The shim knows nothing of the task any more.
    pub(crate) fn forget(&mut self, id: &str) {
        self.leave(id);
        let Some(task) = self.tasks.remove(id) else { return };
        self.drop_process(id, "", task.init);
        for (exec, process) in task.execs {
            self.drop_process(id, &exec, process);
        }
    }

    /// Nobody can ask for the process any more, and who still waits has waited in vain.
    pub(crate) fn drop_process(&mut self, id: &str, exec: &str, process: Process) {
        let response = deleted(&process).encode_to_vec();
        self.exits.retain(|_, (task, name)| task != id || name != exec);
        self.cut(&process.all_streams());
        process.logger.into_iter().for_each(|logger| self.release(logger));
        // It goes before all that it has written is where it belongs.
        if let Some(caller) = process.deleter {
            self.reply(caller, Ok(response));
        }
        for waiter in process.waiters {
            self.reply(waiter, Err(none_such(id, exec)));
        }
    }
}

pub(crate) fn unsigned(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or_default()
}

pub(crate) fn waited(process: &Process) -> WaitResponse {
    let exit = process.exit;
    WaitResponse {
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: exit.map(|exit| exit.at),
    }
}

pub(crate) fn deleted(process: &Process) -> DeleteResponse {
    let WaitResponse { exit_status, exited_at } = waited(process);
    DeleteResponse { pid: unsigned(process.pid), exit_status, exited_at }
}
