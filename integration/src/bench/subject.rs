//! Who is measured, and doing what.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::bundle::{Bundles, PROBE_STATUS};
use super::cgroups::View;
use super::meter::{Cost, Meter, Watchdog};
use super::peak::{self, PeakMeter};
use super::runtime::{Runtime, installed};

/// The name of the subject that all ratios refer to.
pub const FLOOR: &str = "floor";
/// The name of the other one.
pub const RIVAL: &str = "crun";

/// All names that a subject may have.
pub const NAMES: [&str; 6] = ["start", FLOOR, "floor+cgroup", "orlop", "runc", RIVAL];

/// An operation that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// One command makes a container, runs /bin/true in it and takes it away.
    Run,
    /// The same by three commands, as engines do it.
    Lifecycle,
    /// /bin/true in a container that is running.
    Exec,
}

impl Operation {
    /// In the order of the report.
    pub const ALL: [Self; 3] = [Self::Run, Self::Lifecycle, Self::Exec];

    /// Its name in the report.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Lifecycle => "create+start+delete",
            Self::Exec => "exec",
        }
    }
}

/// What all subjects share.
#[derive(Debug)]
pub struct Place<'a> {
    /// Of the benchmark's own, for state and logs.
    pub directory: &'a Path,
    /// What the containers are.
    pub bundles: &'a Bundles,
    /// Which cgroups there are.
    pub view: &'a View,
    /// Where our own programs are.
    pub programs: &'a Path,
}

/// A subject of the benchmark.
#[derive(Debug)]
pub struct Subject {
    /// As in the report and for `--only`.
    pub name: String,
    kind: Kind,
    running: Option<Running>,
}

#[derive(Debug)]
enum Kind {
    /// The start of the floor's program, which then does nothing.
    Start,
    /// The kernel floor, with or without a cgroup of its own.
    Floor {
        group: bool,
    },
    Runtime(Runtime),
}

/// The container for `exec`.
#[derive(Debug)]
struct Running {
    id: String,
    init: Pid,
    /// The floor's own process, which waits for its container.
    floor: Option<Child>,
}

thread_local!(static NEXT: Cell<usize> = const { Cell::new(0) });

fn next_id() -> String {
    View::id(NEXT.replace(NEXT.get() + 1))
}

/// The subjects that are there and work, and a note for each that does not.
///
/// # Errors
/// The bundles cannot be written.
pub fn find(place: &Place<'_>, only: &[String]) -> Result<(Vec<Subject>, Vec<String>)> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    let mut subjects = Vec::new();
    let mut notes = Vec::new();
    let ours = [
        ("start", Kind::Start),
        (FLOOR, Kind::Floor { group: false }),
        ("floor+cgroup", Kind::Floor { group: true }),
    ];
    for (name, kind) in ours {
        if wanted(name) {
            subjects.push(Subject { name: name.to_owned(), kind, running: None });
        }
    }
    for (name, runtime) in find_runtimes(place, wanted, &mut notes)? {
        subjects.push(Subject {
            name: name.to_owned(),
            kind: Kind::Runtime(runtime),
            running: None,
        });
    }
    Ok((subjects, notes))
}

/// The runtimes that run a container here; a note for each that does not.
fn find_runtimes(
    place: &Place<'_>,
    wanted: impl Fn(&str) -> bool,
    notes: &mut Vec<String>,
) -> Result<Vec<(&'static str, Runtime)>> {
    let orlop = Some(place.programs.join("orlop")).filter(|program| program.is_file());
    let programs = [("orlop", orlop), ("runc", installed("runc")), (RIVAL, installed(RIVAL))];
    let mut runtimes = Vec::new();
    for (name, program) in programs.into_iter().filter(|(name, _)| wanted(name)) {
        let Some(program) = program else {
            notes.push(format!("{name} is left out: not installed"));
            continue;
        };
        let state = place.directory.join("state").join(name);
        let log = place.directory.join(format!("{name}.log"));
        let systemd = place.view.is_systemd();
        runtimes.push((name, Runtime { program, state, log, systemd }));
    }
    let probe_all = || -> Vec<Option<String>> {
        let probe = |(_, runtime)| probe(runtime, place).err().map(|error| format!("{error:#}"));
        runtimes.iter().map(|(name, runtime)| probe((name, runtime))).collect()
    };
    let mut failures = probe_all();
    if failures.iter().any(Option::is_some) {
        // Some need more privileges than they get here for the device rules alone.
        place.bundles.write(false)?;
        let without = probe_all();
        for (index, (name, _)) in runtimes.iter().enumerate() {
            if let (Some(why), None) = (&failures[index], &without[index]) {
                notes.push(format!("all run without device rules, because {name} {why}"));
            }
        }
        if without.iter().flatten().count() < failures.iter().flatten().count() {
            failures = without;
        } else {
            place.bundles.write(true)?;
        }
    }
    let mut working = Vec::new();
    for (runtime, failure) in runtimes.into_iter().zip(failures) {
        match failure {
            None => working.push(runtime),
            Some(why) => notes.push(format!("{} is left out: it {why}", runtime.0)),
        }
    }
    Ok(working)
}

