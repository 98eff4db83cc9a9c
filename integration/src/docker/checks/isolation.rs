//! What a container may do and see.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use super::shell;
use crate::docker::container::Container;
use crate::docker::daemon::Daemon;
use crate::engine::{Skip, same};

const CAPABILITIES: &str = "sed -n 's/^Cap\\(Prm\\|Eff\\|Bnd\\|Amb\\):\\t//p' /proc/self/status";

/// The capabilities up to `CAP_AUDIT_READ`, of Linux 3.16.
const KNOWN_TO_ALL: u64 = (1 << 38) - 1;

pub(super) fn capabilities(daemon: &Daemon) -> Result<()> {
    let output = shell(daemon, &["--cap-drop", "ALL"], CAPABILITIES)?.success()?;
    let none = "0000000000000000";
    same("the sets after --cap-drop ALL", &output, &[none; 4].join("\n"))?;
    let script = "touch /tmp/f && ! chown 1000 /tmp/f";
    shell(daemon, &["--cap-drop", "ALL"], script)?.exits_with(0)?;
    let options = ["--cap-drop", "ALL", "--cap-add", "CHOWN", "--cap-add", "NET_ADMIN"];
    let output = shell(daemon, &options, CAPABILITIES)?.success()?;
    let some = "0000000000001001";
    same("the sets with two added", &output, &[some, some, some, none].join("\n"))?;
    shell(daemon, &options, "touch /tmp/f && chown 1000 /tmp/f")?.exits_with(0)?;
    let output = shell(daemon, &[], CAPABILITIES)?.success()?;
    let default = "00000000a80425fb";
    same("the default sets", &output, &[default, default, default, none].join("\n"))
}

pub(super) fn privileged(daemon: &Daemon) -> Result<()> {
    let last: u32 = fs::read_to_string("/proc/sys/kernel/cap_last_cap")?.trim().parse()?;
    let status = fs::read_to_string("/proc/self/status")?;
    let ours = status.lines().find_map(|line| line.strip_prefix("CapPrm:\t"));
    let ours = u64::from_str_radix(ours.context("our capabilities")?, 16)?;
    let all = (1u64 << (last + 1)) - 1;
    let output = shell(daemon, &["--privileged"], CAPABILITIES)?;
    if ours != all && output.stderr.contains("container process: unable to apply caps") {
        let what = "this machine does not give us all capabilities, and runc does not do with less";
        return Err(Skip(what).into());
    }
    let output = output.success()?;
    let sets: Vec<&str> = output.lines().collect();
    let [permitted, effective, bounding, ambient] = sets[..] else { bail!("no sets: {output}") };
    ensure!(permitted == effective && permitted == bounding, "the sets differ: {output}");
    same("the ambient set", ambient, "0000000000000000")?;
    let given = u64::from_str_radix(permitted, 16)?;
    // Old engines do not know the newest to ask for them.
    let known = ours & KNOWN_TO_ALL;
    ensure!(given & known == known && given & !ours == 0, "{given:x} was given out of {ours:x}");
    let script = "test -b /dev/loop0 -o -c /dev/kmsg && grep -q '^sysfs /sys sysfs rw' /proc/mounts && \
                  mount -t tmpfs none /mnt";
    shell(daemon, &["--privileged"], script)?.exits_with(0)
}

pub(super) fn user(daemon: &Daemon) -> Result<()> {
    let ids = "id -u; id -g; id -G";
    let output = shell(daemon, &["--user", "1234:567"], ids)?.success()?;
    same("ids by number", &output, "1234\n567\n567")?;
    let output = shell(daemon, &["--user", "daemon", "--group-add", "audio"], ids)?.success()?;
    same("ids by name", &output, "1\n1\n1 29")?;
    let output = shell(daemon, &["--user", "1234:567"], CAPABILITIES)?.success()?;
    let (none, bounding) = ("0000000000000000", "00000000a80425fb");
    same("the sets of a user", &output, &[none, none, bounding, none].join("\n"))?;
    let options = ["--user", "1234:567", "--security-opt", "no-new-privileges"];
    let script = "! touch /etc/file && grep -c '^NoNewPrivs:.1' /proc/self/status";
    same("no_new_privs", &shell(daemon, &options, script)?.success()?, "1")?;
    // Standard output belongs to the user, who may open it again.
    let script = "echo again > /proc/self/fd/1";
    same("standard output", &shell(daemon, &["--user", "1234"], script)?.success()?, "again")
}

pub(super) fn seccomp(daemon: &Daemon) -> Result<()> {
    let mode = "sed -n 's/^Seccomp:\\t//p' /proc/self/status";
    same("the mode", &shell(daemon, &[], mode)?.success()?, "2")?;
    let denied = shell(daemon, &[], "unshare --user true")?;
    ensure!(denied.code != 0, "the profile does not deny unshare(2)");
    ensure!(denied.stderr.contains("Operation not permitted"), "not by EPERM: {denied}");
    let container = Container::sleeping(daemon, &[])?;
    same("the mode in exec", &container.exec(&["sh", "-c", mode])?.success()?, "2")?;
    // Debian's AppArmor, where there is one, denies it too to a program that has a profile.
    let free = ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"];
    same("the mode of unconfined", &shell(daemon, &free, mode)?.success()?, "0")?;
    shell(daemon, &free, "unshare --user true")?.exits_with(0)
}

