//! The kill sweep: whoever dies, at whatever system call, `delete --force` leaves
//! nothing behind.
//!
//! A sweep repeats one command and kills the command itself, or the stage that it
//! started, before its first, second, ... system call, until the command comes to
//! its end alive. The oracle looks after every single kill. `ORLOP_TEST_EVERY=4` is
//! for machines where that takes too long: it kills before each fourth call.

pub(crate) mod tracer;

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde_json::{Value, json};

pub(crate) use tracer::Victim;
use tracer::{Ending, Tracer};

use crate::checkpoint::whole::{RESTORE, RUN, command_on, criu, quietly, save};
use crate::harness::{Bundle, Lab, Output, Picture, Test, processes, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    create_is_killed,
    create_with_ids_and_hooks_is_killed,
    run_is_killed,
    run_with_hooks_is_killed,
    start_is_killed,
    exec_is_killed,
    delete_is_killed,
    delete_with_hooks_is_killed,
    an_addition_of_mounts_is_killed,
    the_stage_of_run_is_killed,
    the_stage_of_start_is_killed,
    the_stage_of_exec_is_killed,
    restore_is_killed,
    restore_is_killed_while_it_waits,
];

/// What is done to a container, after what was done before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Run,
    Start,
    Exec,
    Delete,
    /// `mounts add` of [`ADDED`].
    AddMounts,
    /// Of a checkpoint that [`IMAGES`] has.
    Restore,
}

/// Where a restore finds what was saved.
const IMAGES: &str = "images";

/// Where mounts are added.
const ADDED: [&str; 2] = ["/work", "/tmp"];

/// Who calls the runtime.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// As whom it runs when it is traced.
    pub(crate) user: u32,
    /// The runtime with these arguments, as this caller's command.
    pub(crate) runtime: &'a dyn Fn(&[&str]) -> Command,
}

/// One sweep to its end.
struct Sweep<'a> {
    lab: &'a Lab,
    caller: Caller<'a>,
    bundle: Bundle,
    step: Step,
    victim: Victim,
    /// How many kills left something for the deletion.
    left: usize,
    found: Vec<String>,
}

fn sweep(lab: &Lab, step: Step, victim: Victim) {
    sweep_of(lab, lab.bundle(&["sleep"]), step, victim);
}

fn sweep_of(lab: &Lab, bundle: Bundle, step: Step, victim: Victim) {
    let caller = Caller { user: 0, runtime: &|arguments| lab.command(arguments) };
    sweep_by(lab, caller, bundle, (step, victim));
}

/// A sweep by whoever calls the runtime.
pub(crate) fn sweep_by(lab: &Lab, caller: Caller<'_>, bundle: Bundle, what: (Step, Victim)) {
    bundle.write();
    let (step, victim) = what;
    let mut sweep = Sweep { lab, caller, bundle, step, victim, left: 0, found: Vec::new() };
    let begun = Instant::now();
    let every = every();
    let mut kills = 0;
    while sweep.found.len() < 5 && sweep.kills(kills * every) {
        kills += 1;
    }
    let (left, took) = (sweep.left, begun.elapsed());
    println!("  {step:?}, {victim:?}: {kills} kills, {left} left something, {took:.1?}");
    assert!(kills > 0 && left > 0, "nothing was swept");
    assert_eq!(sweep.found, [""; 0]);
}

fn every() -> usize {
    std::env::var("ORLOP_TEST_EVERY").map_or(1, |every| every.parse().unwrap())
}

