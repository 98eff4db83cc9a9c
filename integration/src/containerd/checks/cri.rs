//! Pods as Kubernetes makes them: by containerd's CRI plugin, whose runtime is the one
//! under test.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::life::none_left;
use crate::command;
use crate::containerd::cri::messages::{Empty, EngineStatus, Resources, Status, Usage};
use crate::containerd::cri::{self, BY_PATH, CONTAINER, EXITED, Member, POD, Pod, RUNNING};
use crate::containerd::daemon::Daemon;
use crate::engine::process;
use crate::engine::same;

const LIMIT: Duration = Duration::from_secs(30);

const SLEEP: [&str; 2] = ["sleep", "1000000"];

/// Ends in its own way when it is asked to, and says when it is ready for that.
const TRAP: &str = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done";

/// Removes a pod whose shim must end by that, with all that was its.
fn end(daemon: &Daemon, pod: &Pod, shim: u32) -> Result<()> {
    pod.stop()?;
    pod.remove()?;
    gone(daemon, shim)
}

fn gone(daemon: &Daemon, shim: u32) -> Result<()> {
    process::wait_for_end("the shim of a pod that is removed", shim)?;
    let tasks = daemon.list(&["--namespace", cri::NAMESPACE, "tasks", "list"])?;
    ensure!(tasks.is_empty(), "tasks of pods that are removed: {tasks:?}");
    none_left(daemon)
}

/// Waits for a line in the log of a container.
fn wait_for_line(member: &Member, line: &str) -> Result<String> {
    let log = || fs::read_to_string(&member.log).unwrap_or_default();
    let came = command::until(LIMIT, || log().lines().any(|found| found.ends_with(line)));
    ensure!(came, "no line {line:?} in the log {:?}", log());
    Ok(log())
}

/// Waits until a container sees so many processes that sleep.
fn sees_sleeping(member: &Member, count: usize) -> Result<()> {
    let mut seen = String::new();
    let sees = command::until(LIMIT, || {
        let output = member.exec(0, &["pidof", "sleep"]).map(|done| done.stdout);
        seen = output.map_or_else(
            |error| format!("{error:#}"),
            |pids| String::from_utf8_lossy(&pids).into_owned(),
        );
        seen.split_whitespace().filter(|word| word.parse::<u32>().is_ok()).count() == count
    });
    ensure!(sees, "{} sees {seen:?}, and not {count} processes that sleep", member.id());
    Ok(())
}

fn link(pid: u32, kind: &str) -> Result<String> {
    let path = format!("/proc/{pid}/ns/{kind}");
    let target = fs::read_link(&path).with_context(|| path)?;
    Ok(target.display().to_string())
}

/// In the place of the shim that containerd knows, which is the only one that it asks what
/// it can do.
pub(super) fn handler(daemon: &Daemon) -> Result<()> {
    let pod = Pod::run_by(daemon, BY_PATH, CONTAINER)?;
    let shim = pod.shim()?;
    let member = pod.start("only", &SLEEP)?;
    let done = member.exec(0, &["sh", "-c", "exit 4"])?;
    ensure!(done.code == 4, "the exit status is {} for 4", done.code);
    end(daemon, &pod, shim)?;
    let version = daemon.must(&["--version"])?;
    if [" 1.6.", " 1.7."].iter().any(|old| version.contains(old)) {
        return Ok(()); // it tells nobody
    }
    let status: EngineStatus = cri::call(&daemon.socket(), "Status", &Empty {})?;
    let ours = status.handlers.iter().find(|handler| handler.name == BY_PATH);
    let features = ours.context("the handler is not told")?.features.context("no features")?;
    ensure!(features.recursive_read_only, "no recursive read-only mounts: {features:?}");
    ensure!(features.user_namespaces, "no user namespaces: {features:?}");
    Ok(())
}

