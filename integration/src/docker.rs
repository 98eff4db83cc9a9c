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

use anyhow::Result;

pub mod checks;
pub mod container;
pub mod daemon;
pub mod image;

use crate::engine::leftovers::{self, Leftovers, Stopped};
use crate::engine::table::{Row, Table};
use crate::engine::{self, Options, namespaces};
use daemon::Daemon;

/// A program and the Debian package that holds it.
const TOOLS: [(&str, &str); 5] = [
    ("dockerd", "docker.io"),
    ("docker", "docker-cli | docker.io"),
    ("docker-init", "docker.io"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
];

/// Directories in /run that engines and their runtimes use, and systemd's; ours starts
/// without the others.
const RUN_OF_OTHERS: [&str; 4] = ["/run/containerd", "/run/docker", "/run/systemd", "/run/dbus"];

/// How the runtime under test is plugged in.
#[derive(Debug)]
pub struct Setup {
    /// The shim that the engine is to use with it, in the place of its own.
    pub shim: Option<PathBuf>,
    /// Whether systemd makes the cgroups.
    pub systemd_cgroup: bool,
}

impl Setup {
    /// The cgroup below which all containers are.
    fn cgroup_parent(&self) -> String {
        engine::cgroup_parent(self.systemd_cgroup)
    }

    /// The same for the engine's settings.
    fn parent_option(&self) -> String {
        let slash = if self.systemd_cgroup { "" } else { "/" };
        format!("{slash}{}", self.cgroup_parent())
    }
}

/// Runs the checks. Needs root.
///
/// # Errors
/// The engine cannot be brought up; what a check finds is in the table.
pub fn run(options: &Options, setup: &Setup) -> Result<Table> {
    let logs = engine::prepare(options, checks::ALL, &TOOLS)?;
    let image = image::debian(&options.target.join("engines"), &logs)?;
    namespaces::enter()?;
    let mut table = Table { log: logs.join("dockerd.log"), rows: Vec::new() };
    let before = Leftovers::here()?;
    let daemon = Daemon::start(&options.program, &options.name, setup, &table.log)?;
    let result = check_all(&daemon, &image, options, &mut table.rows);
    let (directory, ended) = daemon.stop();
    // Its data root, and its network namespace's name.
    let own = ["data", "exec/netns/default"].map(|name| directory.path().join(name)).into();
    let stopped = Stopped { directory, ended, groups: vec![setup.cgroup_parent()], own };
    before.check(stopped, states, options, &mut table.rows)?;
    result?;
    Ok(table)
}

fn check_all(daemon: &Daemon, image: &Path, options: &Options, rows: &mut Vec<Row>) -> Result<()> {
    daemon.import(image)?;
    engine::run(daemon, checks::ALL, options, rows, Daemon::remove_containers)
}

/// Containers that a runtime still knows: below the engine's own state, or where a
/// runtime keeps its state when nobody says where. And what a shim has left: a bundle, a
/// socket.
fn states(engine: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for runtime in leftovers::directories(&engine.join("exec")) {
        let name = runtime.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("runtime-") {
            found.extend(leftovers::directories(&runtime.join("moby")));
        }
    }
    for place in leftovers::directories(Path::new("/run")) {
        if !RUN_OF_OTHERS.iter().any(|own| place == Path::new(own)) {
            found.extend(leftovers::directories(&place));
        }
    }
    let bundles = engine.join("exec/containerd/daemon/io.containerd.runtime.v2.task/moby");
    for place in [&*bundles, Path::new("/run/containerd/runc/moby")] {
        found.extend(leftovers::directories(place));
    }
    let sockets = fs::read_dir("/run/containerd/s").into_iter().flatten().flatten();
    found.extend(sockets.map(|socket| socket.path()));
    found
}