impl Sweep<'_> {
    /// Whether the kill at that call came before the end.
    fn kills(&mut self, at: usize) -> bool {
        let picture = Picture::take(self.lab);
        let name = format!("{at}");
        self.prepare(&name);
        let ending = self.killed(&name, at);
        // The kernel takes a moment for keyrings, whoever asks it.
        let left = picture.now(self.lab).iter().any(|leak| !leak.starts_with("a keyring"));
        self.left += usize::from(left);
        let mut wrong = Vec::new();
        if self.step == Step::AddMounts {
            wrong.extend(self.mounts(&name));
        }
        if self.step == Step::Run && self.victim == Victim::Stage && ending.code != 0 {
            // Its creator lives, and takes back what it made.
            wrong.extend(picture.leaks(self.lab));
        }
        let deleted = self.call(&["delete", "--force", &self.lab.id(&name)]);
        wrong.extend(picture.leaks(self.lab));
        if deleted.code != 0 || !deleted.stderr.is_empty() {
            wrong.insert(0, format!("delete says {}: {}", deleted.code, deleted.stderr));
        }
        if !wrong.is_empty() {
            picture.sweep(self.lab);
            let more = wrong.len().saturating_sub(4);
            wrong.truncate(4);
            self.found.push(format!("kill {at}: {ending:?}: {wrong:?} and {more} more"));
        }
        if ending.killed.is_none() {
            assert_eq!(ending.code, 0, "without a kill, {:?} should succeed", self.step);
        }
        ending.killed.is_some()
    }

    fn prepare(&self, name: &str) {
        let id = self.lab.id(name);
        if matches!(self.step, Step::Start | Step::Exec | Step::Delete | Step::AddMounts) {
            self.call(&["create", "--bundle", self.bundle(), &id]).ok();
        }
        if matches!(self.step, Step::Exec | Step::Delete | Step::AddMounts) {
            self.call(&["start", &id]).ok();
        }
    }

    fn killed(&self, name: &str, at: usize) -> Ending {
        let id = &*self.lab.id(name);
        let images = self.lab.path(IMAGES);
        let images = images.to_str().unwrap();
        let restore = [&RESTORE as &[_], &["--image-path", images, "--work-path", images]].concat();
        let restore = [&restore[..], &["--bundle", self.bundle(), id]].concat();
        let arguments: &[&str] = match self.step {
            Step::Restore => &restore,
            Step::Create => &["create", "--bundle", self.bundle(), id],
            Step::Run => &["run", "--detach", "--bundle", self.bundle(), id],
            Step::Start => &["start", id],
            Step::Exec => &["exec", "--detach", id, "/bin/probe", "sleep"],
            Step::Delete => &["delete", "--force", id],
            Step::AddMounts => &["mounts", "add", id, &self.list()],
        };
        let command = (self.caller.runtime)(arguments);
        let mut tracer = Tracer::start(&command, self.caller.user, self.victim, at);
        if (self.step, self.victim) == (Step::Start, Victim::Stage) {
            let state: Value = serde_json::from_str(&self.call(&["state", id]).ok()).unwrap();
            let pid = state["pid"].as_i64().unwrap();
            tracer.add(Pid::from_raw(pid.try_into().unwrap()));
        }
        tracer.end()
    }

    /// What is wrong after an addition of mounts that was killed: they are all there or
    /// none is, and the next addition and removal work as ever.
    fn mounts(&self, name: &str) -> Option<String> {
        // The stage takes back what its launcher did not accept.
        until("the end of the stage", || processes().len() == 1);
        let id = &*self.lab.id(name);
        let pid = self.lab.state(name)["pid"].to_string();
        let table = || {
            let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
            ADDED.map(|at| text.lines().filter(|line| line.split(' ').nth(4) == Some(at)).count())
        };
        let first = table();
        if ![[0, 0], [1, 1]].contains(&first) {
            return Some(format!("{first:?} of {ADDED:?} are mounted"));
        }
        let list = self.list();
        for (action, wanted) in [("add", first.map(|one| one + 1)), ("remove", first)] {
            let said = self.call(&["mounts", action, id, &list]);
            if said.code != 0 || table() != wanted {
                return Some(format!("{first:?}, {action}: {:?}, {}", table(), said.stderr));
            }
        }
        if first == [1, 1] {
            let said = self.call(&["mounts", "remove", id, &list]);
            if said.code != 0 || table() != [0, 0] {
                return Some(format!("{first:?} stay: {:?}, {}", table(), said.stderr));
            }
        }
        None
    }

    /// A file with what is mounted at [`ADDED`].
    fn list(&self) -> String {
        let file = self.lab.path("mounts.json");
        let mounts = ADDED.map(|at| json!({ "destination": at, "type": "tmpfs" }));
        fs::write(&file, json!({ "mounts": mounts }).to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    }

    fn call(&self, arguments: &[&str]) -> Output {
        self.lab.begin((self.caller.runtime)(arguments)).end()
    }

    fn bundle(&self) -> &str {
        self.bundle.path.to_str().unwrap()
    }
}