pub(super) fn masked_paths(daemon: &Daemon) -> Result<()> {
    let script = "test ! -s /proc/keys && test -z \"$(ls -A /sys/firmware)\" && \
                  ! echo x > /proc/sys/kernel/domainname && ! echo h > /proc/sysrq-trigger";
    shell(daemon, &[], script)?.exits_with(0)?;
    let script = "ls /dev; readlink /dev/fd /dev/ptmx; stat -c '%t:%T %a' /dev/null /dev/tty";
    let output = shell(daemon, &[], script)?.success()?;
    let names: Vec<&str> = output.lines().collect();
    for name in ["full", "null", "random", "shm", "mqueue", "stderr", "zero", "/proc/self/fd"] {
        ensure!(names.contains(&name), "\"{name}\" is missing in /dev: {output:?}");
    }
    for line in ["pts/ptmx", "1:3 666", "5:0 666"] {
        ensure!(names.contains(&line), "\"{line}\" is missing: {output:?}");
    }
    // The device rules deny what is not on the list, whoever makes the node.
    let script = "mknod /tmp/m c 1 1 || mknod /tmp/m b 254 0; ! head -c 1 /tmp/m";
    let output = shell(daemon, &[], script)?;
    output.exits_with(0)?;
    ensure!(output.stderr.contains("Operation not permitted"), "not by the device rules: {output}");
    Ok(())
}

pub(super) fn devices(daemon: &Daemon) -> Result<()> {
    let script = "echo x > /dev/other-null && stat -c '%t:%T' /dev/other-null";
    let options = ["--device", "/dev/null:/dev/other-null:rw"];
    same("the added device", &shell(daemon, &options, script)?.success()?, "1:3")?;
    // 1:11 is /dev/kmsg, which no default allows, and whose opening logs nothing.
    let script = "mknod /tmp/k c 1 11 && : >> /tmp/k";
    let denied = shell(daemon, &[], script)?;
    ensure!(denied.stderr.contains("Operation not permitted"), "not by the rules: {denied}");
    let options = ["--device-cgroup-rule", "c 1:11 rwm"];
    shell(daemon, &options, script)?.exits_with(0)
}

pub(super) fn sysctl(daemon: &Daemon) -> Result<()> {
    let options =
        ["--sysctl", "net.ipv4.ip_default_ttl=77", "--sysctl", "kernel.shm_rmid_forced=1"];
    let script = "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shm_rmid_forced";
    same("the parameters", &shell(daemon, &options, script)?.success()?, "77\n1")?;
    let ours = fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl")?;
    let options = ["--network", "host", "--sysctl", "net.ipv4.ip_default_ttl=77"];
    let output = shell(daemon, &options, "true")?;
    output.exits_with(125)?;
    ensure!(output.stderr.contains("not allowed in host network namespace"), "{output}");
    same("the host's", &fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl")?, &ours)
}

pub(super) fn namespaces(daemon: &Daemon) -> Result<()> {
    let container = Container::sleeping(daemon, &[])?;
    let ours = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}"));
    for kind in ["pid", "mnt", "net", "ipc", "uts"] {
        let theirs = container.namespace(kind)?;
        ensure!(ours(kind)?.as_os_str() != theirs.as_str(), "the {kind} namespace is the host's");
        let init = container.exec(&["readlink", &format!("/proc/1/ns/{kind}")])?.success()?;
        same("a namespace as process 1 sees it", &init, &theirs)?;
        let exec = container.exec(&["readlink", &format!("/proc/self/ns/{kind}")])?.success()?;
        same("a namespace of exec", &exec, &theirs)?;
    }
    let user = container.namespace("user")?;
    ensure!(ours("user")?.as_os_str() == user.as_str(), "the user namespace is not the host's");
    let private = container.inspect("{{.HostConfig.CgroupnsMode}}")? == "private";
    let own = ours("cgroup")?.as_os_str() != container.namespace("cgroup")?.as_str();
    ensure!(own == private, "the cgroup namespace is not what the engine asked for");
    let output = container.exec(&["sh", "-c", "lsns --noheadings --output TYPE --task 1"])?;
    ensure!(output.code == 0 && output.stdout.lines().count() >= 6, "lsns does not work: {output}");
    Ok(())
}

pub(super) fn shared_namespaces(daemon: &Daemon) -> Result<()> {
    let first = Container::sleeping(daemon, &["--ipc", "shareable"])?;
    let target = format!("container:{}", first.id);
    let options = ["--network", &target, "--pid", &target, "--ipc", &target];
    let second = Container::sleeping(daemon, &options)?;
    for kind in ["net", "pid", "ipc"] {
        same(kind, &second.namespace(kind)?, &first.namespace(kind)?)?;
    }
    for kind in ["mnt", "uts"] {
        ensure!(second.namespace(kind)? != first.namespace(kind)?, "{kind} is shared too");
    }
    let host = Container::sleeping(daemon, &["--pid", "host", "--uts", "host", "--ipc", "host"])?;
    for kind in ["pid", "uts", "ipc"] {
        let ours = fs::read_link(format!("/proc/self/ns/{kind}"))?;
        same(kind, &host.namespace(kind)?, &ours.to_string_lossy())?;
    }
    // Without a pid namespace of its own, all processes must be found and killed.
    let script = ["sh", "-c", "sleep 1000 & sleep 1000 & wait"];
    let tree = Container::start(daemon, &["--pid", "host"], &script)?;
    tree.must(&["rm", "--force"]).map(drop)
}