pub(super) fn pod(daemon: &Daemon) -> Result<()> {
    let pod = Pod::run(daemon, CONTAINER)?;
    let shim = pod.shim()?;
    let first = pod.start("first", &["sh", "-c", TRAP])?;
    let second = pod.create("second", Resources::default(), &SLEEP)?;
    ensure!(second.status()?.state != RUNNING, "a container runs that was only created");
    second.start()?;
    for member in [&first, &second] {
        let status = member.status()?;
        ensure!(status.state == RUNNING, "{} does not run: {status:?}", member.id());
        let own = process::parent(member.pid()?)?;
        ensure!(own == shim, "{} has the shim {own}, and not {shim}", member.id());
    }
    for kind in ["ipc", "net", "uts"] {
        let (theirs, own) = (link(pod.pid()?, kind)?, link(first.pid()?, kind)?);
        ensure!(theirs == own, "the {kind} namespace of the pod is {theirs}, not {own}");
    }
    for kind in ["mnt", "pid"] {
        let (theirs, own) = (link(second.pid()?, kind)?, link(first.pid()?, kind)?);
        ensure!(theirs != own, "the {kind} namespace is shared");
    }
    let log = wait_for_line(&first, " stdout F ready")?;
    first.stop(30)?;
    let status = first.status()?;
    ensure!(status.state == EXITED && status.code == 7, "asked to end it is {status:?}: {log}");
    first.remove()?;
    ensure!(first.status().is_err(), "{} is there after its removal", first.id());
    // Nothing handles that signal in this one.
    second.stop(1)?;
    let status = second.status()?;
    ensure!(status.state == EXITED && status.code == 137, "killed it is {status:?}");
    ensure!(process::is_alive(shim), "the shim has left the sandbox");
    // A name is free again when its container is removed.
    second.remove()?;
    pod.start("second", &SLEEP)?;
    end(daemon, &pod, shim)
}

/// All processes of a pod see each other, and go with the sandbox.
pub(super) fn shared(daemon: &Daemon) -> Result<()> {
    let pod = Pod::run(daemon, POD)?;
    let shim = pod.shim()?;
    let first = pod.start("first", &SLEEP)?;
    let second = pod.start("second", &["sh", "-c", "sleep 1000 & exec sleep 1000"])?;
    let theirs = link(pod.pid()?, "pid")?;
    for member in [&first, &second] {
        same("the pid namespace", &link(member.pid()?, "pid")?, &theirs)?;
    }
    // The sandbox, the first container, and two.
    sees_sleeping(&first, 4)?;
    // What its first process has left is not the container's any more.
    second.stop(0)?;
    sees_sleeping(&first, 2)?;
    pod.stop()?;
    let status = first.wait()?;
    ensure!(status.code == 137, "the end of a container with its pod is {status:?}");
    pod.remove()?;
    gone(daemon, shim)
}

pub(super) fn exec(daemon: &Daemon) -> Result<()> {
    let pod = Pod::run(daemon, CONTAINER)?;
    let shim = pod.shim()?;
    let member = pod.start("only", &SLEEP)?;
    let script = "echo out; echo err >&2; exit 3";
    let done = member.exec(0, &["sh", "-c", script])?;
    same("standard output", &String::from_utf8_lossy(&done.stdout), "out\n")?;
    same("standard error", &String::from_utf8_lossy(&done.stderr), "err\n")?;
    ensure!(done.code == 3, "the exit status is {} for 3", done.code);
    // More than a pipe holds.
    let script = "yes 0123456789abcde | head -c 1048576";
    let done = member.exec(0, &["sh", "-c", script])?;
    ensure!(done.stdout.len() == 1 << 20, "{} bytes came out", done.stdout.len());
    let error = format!("{:#}", member.exec(0, &["no-such-program"]).err().context("executed")?);
    ensure!(error.contains("executable file not found in $PATH"), "other words: {error}");
    let start = Instant::now();
    let error = format!("{:#}", member.exec(2, &SLEEP).err().context("no timeout")?);
    ensure!(error.contains("timeout 2s exceeded"), "other words: {error}");
    ensure!(start.elapsed() < LIMIT, "2 seconds took {:?}", start.elapsed());
    sees_sleeping(&member, 1)?;
    // What is confined by default is so in both of them.
    for script in [
        "test ! -s /proc/keys",
        "! touch /proc/sys/kernel/hostname",
        "grep -x 'Seccomp:\t2' /proc/self/status",
        "grep -x 'Seccomp:\t2' /proc/1/status",
    ] {
        let done = member.exec(0, &["sh", "-c", script])?;
        ensure!(done.code == 0, "{script}: {}", String::from_utf8_lossy(&done.stderr));
    }
    end(daemon, &pod, shim)
}

