//! What an engine watches and repeats: output, ends, health.

use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command;
use crate::docker::container::Container;
use crate::docker::daemon::Daemon;
use crate::engine::terminal::Session;
use crate::engine::{PATIENCE, same};

pub(super) fn follow(daemon: &Daemon) -> Result<()> {
    let script = "trap 'echo hello' USR1; trap 'echo bye; exit 9' TERM; echo ready; \
                  while :; do sleep 0.05; done";
    let container = Container::start(daemon, &[], &["sh", "-c", script])?;
    container.wait_for_log("ready")?;
    let client = |arguments: &[&str]| -> Result<thread::JoinHandle<Result<command::Output>>> {
        let mut client = daemon.client(&[arguments, &[&container.id]].concat())?;
        Ok(thread::spawn(move || command::run(&mut client, "", PATIENCE)))
    };
    let logs = client(&["logs", "--follow"])?;
    let waiting = client(&["wait"])?;
    let attach = ["attach", "--no-stdin", "--sig-proxy=false", &container.id];
    let attached = Session::start(daemon.client(&attach)?)?;
    // What attaches gets nothing of what was before, and nobody says when it has begun.
    let begun = command::until(PATIENCE, || {
        let _ = container.must(&["kill", "--signal", "USR1"]);
        attached.shows("hello")
    });
    ensure!(begun, "what was attached sees nothing");
    container.must(&["kill", "--signal", "15"])?;
    attached.expect("bye")?;
    ensure!(!attached.shows("ready"), "what was attached saw what was before");
    ensure!(attached.finish()? == 9, "the exit status got lost for what was attached");
    let result = |client: thread::JoinHandle<Result<command::Output>>| {
        client.join().unwrap_or_else(|_| anyhow::bail!("the client's thread died"))
    };
    let logs = result(logs)?.success()?;
    let between = logs.strip_prefix("ready\n").and_then(|logs| logs.strip_suffix("\nbye"));
    let said = between.is_some_and(|lines| lines.lines().all(|line| line == "hello"));
    ensure!(said, "the logs are {logs:?}");
    same("the awaited status", &result(waiting)?.success()?, "9")?;
    ensure!(daemon.docker(&["kill", &container.id])?.code != 0, "what has ended can be killed");
    Ok(())
}

pub(super) fn restart(daemon: &Daemon) -> Result<()> {
    let container = Container::start(daemon, &["--restart", "on-failure:2"], &["false"])?;
    let state = || container.inspect("{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}");
    let done = command::until(PATIENCE, || state().is_ok_and(|state| state == "2 exited 1"));
    ensure!(done, "two restarts were expected, but the state is {:?}", state()?);
    let container = Container::sleeping(daemon, &[])?;
    let first = container.pid()?;
    container.must(&["restart", "--time", "0"])?;
    ensure!(container.pid()? != first, "the process after a restart is the one before");
    container.exec(&["true"])?.exits_with(0)
}

pub(super) fn restart_always(daemon: &Daemon) -> Result<()> {
    let container = Container::sleeping(daemon, &["--restart", "always"])?;
    let first = container.pid()?;
    // The engine does not know of it before.
    kill(Pid::from_raw(first.cast_signed()), Signal::SIGKILL)?;
    let again = || container.pid().is_ok_and(|pid| pid != first);
    ensure!(command::until(PATIENCE, again), "it is not started again");
    same("the restarts", &container.inspect("{{.RestartCount}}")?, "1")?;
    container.exec(&["true"])?.exits_with(0)?;
    container.must(&["update", "--restart", "no"])?;
    container.must(&["kill"])?;
    same("the status", &container.must(&["wait"])?, "137")?;
    same("the state", &container.inspect("{{.State.Status}}")?, "exited")
}

pub(super) fn health(daemon: &Daemon) -> Result<()> {
    let options = ["--health-cmd", "test ! -e /tmp/ill", "--health-interval", "100ms"];
    let options = [options.as_slice(), &["--health-retries", "2"]].concat();
    let container = Container::sleeping(daemon, &options)?;
    let is = |word: &str| {
        command::until(PATIENCE, || {
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
        clients.push(thread::spawn(move || command::run(&mut client, "", PATIENCE)));
    }
    for (code, client) in (0..).zip(clients) {
        let output = client.join().unwrap_or_else(|_| anyhow::bail!("the client's thread died"))?;
        output.exits_with(code)?;
        same("the output", &output.stdout, &code.to_string())?;
    }
    let stats = container.must(&["stats", "--no-stream", "--format", "{{.PIDs}}"])?;
    same("the number of processes afterwards", &stats, "1")
}

/// `12.5MiB` as a number of MiB, of the units that there may be here.
fn mebibytes(text: &str) -> Result<f64> {
    for (unit, size) in [("GiB", 1024.0), ("MiB", 1.0), ("KiB", 1.0 / 1024.0)] {
        if let Some(number) = text.trim().strip_suffix(unit) {
            return Ok(number.parse::<f64>()? * size);
        }
    }
    anyhow::bail!("{text:?} is no size")
}

pub(super) fn stats(daemon: &Daemon) -> Result<()> {
    // It has 24 MiB and works.
    let busy = "$| = 1; $x = 'x' x (24 << 20); print \"ready\\n\"; 1 while 1";
    let options = ["--memory", "64m", "--pids-limit", "33"];
    let container = Container::start(daemon, &options, &["perl", "-e", busy])?;
    container.wait_for_log("ready")?;
    let template = "{{.CPUPerc}} {{.MemUsage}} {{.PIDs}}";
    let line = container.must(&["stats", "--no-stream", "--format", template])?;
    let words: Vec<&str> = line.split([' ', '/']).filter(|word| !word.is_empty()).collect();
    let [cpu, used, limit, processes] = words[..] else { anyhow::bail!("stats: {line:?}") };
    let cpu: f64 = cpu.trim_end_matches('%').parse().context("the processor's share")?;
    // A busy machine gives it less than a whole one.
    ensure!(cpu > 1.0 && cpu < 150.0, "one busy process has {cpu} % of a processor");
    let used = mebibytes(used)?;
    ensure!((24.0..64.0).contains(&used), "24 MiB of memory count as {used} MiB");
    same("the limit", limit, "64MiB")?;
    same("the processes", processes, "1")?;
    let sleeping = Container::sleeping(daemon, &[])?;
    let line = sleeping.must(&["stats", "--no-stream", "--format", "{{.CPUPerc}}"])?;
    let cpu: f64 = line.trim_end_matches('%').parse().context("the processor's share")?;
    ensure!(cpu < 1.0, "one that sleeps has {cpu} % of a processor");
    Ok(())
}

pub(super) fn events(daemon: &Daemon) -> Result<()> {
    let since = daemon.now()?;
    let container = Container::sleeping(daemon, &[])?;
    container.exec(&["true"])?.exits_with(0)?;
    container.must(&["pause"])?;
    container.must(&["unpause"])?;
    container.must(&["kill"])?;
    container.must(&["wait"])?;
    container.must(&["rm"])?;
    let told = container.events(&since)?.join(" ");
    let wanted = "create start exec_create exec_start exec_die pause unpause kill die destroy";
    same("what was told", &told, wanted)
}
