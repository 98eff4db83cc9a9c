//! The daemon is killed, and its tasks go on; a shim is killed, and nothing of its tasks
//! does.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::life::none_left;
use super::pods::three;
use crate::command;
use crate::containerd::container::Container;
use crate::containerd::daemon::Daemon;
use crate::containerd::events::Listener;
use crate::engine::PATIENCE;
use crate::engine::process;
use crate::engine::{Skip, same};

/// Numbered lines, from the time when there is `/tmp/go` until there is `/tmp/end`.
const LINES: &str = "until test -e /tmp/go; do sleep 0.05; done; i=0; \
                     until test -e /tmp/end; do i=$((i + 1)); echo $i; usleep 2000; done; exit 5";

/// How many lines there are, if they are 1, 2, 3 and so on.
fn count(text: &str) -> Result<usize> {
    for (number, line) in (1..).zip(text.lines()) {
        ensure!(line == format!("{number}"), "{line:?} is where line {number} should be");
    }
    Ok(text.lines().count())
}

/// A file in the root of a task, from outside.
fn touch(container: &Container<'_>, name: &str) -> Result<()> {
    let path = format!("/proc/{}/root/tmp/{name}", container.pid()?);
    fs::write(&path, "").with_context(|| format!("writing {path}"))
}

pub(super) fn daemon_killed(daemon: &Daemon) -> Result<()> {
    let log = daemon.directory().join("lines");
    let uri = format!("file://{}", log.display());
    let container = Container::start(daemon, &["--log-uri", &uri], &["sh", "-c", LINES])?;
    let silent = Container::sleeping(daemon, &[])?;
    let (pid, shim) = (container.pid()?, container.shim()?);
    touch(&container, "go")?;
    let lines = || fs::read_to_string(&log).unwrap_or_default().lines().count();
    let grows = |by: usize| {
        let before = lines();
        command::until(PATIENCE, || lines() > before + by)
    };
    ensure!(grows(20), "the task writes nothing");
    daemon.kill()?;
    ensure!(grows(50), "the task writes nothing without the daemon");
    daemon.revive()?;
    container.wait_for("RUNNING")?;
    ensure!(container.pid()? == pid, "the first process is another one");
    ensure!(container.shim()? == shim, "the shim is another one");
    ensure!(grows(20), "the task writes nothing after the restart");
    for container in [&container, &silent] {
        container.exec(&["sh", "-c", "exit 6"])?.exits_with(6)?;
    }
    let listener = Listener::start(daemon)?;
    touch(&container, "end")?;
    container.wait_for("STOPPED")?;
    let events = listener.until(&container.id, "exit")?;
    ensure!(events[0].status == 5, "the end was told with {}, not 5", events[0].status);
    let code = container.delete()?;
    ensure!(code == 5, "the exit status after the restart is {code}, not 5");
    listener.until(&container.id, "delete")?;
    same("what was told", &listener.told(&container.id), "exit, delete")?;
    count(&fs::read_to_string(&log)?).context("the log")?;
    silent.end()?;
    fs::remove_file(log)?;
    none_left(daemon)
}

/// The fifo at whose other end the client would be.
fn fifo(folder: &Path, name: &str) -> Result<PathBuf> {
    let inner = crate::engine::leftovers::directories(folder);
    let found = inner.iter().map(|inner| inner.join(name)).find(|path| path.exists());
    found.with_context(|| format!("no {name} in {}", folder.display()))
}

