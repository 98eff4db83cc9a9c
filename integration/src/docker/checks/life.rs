//! A container's life: running, ending, and what can be done in between.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::shell;
use crate::command;
use crate::docker::container::Container;
use crate::docker::daemon::{Daemon, IMAGE};
use crate::engine::terminal::{SIZE, Session};
use crate::engine::{PATIENCE, same};

pub(super) fn run(daemon: &Daemon) -> Result<()> {
    let template = "{{.DefaultRuntime}}";
    same("the default runtime", &daemon.must(&["info", "--format", template])?, daemon.runtime())?;
    let output = shell(daemon, &[], "echo out; echo err >&2")?;
    output.exits_with(0)?;
    same("standard output", &output.stdout, "out")?;
    same("standard error", &output.stderr, "err")?;
    let command = ["run", "--rm", "--interactive", IMAGE, "cat"];
    let output = daemon.docker_with_input(&command, "through the container\n")?;
    output.exits_with(0)?;
    same("standard input", &output.stdout, "through the container")?;
    let output =
        shell(daemon, &["--env", "COLOUR=blue", "--workdir", "/usr"], "echo $COLOUR $PWD")?;
    same("environment and directory", &output.stdout, "blue /usr")?;
    let output = shell(daemon, &["--hostname", "orlop-host"], "cat /proc/sys/kernel/hostname")?;
    same("the host name", &output.stdout, "orlop-host")?;
    same("containers after --rm", &daemon.must(&["ps", "--all", "--quiet"])?, "")
}

pub(super) fn detached(daemon: &Daemon) -> Result<()> {
    let script = "trap 'echo stopping; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let container = Container::start(daemon, &[], &["sh", "-c", script])?;
    same("the runtime", &container.inspect("{{.HostConfig.Runtime}}")?, daemon.runtime())?;
    container.wait_for_log("ready")?;
    container.must(&["stop", "--time", "20"])?;
    same("the logs", &container.must(&["logs"])?, "ready\nstopping")?;
    let status = container.inspect("{{.State.Status}} {{.State.ExitCode}}")?;
    same("the state after a stop by SIGTERM", &status, "exited 7")?;
    container.must(&["start"])?;
    same("the state after a second start", &container.inspect("{{.State.Status}}")?, "running")?;
    ensure!(daemon.docker(&["rm", &container.id])?.code != 0, "rm took a running container away");
    container.must(&["rm", "--force"])?;
    ensure!(daemon.docker(&["inspect", &container.id])?.code != 0, "the container is still known");
    Ok(())
}

pub(super) fn exit_codes(daemon: &Daemon) -> Result<()> {
    for code in [0, 1, 42, 255] {
        shell(daemon, &[], &format!("exit {code}"))?.exits_with(code)?;
    }
    let run = |options: &[&str], program: &[&str]| {
        daemon.docker(&[&["run", "--rm"], options, &[IMAGE], program].concat())
    };
    // The engine reads the runtime's words to tell these from one another.
    run(&["--sysctl", "net.ipv4.ip_default_ttl=bogus"], &["sleep", "0"])?.exits_with(125)?;
    run(&[], &["/etc/passwd"])?.exits_with(126)?;
    run(&[], &["/etc"])?.exits_with(126)?;
    run(&[], &["no-such-program"])?.exits_with(127)?;
    run(&[], &["/no/such/program"])?.exits_with(127)?;
    let container = Container::sleeping(daemon, &[])?;
    container.must(&["kill"])?;
    same("the status after SIGKILL", &container.must(&["wait"])?, "137")?;
    let container = Container::sleeping(daemon, &["--init"])?;
    container.must(&["kill", "--signal", "TERM"])?;
    same("the status after SIGTERM", &container.must(&["wait"])?, "143")
}

