//! The daemon ends, and its containers go on.

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command;
use crate::docker::container::Container;
use crate::docker::daemon::Daemon;
use crate::engine::process;
use crate::engine::{PATIENCE, Skip, same};

/// A line for each signal, and another end.
const SCRIPT: &str = "n=0; trap 'n=$((n + 1)); echo line $n' USR1; trap 'exit 6' USR2; \
                      echo ready; while :; do sleep 0.05; done";

fn signal(pid: u32, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(pid.cast_signed()), signal)?)
}

/// Does something with a daemon that leaves containers alone when it ends.
fn with_live_restore(daemon: &Daemon, check: impl FnOnce() -> Result<()>) -> Result<()> {
    daemon.live_restore(true)?;
    let result = check();
    daemon.live_restore(false)?;
    result
}

/// Containers over a restart of the daemon. In between one writes, from outside.
fn over(daemon: &Daemon, killed: bool) -> Result<()> {
    let container = Container::start(daemon, &[], &["sh", "-c", SCRIPT])?;
    let limited = Container::sleeping(daemon, &["--memory", "64m"])?;
    container.wait_for_log("ready")?;
    let (pid, second) = (container.pid()?, limited.pid()?);
    signal(pid, Signal::SIGUSR1)?;
    container.wait_for_log("line 1")?;
    let before = process::parent(pid)?;
    daemon.restart(killed, || {
        signal(pid, Signal::SIGUSR1)?;
        ensure!(process::is_alive(pid), "the container ended with the daemon");
        Ok(())
    })?;
    ensure!(container.pid()? == pid && limited.pid()? == second, "the processes are others");
    ensure!(process::parent(pid)? == before, "the shim is another one");
    container.wait_for_log("line 2")?;
    signal(pid, Signal::SIGUSR1)?;
    container.wait_for_log("line 3")?;
    same("the logs", &container.must(&["logs"])?, "ready\nline 1\nline 2\nline 3")?;
    for container in [&container, &limited] {
        container.exec(&["sh", "-c", "exit 5"])?.exits_with(5)?;
    }
    limited.must(&["pause"])?;
    limited.must(&["unpause"])?;
    limited.must(&["update", "--memory", "96m", "--memory-swap", "96m"])?;
    let memory = ("memory", "memory.limit_in_bytes");
    same("the memory limit", &limited.cgroup(memory, "memory.max")?, "100663296")?;
    signal(pid, Signal::SIGUSR2)?;
    same("the status", &container.must(&["wait"])?, "6")?;
    limited.must(&["kill"])?;
    same("the status after SIGKILL", &limited.must(&["wait"])?, "137")
}

pub(super) fn restarted(daemon: &Daemon) -> Result<()> {
    with_live_restore(daemon, || over(daemon, false))
}

pub(super) fn killed(daemon: &Daemon) -> Result<()> {
    with_live_restore(daemon, || over(daemon, true))
}

pub(super) fn ended_meanwhile(daemon: &Daemon) -> Result<()> {
    with_live_restore(daemon, || {
        let container = Container::start(daemon, &[], &["sh", "-c", SCRIPT])?;
        container.wait_for_log("ready")?;
        let pid = container.pid()?;
        daemon.restart(true, || {
            signal(pid, Signal::SIGUSR2)?;
            process::wait_for_end("the container", pid)
        })?;
        let state = || container.inspect("{{.State.Status}} {{.State.ExitCode}}");
        let ended = || state().is_ok_and(|state| state.starts_with("exited "));
        ensure!(command::until(PATIENCE, ended), "it is {}", state()?);
        if daemon.containerd()?.contains(" 1.7.") && state()? == "exited 255" {
            // It takes a shim without a living process for one that never had a task.
            let words = "containerd 1.7 forgets what ended without it, whatever the shim";
            return Err(Skip(words).into());
        }
        same("the state", &state()?, "exited 6")?;
        container.must(&["start"])?;
        container.exec(&["true"])?.exits_with(0)
    })
}
