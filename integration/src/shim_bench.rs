//! The benchmark of containerd's shims: ours, and Debian's of Go with runc.
//!
//! Both are driven as containerd drives a shim, without containerd: the program is started,
//! its server asked by ttrpc, its events are taken. They take turns in a new random order
//! each round, so that whatever else the machine does falls on both alike.
//!
//! [`container`] is what they run, [`shim`] a shim's program and its calls, [`ttrpc`] the
//! wire with [`messages`] in it, [`measure`] what is done, [`look`] what is seen meanwhile
//! and [`report`] their picture.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

mod container;
#[path = "../../shim/src/ttrpc/frame.rs"]
#[allow(dead_code)] // the shim's own, of which it needs the other half
mod frame;
pub mod look;
mod measure;
#[path = "../../shim/src/messages/mod.rs"]
#[allow(dead_code)] // the same
mod messages;
pub mod report;
mod shim;
mod ttrpc;

use crate::bench::Order;
use crate::bench::bundle::Bundles;
use crate::bench::cgroups::{self, View};
use crate::bench::meter::{self, Watchdog};
use crate::bench::runtime::installed;
use crate::bench::stats::Summary;
use container::Layout;
use measure::Pod;
use report::{Figures, Flat, Growth, Report, Times};
use shim::{Shim, World};
use ttrpc::Events;

/// The names that a shim may have.
pub const NAMES: [&str; 2] = [OURS, RIVAL];
const OURS: &str = "orlop";
const RIVAL: &str = "runc-v2";
/// The program of the rival.
const RIVALS: &str = "containerd-shim-runc-v2";
/// Ours.
const PROGRAM: &str = "containerd-shim-orlop-v1";

/// Rounds before the first that counts.
const WARM_UP: usize = 3;
/// Calls of Stats in each round.
const CALLS: usize = 50;
/// Containers of one pod, and how many pods of one.
const SIZES: [usize; 3] = [1, 10, 100];
const PODS: [usize; 2] = [10, 100];
/// What must leave nothing behind.
const TASKS: usize = 200;
const EXECS: usize = 500;

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// Rounds that count.
    pub iterations: usize,
    /// Shims by name; empty for both.
    pub only: Vec<String>,
    /// Whether nothing but what is left behind is looked at.
    pub flat: bool,
}

/// Measures what is there. `programs` is the directory with our own built programs.
///
/// # Errors
/// A shim that fails in the middle of a measurement; one that is missing or fails its probe
/// is only named in the report.
pub fn run(options: &Options, programs: &Path) -> Result<Report> {
    let view = View::enter(true, false)?;
    meter::become_subreaper()?;
    let directory = tempfile::Builder::new().prefix("shim-bench-").tempdir()?;
    let state = directory.path().join("state");
    cgroups::mount_state(&state)?;
    let bundles = Bundles::create(directory.path(), view.is_v2())?;
    let events = Events::listen(directory.path())?;
    let dog = Watchdog::start();
    let layout = Layout {
        directory: directory.path(),
        bundles: &bundles,
        v2: view.is_v2(),
        device_rules: true,
    };
    let mut world = World { layout, events: &events, dog: &dog };
    let (mut shims, mut notes) = find(options, programs, directory.path())?;
    admit(&mut shims, &mut notes, &mut world);
    let result = match options.flat {
        true => flat(&shims, &world, &view).map(|flat| Report { flat, ..Report::default() }),
        false => everything(&shims, options.iterations, &world),
    };
    let left = end_all()?;
    cgroups::unmount_state(&state);
    let leftovers = view.leave()?;
    let mut report = result?;
    report.iterations = options.iterations;
    if left > 0 {
        notes.push(format!("{left} processes were left behind"));
    }
    report.notes = notes;
    report.cgroups = view.describe().to_owned();
    report.leftovers = leftovers;
    Ok(report)
}