fn create_is_killed(lab: &Lab) {
    sweep(lab, Step::Create, Victim::Parent);
}

/// A further process on the way to the init, hooks, limits.
fn create_with_ids_and_hooks_is_killed(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.user_namespace();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        bundle.hook(kind, &["exit", "0"]);
    }
    // A hybrid host keeps most controllers from its v2 hierarchy.
    if !lab.view.is_v2() {
        bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 50 });
    }
    sweep_of(lab, bundle, Step::Create, Victim::Parent);
}

fn run_is_killed(lab: &Lab) {
    sweep(lab, Step::Run, Victim::Parent);
}

fn run_with_hooks_is_killed(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    for kind in ["createRuntime", "startContainer", "poststart", "poststop"] {
        bundle.hook(kind, &["exit", "0"]);
    }
    sweep_of(lab, bundle, Step::Run, Victim::Parent);
}

fn delete_with_hooks_is_killed(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.hook("poststop", &["exit", "0"]);
    sweep_of(lab, bundle, Step::Delete, Victim::Parent);
}

fn start_is_killed(lab: &Lab) {
    sweep(lab, Step::Start, Victim::Parent);
}

fn exec_is_killed(lab: &Lab) {
    sweep(lab, Step::Exec, Victim::Parent);
}

fn delete_is_killed(lab: &Lab) {
    sweep(lab, Step::Delete, Victim::Parent);
}

fn an_addition_of_mounts_is_killed(lab: &Lab) {
    sweep(lab, Step::AddMounts, Victim::Parent);
}

fn the_stage_of_start_is_killed(lab: &Lab) {
    sweep(lab, Step::Start, Victim::Stage);
}

fn the_stage_of_run_is_killed(lab: &Lab) {
    sweep(lab, Step::Run, Victim::Stage);
}

/// CRIU and what it has brought back so far are the deletion's, too.
fn restore_is_killed(lab: &Lab) {
    criu(lab);
    let bundle = lab.bundle(&["sleep"]);
    quietly(command_on(lab, &bundle, &RUN, "saved"));
    save(lab, &["--image-path", IMAGES], "saved");
    sweep_of(lab, bundle, Step::Restore, Victim::Parent);
}

/// Between its calls, while CRIU works: a kill every few milliseconds.
fn restore_is_killed_while_it_waits(lab: &Lab) {
    criu(lab);
    let bundle = lab.bundle(&["sleep"]);
    quietly(command_on(lab, &bundle, &RUN, "saved"));
    save(lab, &["--image-path", IMAGES], "saved");
    let verb = [&RESTORE as &[_], &["--image-path", IMAGES, "--work-path", IMAGES]].concat();
    let (mut kills, mut found) = (0, Vec::new());
    for moment in (0..).step_by(15 * every()).map(Duration::from_millis) {
        let picture = Picture::take(lab);
        let running = lab.begin(command_on(lab, &bundle, &verb, "a"));
        sleep(moment);
        running.signal("SIGKILL");
        let ended = running.end().code;
        lab.delete("a");
        let mut leaks = picture.leaks(lab);
        if !leaks.is_empty() {
            picture.sweep(lab);
            leaks.truncate(4);
            found.push(format!("after {moment:?}: {leaks:?}"));
        }
        if ended == 0 || found.len() == 5 {
            break;
        }
        kills += 1;
    }
    println!("  {kills} kills");
    assert!(kills > 3, "nothing was swept");
    assert_eq!(found, [""; 0]);
}

fn the_stage_of_exec_is_killed(lab: &Lab) {
    sweep(lab, Step::Exec, Victim::Stage);
}
