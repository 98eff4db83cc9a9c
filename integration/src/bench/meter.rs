//! The clock: what a command and everything below it costs.
//!
//! Processor time is what the kernel adds to us for children that were waited for.
//! We are the subreaper of all that a runtime leaves behind, so a container's
//! first process counts too, whoever reaps it.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// No step of the benchmark takes this long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(30);

/// What one operation took.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// From before the first command's start until the last was waited for.
    pub wall: Duration,
    /// User and system time of the whole tree.
    pub cpu: Duration,
}

/// A running measurement.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    cpu: Duration,
}

impl Meter {
    /// Starts the clock.
    ///
    /// # Errors
    /// None in practice: getrusage(2) of our own children.
    pub fn start() -> Result<Self> {
        Ok(Self { cpu: children()?, start: Instant::now() })
    }

    /// Stops the clock, and only then looks after processes left to us.
    ///
    /// # Errors
    /// As [`Meter::start`].
    pub fn stop(self) -> Result<Cost> {
        let wall = self.start.elapsed();
        reap();
        Ok(Cost { wall, cpu: children()?.saturating_sub(self.cpu) })
    }
}

fn children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec())
        .sum::<i64>();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}

/// Takes the ended processes that were left to us.
fn reap() {
    while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
        waitpid(None, Some(WaitPidFlag::WNOHANG))
    {}
}

/// Makes us the parent of what our children leave behind, prctl(2).
///
/// # Errors
/// None in practice.
pub fn become_subreaper() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("becoming a subreaper")
}

/// Kills the process that is waited for when it takes too long: the wait itself
/// stays a plain blocking one, because polling would be measured too.
#[derive(Debug)]
pub struct Watchdog(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    born: Instant,
    pid: AtomicI32,
    since_millis: AtomicU64,
    over: AtomicBool,
}

impl Watchdog {
    /// Starts the watching thread.
    #[must_use]
    pub fn start() -> Self {
        let watched = Arc::new(Watched {
            born: Instant::now(),
            pid: AtomicI32::new(0),
            since_millis: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&watched);
        thread::spawn(move || {
            while !theirs.over.load(Ordering::SeqCst) {
                theirs.look();
                thread::sleep(Duration::from_secs(1));
            }
        });
        Self(watched)
    }

    /// Runs a command to its end: its exit code, or 128 and the signal.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn run(&self, command: &mut Command) -> Result<i32> {
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        self.wait(Pid::from_raw(child.id().cast_signed()))
    }

    /// Waits for a child of ours, as [`Watchdog::run`] does.
    ///
    /// # Errors
    /// It is no child of ours.
    pub fn wait(&self, pid: Pid) -> Result<i32> {
        self.0.since_millis.store(self.0.now(), Ordering::SeqCst);
        self.0.pid.store(pid.as_raw(), Ordering::SeqCst);
        let status = waitpid(pid, None);
        self.0.pid.store(0, Ordering::SeqCst);
        match status.with_context(|| format!("waiting for process {pid}"))? {
            WaitStatus::Exited(_, code) => Ok(code),
            WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
            other => bail!("process {pid} neither exited nor was killed: {other:?}"),
        }
    }
}

impl Watched {
    fn now(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    fn look(&self) {
        let pid = self.pid.load(Ordering::SeqCst);
        let waited = self.now().saturating_sub(self.since_millis.load(Ordering::SeqCst));
        if pid != 0 && Duration::from_millis(waited) > DEADLINE {
            eprintln!("runtime-bench: process {pid} did not end in {DEADLINE:?}: killed");
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}
