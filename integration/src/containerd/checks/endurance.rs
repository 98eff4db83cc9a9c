//! What many tasks and processes leave in the daemon, in a shim and on the host: nothing.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::pods::together;
use crate::containerd::container::{Container, cgroups};
use crate::containerd::daemon::{Daemon, IMAGE};
use crate::engine::process;

const TASKS: usize = 200;
const EXECS: usize = 500;
/// How many at the beginning are compared with how many at the end.
const SPAN: usize = 50;

/// Most by which memory of a shim may grow, in KiB: 350 bytes that each task leaves are
/// more. A shim whose memory is collected cannot keep that.
const SHIM_GROWTH: u32 = 64;
/// The same of the daemon, whose memory is collected now and then.
const DAEMON_GROWTH: u32 = 16 << 10;

/// What is there at one time.
#[derive(Debug, Clone, Copy, Default)]
struct Census {
    daemon_descriptors: u32,
    daemon_memory: u32,
    shim_descriptors: u32,
    shim_memory: u32,
    mounts: usize,
    cgroups: usize,
    shims: usize,
}

impl Census {
    fn take(daemon: &Daemon, shim: u32) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
        Ok(Self {
            daemon_descriptors: process::descriptors(daemon.pid())?,
            daemon_memory: process::memory(daemon.pid())?,
            shim_descriptors: process::descriptors(shim)?,
            shim_memory: process::memory(shim)?,
            mounts: mounts.lines().count(),
            cgroups: cgroups(daemon).len(),
            shims: process::shims(daemon.namespace()).len(),
        })
    }

    /// The least of each, since what is on its way is counted too.
    fn least(all: &[Self]) -> Self {
        let least = |a: Self, b: &Self| Self {
            daemon_descriptors: a.daemon_descriptors.min(b.daemon_descriptors),
            daemon_memory: a.daemon_memory.min(b.daemon_memory),
            shim_descriptors: a.shim_descriptors.min(b.shim_descriptors),
            shim_memory: a.shim_memory.min(b.shim_memory),
            mounts: a.mounts.min(b.mounts),
            cgroups: a.cgroups.min(b.cgroups),
            shims: a.shims.min(b.shims),
        };
        all.iter().skip(1).fold(all.first().copied().unwrap_or_default(), least)
    }
}

fn compare(what: &str, all: &[Census]) -> Result<()> {
    let first = Census::least(&all[..SPAN]);
    let last = Census::least(&all[all.len() - SPAN..]);
    let flat = last.daemon_descriptors <= first.daemon_descriptors
        && last.daemon_memory <= first.daemon_memory + DAEMON_GROWTH
        && last.shim_descriptors <= first.shim_descriptors
        && last.shim_memory <= first.shim_memory + SHIM_GROWTH
        && last.mounts <= first.mounts
        && last.cgroups <= first.cgroups
        && last.shims <= first.shims;
    ensure!(flat, "{what}: at first there is {first:?}, and at the end {last:?}");
    Ok(())
}

pub(super) fn endurance(daemon: &Daemon) -> Result<()> {
    let annotation = together(daemon, "io.kubernetes.cri.sandbox-id");
    let pod = Container::sleeping(daemon, &["--annotation", &annotation])?;
    let shim = pod.shim()?;
    let mut all = Vec::new();
    for number in 0..TASKS {
        let id = daemon.fresh("many");
        // Every second has a shim of its own.
        let annotation = if number % 2 == 0 { annotation.as_str() } else { "a=b" };
        let run = ["run", "--rm", "--annotation", annotation, "--runtime", daemon.runtime()];
        daemon.ctr(&[&run[..], &[IMAGE, &id, "true"]].concat())?.exits_with(0)?;
        all.push(Census::take(daemon, shim)?);
    }
    compare("tasks", &all)?;
    all.clear();
    for _ in 0..EXECS {
        pod.exec(&["true"])?.exits_with(0)?;
        all.push(Census::take(daemon, shim)?);
    }
    compare("execs", &all)?;
    ensure!(process::shims(daemon.namespace()) == [shim], "shims without a task are left");
    pod.end()
}