/// One after the other, as probes of a kubelet are, and eight at once.
pub(super) fn exec_storm(daemon: &Daemon) -> Result<()> {
    let pod = Pod::run(daemon, POD)?;
    let shim = pod.shim()?;
    let member = pod.start("only", &SLEEP)?;
    let one = |code: i32| -> Result<()> {
        let script = format!("echo {code}; exit {code}");
        let done = member.exec(0, &["sh", "-c", &script])?;
        same("the output", &String::from_utf8_lossy(&done.stdout), &format!("{code}\n"))?;
        ensure!(done.code == code, "the exit status is {} for {code}", done.code);
        Ok(())
    };
    (0..100).try_for_each(one)?;
    for _ in 0..5 {
        thread::scope(|scope| -> Result<()> {
            let all: Vec<_> = (1..9).map(|code| scope.spawn(move || one(code))).collect();
            for one in all {
                let Ok(result) = one.join() else { bail!("a thread died") };
                result?;
            }
            Ok(())
        })?;
    }
    end(daemon, &pod, shim)
}

pub(super) fn limits(daemon: &Daemon) -> Result<()> {
    let pod = Pod::run(daemon, CONTAINER)?;
    let shim = pod.shim()?;
    let resources = Resources { memory: 64 << 20, cpu_period: 100_000, cpu_quota: 50_000 };
    let busy = ["sh", "-c", "while :; do :; done"];
    let member = pod.create("busy", resources, &busy)?;
    member.start()?;
    let limit = |v1: &str, v2: &str| cgroup(daemon, member.id(), v1, v2);
    let memory = || limit("memory/memory.limit_in_bytes", "memory.max");
    same("the memory limit", &memory()?, "67108864")?;
    let quota = || limit("cpu/cpu.cfs_quota_us", "cpu.max");
    same("the quota", quota()?.split(' ').next().unwrap_or_default(), "50000")?;
    let used = |usage: Option<Usage>| usage.and_then(|usage| usage.used).unwrap_or_default().value;
    let first = member.stats()?;
    let memory_in_use = used(first.memory);
    ensure!((1..64 << 20).contains(&memory_in_use), "the memory in use is {memory_in_use}");
    let name = first.attributes.clone().unwrap_or_default().id;
    same("whose figures", &name, member.id())?;
    let grows = || member.stats().is_ok_and(|next| used(next.cpu) > used(first.cpu));
    ensure!(command::until(LIMIT, grows), "no time is used after {first:?}");
    // Kubernetes resizes containers in place.
    member.update(Resources { memory: 96 << 20, cpu_period: 100_000, cpu_quota: 70_000 })?;
    same("the new memory limit", &memory()?, "100663296")?;
    same("the new quota", quota()?.split(' ').next().unwrap_or_default(), "70000")?;
    end(daemon, &pod, shim)
}

/// A control file of a container: in a hierarchy of v1, or where there is only v2.
fn cgroup(daemon: &Daemon, id: &str, v1: &str, v2: &str) -> Result<String> {
    let top = Path::new("/sys/fs/cgroup");
    let pods = daemon.pods();
    let own = match pods.ends_with(".slice") {
        true => format!("{pods}/cri-containerd-{id}.scope"),
        false => format!("{pods}/{id}"),
    };
    let (controller, name) = v1.split_once('/').context("no controller")?;
    let path = match top.join("cgroup.controllers").exists() {
        true => top.join(own).join(v2),
        false => top.join(controller).join(own).join(name),
    };
    let value = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(value.trim().to_owned())
}

