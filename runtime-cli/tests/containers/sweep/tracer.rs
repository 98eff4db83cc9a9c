//! One command under ptrace(2), killed before a chosen system call of its own or of
//! the processes that it starts.
//!
//! Calls that change nothing outside the process are not counted: a kill before
//! one of them leaves what a kill before the next one that counts leaves.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, execv, setgid, setgroups, setuid};

/// No traced command takes this long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a traced process must stop for.
fn options() -> Options {
    Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACEEXEC
}

/// Which processes are counted and killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    /// The command itself.
    Parent,
    /// What it starts, from its exec on.
    Stage,
}

/// How a command ended that was to be killed before its system call number n.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// The system call before which the kill came, if it came.
    pub killed: Option<u64>,
    /// The command's exit code, or 128 and the signal.
    pub code: i32,
}

/// A command under control.
pub(super) struct Tracer {
    parent: Pid,
    victim: Victim,
    /// Before which counted call the kill comes; from 0.
    at: usize,
    counted: usize,
    tracees: BTreeMap<Pid, Tracee>,
}

#[derive(Default)]
struct Tracee {
    /// Executed a program since we saw it: the command, or the stage.
    executed: u32,
    /// Inside of a system call.
    inside: bool,
}

/// The program's part before a traced command: `traced USER PROGRAM ARGUMENTS`.
pub(crate) fn main() -> Option<std::process::ExitCode> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStringExt;
    if std::env::args().next()? != "traced" {
        return None;
    }
    let user: u32 = std::env::args().nth(1)?.parse().unwrap();
    // As root: a setuid program gains nothing where its tracee could not trace it.
    ptrace::traceme().unwrap();
    if user != 0 {
        setgroups(&[]).unwrap();
        setgid(Gid::from_raw(user)).unwrap();
        setuid(Uid::from_raw(user)).unwrap();
    }
    raise(Signal::SIGSTOP).unwrap();
    let words: Vec<_> =
        std::env::args_os().skip(2).map(|word| CString::new(word.into_vec()).unwrap()).collect();
    let Err(errno) = execv(&words[0], &words);
    panic!("{words:?}: {errno}");
}

impl Tracer {
    /// Starts `command` as that user, who has no environment but the command's if it
    /// is not root, and kills the victim before its call number `at`.
    pub(super) fn start(command: &Command, user: u32, victim: Victim, at: usize) -> Self {
        let mut traced = Command::new(std::env::current_exe().unwrap());
        traced.arg0("traced").arg(user.to_string());
        traced.arg(command.get_program()).args(command.get_args());
        if user != 0 {
            traced.env_clear();
        }
        traced.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        traced.stdin(std::process::Stdio::null());
        traced.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let parent = Pid::from_raw(traced.spawn().unwrap().id().cast_signed());
        assert_eq!(waitpid(parent, None), Ok(WaitStatus::Stopped(parent, Signal::SIGSTOP)));
        let mut options = options();
        if victim == Victim::Stage {
            options |= Options::PTRACE_O_TRACEVFORK
                | Options::PTRACE_O_TRACEFORK
                | Options::PTRACE_O_TRACECLONE;
        }
        ptrace::setoptions(parent, options).unwrap();
        ptrace::cont(parent, None).unwrap();
        let tracees = BTreeMap::from([(parent, Tracee::default())]);
        Self { parent, victim, at, counted: 0, tracees }
    }

    /// Counts a stage that waits for its start among the victims.
    pub(super) fn add(&mut self, stage: Pid) {
        ptrace::seize(stage, options()).unwrap();
        ptrace::interrupt(stage).unwrap();
        self.tracees.insert(stage, Tracee { executed: 1, inside: false });
    }

