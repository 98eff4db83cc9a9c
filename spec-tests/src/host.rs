//! What this machine has, as far as cases ask for it: `needs` of a case.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::geteuid;
use orlop_spec_tests::cgroups::ROOT as CGROUPS;
use orlop_spec_tests::resctrl::Resctrl;
use serde_json::{Value, json};

use crate::runtime::{Runtime, release};

/// Which hierarchies of cgroups there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cgroups {
    /// Version 2 alone.
    V2,
    /// Version 1 with version 2 beside it.
    Hybrid,
    /// Version 1 alone.
    V1,
}

impl Cgroups {
    /// Those that are mounted.
    pub(crate) fn probe() -> Self {
        if is_v2(CGROUPS) {
            Self::V2
        } else if is_v2(&format!("{CGROUPS}/unified")) {
            Self::Hybrid
        } else {
            Self::V1
        }
    }

    /// For lists.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
            Self::V1 => "v1",
        }
    }
}

fn is_v2(path: &str) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Why a case that needs this can't run here; `None` if it can.
pub(crate) fn lacks(need: &str, runtime: &Runtime) -> Option<String> {
    let words: Vec<&str> = need.split(' ').collect();
    let has = match words[..] {
        ["root"] => geteuid().is_root(),
        // The runtime makes the cgroups itself, where it is told.
        ["cgroupfs"] => !runtime.asks_systemd(),
        // And where systemd makes them.
        ["systemd", "cgroups"] => runtime.asks_systemd(),
        ["systemd"] => Path::new("/run/systemd/system").exists(),
        ["cgroup", "v1"] => Cgroups::probe() != Cgroups::V2,
        ["cgroup", "v2"] => Cgroups::probe() == Cgroups::V2,
        ["v1", controller] => v1_controller(controller),
        ["v2", controller] => v2_controller(CGROUPS, controller),
        ["hybrid", controller] => v2_controller(&format!("{CGROUPS}/unified"), controller),
        ["capability", name] => capability(name),
        ["machine", name] => std::env::consts::ARCH == name,
        ["kernel", version] => kernel() >= release(version),
        ["cpus", count] => list_length("cpu") >= count.parse().unwrap_or(usize::MAX),
        ["nodes", count] => list_length("node") >= count.parse().unwrap_or(usize::MAX),
        ["tool", name] => tool(name),
        ["criu"] => Command::new("criu").arg("check").output().is_ok_and(|o| o.status.success()),
        ["filesystem", name] => filesystem(name),
        // In whichever version of cgroups.
        [name @ ("cpuset" | "memory" | "hugetlb")] => controller(name),
        ["no", "rdma"] => !controller("rdma"),
        ["no", "cpuset"] => !controller("cpuset"),
        ["no", "realtime", "groups"] => no_realtime_groups(),
        ["disk"] => disk()["major"].is_u64(),
        ["file", path] => Path::new(path).exists(),
        ["no", "file", path] => !Path::new(path).exists(),
        ["apparmor"] => read("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
        ["no", "apparmor"] => !read("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
        ["selinux"] => selinux(),
        ["no", "selinux"] => !selinux(),
        // Or what can play it.
        ["resctrl"] => resctrl().is_some() || Resctrl::can_be(),
        ["no", "resctrl"] => resctrl().is_none(),
        _ => return Some(format!("nobody knows what \"{need}\" is")),
    };
    (!has).then(|| format!("the host lacks: {need}"))
}

/// Whether SELinux is on.
pub(crate) fn selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Where resctrl is mounted.
pub(crate) fn resctrl() -> Option<PathBuf> {
    let table = read("/proc/self/mounts");
    let mut mounts = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    mounts.find(|fields| fields.get(2) == Some(&"resctrl")).map(|fields| fields[1].into())
}

/// The number of a block device whose input and output can be limited.
pub(crate) fn disk() -> Value {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let disk = names.filter(|name| !name.starts_with("loop") && !name.starts_with("ram")).min();
    let number = read(&format!("/sys/block/{}/dev", disk.unwrap_or_default()));
    let (major, minor) = number.trim().split_once(':').unwrap_or_default();
    let number = |text: &str| text.parse::<u32>().ok();
    json!({ "major": number(major), "minor": number(minor) })
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A hierarchy of its own, mounted where runtimes look for it.
fn v1_controller(name: &str) -> bool {
    let named =
        |line: &str| line.split(':').nth(1).is_some_and(|c| c.split(',').any(|c| c == name));
    read("/proc/self/cgroup").lines().any(named) && Path::new(&format!("{CGROUPS}/{name}")).exists()
}

/// A controller that a child of the root can have.
fn v2_controller(root: &str, name: &str) -> bool {
    is_v2(root) && read(&format!("{root}/cgroup.controllers")).split_whitespace().any(|c| c == name)
}

fn capability(name: &str) -> bool {
    let sets = crate::probe::report();
    let effective = &sets["capabilities"]["effective"];
    effective.as_array().is_some_and(|set| set.iter().any(|one| one == name))
}

fn controller(name: &str) -> bool {
    v1_controller(name) || v2_controller(CGROUPS, name)
}

/// Whether the kernel has no shares of the time for realtime processes, so that
/// they need none. Only what Debian's kernels leave in /boot can tell.
fn no_realtime_groups() -> bool {
    let release = read("/proc/sys/kernel/osrelease");
    let config = read(&format!("/boot/config-{}", release.trim()));
    config.contains("# CONFIG_RT_GROUP_SCHED is not set")
}

fn kernel() -> [u32; 3] {
    release(&read("/proc/sys/kernel/osrelease"))
}

/// How many of a kind are online: a list as `0-3,7`.
fn list_length(kind: &str) -> usize {
    let list = read(&format!("/sys/devices/system/{kind}/online"));
    let number = |text: &str| text.parse::<usize>().unwrap_or_default();
    list.trim()
        .split(',')
        .map(|part| match part.split_once('-') {
            Some((first, last)) => number(last) + 1 - number(first),
            None => 1,
        })
        .sum()
}

fn tool(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).exists())
}

fn filesystem(name: &str) -> bool {
    read("/proc/filesystems").lines().any(|line| line.split('\t').next_back() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_known() {
        let runtime = |argument: &str| Runtime {
            path: "/bin/sh".into(),
            arguments: vec![argument.to_owned()],
        };
        let lacks = |need: &str| lacks(need, &runtime("--debug"));
        assert_eq!(lacks("kernel 3.0"), None);
        assert_eq!(lacks("kernel 99.0"), Some("the host lacks: kernel 99.0".to_owned()));
        assert_eq!(lacks("cpus 1"), None);
        assert_eq!(lacks("tool sh"), None);
        assert_eq!(lacks("filesystem proc"), None);
        assert!(lacks("a pony").is_some());
        assert_eq!(lacks("cgroupfs"), None);
        assert!(super::lacks("cgroupfs", &runtime("--systemd-cgroup")).is_some());
    }
}
