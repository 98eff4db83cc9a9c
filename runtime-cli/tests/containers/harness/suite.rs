//! Which tests run, in which view, and how their end is told.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use super::lab::{Lab, Skip};
use super::view::{self, Part, View};
use super::{oracle, skips};

/// One test, which fails by a panic.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) body: fn(&Lab),
}

/// A room's list of tests, by their functions.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        &[$($crate::harness::Test {
            name: concat!(module_path!(), "::", stringify!($name)),
            body: $name,
        }),+]
    };
}
pub(crate) use tests;

/// The whole program: `rooms` in every view of this host, `scopes` where systemd makes
/// the cgroups, and `folders` where the runtime does.
pub(crate) fn main(rooms: &[&[Test]], folders: &[Test], scopes: &[Test]) -> ExitCode {
    let arguments = Arguments::read();
    let some = match view::part() {
        Part::Inside(View::Systemd) => scopes.to_vec(),
        Part::Inside(_) => folders.to_vec(),
        Part::All | Part::Door(_) | Part::Init(_) => [folders, scopes].concat(),
    };
    let all = [rooms.concat(), some].concat();
    if arguments.list {
        for test in all {
            println!("{}: test", short(test.name));
        }
        return ExitCode::SUCCESS;
    }
    let tests: Vec<_> = all.into_iter().filter(|test| arguments.wants(short(test.name))).collect();
    match view::part() {
        Part::All if !nix::unistd::geteuid().is_root() => {
            skips::tell("containers", "needs root");
            ExitCode::SUCCESS
        }
        Part::All if tests.is_empty() => ExitCode::SUCCESS,
        Part::All => view::run_each(arguments.view.as_deref()),
        Part::Door(view) => view::open(view),
        Part::Init(view) => view::init(view),
        Part::Inside(view) => run(&tests, view),
    }
}

fn run(tests: &[Test], view: View) -> ExitCode {
    let started = Instant::now();
    println!("\nrunning {} container tests, {}", tests.len(), view.describe());
    let mut failed = Vec::new();
    for test in tests {
        let name = short(test.name);
        let begun = Instant::now();
        match one(*test, view) {
            Outcome::Passed => println!("test {name} [{view}] ... ok {:.0?}", begun.elapsed()),
            Outcome::Skipped(why) => skips::tell(&format!("{name} [{view}]"), &why),
            Outcome::Failed => {
                println!("test {name} [{view}] ... FAILED");
                failed.push(name);
            }
        }
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    let took = started.elapsed();
    println!("container tests, {view}: {word}. {} failed {failed:?}, {took:.1?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

enum Outcome {
    Passed,
    Skipped(String),
    Failed,
}

fn one(test: Test, view: View) -> Outcome {
    let lab = Lab::new(view);
    let before = oracle::Picture::take(&lab);
    let result = catch_unwind(AssertUnwindSafe(|| (test.body)(&lab)));
    // What a failed one has left is no news, and need not go by itself.
    let failed = result.as_ref().is_err_and(|panic| !panic.is::<Skip>());
    let leaks = if failed { before.now(&lab) } else { before.leaks(&lab) };
    for leak in &leaks {
        println!("{} [{view}] leaks {leak}", short(test.name));
    }
    before.sweep(&lab);
    match result {
        Ok(()) if leaks.is_empty() => Outcome::Passed,
        Err(panic) if leaks.is_empty() => skipped(panic.as_ref()),
        _ => Outcome::Failed,
    }
}

fn skipped(panic: &(dyn Any + Send)) -> Outcome {
    match panic.downcast_ref::<Skip>() {
        Some(Skip(why)) => Outcome::Skipped(why.clone()),
        None => Outcome::Failed,
    }
}

/// Without the name of the program.
fn short(name: &'static str) -> &'static str {
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

/// What cargo passes on: names, and the flags that mean something here. `--view` is
/// ours: one of the views alone, so that two can run beside each other.
struct Arguments {
    list: bool,
    exact: bool,
    view: Option<String>,
    names: Vec<String>,
    skipped: Vec<String>,
}

impl Arguments {
    fn read() -> Self {
        let mut this =
            Self { list: false, exact: false, view: None, names: Vec::new(), skipped: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => this.list = true,
                "--exact" => this.exact = true,
                "--skip" => this.skipped.extend(arguments.next()),
                "--view" => this.view = arguments.next(),
                "--test-threads" | "--format" | "--color" => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                name => this.names.push(name.to_owned()),
            }
        }
        this
    }

    fn wants(&self, test: &str) -> bool {
        let fits = |name: &String| if self.exact { test == name } else { test.contains(name) };
        (self.names.is_empty() || self.names.iter().any(fits)) && !self.skipped.iter().any(fits)
    }
}