pub(super) fn exec(daemon: &Daemon) -> Result<()> {
    let container = Container::sleeping(daemon, &["--env", "COLOUR=blue"])?;
    let output = container.exec(&["sh", "-c", "echo $COLOUR; cat /proc/1/comm; exit 5"])?;
    output.exits_with(5)?;
    same("the output", &output.stdout, "blue\nsleep")?;
    let arguments = ["exec", "--interactive", &container.id, "cat"];
    let output = daemon.docker_with_input(&arguments, "into the container\n")?;
    same("standard input", &output.stdout, "into the container")?;
    let options = ["--user", "1000:100", "--workdir", "/usr", "--env", "COLOUR=red"];
    let program = ["sh", "-c", "id -u; id -g; pwd; echo $COLOUR"];
    let output = daemon
        .docker(&[&["exec"], options.as_slice(), &[&container.id], program.as_slice()].concat())?;
    same("user, directory and environment", &output.stdout, "1000\n100\n/usr\nred")?;
    // Docker before 23 says 126 here whatever the runtime's words are.
    let output = container.exec(&["no-such-program"])?;
    ensure!([126, 127].contains(&output.code), "126 or 127 was expected, but {output}");
    let words = format!("{}{}", output.stdout, output.stderr);
    ensure!(words.contains("executable file not found in $PATH"), "other words: {output}");
    container.exec(&["/etc/passwd"])?.exits_with(126)?;
    container.exec(&["sh", "-c", "kill -9 $$"])?.exits_with(137)?;
    let detached = ["exec", "--detach", &container.id, "touch", "/tmp/detached"];
    daemon.must(&detached)?;
    let came = command::until(PATIENCE, || {
        container.exec(&["test", "-e", "/tmp/detached"]).is_ok_and(|output| output.code == 0)
    });
    ensure!(came, "what exec --detach should have done did not happen");
    let cgroup = [
        "sh",
        "-c",
        "cat /proc/1/cgroup > /tmp/a; cat /proc/self/cgroup > /tmp/b; cmp /tmp/a /tmp/b",
    ];
    container.exec(&cgroup)?.exits_with(0)
}

pub(super) fn exec_terminal(daemon: &Daemon) -> Result<()> {
    let container = Container::sleeping(daemon, &[])?;
    let arguments = ["exec", "--interactive", "--tty", &container.id, "sh"];
    let mut session = Session::start(daemon.client(&arguments)?)?;
    session.type_line("test -t 0 && test -t 1 && echo it-is-a-\"terminal\"")?;
    session.expect("it-is-a-terminal")?;
    // The engine sets the size after the start, so ask until it is there.
    let size = format!("{} {}", SIZE.0, SIZE.1);
    let question = "until stty size | grep '^37'; do sleep 0.1; done";
    session.type_line(question)?;
    session.expect(&size)?;
    session.type_line("tty")?;
    session.expect("/dev/pts/")?;
    session.type_line("exit 9")?;
    ensure!(session.finish()? == 9, "the exit status of the shell got lost");
    Ok(())
}

pub(super) fn run_terminal(daemon: &Daemon) -> Result<()> {
    let arguments = ["run", "--rm", "--interactive", "--tty", IMAGE, "bash", "--norc"];
    let mut session = Session::start(daemon.client(&arguments)?)?;
    session.type_line("test -c /dev/console && tty && echo con\"sole\"")?;
    session.expect("console")?;
    session.expect("/dev/pts/0")?;
    // Job control needs the terminal to be the controlling one.
    session.type_line("sh -c 'echo be\"gun\"; exec sleep 1000'")?;
    session.expect("begun")?;
    session.type_line("\x03echo inter\"rupted\" $?")?;
    session.expect("interrupted 130")?;
    session.type_line("exit 4")?;
    ensure!(session.finish()? == 4, "the exit status of the shell got lost");
    Ok(())
}

pub(super) fn init(daemon: &Daemon) -> Result<()> {
    let container = Container::sleeping(daemon, &["--init"])?;
    same("process 1", &container.exec(&["cat", "/proc/1/comm"])?.success()?, "docker-init")?;
    // An orphan must be taken by it.
    container.exec(&["sh", "-c", "sleep 0.2 & exit"])?.exits_with(0)?;
    let zombies = "for p in /proc/[0-9]*; do grep '^State:.*Z' $p/status; done 2>&1";
    let gone = command::until(PATIENCE, || {
        container.exec(&["sh", "-c", zombies]).is_ok_and(|output| output.stdout.is_empty())
    });
    ensure!(gone, "there are zombies: {}", container.exec(&["sh", "-c", zombies])?);
    Ok(())
}

