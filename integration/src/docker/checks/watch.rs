//! What an engine watches and repeats: output, ends, health.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::command;
use crate::docker::container::Container;
use crate::docker::daemon::Daemon;
use crate::engine::same;

const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn follow(daemon: &Daemon) -> Result<()> {
    let script = "trap 'echo hello' USR1; trap 'echo bye; exit 9' TERM; echo ready; \
                  while :; do sleep 0.05; done";
    let container = Container::start(daemon, &[], &["sh", "-c", script])?;
    container.wait_for_log("ready")?;
    let client = |arguments: &[&str]| -> Result<thread::JoinHandle<Result<command::Output>>> {
        let mut client = daemon.client(&[arguments, &[&container.id]].concat())?;
        Ok(thread::spawn(move || command::run(&mut client, "", LIMIT)))
    };
    let logs = client(&["logs", "--follow"])?;
    let attached = client(&["attach", "--no-stdin", "--sig-proxy=false"])?;
    let waiting = client(&["wait"])?;
    // What attaches gets nothing of what was before.
    thread::sleep(Duration::from_millis(500));
    container.must(&["kill", "--signal", "USR1"])?;
    container.wait_for_log("hello")?;
    container.must(&["kill", "--signal", "15"])?;
    let result = |client: thread::JoinHandle<Result<command::Output>>| {
        client.join().unwrap_or_else(|_| anyhow::bail!("the client's thread died"))
    };
    same("the logs", &result(logs)?.success()?, "ready\nhello\nbye")?;
    let attached = result(attached)?;
    same("what was attached saw", &attached.stdout, "hello\nbye")?;
    attached.exits_with(9)?;
    same("the awaited status", &result(waiting)?.success()?, "9")?;
    ensure!(daemon.docker(&["kill", &container.id])?.code != 0, "what has ended can be killed");
    Ok(())
}

pub(super) fn restart(daemon: &Daemon) -> Result<()> {
    let container = Container::start(daemon, &["--restart", "on-failure:2"], &["false"])?;
    let state = || container.inspect("{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}");
    let done = command::until(LIMIT, || state().is_ok_and(|state| state == "2 exited 1"));
    ensure!(done, "two restarts were expected, but the state is {:?}", state()?);
    let container = Container::sleeping(daemon, &[])?;
    let first = container.pid()?;
    container.must(&["restart", "--time", "0"])?;
    ensure!(container.pid()? != first, "the process after a restart is the one before");
    container.exec(&["true"])?.exits_with(0)
}

pub(super) fn health(daemon: &Daemon) -> Result<()> {
    let options = ["--health-cmd", "test ! -e /tmp/ill", "--health-interval", "100ms"];
    let options = [options.as_slice(), &["--health-retries", "2"]].concat();
    let container = Container::sleeping(daemon, &options)?;
    let is = |word: &str| {
        command::until(LIMIT, || {
            container.inspect("{{.State.Health.Status}}").is_ok_and(|found| found == word)
        })
    };
    let log = || container.inspect("{{json .State.Health}}");
    ensure!(is("healthy"), "it does not become healthy: {}", log()?);
    container.exec(&["touch", "/tmp/ill"])?.exits_with(0)?;
    ensure!(is("unhealthy"), "it does not become unhealthy: {}", log()?);
    container.exec(&["rm", "/tmp/ill"])?.exits_with(0)?;
    ensure!(is("healthy"), "it does not become healthy again: {}", log()?);
    Ok(())
}

pub(super) fn exec_storm(daemon: &Daemon) -> Result<()> {
    let container = Container::sleeping(daemon, &[])?;
    let mut clients = Vec::new();
    for code in 0..20 {
        let script = format!("echo {code}; exit {code}");
        let mut client = daemon.client(&["exec", &container.id, "sh", "-c", &script])?;
        clients.push(thread::spawn(move || command::run(&mut client, "", LIMIT)));
    }
    for (code, client) in (0..).zip(clients) {
        let output = client.join().unwrap_or_else(|_| anyhow::bail!("the client's thread died"))?;
        output.exits_with(code)?;
        same("the output", &output.stdout, &code.to_string())?;
    }
    let stats = container.must(&["stats", "--no-stream", "--format", "{{.PIDs}}"])?;
    same("the number of processes afterwards", &stats, "1")
}
