//! Pods: containers that share a shim.

use std::fs;

use anyhow::{Result, ensure};

use super::life::none_left;
use crate::containerd::container::Container;
use crate::containerd::daemon::Daemon;
use crate::engine::process;

/// By what Kubernetes and containerd's own clients say that containers belong together.
const GROUPS: [&str; 2] = ["io.kubernetes.cri.sandbox-id", "io.containerd.runc.v2.group"];

/// The annotation that puts containers together.
pub(super) fn together(daemon: &Daemon, group: &str) -> String {
    format!("{group}={}", daemon.fresh("pod"))
}

/// Three sleeping containers of one pod.
pub(super) fn three<'a>(daemon: &'a Daemon, group: &str) -> Result<[Container<'a>; 3]> {
    let annotation = together(daemon, group);
    let sleeping = || Container::sleeping(daemon, &["--annotation", &annotation]);
    Ok([sleeping()?, sleeping()?, sleeping()?])
}

pub(super) fn pod(daemon: &Daemon) -> Result<()> {
    for group in GROUPS {
        let [sandbox, second, third] = three(daemon, group)?;
        let shim = sandbox.shim()?;
        for container in [&second, &third] {
            let own = container.shim()?;
            ensure!(own == shim, "{} has the shim {own}, and not {shim}", container.id);
        }
        let alone = Container::sleeping(daemon, &[])?;
        ensure!(alone.shim()? != shim, "a container without {group} is in the pod");
        alone.end()?;
        let shims = process::shims(daemon.namespace());
        ensure!(shims == [shim], "the pod's shim is {shim}, and there are {shims:?}");
        for container in [&second, &third] {
            container.exec(&["sh", "-c", "exit 4"])?.exits_with(4)?;
        }
        second.end()?;
        third.exec(&["true"])?.exits_with(0)?;
        // The order is not the shim's to choose.
        sandbox.end()?;
        ensure!(process::is_alive(shim), "the shim has left the last container");
        third.exec(&["true"])?.exits_with(0)?;
        third.end()?;
        process::wait_for_end("the shim of an empty pod", shim)?;
        none_left(daemon)?;
    }
    Ok(())
}

pub(super) fn namespaces(daemon: &Daemon) -> Result<()> {
    let annotation = together(daemon, GROUPS[0]);
    let sandbox = Container::sleeping(daemon, &["--annotation", &annotation])?;
    let pid = sandbox.pid()?;
    let joined = ["network", "ipc", "pid"].map(|kind| {
        let file = if kind == "network" { "net" } else { kind };
        ["--with-ns".to_owned(), format!("{kind}:/proc/{pid}/ns/{file}")]
    });
    let mut options = vec!["--annotation", &annotation];
    options.extend(joined.iter().flatten().map(String::as_str));
    let member = Container::sleeping(daemon, &options)?;
    let link = |pid: u32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    let theirs = member.pid()?;
    for kind in ["net", "ipc", "pid"] {
        ensure!(link(pid, kind)? == link(theirs, kind)?, "the {kind} namespace is not shared");
    }
    for kind in ["mnt", "uts"] {
        ensure!(link(pid, kind)? != link(theirs, kind)?, "the {kind} namespace is shared");
    }
    // A first process of a pid namespace takes all with it.
    sandbox.end()?;
    member.wait_for("STOPPED")?;
    let code = member.delete()?;
    ensure!(code == 137, "the exit status is {code} after the end of the pid namespace");
    none_left(daemon)
}
