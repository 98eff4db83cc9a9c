//! The process that runs one case. It adopts what the runtime leaves alone, has a
//! mount namespace of its own, watches the clock, and takes everything away at
//! the end, also when the one who started it is gone.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use orlop_spec_tests::cgroups::ROOT as CGROUPS;
use orlop_spec_tests::resctrl::Resctrl;
use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::host;
use crate::leftovers::{self, Before};
use crate::runtime::Runtime;
use crate::story::{Places, Story};

/// The argument that makes the program a worker.
pub(crate) const NAME: &str = "run-one-case";

/// What a worker is told, in one line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The case, whole: to read all of them costs more than to run one.
    pub(crate) case: Case,
    /// The runtime.
    pub(crate) runtime: Runtime,
    /// Where it may work.
    pub(crate) folder: PathBuf,
    /// Whether it sees cgroup v2 alone, whatever the host has.
    pub(crate) only_v2: bool,
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// As it should.
    Passed,
    /// Not so; why.
    Failed(String),
    /// Not at all; why.
    Skipped(String),
}

/// The whole program of a worker.
pub(crate) fn main() -> ExitCode {
    let outcome = match begin() {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    let _held = ending();
    say(&outcome);
    ExitCode::SUCCESS
}

/// Held by whoever ends the process.
static ENDING: Mutex<()> = Mutex::new(());

fn ending() -> MutexGuard<'static, ()> {
    ENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(outcome: &Outcome) {
    let line = serde_json::to_string(outcome).unwrap_or_default();
    // Nobody may be there any more to hear it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn begin() -> Result<Outcome> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line).context("what this worker is told")?;
    let case = &order.case;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    if geteuid().is_root() {
        own_namespaces(&order, case.network)?;
    }
    if let Some(reason) = case.needs.iter().find_map(|need| host::lacks(need, &order.runtime)) {
        return Ok(Outcome::Skipped(reason));
    }
    let places = Places::new(&order.folder)?;
    watch(&places, case.limits().case);
    let played = play(case, &places)?;
    let mut runtime = order.runtime.clone();
    if let Some(played) = &played {
        runtime = runtime.behind(played.before());
    }
    let resctrl = played.as_ref().map(|played| played.path().to_owned()).or_else(host::resctrl);
    let mut story = Story::new(case, &runtime, &places, resctrl.as_deref());
    let prepared = story.prepare();
    let before = Before::new(places.tag(), places.state());
    let told = prepared.and_then(|()| story.run());
    drop(story);
    let outcome = match told {
        // What a failure leaves behind is its own.
        Err(error) => Outcome::Failed(format!("{error:#}")),
        Ok(()) => match before.leaks() {
            leaks if leaks.is_empty() => Outcome::Passed,
            leaks => Outcome::Failed(format!("left behind: {}", leaks.join(", "))),
        },
    };
    before.sweep();
    Ok(outcome)
}

/// A processor whose shares can be given away, where there is none and the case needs it.
fn play(case: &Case, places: &Places) -> Result<Option<Resctrl>> {
    if host::resctrl().is_some() || !case.needs.iter().any(|need| need == "resctrl") {
        return Ok(None);
    }
    Resctrl::new(places.folder()).context("playing resctrl").map(Some)
}

/// Mounts that a runtime forgets end with the case.
fn own_namespaces(order: &Order, network: bool) -> Result<()> {
    let none = None::<&str>;
    let mut kinds = CloneFlags::CLONE_NEWNS;
    if network {
        kinds |= CloneFlags::CLONE_NEWNET;
    }
    unshare(kinds).context("a mount namespace for the case")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    if order.only_v2 && host::Cgroups::probe() != host::Cgroups::V2 {
        umount2(CGROUPS, MntFlags::MNT_DETACH)?;
        let closed = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("cgroup2"), CGROUPS, Some("cgroup2"), closed, none)?;
    }
    Ok(())
}

/// Ends the case when its time is over, or when nobody waits for it any more.
fn watch(places: &Places, deadline: Duration) {
    let before = Before::new(places.tag(), places.state());
    let run = places.folder().parent().map(Path::to_owned);
    std::thread::spawn(move || {
        let begun = Instant::now();
        let over = loop {
            if let Some(over) = is_over(begun, deadline) {
                break over;
            }
        };
        // A main thread that is woken by what is ended here waits for our exit.
        let _held = ending();
        before.sweep();
        if let (Over::Alone, Some(run)) = (&over, run) {
            leftovers::remove(&run);
        }
        say(&Outcome::Failed(format!("it did not end within {deadline:?}")));
        exit(1);
    });
}

/// Why a case is ended.
enum Over {
    Time,
    Alone,
}

/// Waits for the end of the time or of the standard input.
fn is_over(begun: Instant, deadline: Duration) -> Option<Over> {
    let left = deadline.saturating_sub(begun.elapsed());
    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let input = std::io::stdin();
    let mut waited = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waited, left) {
        Ok(0) => Some(Over::Time),
        Ok(_) => {
            matches!(std::io::stdin().read(&mut [0; 64]), Ok(0) | Err(_)).then_some(Over::Alone)
        }
        Err(_) => None,
    }
}
