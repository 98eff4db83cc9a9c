//! Limits, as the cgroup shows them and as the kernel keeps them.

use std::fs;

use anyhow::{Result, ensure};

use crate::docker::container::Container;
use crate::docker::daemon::{Daemon, IMAGE};
use crate::engine::{leftovers, same};

/// On v2 one file holds quota and period.
fn check_cpus(container: &Container<'_>, quota: &str) -> Result<()> {
    let found = container.cgroup(("cpu", "cpu.cfs_quota_us"), "cpu.max")?;
    let found = found.split(' ').next().unwrap_or_default();
    same("the processor quota", found, quota)
}

fn check_memory(container: &Container<'_>, bytes: &str) -> Result<()> {
    let found = container.cgroup(("memory", "memory.limit_in_bytes"), "memory.max")?;
    same("the memory limit", &found, bytes)
}

fn check_pids(container: &Container<'_>, count: &str) -> Result<()> {
    same("the process limit", &container.cgroup(("pids", "pids.max"), "pids.max")?, count)
}

pub(super) fn limits(daemon: &Daemon) -> Result<()> {
    let options = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "20", "--cpuset-cpus", "0"];
    let container = Container::sleeping(daemon, &options)?;
    check_memory(&container, "67108864")?;
    check_cpus(&container, "50000")?;
    check_pids(&container, "20")?;
    let processors = container.cgroup(("cpuset", "cpuset.cpus"), "cpuset.cpus")?;
    same("the processors", &processors, "0")?;
    let many =
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21; do sleep 1 & done; wait";
    let output = container.exec(&["sh", "-c", many])?;
    ensure!(output.code != 0, "21 processes run under a limit of 20");
    let options = ["--ulimit", "nofile=123:456", "--shm-size", "16m"];
    let script = "ulimit -n; ulimit -Hn; df -k /dev/shm | tail -n 1 | awk '{print $2}'";
    let output = super::shell(daemon, &options, script)?.success()?;
    same("open files and shared memory", &output, "123\n456\n16384")
}

pub(super) fn out_of_memory(daemon: &Daemon) -> Result<()> {
    let options = ["--memory", "16m", "--memory-swap", "16m"];
    let container = Container::start(daemon, &options, &["perl", "-e", "$x = 'x' x (64 << 20)"])?;
    same("the status of a killed process", &container.must(&["wait"])?, "137")?;
    same("the engine's verdict", &container.inspect("{{.State.OOMKilled}}")?, "true")?;
    // The same is possible without the limit.
    let program = ["run", "--rm", IMAGE, "perl", "-e", "$x = 'x' x (64 << 20)"];
    daemon.docker(&program)?.exits_with(0)
}

pub(super) fn out_of_memory_child(daemon: &Daemon) -> Result<()> {
    let since = daemon.now()?;
    let script = "trap 'exit 3' TERM; while :; do sleep 0.05; done";
    let options = ["--memory", "16m", "--memory-swap", "16m"];
    let container = Container::start(daemon, &options, &["sh", "-c", script])?;
    container.exec(&["perl", "-e", "$x = 'x' x (64 << 20)"])?.exits_with(137)?;
    same("the state", &container.inspect("{{.State.Status}}")?, "running")?;
    container.must(&["stop"])?;
    same("the status", &container.must(&["wait"])?, "3")?;
    let told = container.events(&since)?;
    ensure!(told.iter().any(|event| event == "oom"), "want of memory is not told: {told:?}");
    Ok(())
}

pub(super) fn update(daemon: &Daemon) -> Result<()> {
    let options = ["--memory", "64m", "--memory-swap", "256m", "--cpus", "0.5"];
    let container = Container::sleeping(daemon, &options)?;
    check_memory(&container, "67108864")?;
    let change = ["update", "--memory", "96m", "--cpus", "0.75", "--pids-limit", "50"];
    container.must(&change)?;
    check_memory(&container, "100663296")?;
    check_cpus(&container, "75000")?;
    check_pids(&container, "50")?;
    container.exec(&["true"])?.exits_with(0)
}

pub(super) fn oom_score(daemon: &Daemon) -> Result<()> {
    let container = Container::sleeping(daemon, &["--oom-score-adj", "500"])?;
    let score = ["cat", "/proc/1/oom_score_adj", "/proc/self/oom_score_adj"];
    same("the scores", &container.exec(&score)?.success()?, "500\n500")?;
    let script = "cat /proc/self/oom_score_adj";
    same("the score without one", &super::shell(daemon, &[], script)?.success()?, "0")
}

pub(super) fn cgroup_parent(daemon: &Daemon) -> Result<()> {
    let above = daemon.cgroup_parent();
    let (parent, path) = match above.strip_suffix(".slice") {
        Some(name) => (format!("{name}-below.slice"), format!("/{above}/{name}-below.slice")),
        None => (format!("/{above}/below"), format!("/{above}/below")),
    };
    let container = Container::sleeping(daemon, &["--cgroup-parent", &parent, "--memory", "64m"])?;
    let own = match above.ends_with(".slice") {
        true => format!("docker-{}.scope", container.id),
        false => container.id.clone(),
    };
    let name = path.trim_start_matches('/').to_owned();
    let path = format!("{path}/{own}");
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid()?))?;
    ensure!(text.lines().any(|line| line.ends_with(&path)), "it is not in {path}: {text:?}");
    check_memory(&container, "67108864")?;
    // Whoever executes a further process finds it there again.
    let output = container.exec(&["cat", "/proc/self/cgroup"])?.success()?;
    let first = container.exec(&["cat", "/proc/1/cgroup"])?.success()?;
    same("the cgroups of exec", &output, &first)?;
    container.must(&["rm", "--force"])?;
    // The parent may stay, for the next container; this fails if anything is in it.
    leftovers::remove_empty(&name)
}