pub(super) fn ps(daemon: &Daemon) -> Result<()> {
    let container = Container::sleeping(daemon, &["--name", "listed"])?;
    let list =
        |all: &[&str]| daemon.must(&[&["ps", "--format", "{{.Names}} {{.Status}}"], all].concat());
    let lines = list(&[])?;
    ensure!(lines.starts_with("listed Up "), "ps shows {lines:?}");
    let top = daemon.must(&["top", &container.id, "-o", "pid,comm"])?;
    ensure!(top.lines().any(|line| line.ends_with("sleep")), "top shows {top:?}");
    let stats = container.must(&["stats", "--no-stream", "--format", "{{.PIDs}}"])?;
    same("the number of processes in stats", &stats, "1")?;
    container.must(&["kill"])?;
    container.must(&["wait"])?;
    same("ps after the end", &list(&[])?, "")?;
    let lines = list(&["--all"])?;
    ensure!(lines.starts_with("listed Exited (137) "), "ps --all shows {lines:?}");
    Ok(())
}

pub(super) fn pause(daemon: &Daemon) -> Result<()> {
    let script = "while :; do echo tick; sleep 0.05; done";
    let container = Container::start(daemon, &[], &["sh", "-c", script])?;
    container.wait_for_log("tick")?;
    container.must(&["pause"])?;
    same("the state", &container.inspect("{{.State.Status}}")?, "paused")?;
    let count = || Ok::<_, anyhow::Error>(container.must(&["logs"])?.lines().count());
    // What was written before is still on its way: the engine copies it from a pipe.
    let mut last = None;
    let stands = command::until(PATIENCE, || {
        thread::sleep(Duration::from_millis(500));
        let before = std::mem::replace(&mut last, count().ok());
        last.is_some() && before == last
    });
    ensure!(stands, "it goes on while paused: {last:?} lines");
    ensure!(container.exec(&["true"])?.code != 0, "exec works in a paused container");
    container.must(&["unpause"])?;
    let goes_on = command::until(PATIENCE, || count().is_ok_and(|lines| Some(lines) > last));
    ensure!(goes_on, "it does not go on after unpause: {} lines", count()?);
    same("the state", &container.inspect("{{.State.Status}}")?, "running")?;
    container.must(&["pause"])?;
    container.must(&["rm", "--force"]).map(drop)
}

pub(super) fn commit(daemon: &Daemon) -> Result<()> {
    let container =
        Container::start(daemon, &[], &["sh", "-c", "echo kept > /marker; sleep 1000"])?;
    let written = command::until(PATIENCE, || {
        container.exec(&["test", "-s", "/marker"]).is_ok_and(|output| output.code == 0)
    });
    ensure!(written, "the container does not write its file");
    // Pauses the container while it copies.
    daemon.must(&["commit", &container.id, "committed"])?;
    same("the state", &container.inspect("{{.State.Status}}")?, "running")?;
    let found = daemon.must(&["run", "--rm", "committed", "cat", "/marker"])?;
    same("the file in the new image", &found, "kept")?;
    container.must(&["rm", "--force"])?;
    daemon.must(&["rmi", "committed"]).map(drop)
}

pub(super) fn build(daemon: &Daemon) -> Result<()> {
    let context = daemon.directory().join("context");
    fs::create_dir_all(&context)?;
    let steps = "RUN echo built > /marker && id -u > /first\n\
                 USER 1000:1000\nWORKDIR /work\nRUN id -u > /tmp/second\nCMD [\"cat\", \"/marker\"]\n";
    fs::write(context.join("Dockerfile"), format!("FROM {IMAGE}\n{steps}"))?;
    let place = context.to_string_lossy();
    // The builder of the daemon itself: the other one is a container image.
    let mut build = daemon.client(&["build", "--quiet", "--tag", "built", &place])?;
    build.env("DOCKER_BUILDKIT", "0");
    command::run(&mut build, "", PATIENCE)?.success()?;
    same("the built image", &daemon.must(&["run", "--rm", "built"])?, "built")?;
    let program = ["run", "--rm", "built", "sh", "-c", "cat /first /tmp/second; id -u; pwd"];
    same("users and directory", &daemon.must(&program)?, "0\n1000\n1000\n/work")?;
    fs::write(context.join("Dockerfile"), format!("FROM {IMAGE}\nRUN exit 3\n"))?;
    let mut build = daemon.client(&["build", "--quiet", &place])?;
    build.env("DOCKER_BUILDKIT", "0");
    let output = command::run(&mut build, "", PATIENCE)?;
    ensure!(output.stderr.contains("non-zero code: 3"), "a failed step is not told: {output}");
    daemon.must(&["rmi", "built"]).map(drop)
}
