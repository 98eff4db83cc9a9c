//! The container's cgroups on v1: one directory in each hierarchy, and one in
//! the v2 hierarchy where the host has both (hybrid).

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::devices::Rules;
use super::directory::{Claim, Directory, Made, read_value, refused};
use super::freezer::Freezer;
use super::group::Group;
use super::settings::Settings;
use super::{apply, bpf, empty_and_thawed};
use crate::error::{Error, Kind, Place, Result};

/// One directory in each hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1 {
    /// In the order in which they are joined.
    pub(super) groups: Vec<Group>,
    /// The v2 hierarchy of a hybrid host.
    pub(super) unified: Option<Group>,
}

impl V1 {
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

    /// None where no hierarchy is mounted.
    pub(super) fn create(&self) -> Result<Option<Claim>> {
        let mut made = Made::default();
        let mut groups = Vec::new();
        for group in self.groups.iter().chain(&self.unified) {
            groups.push((group, made.make(&group.mount, &group.directory())?));
        }
        let claim = self.main().map(|main| made.claim(&main.directory())).transpose()?;
        for (group, new) in groups {
            let path = group.directory();
            if !new {
                let v2 = group.controllers.is_empty();
                empty_and_thawed(&path, if v2 { Freezer::V2 } else { Freezer::V1 })?;
            }
            if group.has("cpuset") {
                inherit(&group.mount, &path, new)?;
            }
        }
        made.keep();
        Ok(claim)
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
        if devices.required { done } else { Ok(()) }
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
