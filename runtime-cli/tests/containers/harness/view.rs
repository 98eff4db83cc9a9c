//! The world of the tests: a pid and a mount namespace, and which cgroup
//! hierarchies are seen in it.
//!
//! The program starts itself three times for a view: to open the door (a pid
//! namespace takes the next child), as process 1 behind it, who takes the orphans
//! as on any machine, and to run the tests. When process 1 ends, so does all that
//! is in there.
//!
//! systemd is told of processes by their numbers, so in its view there is no pid
//! namespace: the first of these takes the orphans of all below it.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, getpid};
use orlop_spec_tests::cgroups::ROOT as CGROUPS;

use super::skips;

const PART: &str = "ORLOP_TEST_PART";

/// Which cgroup hierarchies the runtime sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// Those of this host.
    Host,
    /// Only v2, where the host's own is another: controllers that v1 holds are
    /// missing, the rest is real.
    V2,
    /// Those of this host, and the systemd that it runs makes the cgroups.
    Systemd,
}

/// What this process is for.
pub(super) enum Part {
    All,
    Door(View),
    Init(View),
    Inside(View),
}

pub(super) fn part() -> Part {
    let part = std::env::var(PART).unwrap_or_default();
    match part.as_str() {
        "" => Part::All,
        "door host" => Part::Door(View::Host),
        "door v2" => Part::Door(View::V2),
        "door systemd" => Part::Door(View::Systemd),
        "init host" => Part::Init(View::Host),
        "init v2" => Part::Init(View::V2),
        "init systemd" => Part::Init(View::Systemd),
        "inside host" => Part::Inside(View::Host),
        "inside v2" => Part::Inside(View::V2),
        "inside systemd" => Part::Inside(View::Systemd),
        _ => panic!("{PART}={part}"),
    }
}

/// Runs the tests in each view, or in one.
pub(super) fn run_each(one: Option<&str>) -> ExitCode {
    let views: &[View] = match (is_v2(), has_systemd()) {
        (true, true) => &[View::Host, View::Systemd],
        (true, false) => &[View::Host],
        (false, true) => &[View::Host, View::V2, View::Systemd],
        (false, false) => &[View::Host, View::V2],
    };
    if !views.contains(&View::Systemd) {
        skips::tell("containers [systemd]", "needs systemd as process 1");
    }
    let asked = views.iter().filter(|view| one.is_none_or(|one| one == view.to_string()));
    let ends: Vec<_> = asked.map(|view| again(&format!("door {view}"))).collect();
    assert!(!ends.is_empty(), "there is no view {one:?} here");
    if ends.contains(&false) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Makes the namespaces and starts process 1 in them.
pub(super) fn open(view: View) -> ExitCode {
    die_with_parent();
    let pid = if view == View::Systemd { CloneFlags::empty() } else { CloneFlags::CLONE_NEWPID };
    unshare(CloneFlags::CLONE_NEWNS | pid).unwrap();
    if again(&format!("init {view}")) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Process 1: makes the world, runs the tests in it, reaps.
pub(super) fn init(view: View) -> ExitCode {
    view.enter();
    set_child_subreaper(true).unwrap();
    let mut tests = itself(&format!("inside {view}")).spawn().unwrap();
    let ours = Pid::from_raw(tests.id().cast_signed());
    loop {
        match next_ended() {
            Some(pid) if pid == ours => break,
            Some(orphan) => drop(waitpid(orphan, None)),
            None => {}
        }
    }
    let well = tests.wait().unwrap().success();
    // All that is left, as the end of a pid namespace does it.
    while let [first, ..] = below(getpid())[..] {
        let _ = kill(first, Signal::SIGKILL);
        let _ = waitpid(None, Some(WaitPidFlag::WNOHANG));
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Waits until a child has ended, which stays to be reaped.
fn next_ended() -> Option<Pid> {
    waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap().pid()
}

/// This program with the same arguments.
fn again(part: &str) -> bool {
    itself(part).status().unwrap().success()
}

fn itself(part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(std::env::args_os().skip(1)).env(PART, part);
    command
}

/// Nobody who interrupts the tests should have to look for what still runs.
fn die_with_parent() {
    set_pdeathsig(Signal::SIGKILL).unwrap();
}

/// Whether process 1 is systemd, and can be asked.
fn has_systemd() -> bool {
    let first = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    first.trim_end() == "systemd" && Path::new("/run/systemd/system").is_dir()
}

/// All processes that are below this one.
pub(super) fn below(top: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids: Vec<i32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let parents: HashMap<i32, i32> =
        pids.into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let is_below = |pid: i32| {
        let mut above = parents.get(&pid).copied();
        while let Some(pid) = above.filter(|pid| *pid != top.as_raw()) {
            above = parents.get(&pid).copied();
        }
        above.is_some()
    };
    parents.keys().copied().filter(|pid| is_below(*pid)).map(Pid::from_raw).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, a parenthesis too.
    line.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

fn is_v2() -> bool {
    statfs(CGROUPS).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

impl View {
    /// Makes the world, as its process 1.
    fn enter(self) {
        let none = None::<&str>;
        die_with_parent();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        if self == Self::Systemd {
            return;
        }
        let closed = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), "/proc", Some("proc"), closed, none).unwrap();
        if self == Self::V2 {
            umount2(CGROUPS, MntFlags::MNT_DETACH).unwrap();
            mount(Some("cgroup2"), CGROUPS, Some("cgroup2"), closed, none).unwrap();
        }
    }

    /// Whether only cgroup v2 is there.
    pub(crate) fn is_v2(self) -> bool {
        self == Self::V2 || is_v2()
    }

    /// For a person.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::V2 => "in a world with only cgroup v2",
            Self::Systemd => "with the host's systemd",
            Self::Host if is_v2() => "with the host's cgroups, v2",
            Self::Host if Path::new(CGROUPS).join("unified").exists() => {
                "with the host's cgroups, v1 and v2"
            }
            Self::Host => "with the host's cgroups, v1",
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::V2 => "v2",
            Self::Systemd => "systemd",
        })
    }
}
