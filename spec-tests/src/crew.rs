//! Runs cases, some at once, each in a process of its own.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use serde::Serialize;

use crate::case::Case;
use crate::leftovers;
use crate::probe;
use crate::runtime::Runtime;
use crate::worker::{self, Order, Outcome};

/// What all cases have in common.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The runtime.
    pub(crate) runtime: Runtime,
    /// Where they may work. What a worker can't remove ends with it.
    pub(crate) folder: PathBuf,
    /// Whether they see cgroup v2 alone.
    pub(crate) only_v2: bool,
    /// How many run at once.
    pub(crate) jobs: usize,
}

/// A case that ended.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ended {
    /// The case.
    pub(crate) id: String,
    /// How.
    pub(crate) outcome: Outcome,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// Runs them all; `tell` hears of each when it ends.
pub(crate) fn run(
    cases: &[Case],
    bench: &Bench,
    tell: &(dyn Fn(&Ended) + Sync),
) -> Result<Vec<Ended>> {
    let queue: Mutex<VecDeque<&Case>> = Mutex::new(cases.iter().collect());
    let ended: Mutex<Vec<Ended>> = Mutex::new(Vec::new());
    let work = || {
        while let Some(case) = lock(&queue).pop_front() {
            let begun = Instant::now();
            let outcome =
                one(case, bench).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
            let seconds = begun.elapsed().as_secs_f64();
            let one = Ended { id: case.id.clone(), outcome, seconds };
            tell(&one);
            lock(&ended).push(one);
        }
    };
    put_probe(&bench.folder)?;
    std::thread::scope(|scope| {
        for _ in 0..bench.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let ended = ended.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let of = |case: &Case| ended.iter().find(|ended| ended.id == case.id).cloned();
    Ok(cases.iter().filter_map(of).collect())
}

/// This program, once for all cases.
fn put_probe(folder: &Path) -> Result<()> {
    let probe = folder.join(probe::NAME);
    fs::copy(std::env::current_exe()?, &probe).context("copying the probe")?;
    Ok(fs::set_permissions(probe, fs::Permissions::from_mode(0o755))?)
}

/// A thread that panicked has said so; the list is still a list.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn one(case: &Case, bench: &Bench) -> Result<Outcome> {
    // It ends with us: what the case has mounted below it is not to be seen from here.
    let folder = tempfile::Builder::new().prefix("spec-").tempdir_in(&bench.folder)?;
    let order = Order {
        case: case.clone(),
        runtime: bench.runtime.clone(),
        folder: folder.path().to_owned(),
        only_v2: bench.only_v2,
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(worker::NAME).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("starting a worker")?;
    let mut input = child.stdin.take().context("its input")?;
    let output = child.stdout.take().context("its output")?;
    writeln!(input, "{}", serde_json::to_string(&order)?)?;
    let heard = std::thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map(|_| line)
    });
    // It watches the clock itself; this is for one that is stuck.
    if !ends_within(&child, case.limits().case + 2 * leftovers::LAST)? {
        leftovers::kill_all(Pid::from_raw(child.id().cast_signed()));
        child.kill()?;
    }
    child.wait()?;
    drop(input);
    let line = heard.join().ok().and_then(Result::ok).unwrap_or_default();
    serde_json::from_str(&line).context("the worker died without a word")
}

fn ends_within(child: &Child, most: Duration) -> Result<bool> {
    let pid = rustix::process::Pid::from_child(child);
    let process = pidfd_open(pid, PidfdFlags::empty()).context("holding a worker")?;
    let end = Instant::now() + most;
    loop {
        let left = PollTimeout::try_from(end.saturating_duration_since(Instant::now()))?;
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], left) {
            Err(Errno::EINTR) => {}
            ended => return Ok(ended? > 0),
        }
    }
}
