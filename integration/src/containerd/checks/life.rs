//! A task's life: running, ending, and what can be done in between.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::command;
use crate::containerd::container::{self, Container};
use crate::containerd::daemon::{Daemon, IMAGE};
use crate::engine::terminal::{SIZE, Session};
use crate::engine::{PATIENCE, process, same};

pub(super) fn run(daemon: &Daemon) -> Result<()> {
    let output = daemon.run(&[], &["sh", "-c", "echo out; echo err >&2"])?;
    output.exits_with(0)?;
    same("standard output", &output.stdout, "out")?;
    same("standard error", &output.stderr, "err")?;
    let id = daemon.fresh("run");
    let run = ["run", "--rm", "--runtime", daemon.runtime(), IMAGE, &id, "cat"];
    let output = daemon.ctr_with_input(&run, "through the container\n")?;
    output.exits_with(0)?;
    same("standard input", &output.stdout, "through the container")?;
    let options = ["--env", "COLOUR=blue", "--cwd", "/etc"];
    let output = daemon.run(&options, &["sh", "-c", "echo $COLOUR $PWD"])?;
    same("environment and directory", &output.stdout, "blue /etc")?;
    // More than any pipe holds at once.
    let program = ["sh", "-c", "yes 0123456789abcde | head -c 4194304"];
    let output = daemon.run(&[], &program)?;
    output.exits_with(0)?;
    ensure!(output.stdout.len() + 1 == 4 << 20, "{} bytes came out", output.stdout.len() + 1);
    let containers = daemon.list(&["containers", "list"])?;
    ensure!(containers.is_empty(), "there is after --rm: {containers:?}");
    Ok(())
}

pub(super) fn run_terminal(daemon: &Daemon) -> Result<()> {
    let id = daemon.fresh("terminal");
    let run = ["run", "--rm", "--tty", "--runtime", daemon.runtime(), IMAGE, &id, "sh"];
    let mut session = Session::start(daemon.client(&run)?)?;
    session.type_line("test -t 0 && test -t 1 && echo it-is-a-\"terminal\"")?;
    session.expect("it-is-a-terminal")?;
    expect_size(&mut session)?;
    session.type_line("exit 9")?;
    ensure!(session.finish()? == 9, "the exit status of the shell got lost");
    Ok(())
}

/// The client sets the size after the start, so ask until it is there.
fn expect_size(session: &mut Session) -> Result<()> {
    session.type_line("until stty size | grep '^37'; do sleep 0.1; done")?;
    session.expect(&format!("{} {}", SIZE.0, SIZE.1))
}

pub(super) fn exit_codes(daemon: &Daemon) -> Result<()> {
    daemon.run(&[], &["true"])?.exits_with(0)?;
    daemon.run(&[], &["false"])?.exits_with(1)?;
    for code in [42, 255] {
        daemon.run(&[], &["sh", "-c", &format!("exit {code}")])?.exits_with(code)?;
    }
    let killed = Container::sleeping(daemon, &[])?;
    killed.end()?;
    // A first process is not killed by a signal that it has no handler for.
    let container = trapping(daemon, "exit 138")?;
    container.must(&["kill", "--signal", "SIGTERM"])?;
    container.wait_for("STOPPED")?;
    let code = container.delete()?;
    ensure!(code == 138, "the exit status of the trap is 138, but {code} was told");
    Ok(())
}

/// A container that does something when it is asked to end, and is ready for that.
fn trapping<'a>(daemon: &'a Daemon, action: &str) -> Result<Container<'a>> {
    let script = format!("trap '{action}' TERM; touch /tmp/ready; while :; do sleep 0.1; done");
    let container = Container::start(daemon, &[], &["sh", "-c", &script])?;
    let ready = ["sh", "-c", "until test -e /tmp/ready; do sleep 0.05; done"];
    container.exec(&ready)?.exits_with(0)?;
    Ok(container)
}

