//! What the checks of all engines have in common: [`Check`] and how they run, the
//! [`namespaces`] that the engine is hidden in, [`server`] its daemon, [`process`] what the
//! host shows of a container, [`terminal`] a person's view, [`leftovers`] what must be gone
//! at the end, and [`table`] the result.

use std::error::Error;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::Uid;

pub mod leftovers;
pub mod namespaces;
pub mod process;
pub mod server;
pub mod table;
pub mod terminal;

use crate::apt;
use table::Row;

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// The program under test.
    pub program: PathBuf,
    /// The name under which the engine knows it.
    pub name: String,
    /// Checks by name; empty for all.
    pub checks: Vec<String>,
    /// For logs and cached images.
    pub target: PathBuf,
}

/// A named check: a function whose error says what was wrong.
#[derive(Debug, Clone, Copy)]
pub struct Check<E> {
    /// For the table and `--check`.
    pub name: &'static str,
    /// Succeeds if all is as it should be.
    pub run: fn(&E) -> Result<()>,
}

/// The error of a check that cannot be made on this machine, with the reason.
#[derive(Debug)]
pub struct Skip(pub &'static str);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Skip {}

/// How long anything may take that must come: a machine may be busy, and its processors
/// emulated.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The name of the check that runs last, when everything should be gone.
pub const LEFTOVERS: &str = "leftovers";

impl Options {
    /// Whether a check is to run.
    #[must_use]
    pub fn wants(&self, check: &str) -> bool {
        self.checks.is_empty() || self.checks.iter().any(|name| name == check)
    }

    /// Nothing is asked for that there is not.
    ///
    /// # Errors
    /// There is no check of that name.
    pub fn ensure_known<E>(&self, all: &[Check<E>]) -> Result<()> {
        for name in &self.checks {
            let known = name == LEFTOVERS || all.iter().any(|check| check.name == name);
            ensure!(known, "there is no check \"{name}\"");
        }
        Ok(())
    }
}

/// The cgroup below which all containers of an engine are, or their slice of systemd's.
#[must_use]
pub fn cgroup_parent(systemd: bool) -> String {
    let pid = std::process::id();
    // A dash would be a slice in another one.
    match systemd {
        true => format!("orlopengines{pid}.slice"),
        false => format!("orlop-engines-{pid}"),
    }
}

/// What there must be before an engine is started: root, the checks that are asked for, and
/// programs, each with the Debian package that holds it. Returns the folder for logs.
///
/// # Errors
/// Something is missing.
pub fn prepare<E>(
    options: &Options,
    all: &[Check<E>],
    programs: &[(&str, &str)],
) -> Result<PathBuf> {
    options.ensure_known(all)?;
    ensure!(Uid::effective().is_root(), "the checks need root");
    let logs = options.target.join("engines").join(&options.name);
    fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
    apt::ensure_installed(programs, &logs.join("apt.log"))?;
    Ok(logs)
}

/// Runs the checks that are asked for, and takes away after each what it has left,
/// which must not decide about the next.
///
/// # Errors
/// Something could not be taken away; what a check finds is in its row.
pub fn run<E>(
    engine: &E,
    all: &[Check<E>],
    options: &Options,
    rows: &mut Vec<Row>,
    clear: impl Fn(&E) -> Result<()>,
) -> Result<()> {
    for check in all.iter().filter(|check| options.wants(check.name)) {
        let start = Instant::now();
        let result = (check.run)(engine);
        let row = Row { name: check.name, took: start.elapsed(), result };
        // The table comes at the end, which is far where processors are emulated.
        eprint!("{row}");
        rows.push(row);
        clear(engine).with_context(|| format!("after the check {}", check.name))?;
    }
    Ok(())
}

/// Compares words.
///
/// # Errors
/// They differ.
pub fn same(what: &str, found: &str, expected: &str) -> Result<()> {
    ensure!(found == expected, "{what}: {found:?} instead of {expected:?}");
    Ok(())
}
