//! The benchmark of container runtimes.
//!
//! One run measures all subjects in turn, in a new random order each round, so
//! that whatever else the machine does falls on all of them alike. What is
//! measured is what an engine pays: commands started and waited for, from outside.
//!
//! [`bundle`] is what they run, [`runtime`] a runtime's command line, [`subject`]
//! who is measured doing what, [`meter`] the clock, [`peak`] the scales, [`cgroups`] the hierarchy they
//! see, [`stats`] the figures and [`report`] their picture.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

pub mod bundle;
pub mod cgroups;
pub mod meter;
pub mod peak;
pub mod report;
pub mod runtime;
pub mod stats;
pub mod subject;

use bundle::Bundles;
use cgroups::View;
use meter::Watchdog;
use report::{Figures, Report};
use stats::Summary;
use subject::{Operation, Place, Subject};

/// Rounds before the first that counts: caches, and the kernel's own lazy set-up.
const WARM_UP: usize = 3;
/// Runs per subject and operation under the memory meter.
const PEAK_RUNS: usize = 5;

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// Rounds that count.
    pub iterations: usize,
    /// Subjects by name; empty for all.
    pub only: Vec<String>,
    /// Stay in the host's cgroup hierarchy even where it is not pure v2.
    pub host_cgroups: bool,
    /// The runtimes have systemd make their cgroups.
    pub systemd: bool,
}

/// Measures everything that is there.
///
/// `programs` is the directory with our own built programs.
///
/// # Errors
/// A subject that fails in the middle of a measurement; one that is missing or
/// fails its probe is only named in the report.
pub fn run(options: &Options, programs: &Path) -> Result<Report> {
    let view = View::enter(options.host_cgroups, options.systemd)?;
    meter::become_subreaper()?;
    let directory = tempfile::Builder::new().prefix("runtime-bench-").tempdir()?;
    let state = directory.path().join("state");
    cgroups::mount_state(&state)?;
    let bundles = Bundles::create(directory.path(), view.is_v2())?;
    let programs = &install(programs, &directory.path().join("bin"))?;
    let place = Place { directory: directory.path(), bundles: &bundles, view: &view, programs };
    let (mut subjects, notes) = subject::find(&place, &options.only)?;
    view.sweep()?; // what a failed probe left says nothing about those who run
    let result = measure(&mut subjects, options.iterations, &place);
    for subject in &mut subjects {
        subject.stop();
    }
    cgroups::unmount_state(&state);
    let leftovers = view.leave()?;
    let mut report = result?;
    report.notes = notes;
    report.cgroups = view.describe().to_owned();
    report.leftovers = leftovers;
    Ok(report)
}

/// Copies our own programs, as whoever installs them does. The linker leaves them
/// in the page cache in pages of their own, whose mapping costs a tenth of a run;
/// the rivals came there from a package.
fn install(programs: &Path, directory: &Path) -> Result<PathBuf> {
    fs::create_dir(directory)?;
    for name in ["orlop", "kernel-floor", "peak-memory"] {
        let program = programs.join(name);
        fs::copy(&program, directory.join(name))
            .with_context(|| format!("copying {}", program.display()))?;
    }
    Ok(directory.to_owned())
}

fn measure(subjects: &mut [Subject], iterations: usize, place: &Place<'_>) -> Result<Report> {
    let watchdog = Watchdog::start();
    let mut order = Order::new();
    let mut operations = Vec::new();
    for operation in Operation::ALL {
        let mut takes_part = Vec::new();
        for (index, subject) in subjects.iter_mut().enumerate() {
            if subject.prepare(operation, place).with_context(|| subject.name.clone())? {
                takes_part.push(index);
            }
        }
        let mut costs = vec![Vec::with_capacity(iterations); subjects.len()];
        for round in 0..WARM_UP + iterations {
            order.shuffle(&mut takes_part);
            for index in &takes_part {
                let subject = &mut subjects[*index];
                let cost = subject
                    .once(operation, place, &watchdog)
                    .with_context(|| format!("{}, {}", subject.name, operation.title()))?;
                if round >= WARM_UP {
                    costs[*index].push(cost);
                }
            }
        }
        takes_part.sort_unstable();
        let mut figures = Vec::new();
        for index in takes_part {
            let subject = &mut subjects[index];
            let mut peaks = Vec::new();
            for _ in 0..PEAK_RUNS {
                peaks.push(subject.peak(operation, place, &watchdog)?);
            }
            figures.push(Figures {
                subject: subject.name.clone(),
                wall: Summary::of(costs[index].iter().map(|cost| cost.wall)),
                cpu: Summary::of(costs[index].iter().map(|cost| cost.cpu)),
                peak_kib: peaks.into_iter().max().unwrap_or_default(),
            });
        }
        operations.push((operation, figures));
    }
    Ok(Report { iterations, operations, ..Report::default() })
}

/// A random order for each round (xorshift, seeded by the clock): a fixed one
/// would let each subject always pay for what the same other one left behind.
pub(crate) struct Order(u64);

impl Order {
    pub(crate) fn new() -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self(u64::from(now.subsec_nanos()) << 20 | 1)
    }

    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    pub(crate) fn shuffle(&mut self, items: &mut [usize]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.next(last + 1));
        }
    }
}

/// Builds the programs of our own packages in release mode beside this one, if this one was built just
/// now: started by itself, as on a machine without cargo, it takes what is there.
///
/// # Errors
/// When cargo cannot be started, or the build fails.
pub fn build_programs(packages: &[&str]) -> Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--bins"])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("starting cargo")?;
    anyhow::ensure!(status.success(), "the build of the programs failed: {status}");
    Ok(())
}