pub(super) fn failed_start(daemon: &Daemon) -> Result<()> {
    for (program, words) in [
        ("no-such-program", "executable file not found in $PATH"),
        ("/no/such/program", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
    ] {
        let output = daemon.run(&[], &[program])?;
        ensure!(output.code != 0, "{program} was started");
        ensure!(output.stderr.contains(words), "{program}: other words: {output}");
    }
    let tasks = daemon.list(&["tasks", "list"])?;
    ensure!(tasks.is_empty(), "tasks that did not start are there: {tasks:?}");
    none_left(daemon)
}

/// Neither shims nor cgroups of tasks that are gone.
pub(super) fn none_left(daemon: &Daemon) -> Result<()> {
    let shims = || process::shims(daemon.namespace());
    let gone = command::until(PATIENCE, || shims().is_empty());
    ensure!(gone, "shims without a task: {:?}", shims());
    let cgroups = container::cgroups(daemon);
    ensure!(cgroups.is_empty(), "cgroups without a task: {cgroups:?}");
    Ok(())
}

pub(super) fn detached(daemon: &Daemon) -> Result<()> {
    let container = trapping(daemon, "exit 7")?;
    container.wait_for("RUNNING")?;
    let pid = container.pid()?.to_string();
    let processes = container.must(&["ps"])?;
    let first = |line: &str| line.split_whitespace().next() == Some(&pid);
    ensure!(processes.lines().any(first), "{pid} is not there: {processes:?}");
    let output = daemon.ctr(&["tasks", "delete", &container.id])?;
    ensure!(!output.stderr.is_empty(), "a running task was deleted: {output}");
    container.must(&["kill", "--signal", "SIGTERM"])?;
    container.wait_for("STOPPED")?;
    let output = daemon.ctr(&["tasks", "kill", &container.id])?;
    ensure!(output.code != 0, "what has ended can be killed: {output}");
    let code = container.delete()?;
    ensure!(code == 7, "the exit status of the trap is 7, but {code} was told");
    ensure!(container.state()?.is_none(), "the task is there after its deletion");
    ensure!(!daemon.bundle(&container.id).exists(), "the bundle is there after the deletion");
    // The container can have a task again.
    container.must(&["start", "--detach"])?;
    container.wait_for("RUNNING")?;
    container.end()?;
    none_left(daemon)
}

pub(super) fn exec(daemon: &Daemon) -> Result<()> {
    let container = Container::sleeping(daemon, &["--env", "COLOUR=blue"])?;
    let output = container.exec(&["sh", "-c", "echo $COLOUR; cat /proc/1/comm; exit 5"])?;
    output.exits_with(5)?;
    same("the output", &output.stdout, "blue\nsleep")?;
    let exec = ["tasks", "exec", "--exec-id", &daemon.fresh("exec"), &container.id, "cat"];
    let output = daemon.ctr_with_input(&exec, "into the container\n")?;
    output.exits_with(0)?;
    same("standard input", &output.stdout, "into the container")?;
    let options = ["--user", "1000:100", "--cwd", "/etc"];
    let (mut client, _) = container.exec_client(&options, &["sh", "-c", "id -u; id -g; pwd"])?;
    let output = command::run(&mut client, "", PATIENCE)?;
    same("user and directory", &output.stdout, "1000\n100\n/etc")?;
    let output = container.exec(&["no-such-program"])?;
    let words = "executable file not found in $PATH";
    ensure!(output.code != 0 && output.stderr.contains(words), "other words: {output}");
    container.exec(&["sh", "-c", "kill -9 $$"])?.exits_with(137)?;
    let (mut client, exec) = container.exec_client(&["--detach"], &["sleep", "1000"])?;
    command::run(&mut client, "", PATIENCE)?.exits_with(0)?;
    let processes = container.must(&["ps"])?;
    ensure!(processes.contains(&exec), "ps does not show {exec}: {processes:?}");
    container.must(&["kill", "--exec-id", &exec, "--signal", "SIGKILL"])?;
    let ended = command::until(PATIENCE, || {
        container.must(&["ps"]).is_ok_and(|processes| !processes.contains(&exec))
    });
    ensure!(ended, "{exec} was killed and is still there");
    let output = daemon.ctr(&["tasks", "delete", "--exec-id", &exec, &container.id])?;
    output.exits_with(137)?;
    container.wait_for("RUNNING")?;
    let cgroup = "cat /proc/1/cgroup > /tmp/a; cat /proc/self/cgroup > /tmp/b; cmp /tmp/a /tmp/b";
    container.exec(&["sh", "-c", cgroup])?.exits_with(0)?;
    container.end()
}

pub(super) fn exec_terminal(daemon: &Daemon) -> Result<()> {
    let container = Container::sleeping(daemon, &[])?;
    let (client, _) = container.exec_client(&["--tty"], &["sh"])?;
    let mut session = Session::start(client)?;
    session.type_line("test -t 0 && test -t 1 && echo it-is-a-\"terminal\"")?;
    session.expect("it-is-a-terminal")?;
    expect_size(&mut session)?;
    session.type_line("tty")?;
    session.expect("/dev/pts/")?;
    session.type_line("exit 9")?;
    ensure!(session.finish()? == 9, "the exit status of the shell got lost");
    Ok(())
}

/// Twenty at once, ten times.
pub(super) fn exec_storm(daemon: &Daemon) -> Result<()> {
    let container = Container::sleeping(daemon, &[])?;
    for _ in 0..10 {
        let mut clients = Vec::new();
        for code in 0..20 {
            let script = format!("echo {code}; exit {code}");
            let (mut client, _) = container.exec_client(&[], &["sh", "-c", &script])?;
            clients.push(thread::spawn(move || command::run(&mut client, "", PATIENCE)));
        }
        for (code, client) in (0..).zip(clients) {
            let Ok(output) = client.join() else { bail!("the client's thread died") };
            let output = output?;
            output.exits_with(code)?;
            same("the output", &output.stdout, &code.to_string())?;
        }
    }
    let processes = container.must(&["ps"])?;
    ensure!(processes.lines().count() == 2, "more than the first is there: {processes:?}");
    container.end()
}

pub(super) fn pause(daemon: &Daemon) -> Result<()> {
    let script = "i=0; while :; do i=$((i + 1)); echo $i > /tmp/i; sleep 0.02; done";
    let container = Container::start(daemon, &[], &["sh", "-c", script])?;
    let count = format!("/proc/{}/root/tmp/i", container.pid()?);
    let read = || std::fs::read_to_string(&count).unwrap_or_default();
    let moves = || {
        let before = read();
        command::until(PATIENCE, || !["", &before].contains(&read().as_str()))
    };
    ensure!(moves(), "the task does nothing");
    container.must(&["pause"])?;
    container.wait_for("PAUSED")?;
    let before = read();
    thread::sleep(Duration::from_millis(300));
    same("the count of a paused task", &read(), &before)?;
    let output = container.exec(&["true"])?;
    ensure!(output.code != 0, "a paused task executes something");
    container.must(&["resume"])?;
    container.wait_for("RUNNING")?;
    ensure!(moves(), "the task does nothing any more after it was resumed");
    container.end()
}
