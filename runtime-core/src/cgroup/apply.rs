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

fn failed(cgroup: &Directory, write: &Write, file: &str, errno: Errno) -> Error {
    let place = Place::Config(write.pointer.clone().into_owned());
    if errno == Errno::ENOENT && cgroup.path().exists() {
        let text = format!(
            "{file:?} does not exist in the cgroup {:?}: controller {:?} not available there",
            cgroup.path(),
            write.controller
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