/// Ends what a failed measurement has left: all of it is ours, as we adopt orphans.
fn end_all() -> Result<usize> {
    let mut ended = 0;
    loop {
        let mut children = Vec::new();
        for thread in fs::read_dir("/proc/self/task")? {
            let text = fs::read_to_string(thread?.path().join("children"))?;
            children.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
        for pid in children.iter().copied().map(Pid::from_raw) {
            let _ = kill(pid, Signal::SIGKILL);
            waitpid(pid, None)?;
        }
        if children.is_empty() {
            return Ok(ended);
        }
        ended += children.len();
    }
}

/// The shims that are there, and a word of each.
fn find(options: &Options, programs: &Path, directory: &Path) -> Result<(Vec<Shim>, Vec<String>)> {
    let (mut shims, mut notes) = (Vec::new(), Vec::new());
    for name in NAMES {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        let program = match name {
            OURS => Some(install(programs, &directory.join("bin"))?),
            _ => installed(RIVALS).filter(|_| installed("runc").is_some()),
        };
        let Some(program) = program else {
            notes.push(format!("{name} is left out: {RIVALS} or runc is not installed"));
            continue;
        };
        let mut word = format!("{name}: {} {}", program.display(), shim::version(&program, "-v"));
        if name == RIVAL
            && let Some(runc) = installed("runc")
        {
            word += &format!("; {}", shim::version(&runc, "--version"));
        }
        notes.push(word);
        let state = directory.join("state").join(name);
        shims.push(Shim { name, program, state, traced: None });
    }
    Ok((shims, notes))
}

/// Copies our program, as whoever installs it does: the rival came from a package.
fn install(programs: &Path, directory: &Path) -> Result<PathBuf> {
    fs::create_dir(directory)?;
    let program = directory.join(PROGRAM);
    fs::copy(programs.join(PROGRAM), &program).with_context(|| format!("copying {PROGRAM}"))?;
    Ok(program)
}

/// Leaves out who does not run a container here; with device rules if all can have them.
fn admit(shims: &mut Vec<Shim>, notes: &mut Vec<String>, world: &mut World<'_>) {
    let probe_all = |shims: &[Shim], world: &World<'_>| -> Vec<Option<String>> {
        let probe = |shim| measure::probe(shim, world).err().map(|error| format!("{error:#}"));
        shims.iter().map(probe).collect()
    };
    let mut failures = probe_all(shims, world);
    if failures.iter().any(Option::is_some) {
        world.layout.device_rules = false;
        let without = probe_all(shims, world);
        for (index, shim) in shims.iter().enumerate() {
            if let (Some(why), None) = (&failures[index], &without[index]) {
                notes
                    .push(format!("all run without device rules, because of {}: {why}", shim.name));
            }
        }
        failures = without;
    }
    let mut failures = failures.into_iter();
    shims.retain(|shim| match failures.next().flatten() {
        None => true,
        Some(why) => {
            notes.push(format!("{} is left out: {why}", shim.name));
            false
        }
    });
}

fn everything(shims: &[Shim], iterations: usize, world: &World<'_>) -> Result<Report> {
    let mut times = vec![
        alternate("start", shims, iterations, |index| measure::start(&shims[index], world))?,
        alternate("task", shims, iterations, |index| measure::task(&shims[index], world))?,
    ];
    let mut pods = Vec::new();
    for shim in shims {
        pods.push(Pod::begin(shim, world).context(shim.name)?);
    }
    times.push(execs(shims, &mut pods, iterations, world)?);
    let stats = stats(shims, &mut pods, iterations)?;
    for pod in pods {
        pod.end(world)?;
    }
    let mut growth = Vec::new();
    let mut executions = Vec::new();
    for shim in shims {
        growth.push(grow(shim, world).context(shim.name)?);
        executions.push((shim.name, measure::executions(shim, world).context(shim.name)?));
    }
    Ok(Report { times, stats, growth, executions, ..Report::default() })
}

/// Has the shims take turns.
fn alternate(
    name: &'static str,
    shims: &[Shim],
    iterations: usize,
    mut once: impl FnMut(usize) -> Result<meter::Cost>,
) -> Result<Times> {
    let mut costs = vec![Vec::new(); shims.len()];
    rounds(shims.len(), iterations, |index, counts| {
        let cost = once(index).with_context(|| format!("{}, {name}", shims[index].name))?;
        if counts {
            costs[index].push(cost);
        }
        Ok(())
    })?;
    let figures = shims.iter().zip(&costs).map(|(shim, costs)| Figures {
        shim: shim.name,
        wall: Summary::of(costs.iter().map(|cost| cost.wall)),
        cpu: Summary::of(costs.iter().map(|cost| cost.cpu)).median,
    });
    Ok(Times { name, figures: figures.collect() })
}

