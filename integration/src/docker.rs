//! Checks of a runtime through Debian's Docker.
//!
//! A daemon of our own runs in a mount and a network namespace of our own, with
//! its own socket, data and state: the system's daemon, bridges, firewall and
//! mounts are neither used nor touched, and the kernel takes ours away with the
//! namespaces. Cgroups are shared, so ours have a parent of their own.
//!
//! [`image`] is the root file system, [`daemon`] the engine, [`checks`] what is asked
//! of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::unistd::Uid;

pub mod checks;
pub mod container;
pub mod daemon;
pub mod image;

use crate::apt;
use crate::engine::leftovers::{self, Leftovers};
use crate::engine::table::{Row, Table};
use crate::engine::{self, LEFTOVERS, Options, namespaces};
use daemon::Daemon;

/// A program and the Debian package that holds it.
const TOOLS: [(&str, &str); 6] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("docker-init", "docker.io"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("mmdebstrap", "mmdebstrap"),
];

/// Directories in /run that engines and their runtimes use; ours starts empty.
const RUN_OF_THE_ENGINE: [&str; 2] = ["/run/containerd", "/run/docker"];

/// Runs the checks. Needs root.
///
/// # Errors
/// The engine cannot be brought up; what a check finds is in the table.
pub fn run(options: &Options) -> Result<Table> {
    options.ensure_known(checks::ALL)?;
    let logs = options.target.join("engines").join(&options.name);
    fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
    ensure!(Uid::effective().is_root(), "the checks need root");
    apt::ensure_installed(&TOOLS, &logs.join("apt.log"))?;
    let image = image::debian(&options.target.join("engines"), &logs)?;
    namespaces::enter()?;
    let mut table = Table { log: logs.join("dockerd.log"), rows: Vec::new() };
    let before = Leftovers::here()?;
    let daemon = Daemon::start(&options.program, &options.name, &table.log)?;
    let result = check_all(&daemon, &image, options, &mut table.rows);
    let group = daemon.cgroup_parent().to_owned();
    let (directory, ended) = daemon.stop();
    if options.wants(LEFTOVERS) {
        let start = Instant::now();
        // The engine's own: its data root, and its network namespace's name.
        let own = ["data", "exec/netns/default"].map(|name| directory.path().join(name));
        let result = before.compare(&own, &group, states(directory.path())).and_then(|()| {
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
    engine::run(daemon, checks::ALL, options, rows, Daemon::remove_containers)
}

/// Containers that a runtime still knows: below the engine's own state, or where a
/// runtime keeps its state when nobody says where.
fn states(engine: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for runtime in leftovers::directories(&engine.join("exec")) {
        let name = runtime.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("runtime-") {
            found.extend(leftovers::directories(&runtime.join("moby")));
        }
    }
    for place in leftovers::directories(Path::new("/run")) {
        if !RUN_OF_THE_ENGINE.iter().any(|own| place == Path::new(own)) {
            found.extend(leftovers::directories(&place));
        }
    }
    found
}