/// A runtime that only says it ran a container would win every comparison.
fn probe(runtime: &Runtime, place: &Place<'_>) -> Result<()> {
    let watchdog = Watchdog::start();
    let mut command = runtime.command(None)?;
    command.arg("run").arg("--bundle").arg(&place.bundles.probe).arg(next_id());
    let code = watchdog.run(&mut command)?;
    ensure!(
        code == PROBE_STATUS,
        "does not run a container here: exit status {code} instead of {PROBE_STATUS}{}",
        last_words(runtime)
    );
    Ok(())
}

fn last_words(runtime: &Runtime) -> String {
    let text = fs::read_to_string(&runtime.log).unwrap_or_default();
    text.lines().last().map(|line| format!(": {line}")).unwrap_or_default()
}

impl Subject {
    /// Gets ready for an operation; false if the subject has no part in it.
    ///
    /// # Errors
    /// The container for `exec` does not start.
    pub fn prepare(&mut self, operation: Operation, place: &Place<'_>) -> Result<bool> {
        if operation == Operation::Exec && self.running.is_none() {
            self.running = match &self.kind {
                Kind::Start => None,
                Kind::Floor { group } => Some(start_floor(place, *group)?),
                Kind::Runtime(runtime) => Some(start(runtime, place)?),
            };
        }
        Ok(!matches!(self.kind, Kind::Start) || operation == Operation::Run)
    }

    /// Does it once, by the clock.
    ///
    /// # Errors
    /// A command fails.
    pub fn once(&self, operation: Operation, place: &Place<'_>, dog: &Watchdog) -> Result<Cost> {
        let meter = Meter::start()?;
        self.perform(operation, place, (dog, None))?;
        meter.stop()
    }

    /// Does it once: the peak resident memory, in KiB, of its largest process.
    ///
    /// # Errors
    /// A command fails.
    pub fn peak(&self, operation: Operation, place: &Place<'_>, dog: &Watchdog) -> Result<u64> {
        let meter = PeakMeter::new(place.programs, place.directory);
        self.perform(operation, place, (dog, Some(&meter)))?;
        Ok(meter.take()?)
    }

    fn perform(
        &self,
        operation: Operation,
        place: &Place<'_>,
        (dog, meter): (&Watchdog, Option<&PeakMeter>),
    ) -> Result<()> {
        match (&self.kind, operation) {
            (Kind::Start, _) => succeed(dog, floor(place, meter).arg("nothing"), None),
            (Kind::Floor { group }, Operation::Run | Operation::Lifecycle) => {
                let id = group.then(next_id);
                let mut command = floor(place, meter);
                command.arg("run").arg(&place.bundles.root).arg("/bin/true");
                succeed(dog, groups(&mut command, place, id.as_deref()), None)
            }
            (Kind::Floor { group }, Operation::Exec) => {
                let running = self.running()?;
                let mut command = floor(place, meter);
                command.arg("exec").arg(running.init.to_string()).arg("/bin/true");
                let id = group.then_some(running.id.as_str());
                succeed(dog, groups(&mut command, place, id), None)
            }
            (Kind::Runtime(runtime), Operation::Run) => {
                let mut command = runtime.command(meter)?;
                command.arg("run").arg("--bundle").arg(&place.bundles.exit).arg(next_id());
                succeed(dog, &mut command, Some(runtime))
            }
            (Kind::Runtime(runtime), Operation::Lifecycle) => {
                lifecycle(runtime, place, (dog, meter))
            }
            (Kind::Runtime(runtime), Operation::Exec) => {
                let mut command = runtime.command(meter)?;
                command.arg("exec").arg(&self.running()?.id).arg("/bin/true");
                succeed(dog, &mut command, Some(runtime))
            }
        }
    }

