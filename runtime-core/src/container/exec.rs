//! `exec`: a further process in a container that runs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::Process;

use super::pidfd::PidfdReceiver;
use super::state::State;
use super::{Container, Started, Terminal, check_pid_file, root_mount, write_pid_file};
use crate::cgroup::{Inner, Manager};
use crate::compile;
use crate::error::{Error, Kind, Result};
use crate::host::HostFacts;
use crate::launch::{Kit, Reached, launch, owned};
use crate::plan::Gate;
use crate::resctrl::Class;
use orlop_init::sys;

/// How to exec.
#[derive(Debug, Default)]
pub struct ExecOptions {
    /// The process. Capabilities, limits, labels, scheduling, the umask and the oom score
    /// that it leaves out are those of the container's own; nothing else is taken from it.
    pub process: Process,
    /// Who takes the terminal, when the process asks for one.
    pub terminal: Terminal,
    /// Standard input, output and error of a process without a terminal; the caller's own,
    /// if none are given.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Where to write the process's pid, before the call returns.
    pub pid_file: Option<PathBuf>,
    /// The listener of a unix socket at this path gets a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors from 3 on the process inherits. All must be open
    /// without close-on-exec.
    pub preserve_fds: u32,
    /// Cgroups below the container's that the process shall be in, which must be
    /// there. Without any it is in the container's own, or, where that may hold no
    /// process (cgroup v2), in that of the init.
    pub cgroups: Vec<Inner>,
    /// Exec in a paused container too; the process runs when it is resumed, for
    /// which the call waits two minutes at most.
    pub ignore_paused: bool,
}

/// COMPAT(runc): the first words.
fn not_joined(error: &Error) -> Error {
    Error::new(error.kind(), format!("error adding pid of the process to cgroups: {error}"))
}

/// COMPAT(runc): its words; the flag is the same.
const PAUSED: &str = "cannot exec in a paused container (use --ignore-paused to override)";

/// COMPAT(runc): its words.
const STOPPED: &str = "cannot exec in a stopped container";

impl Container {
    /// Starts a process in the container; returns when its program has been
    /// executed.
    ///
    /// # Errors
    /// [`Kind::WrongState`] when the container is not running; what is wrong with
    /// the process, or what went wrong before its program was executed.
    pub fn exec(&self, options: &ExecOptions) -> Result<Started> {
        self.try_exec(options).map_err(|error| error.of_process("/process"))
    }

    fn try_exec(&self, options: &ExecOptions) -> Result<Started> {
        let paused = self.is_paused(options)?;
        options.pid_file.as_deref().map_or(Ok(()), check_pid_file)?;
        let spec = self.spec()?;
        let host = HostFacts::probe()?;
        let manager = self.record.manager().below(&options.cgroups)?;
        let mut compile_options = self.record.options(options.preserve_fds, &self.folder());
        compile_options.bare_lines = matches!(options.terminal, Terminal::Joined(_));
        // Whoever is to know of it knows before it runs.
        compile_options.held = options.pid_file.is_some() || options.pidfd_socket.is_some();
        compile_options.placed = manager.only_by_adding();
        // COMPAT(runc): one that is gone, with its file system, is no hindrance.
        let class = self.record.intel_rdt.as_ref().filter(|class| class.exists());
        let tasks = class.map_or(Ok(Vec::new()), Class::tasks)?;
        compile_options.resctrl = tasks.len();
        let mut plan =
            compile::exec(&options.process, &spec, &host, &compile_options).map_err(Error::all)?;
        let console = options.terminal.connect(options.process.terminal() == Some(true))?;
        let receiver = PidfdReceiver::connect(options.pidfd_socket.as_deref())?;
        let target = owned(sys::pidfd_open(self.record.pid))
            .map_err(|errno| Error::os(errno, "opening the container's init process"))?;
        if !self.record.is_alive()? {
            // The pidfd may be another process's.
            return Err(Error::new(Kind::WrongState, STOPPED));
        }
        let root = self.mounted_root()?;
        let directory = plan.outside.into_cgroup.then(|| self.joined(&manager, options));
        let directory = directory.transpose()?.flatten();
        let procs = plan.writes_cgroups().then(|| manager.procs()).transpose();
        let procs = procs.map_err(|error| not_joined(&error))?.unwrap_or_default();
        let kit = Kit {
            cgroup: directory.as_ref().map(AsFd::as_fd),
            cgroup_procs: &procs,
            resctrl_tasks: &tasks,
            root: root.as_ref().map(AsFd::as_fd),
            console: console.as_ref().map(AsFd::as_fd),
            stdio: options.stdio.as_ref().map(|fds| fds.each_ref().map(AsFd::as_fd)),
            target: Some(target.as_fd()),
            paused,
            interrupt: self.store.interrupt.clone(),
            ..Kit::default()
        };
        let mut child = match launch(&plan, &kit) {
            // COMPAT(runc): the init's cgroup then, unless one is asked for.
            Err(error) if error.errno() == Some(libc::EBUSY) && options.cgroups.is_empty() => {
                let inner = manager.at_process(self.record.pid).ok_or(error)?.directory()?;
                launch(&plan, &Kit { cgroup: inner.as_ref().map(AsFd::as_fd), ..kit })?
            }
            Err(error) if error.errno() == Some(libc::EBUSY) => return Err(not_joined(&error)),
            launched => launched?,
        };
        if compile_options.placed {
            let interrupt = &self.store.interrupt;
            child.pass(&plan, Gate::Placed, |pid| manager.add(pid, interrupt.clone()))?;
        }
        let state = |_, _| Ok(self.record.for_hooks(State::Running, self.record.pid));
        if let Reached::Gate(_) = child.drive(&plan, &state, &self.record.bundle)? {
            if let Some(receiver) = receiver {
                receiver.send("setns", child.pidfd())?;
            }
            if let Some(path) = &options.pid_file {
                write_pid_file(path, child.pid())?;
            }
            child.release(&state)?;
            child.executed(&plan)?;
        }
        let warnings = std::mem::take(&mut plan.warnings);
        let (pid, pidfd) = child.into_process()?;
        Ok(Started { pid, pidfd, warnings, notify: None })
    }

    /// Whether the process will wait for the container to be resumed.
    fn is_paused(&self, options: &ExecOptions) -> Result<bool> {
        match self.state()? {
            State::Running | State::Created => Ok(false),
            State::Paused if options.ignore_paused => Ok(true),
            State::Paused => Err(Error::new(Kind::WrongState, PAUSED)),
            State::Creating | State::Stopped => Err(Error::new(Kind::WrongState, STOPPED)),
        }
    }

    /// The root, where it is a mount of the caller's own mount namespace.
    fn mounted_root(&self) -> Result<Option<OwnedFd>> {
        self.record.root_mounted.then(|| root_mount::open(&self.folder())).transpose()
    }

    /// The cgroup into which the process is cloned.
    fn joined(&self, manager: &Manager, options: &ExecOptions) -> Result<Option<OwnedFd>> {
        match manager.directory() {
            // COMPAT(runc): the init's, where the container's own is gone.
            Err(error) if error.errno() == Some(libc::ENOENT) && options.cgroups.is_empty() => {
                let inner = manager.at_process(self.record.pid);
                inner.ok_or_else(|| not_joined(&error))?.directory()
            }
            directory => directory.map_err(|error| not_joined(&error)),
        }
    }
}