pub(super) fn fifo_kept(daemon: &Daemon) -> Result<()> {
    let folder = daemon.directory().join("fifos");
    let options = ["--fifo-dir", &folder.display().to_string()];
    let container = Container::start(daemon, &options, &["sh", "-c", LINES])?;
    // The client of a detached task has gone; whoever comes next reads on.
    let path = fifo(&folder, &format!("{}-stdout", container.id))?;
    let flags = OFlag::O_NONBLOCK.bits();
    let mut reader = File::options().read(true).custom_flags(flags).open(path)?;
    let mut text = Vec::new();
    let mut lines = |more: usize| {
        let end = text.iter().filter(|byte| **byte == b'\n').count() + more;
        let came = command::until(PATIENCE, || {
            // It would block: nothing is there yet.
            let _ = reader.read_to_end(&mut text);
            text.iter().filter(|byte| **byte == b'\n').count() >= end
        });
        ensure!(came, "only {:?} came", String::from_utf8_lossy(&text));
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    touch(&container, "go")?;
    lines(20)?;
    daemon.kill()?;
    lines(50).context("without the daemon")?;
    daemon.revive()?;
    lines(20).context("after the restart")?;
    container.wait_for("RUNNING")?;
    touch(&container, "end")?;
    container.wait_for("STOPPED")?;
    let text = lines(0)?;
    count(&text[..text.rfind('\n').unwrap_or_default()])?;
    let code = container.delete()?;
    ensure!(code == 5, "the exit status is {code}, not 5");
    fs::remove_dir_all(folder)?;
    none_left(daemon)
}

pub(super) fn ended_meanwhile(daemon: &Daemon) -> Result<()> {
    let log = daemon.directory().join("lines");
    let uri = format!("file://{}", log.display());
    let container = Container::start(daemon, &["--log-uri", &uri], &["sh", "-c", LINES])?;
    let pid = container.pid()?;
    touch(&container, "go")?;
    let root = format!("/proc/{pid}/root/tmp/end");
    daemon.kill()?;
    fs::write(&root, "").with_context(|| format!("writing {root}"))?;
    process::wait_for_end("the task", pid)?;
    // Longer than the shim tries to tell it at once.
    thread::sleep(Duration::from_secs(2));
    daemon.revive()?;
    if !daemon.must(&["--version"])?.contains(" 1.6.") {
        // It takes a shim without a living process for one that never had a task.
        let gone = || container.state().is_ok_and(|state| state.is_none());
        ensure!(command::until(PATIENCE, gone), "the task is there: {:?}", container.state()?);
        none_left(daemon)?;
        let words = "containerd since 1.7 forgets what ended without it, whatever the shim";
        return Err(Skip(words).into());
    }
    container.wait_for("STOPPED")?;
    let code = container.delete()?;
    ensure!(code == 5, "the exit status is {code}, not 5");
    count(&fs::read_to_string(&log)?).context("the log")?;
    fs::remove_file(log)?;
    none_left(daemon)
}

pub(super) fn pod_kept(daemon: &Daemon) -> Result<()> {
    let containers = three(daemon, "io.kubernetes.cri.sandbox-id")?;
    let shim = containers[0].shim()?;
    daemon.kill()?;
    daemon.revive()?;
    for container in &containers {
        container.wait_for("RUNNING")?;
        container.exec(&["sh", "-c", "exit 6"])?.exits_with(6)?;
    }
    let shims = process::shims(daemon.namespace());
    ensure!(shims == [shim], "the pod's shim is {shim}, and there are {shims:?}");
    for container in &containers {
        container.end()?;
    }
    process::wait_for_end("the shim of an empty pod", shim)?;
    none_left(daemon)
}

/// What containerd tells of containers whose shim is gone, and what is left.
fn are_gone(daemon: &Daemon, listener: &Listener, containers: &[&Container<'_>]) -> Result<()> {
    for container in containers {
        let events = listener.until(&container.id, "delete")?;
        let ends = events.iter().filter(|event| ["exit", "delete"].contains(&&*event.words()));
        let told: Vec<u64> = ends.map(|event| event.status).collect();
        ensure!(told == [137, 137], "exit and deletion are told with {told:?}, not 137");
        let gone =
            command::until(PATIENCE, || container.state().is_ok_and(|state| state.is_none()));
        ensure!(gone, "the task is still there: {:?}", container.state()?);
        let bundle = daemon.bundle(&container.id);
        ensure!(!bundle.exists(), "{} is left", bundle.display());
    }
    none_left(daemon)
}

fn kill_shim(container: &Container<'_>) -> Result<()> {
    let shim = container.shim()?;
    kill(Pid::from_raw(shim.cast_signed()), Signal::SIGKILL).context("killing the shim")?;
    process::wait_for_end("the killed shim", shim)
}

fn sockets() -> usize {
    fs::read_dir("/run/containerd/s").map_or(0, Iterator::count)
}

pub(super) fn shim_killed(daemon: &Daemon) -> Result<()> {
    let listener = Listener::start(daemon)?;
    let before = sockets();
    let script = "sleep 1000 & sleep 1000";
    let container = Container::start(daemon, &[], &["sh", "-c", script])?;
    let (mut client, _) = container.exec_client(&["--detach"], &["sleep", "1000"])?;
    command::run(&mut client, "", PATIENCE)?.exits_with(0)?;
    let pid = container.pid()?;
    kill_shim(&container)?;
    process::wait_for_end("a task without a shim", pid)?;
    are_gone(daemon, &listener, &[&container])?;
    ensure!(sockets() == before, "the socket of the shim is left");
    // The container can have a task again.
    container.must(&["start", "--detach"])?;
    container.wait_for("RUNNING")?;
    container.end()
}

pub(super) fn pods_shim_killed(daemon: &Daemon) -> Result<()> {
    let listener = Listener::start(daemon)?;
    let before = sockets();
    let containers = three(daemon, "io.kubernetes.cri.sandbox-id")?;
    kill_shim(&containers[1])?;
    are_gone(daemon, &listener, &containers.each_ref())?;
    ensure!(sockets() == before, "the socket of the shim is left");
    Ok(())
}