    /// Drives the command to its end, and the victim to its own or to where it
    /// runs the container's program.
    pub(super) fn end(mut self) -> Ending {
        let mut ending = Ending { killed: None, code: -1 };
        let watchdog = watch(self.parent);
        while self.tracees.contains_key(&self.parent) {
            match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(status) => self.step(status, &mut ending),
                Err(Errno::EINTR) => {}
                Err(errno) => panic!("waiting for a tracee: {errno}"),
            }
        }
        assert!(watchdog.send(()).is_ok(), "a traced command hung: {ending:?}");
        // Those that live on do so without us.
        for pid in self.tracees.keys() {
            let _ = kill(*pid, Signal::SIGSTOP);
            let _ = waitpid(*pid, Some(WaitPidFlag::__WALL));
            let _ = ptrace::detach(*pid, Signal::SIGCONT);
            // It may have been about to stop for another reason, and ours came second.
            let _ = kill(*pid, Signal::SIGCONT);
        }
        ending
    }

    fn step(&mut self, status: WaitStatus, ending: &mut Ending) {
        match status {
            WaitStatus::Exited(pid, code) => self.gone(pid, code, ending),
            WaitStatus::Signaled(pid, signal, _) => self.gone(pid, 128 + signal as i32, ending),
            WaitStatus::PtraceEvent(pid, _, event) => {
                if BIRTHS.contains(&event)
                    && let Ok(child) = ptrace::getevent(pid)
                {
                    // Ours from now on, and to be let go even if it never runs.
                    let child = Pid::from_raw(child.try_into().unwrap());
                    self.tracees.entry(child).or_default();
                }
                let tracee = self.tracees.entry(pid).or_default();
                if event == ptrace::Event::PTRACE_EVENT_STOP as i32 {
                    // It was attached to inside of the read that it waits in.
                    tracee.inside = false;
                }
                if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 {
                    tracee.executed += 1;
                    tracee.inside = true; // of the execve
                }
                self.go_on(pid, None);
            }
            WaitStatus::PtraceSyscall(pid) => {
                let tracee = self.tracees.entry(pid).or_default();
                tracee.inside = !tracee.inside;
                if tracee.inside
                    && let Some(call) = counts(pid)
                {
                    if self.counted == self.at {
                        ending.killed = Some(call);
                        kill(pid, Signal::SIGKILL).unwrap();
                        return;
                    }
                    self.counted += 1;
                }
                self.go_on(pid, None);
            }
            // A new tracee begins with a stop that is not its own.
            WaitStatus::Stopped(pid, Signal::SIGSTOP) => {
                self.tracees.entry(pid).or_default();
                self.go_on(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => self.go_on(pid, Some(signal)),
            _ => {}
        }
    }

    fn gone(&mut self, pid: Pid, code: i32, ending: &mut Ending) {
        self.tracees.remove(&pid);
        if pid == self.parent {
            ending.code = code;
        }
    }

    fn go_on(&mut self, pid: Pid, signal: Option<Signal>) {
        let executed = self.tracees.get(&pid).map_or(0, |tracee| tracee.executed);
        let counted = match self.victim {
            Victim::Parent => pid == self.parent && executed > 0,
            // No thread of the command's, nor when it is the container's program.
            Victim::Stage => !is_thread(pid, self.parent) && executed != 2,
        };
        // It may be gone already, by another's kill.
        let _ = if counted { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
    }
}

/// Whether it is a thread of that process, as its first one is.
fn is_thread(pid: Pid, process: Pid) -> bool {
    Path::new(&format!("/proc/{process}/task/{pid}")).exists()
}

/// What a tracee that has made another stops with.
const BIRTHS: [i32; 3] = [
    ptrace::Event::PTRACE_EVENT_FORK as i32,
    ptrace::Event::PTRACE_EVENT_VFORK as i32,
    ptrace::Event::PTRACE_EVENT_CLONE as i32,
];

/// Kills the command when it hangs; told of its end before.
fn watch(parent: Pid) -> Sender<()> {
    let (told, end) = channel();
    std::thread::spawn(move || {
        if end.recv_timeout(DEADLINE).is_err() {
            let _ = kill(parent, Signal::SIGKILL);
        }
    });
    told
}

/// The number of the call that `pid` is about to make, if it counts.
fn counts(pid: Pid) -> Option<u64> {
    let (call, third) = registers(pid)?;
    let number = i64::try_from(call).ok()?;
    let nothing = [
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_mremap,
        libc::SYS_read,
        libc::SYS_pread64,
        libc::SYS_lseek,
        libc::SYS_fstat,
        libc::SYS_statx,
        libc::SYS_newfstatat,
        libc::SYS_statfs,
        libc::SYS_fstatfs,
        libc::SYS_faccessat,
        libc::SYS_readlinkat,
        libc::SYS_getdents64,
        libc::SYS_fcntl,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getrandom,
        libc::SYS_uname,
        libc::SYS_getcwd,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_sigaltstack,
        libc::SYS_sched_getaffinity,
        libc::SYS_prlimit64,
        libc::SYS_set_tid_address,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_futex,
        libc::SYS_clock_gettime,
    ];
    let reads = number == libc::SYS_openat
        && third & (libc::O_ACCMODE | libc::O_CREAT).cast_unsigned() as u64 == 0;
    (!reads && !nothing.contains(&number)).then_some(call)
}

/// Number and third argument of the system call that is being entered.
#[cfg(target_arch = "x86_64")]
fn registers(pid: Pid) -> Option<(u64, u64)> {
    let registers = ptrace::getregs(pid).ok()?;
    Some((registers.orig_rax, registers.rdx))
}

/// Number and third argument of the system call that is being entered.
#[cfg(target_arch = "aarch64")]
fn registers(pid: Pid) -> Option<(u64, u64)> {
    let registers = ptrace::getregs(pid).ok()?;
    Some((registers.regs[8], registers.regs[2]))
}