    fn running(&self) -> Result<&Running> {
        self.running.as_ref().context("the container for exec was not started")
    }

    /// Takes the container for `exec` away. Nothing can be done about a failure;
    /// what is left is reported with the leftovers.
    pub fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let _ = kill(running.init, Signal::SIGKILL);
        match &mut running.floor {
            Some(floor) => drop(floor.wait()),
            None => drop(waitpid(running.init, None)),
        }
        if let Kind::Runtime(runtime) = &self.kind
            && let Ok(mut command) = runtime.command(None)
        {
            let _ = command.args(["delete", "--force", &running.id]).status();
        }
    }
}

fn lifecycle(
    runtime: &Runtime,
    place: &Place<'_>,
    (dog, meter): (&Watchdog, Option<&PeakMeter>),
) -> Result<()> {
    let id = next_id();
    let pid_file = place.directory.join("pid");
    let mut create = runtime.command(meter)?;
    create.arg("create").arg("--bundle").arg(&place.bundles.exit);
    create.arg("--pid-file").arg(&pid_file).arg(&id);
    succeed(dog, &mut create, Some(runtime))?;
    succeed(dog, runtime.command(meter)?.arg("start").arg(&id), Some(runtime))?;
    dog.wait(read_pid(&pid_file)?)?;
    succeed(dog, runtime.command(meter)?.arg("delete").arg(&id), Some(runtime))
}

fn start(runtime: &Runtime, place: &Place<'_>) -> Result<Running> {
    let id = next_id();
    let pid_file = place.directory.join("pid");
    let mut command = runtime.command(None)?;
    command.arg("run").arg("--detach").arg("--bundle").arg(&place.bundles.pause);
    command.arg("--pid-file").arg(&pid_file).arg(&id);
    succeed(&Watchdog::start(), &mut command, Some(runtime))?;
    Ok(Running { id, init: read_pid(&pid_file)?, floor: None })
}

fn start_floor(place: &Place<'_>, group: bool) -> Result<Running> {
    let id = next_id();
    let mut command = floor(place, None);
    command.arg("run").arg(&place.bundles.root).arg("/bin/pause");
    let child = groups(&mut command, place, group.then_some(id.as_str())).spawn()?;
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let started = Instant::now();
    // Its only child is the container's init, which is in place once it has
    // executed its program.
    while started.elapsed() < Duration::from_secs(10) {
        let text = fs::read_to_string(&children)?;
        if let Ok(pid) = text.trim().parse()
            && fs::read_to_string(format!("/proc/{pid}/comm"))?.trim() == "pause"
        {
            return Ok(Running { id, init: Pid::from_raw(pid), floor: Some(child) });
        }
        thread::sleep(Duration::from_millis(5));
    }
    bail!("the floor's container did not start")
}

fn read_pid(file: &Path) -> Result<Pid> {
    let text = fs::read_to_string(file).context("reading the pid file")?;
    Ok(Pid::from_raw(text.trim().parse().context("reading the pid file")?))
}

fn floor(place: &Place<'_>, meter: Option<&PeakMeter>) -> Command {
    peak::command(&place.programs.join("kernel-floor"), meter)
}

fn groups<'a>(command: &'a mut Command, place: &Place<'_>, group: Option<&str>) -> &'a mut Command {
    if let Some(group) = group {
        command.args(["--group", group]);
    }
    let hierarchies: &[PathBuf] = place.view.hierarchies();
    command.args(hierarchies)
}

fn succeed(dog: &Watchdog, command: &mut Command, runtime: Option<&Runtime>) -> Result<()> {
    let code = dog.run(command)?;
    ensure!(
        code == 0,
        "{} {:?} failed with exit status {code}{}",
        command.get_program().display(),
        command.get_args().collect::<Vec<_>>(),
        runtime.map(last_words).unwrap_or_default()
    );
    Ok(())
}
