//! Checks of a runtime through Debian's Docker.
//!
//! A daemon of our own runs in a mount and a network namespace of our own, with
//! its own socket, data and state: the system's daemon, bridges, firewall and
//! mounts are neither used nor touched, and the kernel takes ours away with the
//! namespaces. Cgroups are shared, so ours have a parent of their own.
//!
//! [`tools`] gets what Debian provides, [`image`] the root file system,
//! [`daemon`] is the engine, [`checks`] what is asked of it, [`leftovers`] what
//! must be gone at the end, and [`table`] the result.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

pub mod checks;
pub mod container;
pub mod daemon;
pub mod image;
pub mod leftovers;
pub mod table;
pub mod terminal;
pub mod tools;

use checks::Check;
use daemon::Daemon;
use leftovers::Leftovers;
use table::{Row, Table};

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// The runtime's program.
    pub runtime: PathBuf,
    /// The name under which it is registered.
    pub name: String,
    /// Checks by name; empty for all.
    pub checks: Vec<String>,
    /// For logs and the cached image.
    pub target: PathBuf,
}

/// The name of the check that runs last, when everything should be gone.
pub const LEFTOVERS: &str = "leftovers";

/// Runs the checks. Needs root.
///
/// # Errors
/// The engine cannot be brought up; what a check finds is in the table.
pub fn run(options: &Options) -> Result<Table> {
    for name in &options.checks {
        let known = name == LEFTOVERS || checks::ALL.iter().any(|check| check.name == name);
        ensure!(known, "there is no check \"{name}\"");
    }
    let logs = options.target.join("engines").join(&options.name);
    fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
    tools::ensure_installed(&logs)?;
    let image = image::debian(&options.target.join("engines"), &logs)?;
    tools::enter_namespaces()?;
    let mut table = Table { log: logs.join("dockerd.log"), rows: Vec::new() };
    let before = Leftovers::here()?;
    let daemon = Daemon::start(&options.runtime, &options.name, &table.log)?;
    let result = check_all(&daemon, &image, options, &mut table.rows);
    let group = daemon.cgroup_parent().to_owned();
    let (directory, ended) = daemon.stop();
    let wanted = |name: &str| {
        options.checks.is_empty() || options.checks.iter().any(|wanted| wanted == name)
    };
    if wanted(LEFTOVERS) {
        let start = Instant::now();
        let result = before.compare(directory.path(), &group).and_then(|()| {
            ensure!(ended, "dockerd did not stop by itself and was killed");
            Ok(())
        });
        table.rows.push(Row { name: LEFTOVERS, took: start.elapsed(), result });
    }
    leftovers::remove_cgroups(&group)?;
    leftovers::remove_directory(directory)?;
    result?;
    Ok(table)
}

fn check_all(daemon: &Daemon, image: &Path, options: &Options, rows: &mut Vec<Row>) -> Result<()> {
    daemon.import(image)?;
    let wanted = |check: &&Check| {
        options.checks.is_empty() || options.checks.iter().any(|name| name == check.name)
    };
    for check in checks::ALL.iter().filter(wanted) {
        let start = Instant::now();
        let result = (check.run)(daemon);
        rows.push(Row { name: check.name, took: start.elapsed(), result });
        // What one check leaves must not decide about the next.
        daemon.remove_containers().with_context(|| format!("after the check {}", check.name))?;
    }
    Ok(())
}
