//! The container's cgroups on v1: one directory in each hierarchy, and one in
//! the v2 hierarchy where the host has both (hybrid).

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::apply::{self, Exact};
use super::devices::Rules;
use super::directory::{Claim, Directory, Made, read_value, refused};
use super::freezer::Freezer;
use super::group::Group;
use super::settings::{Bandwidth, PERIOD, QUOTA, Settings};
use super::{FREEZING, bpf, empty_and_thawed};
use crate::error::{Error, Kind, Place, Result};

/// Where systemd mounts v2 beside v1, to have its own cgroups there too.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// One directory in each hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1 {
    /// In the order in which they are joined.
    pub(super) groups: Vec<Group>,
    /// The v2 hierarchy of a hybrid host.
    pub(super) unified: Option<Group>,
}

impl V1 {
    /// Of all hierarchies, v2's too.
    pub(super) fn new(groups: impl Iterator<Item = Group>) -> Self {
        let (v2, groups): (Vec<_>, _) = groups.partition(|group| group.controllers.is_empty());
        Self { groups, unified: v2.into_iter().next() }
    }

    pub(super) fn of(&self, controller: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.has(controller))
    }

    /// The freezer that stops all of the container. On a hybrid host v2's,
    /// which can't hang half-way and lets a SIGKILL through.
    pub(super) fn freezer(&self) -> Option<(&Group, Freezer)> {
        let unified = self.unified.as_ref().map(|group| (group, Freezer::V2));
        unified.or_else(|| self.of("freezer").map(|group| (group, Freezer::V1)))
    }

    /// The hierarchy that is asked which processes the container has.
    pub(super) fn main(&self) -> Option<&Group> {
        let unified = self.unified.as_ref();
        let first = || self.of("freezer").or_else(|| self.of("devices"));
        unified.or_else(first).or_else(|| self.groups.first())
    }

    /// The hierarchy by which systemd knows what is in a unit.
    pub(super) fn of_systemd(&self) -> Option<&Group> {
        let beside = self.unified.as_ref().filter(|group| group.mount == Path::new(UNIFIED));
        beside.or_else(|| self.of("name=systemd"))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().chain(&self.unified)
    }

    /// None where no hierarchy is mounted.
    pub(super) fn create(&self) -> Result<Option<Claim>> {
        let mut made = Made::default();
        let mut groups = Vec::new();
        for group in self.all() {
            groups.push((group, made.make(&group.mount, &group.directory())?));
        }
        let claim = self.main().map(|main| made.claim(&main.directory())).transpose()?;
        for (group, new) in groups {
            prepare(group, new)?;
        }
        made.keep();
        Ok(claim)
    }

    /// Puts a process into those where it is not yet. systemd has some hierarchies of
    /// its own, and may leave those out that none of its units needs.
    pub(super) fn complete(&self, pid: i32) -> Result<()> {
        let path = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&path)
            .map_err(|error| Error::io(&error, "reading").at_path(&path))?;
        let is_there = |group: &Group| group.place_in(&text) == Some(&*group.path);
        let missing: Vec<_> = self.all().filter(|group| !is_there(group)).collect();
        let mut made = Made::default();
        for group in &missing {
            let new = made.make(&group.mount, &group.directory())?;
            prepare(group, new)?;
        }
        for group in missing {
            Directory::open(group.directory())?.add(pid)?;
        }
        made.keep();
        Ok(())
    }

    /// Whether each of them is free to be a new container's.
    pub(super) fn check_free(&self) -> Result<()> {
        self.all().filter(|group| group.directory().exists()).try_for_each(free)
    }

    /// The limit of CPU time so far.
    pub(super) fn bandwidth(&self) -> Option<Bandwidth> {
        let directory = self.of("cpu")?.directory();
        let value = |file| read_value(&directory.join(file)).ok();
        let quota = value(QUOTA)?.trim_end().parse().ok()?;
        Some(Bandwidth { quota, period: value(PERIOD)?.trim_end().parse().ok()? })
    }

    /// The limit of CPU time that stays: where there is no quota systemd has no period
    /// but its own.
    pub(super) fn exact(&self, settings: &Settings) -> Result<Option<Exact>> {
        let cgroup = self.of("cpu").map(|group| Directory::open(group.directory())).transpose()?;
        Ok(cgroup.map(|cgroup| Exact::read(cgroup, &[PERIOD, QUOTA], settings)))
    }

    /// Lets systemd change something of its unit, at which it writes all it knows once
    /// more. Of devices that takes all away before some are allowed again, so nobody in
    /// there may look meanwhile; and it does not know what a hook has added.
    pub(super) fn keeping_devices(&self, change: impl FnOnce() -> Result<()>) -> Result<()> {
        let Some(group) = self.of("devices") else { return change() };
        let devices = Directory::open(group.directory())?;
        let failed =
            |errno| refused(errno, "keeping the device rules of the cgroup", devices.path());
        let list = devices.read_all("devices.list").map_err(failed)?;
        if list.starts_with('a') {
            return change();
        }
        let freezer = match self.freezer() {
            Some((group, freezer)) => Some((Directory::open(group.directory())?, freezer)),
            None => None,
        };
        let mut held = None;
        if let Some((cgroup, freezer)) = &freezer
            && !freezer.is_frozen(cgroup)?
        {
            freezer.freeze(cgroup, FREEZING)?;
            held = Some((cgroup, freezer));
        }
        let changed = change();
        let allow = |line| devices.write("devices.allow", line).map_err(failed);
        let kept = list.lines().try_for_each(allow);
        let thawed = held.map_or(Ok(()), |(cgroup, freezer)| freezer.thaw(cgroup));
        changed.and(kept).and(thawed)
    }

    pub(super) fn apply(&self, settings: &Settings) -> Result<()> {
        for writes in settings.writes.chunk_by(|a, b| a.controller == b.controller) {
            let Some(group) = self.of(&writes[0].controller) else {
                let name = &writes[0].controller;
                let text = format!("the cgroup controller {name:?} is not available");
                let place = Place::Config(writes[0].pointer.clone().into_owned());
                return Err(Error::new(Kind::Unsupported, text).at(place));
            };
            apply::writes(&Directory::open(group.directory())?, writes.iter())?;
        }
        let Some(devices) = &settings.devices else { return Ok(()) };
        let done = match (self.of("devices"), &self.unified) {
            (Some(group), _) => {
                let before = devices.instead_of.as_ref();
                self::devices(&Directory::open(group.directory())?, &devices.rules, before)
            }
            (None, Some(unified)) => {
                bpf::attach(&Directory::open(unified.directory())?, &devices.rules)
            }
            (None, None) => Ok(()),
        };
        apply::devices(devices, done)
    }

    /// `tasks` of each v1 hierarchy, opened for writing.
    ///
    /// The file takes one thread instead of one process. For the stage that is
    /// the same, and for a thread that moves itself the kernel needs no lock
    /// over all forks and exits of the machine, whose taking can last several
    /// milliseconds.
    pub(super) fn entries(&self) -> Result<Vec<OwnedFd>> {
        let entry = |group: &Group| {
            let path = group.directory().join("tasks");
            open(&path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|errno| refused(errno, "opening the cgroup's list of tasks", &path))
        };
        self.groups.iter().map(entry).collect()
    }
}