/// Containers that end by themselves, in one way or another.
pub(super) fn ends(daemon: &Daemon) -> Result<()> {
    let pod = Pod::run(daemon, CONTAINER)?;
    let shim = pod.shim()?;
    let expect = |status: Status, code: i32, reason: &str| {
        let found = (status.code, status.reason.as_str());
        ensure!(found == (code, reason), "{found:?}, and not {:?}", (code, reason));
        Ok(())
    };
    let ends = |name: &str, script: &str| pod.start(name, &["sh", "-c", script])?.wait();
    expect(ends("completed", "true")?, 0, "Completed")?;
    expect(ends("failed", "exit 5")?, 5, "Error")?;
    let eat = "x=0123456789abcdef; while :; do x=$x$x; done";
    let resources = Resources { memory: 16 << 20, ..Resources::default() };
    let member = pod.create("eater", resources, &["sh", "-c", eat])?;
    member.start()?;
    expect(member.wait()?, 137, "OOMKilled")?;
    let missing = pod.create("missing", Resources::default(), &["no-such-program"])?;
    let error = format!("{:#}", missing.start().err().context("it was started")?);
    ensure!(error.contains("executable file not found in $PATH"), "other words: {error}");
    let status = missing.status()?;
    ensure!(status.state == EXITED && status.code == 128, "what did not start is {status:?}");
    end(daemon, &pod, shim)
}

/// The daemon is killed, and pods go on under the next.
pub(super) fn daemon_killed(daemon: &Daemon) -> Result<()> {
    let pod = Pod::run(daemon, CONTAINER)?;
    let (shim, sandbox) = (pod.shim()?, pod.pid()?);
    let trap = pod.start("trap", &["sh", "-c", TRAP])?;
    let lines = "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.05; done";
    let writer = pod.start("writer", &["sh", "-c", lines])?;
    wait_for_line(&trap, " ready")?;
    wait_for_line(&writer, " 20")?;
    let pids = [trap.pid()?, writer.pid()?];
    daemon.kill()?;
    daemon.revive()?;
    ensure!((pod.shim()?, pod.pid()?) == (shim, sandbox), "it is another sandbox");
    ensure!([trap.pid()?, writer.pid()?] == pids, "they are other processes");
    for member in [&trap, &writer] {
        let done = member.exec(0, &["sh", "-c", "exit 6"])?;
        ensure!(done.code == 6, "an exec after the restart ends with {}", done.code);
    }
    let count = || fs::read_to_string(&writer.log).unwrap_or_default().lines().count();
    let before = count();
    ensure!(command::until(LIMIT, || count() > before + 20), "nothing is logged any more");
    trap.stop(30)?;
    let status = trap.status()?;
    ensure!(status.code == 7, "asked to end after the restart it is {status:?}");
    pod.start("late", &SLEEP)?;
    end(daemon, &pod, shim)
}

/// The shim of a pod is killed, and nothing of the pod goes on.
pub(super) fn shim_killed(daemon: &Daemon) -> Result<()> {
    let pod = Pod::run(daemon, CONTAINER)?;
    let shim = pod.shim()?;
    let member = pod.start("only", &["sh", "-c", "sleep 1000 & sleep 1000"])?;
    let (sandbox, pid) = (pod.pid()?, member.pid()?);
    kill(Pid::from_raw(shim.cast_signed()), Signal::SIGKILL).context("killing the shim")?;
    for (what, pid) in [("the sandbox", sandbox), ("the container", pid)] {
        process::wait_for_end(what, pid)?;
    }
    let status = member.wait()?;
    // Who waits for the end hears of it by the event, or that nobody will answer any more.
    let told = [137, 255].contains(&status.code);
    ensure!(told, "the end of a container with its shim is {status:?}");
    end(daemon, &pod, shim)
}