fn rounds(
    count: usize,
    iterations: usize,
    mut turn: impl FnMut(usize, bool) -> Result<()>,
) -> Result<()> {
    let mut order = Order::new();
    let mut turns: Vec<usize> = (0..count).collect();
    for round in 0..WARM_UP + iterations {
        order.shuffle(&mut turns);
        for index in &turns {
            turn(*index, round >= WARM_UP)?;
        }
    }
    Ok(())
}

/// Their processor time is the mean: that of ended children is told in hundredths of a
/// second, as long as the server lives.
fn execs(
    shims: &[Shim],
    pods: &mut [Pod<'_>],
    iterations: usize,
    world: &World<'_>,
) -> Result<Times> {
    let mut walls = vec![Vec::new(); shims.len()];
    let mut before = Vec::new();
    for pod in pods.iter() {
        before.push(pod.used()?);
    }
    rounds(shims.len(), iterations, |index, counts| {
        let wall = pods[index].exec(world).context(shims[index].name)?;
        if counts {
            walls[index].push(wall);
        }
        Ok(())
    })?;
    let mut figures = Vec::new();
    for (index, shim) in shims.iter().enumerate() {
        let used = pods[index].used()?.saturating_sub(before[index]);
        let rounds = u32::try_from(WARM_UP + iterations)?;
        let wall = Summary::of(walls[index].iter().copied());
        figures.push(Figures { shim: shim.name, wall, cpu: used / rounds });
    }
    Ok(Times { name: "exec", figures })
}

/// Stats of the container that runs: what one call takes, and what the server uses for it.
fn stats(shims: &[Shim], pods: &mut [Pod<'_>], iterations: usize) -> Result<Vec<Figures>> {
    let calls = u32::try_from(CALLS)?;
    let times = alternate("stats", shims, iterations, |index| {
        let cost = pods[index].stats(CALLS)?;
        Ok(meter::Cost { wall: cost.wall / calls, cpu: cost.cpu / calls })
    })?;
    Ok(times.figures)
}

/// The memory of a server as its pod grows, and of servers of pods with one container.
fn grow(shim: &Shim, world: &World<'_>) -> Result<Growth> {
    let mut pod = Pod::begin(shim, world)?;
    let mut sizes = Vec::new();
    for size in SIZES {
        pod.grow(size, world)?;
        sizes.push((size, pod.memory()?));
    }
    pod.end(world)?;
    let (mut pods, mut together) = (Vec::new(), Vec::new());
    for count in PODS {
        while pods.len() < count {
            pods.push(Pod::begin(shim, world)?);
        }
        let mut sum = look::Memory::default();
        for pod in &pods {
            let memory = pod.memory()?;
            sum.resident += memory.resident;
            sum.private += memory.private;
            sum.proportional += memory.proportional;
        }
        together.push((count, sum));
    }
    for pod in pods {
        pod.end(world)?;
    }
    Ok(Growth { shim: shim.name, sizes, pods: together })
}

/// What a server has before and after many tasks and execs.
fn flat(shims: &[Shim], world: &World<'_>, view: &View) -> Result<Vec<Flat>> {
    let mut all = Vec::new();
    for shim in shims {
        let mut pod = Pod::begin(shim, world).context(shim.name)?;
        let mut busy = |tasks: usize, execs: usize| -> Result<_> {
            for _ in 0..tasks {
                pod.task(world)?;
            }
            for _ in 0..execs {
                pod.exec(world)?;
            }
            Ok((pod.holdings()?, view.count()))
        };
        let before = busy(TASKS / 10, EXECS / 10).context(shim.name)?;
        let after = busy(TASKS, EXECS).context(shim.name)?;
        pod.end(world)?;
        all.push(Flat { shim: shim.name, tasks: TASKS, execs: EXECS, before, after });
    }
    Ok(all)
}

/// Builds the shim in release mode beside this program, if this one was built just now.
///
/// # Errors
/// When cargo cannot be started, or the build fails.
pub fn build_programs() -> Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p", "containerd-shim-orlop"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "the build of the shim failed: {status}");
    Ok(())
}