/// Makes one fit for processes: whoever is in there is another's.
fn prepare(group: &Group, new: bool) -> Result<()> {
    if !new {
        free(group)?;
    }
    if group.has("cpuset") {
        inherit(&group.mount, &group.directory(), new)?;
    }
    Ok(())
}

fn free(group: &Group) -> Result<()> {
    let v2 = group.controllers.is_empty();
    empty_and_thawed(&group.directory(), if v2 { Freezer::V2 } else { Freezer::V1 })
}

/// Gives a cpuset the processors and memory of the one above, all the way down
/// from the mount. Without any, no process can join.
fn inherit(mount: &Path, path: &Path, new: bool) -> Result<()> {
    let Some(above) = path.parent().filter(|_| path != mount) else { return Ok(()) };
    let cgroup = Directory::open(path.to_path_buf())?;
    let failed = |errno| refused(errno, "giving processors and memory to the cpuset", path);
    for file in ["cpuset.cpus", "cpuset.mems"] {
        // A new one has none, or those of the one above.
        if !new && !cgroup.read(file).map_err(failed)?.trim_end().is_empty() {
            continue;
        }
        let mut value = read_value(&above.join(file)).map_err(failed)?;
        if value.trim_end().is_empty() {
            inherit(mount, above, false)?;
            value = read_value(&above.join(file)).map_err(failed)?;
        }
        match cgroup.write(file, value.trim_end()) {
            // A neighbour has them for itself; the container's own settings may
            // say better, or nothing can join.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}

fn devices(cgroup: &Directory, rules: &Rules, before: Option<&Rules>) -> Result<()> {
    let failed = |errno: Errno, line: &str| {
        let doing = format!("writing the device rule {line:?} to the cgroup {:?}", cgroup.path());
        Error::os(errno as i32, doing)
            .of_kind(super::directory::kind_of(errno))
            .at(Place::Config("/linux/resources/devices".into()))
    };
    let changes = before.map_or(Ok(None), |before| rules.changes(before))?;
    let lines = changes.map_or_else(|| rules.lines(), Ok)?;
    // One descriptor for all lines that go to the same file.
    for lines in lines.chunk_by(|(a, _), (b, _)| a == b) {
        let (allow, first) = &lines[0];
        let file = if *allow { "devices.allow" } else { "devices.deny" };
        let fd = cgroup.open_for_writing(file).map_err(|errno| failed(errno, first))?;
        for (_, line) in lines {
            super::directory::write_all(&fd, line).map_err(|errno| failed(errno, line))?;
        }
    }
    Ok(())
}
