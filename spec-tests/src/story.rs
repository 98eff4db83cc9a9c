//! Runs the steps of one case, in the process that is there for it alone.

mod agent;
mod bundle;
mod checks;
mod console;
mod foreground;
mod heard;
mod notified;
mod operations;
mod places;
mod recognise;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::case::Case;
use crate::runtime::Runtime;
use crate::step::Step;
use crate::{host, leftovers, pattern, probe, template};

use console::Console;
use heard::Heard;
pub(crate) use places::Places;

/// Whether there is more to do.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    GoOn,
    End,
}

/// The system calls that the probe itself and the runtimes' last steps make, for
/// filters that forbid by default.
const ALLOWED: &[&str] = &[
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clone",
    "clone3",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fchdir",
    "fchown",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getppid",
    "getrandom",
    "getrlimit",
    "gettid",
    "getuid",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pipe2",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "recvfrom",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "seccomp",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "setgid",
    "setgroups",
    "setresgid",
    "setresuid",
    "setuid",
    "sigaltstack",
    "socketpair",
    "stat",
    "statfs",
    "statx",
    "tgkill",
    "umask",
    "uname",
    "wait4",
    "write",
    "writev",
];

/// What a step is called in messages.
fn name(step: &Value) -> String {
    match step {
        Value::String(text) => text.clone(),
        Value::Object(members) => members.keys().cloned().collect::<Vec<_>>().join(" "),
        _ => String::new(),
    }
}

/// One case on its way.
#[derive(Debug)]
pub(crate) struct Story<'a> {
    case: &'a Case,
    runtime: &'a Runtime,
    places: &'a Places,
    /// What steps may name: `${pid}`, `${host.namespaces.pid}`.
    known: BTreeMap<String, Value>,
    /// Whose namespaces are there to be joined.
    holder: Option<Child>,
    /// Where the terminal arrives.
    console: Option<Console>,
    /// Where the seccomp filter arrives.
    agent: Option<Heard>,
    /// Who waits for the container to be ready.
    notified: Option<Heard>,
}

impl<'a> Story<'a> {
    /// At its beginning, with nothing made yet.
    pub(crate) fn new(
        case: &'a Case,
        runtime: &'a Runtime,
        places: &'a Places,
        resctrl: Option<&Path>,
    ) -> Self {
        let mut known = places.names();
        known.insert("resctrl".to_owned(), json!(resctrl));
        Self {
            case,
            runtime,
            places,
            known,
            holder: None,
            console: None,
            agent: None,
            notified: None,
        }
    }

    /// Runs the steps to their end.
    pub(crate) fn run(&mut self) -> Result<()> {
        for (number, step) in self.case.steps.iter().enumerate() {
            let told = self.step(step);
            if told.with_context(|| format!("step {} ({})", number + 1, name(step)))? == Then::End {
                break;
            }
        }
        Ok(())
    }

    /// Processes that are waited for elsewhere.
    fn awaited(&self) -> Vec<Pid> {
        self.holder.iter().map(|child| Pid::from_raw(child.id().cast_signed())).collect()
    }

