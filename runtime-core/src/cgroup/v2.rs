//! The container's cgroup where v2 is alone.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::apply::{self, Exact};
use super::directory::{Claim, Directory, Made, read_value, refused};
use super::freezer::Freezer;
use super::group::Group;
use super::settings::Settings;
use super::{bpf, empty_and_thawed};
use crate::error::Result;

const QUOTA: &str = "cpu.max";

/// Names of the files that belong to who rules over a cgroup.
const DELEGATED: &str = "/sys/kernel/cgroup/delegate";

/// The files for which systemd has words that are less exact: it keeps whole percents,
/// and the weight of the other scheduler.
const INEXACT: [&str; 2] = [QUOTA, "io.weight"];

/// One directory with every controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V2 {
    pub(super) group: Group,
    /// The controllers of the hierarchy's root; empty when unknown.
    pub(super) available: Vec<String>,
}

impl V2 {
    pub(super) fn create(&self) -> Result<Claim> {
        let mut made = Made::default();
        let path = self.group.directory();
        let new = made.make(&self.group.mount, &path)?;
        let claim = made.claim(&path)?;
        if !new {
            empty_and_thawed(&path, Freezer::V2)?;
        }
        self.enable()?;
        made.keep();
        Ok(claim)
    }

    /// Lets a user rule over it: the directory, and the files that the kernel names.
    /// Whoever may not give it away keeps it.
    ///
    /// SPEC: config-linux.md, "Cgroup ownership".
    pub(super) fn give_to(&self, uid: u32) -> Result<()> {
        let path = self.group.directory();
        let cgroup = Directory::open(path.clone())?;
        // KERNEL(<4.15): absent.
        let listed = std::fs::read_to_string(DELEGATED);
        let listed =
            listed.as_deref().unwrap_or("cgroup.procs\ncgroup.subtree_control\ncgroup.threads");
        for file in std::iter::once("").chain(listed.lines()) {
            match cgroup.give(file, uid) {
                Ok(()) | Err(Errno::ENOENT | Errno::EPERM) => {}
                Err(errno) => return Err(refused(errno, "giving the cgroup to its user", &path)),
            }
        }
        Ok(())
    }

    /// Hands the root's controllers down to the cgroup. What can't be enabled
    /// is left: it matters only to a container with limits, whose writes fail
    /// with the controller's name then.
    ///
    /// COMPAT(runc): all of them, because engines read the statistics of each.
    pub(super) fn enable(&self) -> Result<()> {
        let path = &self.group.directory();
        let missing = || -> Vec<&str> {
            let text = read_value(&path.join("cgroup.controllers")).unwrap_or_default();
            let here: Vec<&str> = text.split_whitespace().collect();
            let available = self.available.iter().map(String::as_str);
            available.filter(|name| !here.contains(name)).collect()
        };
        // Almost always the cgroups above have them enabled already.
        if self.available.is_empty() || missing().is_empty() {
            return Ok(());
        }
        let names = self.available.iter().map(|name| format!("+{name}")).collect::<Vec<_>>();
        let all = names.join(" ");
        let above: Vec<_> = path.ancestors().skip(1).collect();
        for path in above.into_iter().rev().filter(|path| path.starts_with(&self.group.mount)) {
            let above = Directory::open(path.to_path_buf())?;
            if above.write("cgroup.subtree_control", &all).is_err() {
                for name in &names {
                    let _ = above.write("cgroup.subtree_control", name);
                }
            }
        }
        // Below a threaded cgroup a new one is of no use until it is threaded.
        if !missing().is_empty() {
            let cgroup = Directory::open(path.to_path_buf())?;
            if cgroup.read("cgroup.type").is_ok_and(|kind| kind.trim_end() == "domain invalid") {
                let _ = cgroup.write("cgroup.type", "threaded");
            }
        }
        Ok(())
    }

    /// Refuses limits that are below what is used, if that is asked for.
    pub(super) fn check(&self, settings: &Settings) -> Result<()> {
        match settings.check {
            Some(check) => apply::check_usage(&Directory::open(self.group.directory())?, check),
            None => Ok(()),
        }
    }

    /// What the file of the CPU limit says.
    pub(super) fn quota(&self) -> Option<String> {
        read_value(&self.group.directory().join(QUOTA)).ok()
    }

    /// What systemd writes something else into when it is told of any limit.
    pub(super) fn exact(&self, settings: &Settings) -> Result<Exact> {
        let cgroup = Directory::open(self.group.directory())?;
        Ok(Exact::read(cgroup, &INEXACT, settings))
    }

    pub(super) fn apply(&self, settings: &Settings) -> Result<()> {
        if settings.writes.is_empty() && settings.devices.is_none() {
            return Ok(());
        }
        self.check(settings)?;
        let cgroup = Directory::open(self.group.directory())?;
        apply::writes(&cgroup, settings.writes.iter())?;
        match &settings.devices {
            Some(devices) if devices.instead_of.is_some() => bpf::replace(&cgroup, &devices.rules),
            Some(devices) => apply::devices(devices, bpf::attach(&cgroup, &devices.rules)),
            None => Ok(()),
        }
    }
}

/// The cgroup's descriptor for `CLONE_INTO_CGROUP`.
pub(super) fn for_clone(group: &Group) -> Result<OwnedFd> {
    let path = group.directory();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(&path, flags, Mode::empty()).map_err(|errno| refused(errno, "opening the cgroup", &path))
}

/// The file by which a process joins that is not cloned into it.
pub(super) fn entry(group: &Group) -> Result<OwnedFd> {
    let path = group.directory().join("cgroup.procs");
    open(&path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| refused(errno, "opening the cgroup's list of processes", &path))
}

/// Kills every process of a v2 cgroup at once, a frozen one too. False where
/// the kernel can't. KERNEL(<5.14): absent.
pub(super) fn kill(cgroup: &Directory) -> Result<bool> {
    match cgroup.write("cgroup.kill", "1") {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) if !cgroup.path().exists() => Ok(true),
        Err(Errno::ENODEV) => Ok(true),
        // A threaded cgroup has the file, but it does not work there.
        Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(false),
        Err(errno) => Err(refused(errno, "killing the processes of the cgroup", cgroup.path())),
    }
}
