//! Limits, what is used of them, and their end.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command;
use crate::containerd::container::Container;
use crate::containerd::daemon::Daemon;
use crate::containerd::events::Listener;
use crate::engine::{PATIENCE, same};

/// What `ctr tasks metrics` says, in the messages of either version of cgroups.
fn figures(container: &Container<'_>) -> Result<Value> {
    let text = container.must(&["metrics", "--format", "json"])?;
    serde_json::from_str(&text).with_context(|| format!("the metrics: {text}"))
}

/// Numbers are those of Go, which leaves out what is zero.
fn number(figures: &Value, v1: &str, v2: &str) -> u64 {
    [v1, v2].iter().find_map(|place| figures.pointer(place)?.as_u64()).unwrap_or_default()
}

pub(super) fn metrics(daemon: &Daemon) -> Result<()> {
    let options = ["--memory-limit", "67108864"];
    let script = "while :; do :; done & touch /tmp/ready; sleep 1000";
    let container = Container::start(daemon, &options, &["sh", "-c", script])?;
    let ready = ["sh", "-c", "until test -e /tmp/ready; do sleep 0.05; done"];
    container.exec(&ready)?.exits_with(0)?;
    let first = figures(&container)?;
    let pids = number(&first, "/pids/current", "/pids/current");
    ensure!(pids == 2 || pids == 3, "{pids} processes of 2 or 3: {first}");
    let limit = number(&first, "/memory/usage/limit", "/memory/usage_limit");
    ensure!(limit == 64 << 20, "the memory limit is {limit}: {first}");
    let usage = number(&first, "/memory/usage/usage", "/memory/usage");
    ensure!((1..64 << 20).contains(&usage), "the memory in use is {usage}: {first}");
    // Nanoseconds in the one, microseconds in the other.
    let time = |figures: &Value| number(figures, "/cpu/usage/total", "/cpu/usage_usec");
    let (start, mut second) = (time(&first), first);
    let grows = command::until(PATIENCE, || {
        figures(&container).map(|figures| second = figures).is_ok() && time(&second) > start
    });
    ensure!(grows, "no time was used after {start}: {second}");
    let text = container.must(&["metrics"])?;
    ensure!(text.contains(&container.id), "the table does not name the task: {text}");
    container.end()
}

pub(super) fn limits(daemon: &Daemon) -> Result<()> {
    let options = ["--memory-limit", "67108864", "--cpus", "0.5"];
    let container = Container::sleeping(daemon, &options)?;
    let memory = container.cgroup(("memory", "memory.limit_in_bytes"), "memory.max")?;
    same("the memory limit", &memory, "67108864")?;
    let quota = container.cgroup(("cpu", "cpu.cfs_quota_us"), "cpu.max")?;
    same("the processor quota", quota.split(' ').next().unwrap_or_default(), "50000")?;
    container.end()
}

pub(super) fn out_of_memory(daemon: &Daemon) -> Result<()> {
    let listener = Listener::start(daemon)?;
    let options = ["--memory-limit", "16777216"];
    let eat = "x=0123456789abcdef; while :; do x=$x$x; done";
    let container = Container::start(daemon, &options, &["sh", "-c", eat])?;
    container.wait_for("STOPPED")?;
    let code = container.delete()?;
    ensure!(code == 137, "the exit status of a killed process is {code}");
    listener.until(&container.id, "delete")?;
    same("what was told", &listener.told(&container.id), "create, start, oom, exit, delete")?;
    // An exec that eats all is told too, and the first process lives on.
    let container = Container::sleeping(daemon, &options)?;
    let output = container.exec(&["sh", "-c", eat])?;
    output.exits_with(137)?;
    listener.until(&container.id, "oom")?;
    container.wait_for("RUNNING")?;
    container.end()
}