    /// Makes what has to be there before the first step.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        // Not the usual one: a runtime may neither depend on it nor change it.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o026));
        let host = Value::Object(probe::report());
        self.known.insert("host".to_owned(), host);
        self.known.insert("disk".to_owned(), host::disk());
        self.known.insert("allowed".to_owned(), json!(ALLOWED));
        let tag = self.places.tag();
        self.known.insert("cgroupsPath".to_owned(), json!(self.runtime.cgroups_path(tag)));
        // Where that is, for root.
        let scope = format!("system.slice/case-{tag}.scope");
        let cgroup = if self.runtime.asks_systemd() { scope } else { tag.to_owned() };
        self.known.insert("cgroup".to_owned(), json!(cgroup));
        let words = self.runtime.words();
        self.known.insert("runtime".to_owned(), json!(words));
        if self.case.holder.is_some() {
            self.hold()?;
        }
        self.lay_out()?;
        let socket = self.places.folder().join("agent");
        self.known.insert("agent".to_owned(), json!(socket));
        if self.case.config["linux"]["seccomp"]["listenerPath"] == "${agent}" {
            self.agent = Some(agent::listen(&socket)?);
        }
        let socket = self.places.folder().join("notify");
        self.known.insert("notify".to_owned(), json!(socket));
        if self.case.notify {
            self.notified = Some(notified::listen(&socket)?);
        }
        if let Some(script) = &self.case.prepare {
            self.shell(&self.filled_text(script)?)?;
        }
        self.write_config()
    }

    fn step(&mut self, step: &Value) -> Result<Then> {
        let step = Step::parse(&self.filled(step)?)?;
        if let Step::TryCreate(unless) = step {
            return self.try_create(unless.as_deref());
        }
        self.take(step)?;
        Ok(Then::GoOn)
    }

    fn take(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Create(end) => self.create(end),
            Step::Start(end) => self.operate(&["start"], end),
            Step::Refused => self.refused(),
            Step::Kill(signal, end) => self.kill(&signal, end),
            Step::Delete(end) => self.operate(&["delete"], end),
            Step::Clear => self.clear(),
            Step::WaitStatus(status) => self.wait_status(&status),
            Step::WaitOutput => self.wait_output(),
            Step::Gone => self.gone(),
            Step::State(pattern) => self.state(&pattern),
            Step::Output(pattern) => self.output(&pattern),
            Step::Log(pattern) => self.log(&pattern),
            Step::Config(patch) => self.change_config(&patch),
            Step::Look(looks) => Self::look(&looks),
            Step::Cgroup(files) => self.cgroup(&files),
            Step::Shell(script, says) => self.shell_says(&script, &says),
            Step::Command(words, end) => self.command(&words, end),
            Step::Says(words, pattern) => self.says(&words, &pattern),
            Step::Answers(words, pattern) => self.answers(&words, &pattern),
            Step::Pidfd(words) => self.pidfd(&words),
            Step::Terminal(words, acts, pattern) => self.terminal(&words, &acts, &pattern),
            Step::Foreground(words, deeds, pattern) => self.foreground(&words, &deeds, &pattern),
            Step::Notified(pattern) => {
                let notified = self.notified.as_ref().context("nobody waits in this case")?;
                notified.matches("notified", &pattern, notified::PATIENCE)
            }
            Step::Features(pattern) => self.features(&pattern),
            Step::Exec(exec) => self.exec(&exec),
            Step::Agent(pattern) => {
                let agent = self.agent.as_ref().context("the case has no listener")?;
                agent.matches("agent", &pattern, operations::PATIENCE)
            }
            Step::Recognises(list) => self.recognises(&list),
            Step::TryCreate(unless) => self.try_create(unless.as_deref()).map(drop),
        }
    }

    /// A value with everything filled in.
    fn filled(&self, value: &Value) -> Result<Value> {
        let filled = template::fill(value, &|name| self.lookup(name));
        let open = template::open_places(&filled);
        anyhow::ensure!(open.is_empty(), "the case names what is not there: {open:?}");
        Ok(filled)
    }

    fn filled_text(&self, text: &str) -> Result<String> {
        let filled = self.filled(&json!(text))?;
        filled.as_str().map(str::to_owned).context("a text was expected")
    }

    fn lookup(&self, name: &str) -> Option<Value> {
        let (first, rest) = name.split_once('.').map_or((name, None), |(a, b)| (a, Some(b)));
        let value = self.known.get(first)?;
        rest.map_or_else(|| Some(value.clone()), |rest| template::find(value, rest))
    }

    fn rootfs(&self) -> PathBuf {
        self.places.bundle().join("rootfs")
    }

    fn matches(what: &str, pattern: &Value, seen: &Value) -> Result<()> {
        pattern::check(pattern, seen).map_err(|wrong| anyhow::anyhow!("{what}: {wrong}"))
    }
}

impl Drop for Story<'_> {
    fn drop(&mut self) {
        if let Some(mut holder) = self.holder.take() {
            leftovers::kill_all(Pid::from_raw(holder.id().cast_signed()));
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}
