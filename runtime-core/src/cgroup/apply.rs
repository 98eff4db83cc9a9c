//! Writing limits into one cgroup directory, and saying what was refused where.

use nix::errno::Errno;

use super::directory::{Directory, kind_of, refused};
use super::settings::{DeviceSettings, Missing, Settings, UsageCheck, Write, unkept};
use crate::error::{Error, Kind, Place, Result};

/// Writes in order; what has to wait for a later value gets a second try.
pub(super) fn writes<'a>(
    cgroup: &Directory,
    writes: impl Iterator<Item = &'a Write>,
) -> Result<()> {
    let mut waiting = Vec::new();
    for write in writes {
        match one(cgroup, write) {
            Ok(()) => {}
            Err((_, Errno::EINVAL)) if write.retry => waiting.push(write),
            Err((file, errno)) => return Err(failed(cgroup, write, file, errno)),
        }
    }
    for write in waiting {
        one(cgroup, write).map_err(|(file, errno)| failed(cgroup, write, file, errno))?;
    }
    Ok(())
}

/// What came of setting rules, which is only told where they are optional.
pub(super) fn devices(devices: &DeviceSettings, done: Result<()>) -> Result<()> {
    match done {
        Err(error) if !devices.required => {
            if devices.listed {
                log::warn!("{}", unkept(&error));
            }
            Ok(())
        }
        done => done,
    }
}

fn one<'a>(cgroup: &Directory, write: &'a Write) -> Result<(), (&'a str, Errno)> {
    let (file, value): (&str, &str) =
        match (cgroup.write(&write.file, &write.value), &write.missing) {
            (Ok(()), _) | (Err(Errno::ENOENT), Missing::Skip) => return Ok(()),
            (Err(Errno::ENOENT), Missing::Instead { file, value }) => (file, value),
            (Err(errno), _) => return Err((&write.file, errno)),
        };
    cgroup.write(file, value).map_err(|errno| (file, errno))
}

/// Whether a controller is in force in a cgroup. With v1 it is in whatever there is of its
/// hierarchy; with v2 there is a list, without the core.
fn has(cgroup: &Directory, controller: &str) -> bool {
    let Ok(listed) = cgroup.read("cgroup.controllers") else { return true };
    controller == "cgroup" || listed.split_whitespace().any(|one| one == controller)
}

fn failed(cgroup: &Directory, write: &Write, file: &str, errno: Errno) -> Error {
    let place = Place::Config(write.pointer.clone().into_owned());
    if errno == Errno::ENOENT && cgroup.path().exists() {
        let controller = &*write.controller;
        let text = format!(
            "{file:?} does not exist in the cgroup {:?}: {}",
            cgroup.path(),
            if has(cgroup, controller) {
                "the kernel has no such file".to_owned()
            } else {
                format!("controller {controller:?} not available there")
            }
        );
        return Error::new(Kind::Unsupported, text).at(place);
    }
    if errno == Errno::EBUSY && file == "memory.limit_in_bytes" {
        // COMPAT(runc): its words for a limit below what cannot be reclaimed.
        let number = |file| cgroup.read(file).unwrap_or_default().trim_end().to_owned();
        let text = format!(
            "unable to set memory limit to {} (current usage: {}, peak usage: {})",
            write.value,
            number("memory.usage_in_bytes"),
            number("memory.max_usage_in_bytes")
        );
        return Error::new(Kind::Cgroup, text).at(place);
    }
    let doing = format!("writing {:?} to {:?}", write.value, cgroup.path().join(file));
    Error::os(errno as i32, doing).of_kind(kind_of(errno)).at(place)
}

/// Refuses limits below what is used already (v2, which would kill for them).
pub(super) fn check_usage(cgroup: &Directory, check: UsageCheck) -> Result<()> {
    // COMPAT(runc): best effort, with its words.
    let Some(used) = cgroup.read("memory.current").ok().and_then(|t| t.trim_end().parse().ok())
    else {
        return Ok(());
    };
    let limits = [("memory+swap", "swap", check.swap), ("memory", "limit", check.memory)];
    for (name, field, limit) in limits {
        if let Some(limit) = limit.filter(|limit: &u64| *limit <= used) {
            let text = format!("rejecting {name} limit {limit} <= usage {used}");
            return Err(Error::new(Kind::Cgroup, text)
                .at(Place::Config(format!("/linux/resources/memory/{field}"))));
        }
    }
    Ok(())
}

/// What files of a cgroup say that somebody else is about to write something else into.
pub(super) struct Exact {
    cgroup: Directory,
    texts: Vec<(&'static str, String)>,
}

impl Exact {
    /// Without the files that are about to be changed by us.
    pub(super) fn read(cgroup: Directory, files: &[&'static str], settings: &Settings) -> Self {
        let changes = |file: &str| settings.writes.iter().any(|write| write.may_write(file));
        let mut texts = Vec::new();
        for file in files.iter().filter(|file| !changes(file)) {
            if let Ok(text) = cgroup.read(file) {
                texts.push((*file, text));
            }
        }
        Self { cgroup, texts }
    }

    /// Writes it as it was.
    pub(super) fn restore(&self) -> Result<()> {
        let failed =
            |errno| refused(errno, "writing back a limit of the cgroup", self.cgroup.path());
        for (file, text) in &self.texts {
            let now = self.cgroup.read(file).unwrap_or_default();
            for line in text.lines().filter(|line| now.lines().all(|other| other != *line)) {
                self.cgroup.write(file, line).map_err(failed)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_is_not_always_for_want_of_its_controller() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = Directory::open(dir.path().to_owned()).unwrap();
        let told = |controller: &'static str| {
            let write = Write {
                controller: controller.into(),
                file: "x.max".into(),
                value: "1".into(),
                pointer: "/linux/resources/x".into(),
                missing: Missing::Fail,
                retry: false,
            };
            writes(&cgroup, [&write].into_iter()).unwrap_err().to_string()
        };
        // A hierarchy of cgroup v1 is the controller's.
        assert!(told("hugetlb").contains(": the kernel has no such file ("), "{}", told("hugetlb"));
        std::fs::write(dir.path().join("cgroup.controllers"), "cpu hugetlb\n").unwrap();
        assert!(told("hugetlb").contains(": the kernel has no such file ("));
        assert!(told("cgroup").contains(": the kernel has no such file ("));
        assert!(told("huge").contains(": controller \"huge\" not available there ("));
    }
}
