//! Checks of the shim under Debian's containerd.
//!
//! As with Docker, a daemon of our own runs in namespaces of our own, with its own
//! socket, state and root. Containers have their cgroups below one that is named like
//! containerd's namespace, which is ours.
//!
//! [`image`] makes an image of busybox, [`daemon`] is the engine, [`container`] what it
//! runs, [`events`] what it tells, [`cri`] how Kubernetes speaks with it, by [`grpc`],
//! [`checks`] what is asked of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub mod checks;
pub mod container;
pub mod cri;
pub mod daemon;
pub mod events;
pub mod grpc;
pub mod image;

use crate::engine::leftovers::{self, Leftovers, Stopped};
use crate::engine::table::Table;
use crate::engine::{self, Options, namespaces};
use daemon::Daemon;

/// Our shim's program.
pub const SHIM: &str = "containerd-shim-orlop-v1";

/// A program and the Debian package that holds it.
const TOOLS: [(&str, &str); 4] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
];

/// The name by which containerd finds a shim, made of that of its program.
///
/// # Errors
/// It is not one that containerd would find.
pub fn runtime_name(program: &Path) -> Result<String> {
    let file = program.file_name().unwrap_or_default().to_string_lossy();
    let parts = file.strip_prefix("containerd-shim-").and_then(|rest| rest.rsplit_once('-'));
    let (name, version) =
        parts.with_context(|| format!("{file} is not of the form containerd-shim-NAME-VERSION"))?;
    Ok(format!("io.containerd.{name}.{version}"))
}

/// Runs the checks, with pods in cgroups that systemd makes if that is asked for. Needs
/// root.
///
/// # Errors
/// The engine cannot be brought up; what a check finds is in the table.
pub fn run(options: &Options, systemd_cgroup: bool) -> Result<Table> {
    let logs = engine::prepare(options, checks::ALL, &TOOLS)?;
    namespaces::enter()?;
    let mut table = Table { log: logs.join("containerd.log"), rows: Vec::new() };
    let before = Leftovers::here()?;
    let daemon = Daemon::start(&options.program, &options.name, systemd_cgroup, &table.log)?;
    let result = daemon
        .import_image()
        .and_then(|()| engine::run(&daemon, checks::ALL, options, &mut table.rows, Daemon::clear));
    let mut groups = vec![daemon.namespace().to_owned(), daemon.pods().to_owned()];
    groups.dedup();
    let (directory, ended) = daemon.stop();
    let stopped = Stopped { directory, ended, groups, own: Vec::new() };
    before.check(stopped, states, options, &mut table.rows)?;
    result?;
    Ok(table)
}

/// What a shim has left: the state of a container, a bundle, a socket.
fn states(engine: &Path) -> Vec<PathBuf> {
    let bundles = engine.join("state/io.containerd.runtime.v2.task");
    let mut found: Vec<PathBuf> = Vec::new();
    for namespace in [Path::new("/run/containerd/runc"), &bundles].map(leftovers::directories) {
        found.extend(namespace.iter().flat_map(|namespace| leftovers::directories(namespace)));
    }
    let sockets = fs::read_dir("/run/containerd/s").into_iter().flatten().flatten();
    found.extend(sockets.map(|socket| socket.path()));
    found
}
