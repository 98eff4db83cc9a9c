//! Our shim in the place of the engine's: who runs the containers, how it is asked for, and
//! what is left of one that was killed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command;
use crate::containerd;
use crate::docker::container::Container;
use crate::docker::daemon::{Daemon, IN_PLACE, TYPES};
use crate::engine::{PATIENCE, Skip, process, same};

/// The shim under test; there is nothing to check without one.
fn under_test(daemon: &Daemon) -> Result<&Path> {
    daemon.shim().ok_or_else(|| Skip("the shim is the engine's own").into())
}

/// The shim of a container, which must be the one under test.
fn shim_of(daemon: &Daemon, container: &Container<'_>) -> Result<u32> {
    let shim = process::parent(container.pid()?)?;
    let program = fs::read_link(format!("/proc/{shim}/exe"))?;
    let wanted = under_test(daemon)?;
    ensure!(program == wanted, "the shim is {}, not {}", program.display(), wanted.display());
    Ok(shim)
}

/// Its life under a runtime of that name, as short as can be.
fn runs_under(daemon: &Daemon, runtime: &str) -> Result<()> {
    let container = Container::sleeping(daemon, &["--runtime", runtime])?;
    let shim = shim_of(daemon, &container)?;
    same("the runtime", &container.inspect("{{.HostConfig.Runtime}}")?, runtime)?;
    container.exec(&["sh", "-c", "exit 5"])?.exits_with(5)?;
    container.must(&["kill"])?;
    same("the status after SIGKILL", &container.must(&["wait"])?, "137")?;
    container.must(&["rm"])?;
    process::wait_for_end("the shim of a removed container", shim)
}

pub(super) fn default(daemon: &Daemon) -> Result<()> {
    under_test(daemon)?;
    runs_under(daemon, daemon.runtime())
}

pub(super) fn by_name(daemon: &Daemon) -> Result<()> {
    let name = containerd::runtime_name(under_test(daemon)?)?;
    if daemon.major() < TYPES {
        return Err(Skip("Docker before 23 knows no shim of another name than runc's").into());
    }
    runs_under(daemon, &name)
}

pub(super) fn in_place(daemon: &Daemon) -> Result<()> {
    under_test(daemon)?;
    // Older ones have no other way, so it is what all checks go by.
    let runtime = if daemon.major() < TYPES { daemon.runtime() } else { IN_PLACE };
    runs_under(daemon, runtime)?;
    // Another program would have to be executed, which ours never does.
    let name = containerd::runtime_name(under_test(daemon)?)?;
    let output = super::shell(daemon, &["--runtime", "runc"], "true")?;
    let words = "\"runc\" can't be run: the runtime is in the shim";
    let refused = output.code == 125 && output.stderr.contains(words);
    ensure!(refused || name == "io.containerd.runc.v2", "runc is not refused: {output}");
    Ok(())
}

/// Where its shim listens.
fn sockets() -> Vec<PathBuf> {
    let entries = fs::read_dir("/run/containerd/s").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

pub(super) fn killed(daemon: &Daemon) -> Result<()> {
    under_test(daemon)?;
    let container = Container::start(daemon, &[], &["sh", "-c", "sleep 1000 & sleep 1000"])?;
    let (pid, shim) = (container.pid()?, shim_of(daemon, &container)?);
    kill(Pid::from_raw(shim.cast_signed()), Signal::SIGKILL).context("killing the shim")?;
    process::wait_for_end("the container without a shim", pid)?;
    let state = || container.inspect("{{.State.Status}} {{.State.ExitCode}}");
    let told = command::until(PATIENCE, || state().is_ok_and(|state| state == "exited 137"));
    ensure!(told, "the engine takes the container for {:?}", state()?);
    let gone = command::until(PATIENCE, || sockets().is_empty());
    ensure!(gone, "the socket of the shim is left: {:?}", sockets());
    // The container can be started again.
    container.must(&["start"])?;
    container.exec(&["true"])?.exits_with(0)
}
