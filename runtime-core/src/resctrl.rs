//! The container's class of service in the resctrl file system: made, shared out to,
//! joined, removed (runtime-spec, config-linux, "IntelRdt").
//!
//! ```text
//! resctrl/ ── info/            what the processor can share out
//!             schemata, tasks  of the class that everybody is in
//!             CLASS/           schemata: what it gets; tasks: who is in it
//!               mon_groups/ID/ tasks: who is counted apart
//! ```
//! A [`Class`] holds paths and nothing else. Nothing here knows the container beyond
//! that; whether a schema makes sense is the kernel's to say.

mod stats;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Place, Result};
use crate::host::Resctrl;

pub use stats::{BandwidthInfo, CacheInfo, Occupancy, Stats, Traffic};

const AT: &str = "/linux/intelRdt";

/// The class of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    mount: PathBuf,
    path: PathBuf,
    /// Whether the container made it, or is about to.
    made: bool,
    /// Whether nobody gave it a name: it goes with the container then.
    own: bool,
    /// The monitoring group, if one is wanted.
    monitoring: Option<PathBuf>,
}

impl Class {
    /// The class that `wanted` speaks of, for container `id`. Nothing is made.
    #[must_use]
    pub fn new(resctrl: &Resctrl, wanted: &LinuxIntelRdt, id: &str) -> Self {
        let named = wanted.clos_id().as_deref().filter(|name| !name.is_empty());
        let mount = resctrl.mount.clone();
        let path = match named {
            Some("/") => mount.clone(),
            name => mount.join(name.unwrap_or(id)),
        };
        let monitors = *wanted.enable_monitoring() == Some(true);
        Self {
            made: !path.exists(),
            own: named.is_none(),
            monitoring: monitors.then(|| path.join("mon_groups").join(id)),
            mount,
            path,
        }
    }

    /// Makes what is missing, and writes what the class gets. Nothing is left when that
    /// fails.
    ///
    /// # Errors
    /// A class that must be there already and is not, or that gets something else; a
    /// refusal of the kernel, of which there are many, with its own words.
    pub fn make(&mut self, wanted: &LinuxIntelRdt) -> Result<()> {
        let monitoring = self.monitoring.take();
        let made = self.make_class(wanted).and_then(|()| {
            if let Some(path) = monitoring {
                // SPEC: a group that is another's is no dedicated one.
                self.mkdir(&path, "making the monitoring group")?;
                self.monitoring = Some(path);
            }
            Ok(())
        });
        if made.is_err() {
            self.undo().unwrap_or_else(|error| log::warn!("cleaning up: {error}"));
        }
        made
    }

    fn make_class(&mut self, wanted: &LinuxIntelRdt) -> Result<()> {
        let schemata = Schemata::of(wanted);
        if schemata.0.is_empty() && !self.own {
            // SPEC: such a class has to be there.
            self.made = false;
            return fs::metadata(&self.path).map(drop).map_err(|error| {
                // COMPAT(runc): the words in brackets.
                let doing = "clos dir not accessible (must be pre-created when schemata, \
                             l3CacheSchema and memBwSchema are empty):";
                let place = Place::Config(format!("{AT}/closID"));
                Error::io(&error, format!("{doing} {:?}", self.path)).at(place)
            });
        }
        self.made = match self.mkdir(&self.path, "making the class") {
            Err(error) if error.errno() == Some(libc::EEXIST) => false,
            made => made.map(|()| true).inspect_err(|_| self.made = false)?,
        };
        if !self.made && !self.own {
            let path = self.path.join("schemata");
            let found = fs::read_to_string(&path)
                .map_err(|error| Error::io(&error, "reading").at_path(&path))?;
            schemata.compare(&found, &self.path)?;
        }
        self.write(&schemata)
    }

    /// Changes what the class of a running container gets.
    ///
    /// # Errors
    /// A refusal of the kernel, with its own words.
    pub fn update(&self, wanted: &LinuxIntelRdt) -> Result<()> {
        self.write(&Schemata::of(wanted))
    }

    fn write(&self, schemata: &Schemata) -> Result<()> {
        let path = self.path.join("schemata");
        for (field, lines) in &schemata.0 {
            let written = File::options().write(true).open(&path).and_then(|mut file| {
                // The kernel takes whole lines, all of them at once.
                file.write_all(format!("{lines}\n").as_bytes())
            });
            written.map_err(|error| {
                let doing = format!("writing {lines:?} to {path:?}");
                self.explain(Error::io(&error, doing)).at(place(field))
            })?;
        }
        Ok(())
    }

    /// The lists of tasks that a process joins by writing "0" to them, in this order.
    ///
    /// # Errors
    /// One that can't be opened.
    pub fn tasks(&self) -> Result<Vec<OwnedFd>> {
        let groups = [Some(&self.path), self.monitoring.as_ref()];
        let open = |group: &PathBuf| {
            let path = group.join("tasks");
            let opened = File::options().write(true).open(&path);
            opened.map(OwnedFd::from).map_err(|error| {
                Error::io(&error, format!("opening {path:?}")).at(Place::Config(AT.into()))
            })
        };
        groups.into_iter().flatten().map(open).collect()
    }

    /// How many lists [`Self::tasks`] has.
    #[must_use]
    pub fn groups(&self) -> usize {
        1 + usize::from(self.monitoring.is_some())
    }

    /// What it gets, and what was used where the processor counts that.
    ///
    /// # Errors
    /// A file of it that can't be read, as when it is gone; a count that the kernel
    /// does not have at the moment.
    pub fn stats(&self) -> Result<Stats> {
        let counted = self.monitoring.as_ref().unwrap_or(&self.path);
        Stats::read(&self.mount, &self.path, counted)
    }

    /// Whether it is still there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Removes what goes with the container.
    ///
    /// # Errors
    /// What rmdir(2) says.
    pub fn remove(&self) -> Result<()> {
        if self.made && self.own {
            return self.rmdir(&self.path); // with its monitoring group
        }
        self.monitoring.as_deref().map_or(Ok(()), |path| self.rmdir(path))
    }

    /// Takes back what was made for a container that will not be.
    ///
    /// # Errors
    /// What rmdir(2) says.
    pub fn undo(&self) -> Result<()> {
        self.remove()?;
        // Somebody else may be in there by now: the kernel would move him out.
        let empty = || fs::read(self.path.join("tasks")).is_ok_and(|tasks| tasks.is_empty());
        if self.made && !self.own && empty() {
            return self.rmdir(&self.path);
        }
        Ok(())
    }

    fn mkdir(&self, path: &Path, doing: &str) -> Result<()> {
        DirBuilder::new().mode(0o755).create(path).map_err(|error| {
            let error = Error::io(&error, format!("{doing} {path:?}"));
            self.explain(error).at(Place::Config(AT.into()))
        })
    }

    fn rmdir(&self, path: &Path) -> Result<()> {
        match fs::remove_dir(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                // COMPAT(runc): the words.
                let doing = "unable to remove container's IntelRDT group";
                Err(Error::io(&error, doing).at_path(path))
            }
            _ => Ok(()),
        }
    }

    /// The kernel says in a file why it refused.
    fn explain(&self, error: Error) -> Error {
        let status = fs::read_to_string(self.mount.join("info/last_cmd_status"));
        match status.as_deref().map(str::trim) {
            Ok("" | "ok") | Err(_) => error,
            Ok(status) => error.hint(format!("last_cmd_status: {status}")),
        }
        .of_kind(Kind::Cgroup)
    }
}

/// What a class gets: the field of the config, and its lines.
struct Schemata(Vec<(&'static str, String)>);

impl Schemata {
    /// SPEC: in this order.
    fn of(wanted: &LinuxIntelRdt) -> Self {
        let lines = wanted.schemata().as_ref().map(|lines| lines.join("\n"));
        let all = [
            ("l3CacheSchema", wanted.l3_cache_schema().clone()),
            ("memBwSchema", wanted.mem_bw_schema().clone()),
            ("schemata", lines),
        ];
        let given = all.into_iter().filter_map(|(field, lines)| Some((field, lines?)));
        Self(given.filter(|(_, lines)| !lines.trim().is_empty()).collect())
    }

    /// SPEC: a class of that name gets what the two old fields say, or it is an error.
    fn compare(&self, found: &str, path: &Path) -> Result<()> {
        let found: Vec<_> = found.lines().map(Line::new).collect();
        for (field, lines) in self.0.iter().filter(|(field, _)| *field != "schemata") {
            let there = |line: &str| found.iter().any(|found| found.has(&Line::new(line)));
            if !lines.lines().all(there) {
                let what = format!("the class {path:?} is there and does not get {lines:?}");
                return Err(Error::new(Kind::InvalidConfig, what).at(place(field)));
            }
        }
        Ok(())
    }
}

fn place(field: &str) -> Place {
    Place::Config(format!("{AT}/{field}"))
}

/// A line of schemata: a resource, and how much of each instance of it. The kernel
/// writes numbers with as many digits as it likes.
struct Line<'a> {
    resource: &'a str,
    shares: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    fn new(line: &'a str) -> Self {
        let (resource, rest) = line.split_once(':').unwrap_or((line, ""));
        let pairs = rest.split(';').filter_map(|pair| pair.split_once('='));
        let bare = |text: &'a str| match text.trim().trim_start_matches('0') {
            "" => "0",
            digits => digits,
        };
        let shares = pairs.map(|(id, share)| (bare(id), bare(share))).collect();
        Self { resource: resource.trim(), shares }
    }

    fn has(&self, wanted: &Self) -> bool {
        let same = |(id, share): (&&str, &&str)| {
            self.shares.get(id).is_some_and(|found| found.eq_ignore_ascii_case(share))
        };
        self.resource == wanted.resource && wanted.shares.iter().all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: &str) -> LinuxIntelRdt {
        serde_json::from_str(json).expect("a config")
    }

    #[test]
    fn schemata_are_written_in_the_order_of_the_specification() {
        let all = r#"{"schemata": ["L2:0=f", "L3:0=3"], "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f"}"#;
        let Schemata(fields) = Schemata::of(&wanted(all));
        let lines: Vec<_> = fields.iter().map(|(_, lines)| lines.as_str()).collect();
        assert_eq!(lines, ["L3:0=f", "MB:0=20", "L2:0=f\nL3:0=3"]);
        let none = r#"{"schemata": [], "memBwSchema": "", "closID": "a"}"#;
        assert!(Schemata::of(&wanted(none)).0.is_empty());
    }

    #[test]
    fn the_kernels_way_of_writing_is_the_same() {
        let found = "    L3:0=7f0;1=00001f\n    MB:0= 20;1=100\n";
        let same = |field: &str, schema: &str| {
            let wanted = wanted(&format!(r#"{{"{field}": "{schema}"}}"#));
            Schemata::of(&wanted).compare(found, Path::new("/x")).is_ok()
        };
        for schema in ["L3:0=7f0;1=1f", "L3:1=1F", "L3: 0=07f0"] {
            assert!(same("l3CacheSchema", schema), "{schema}");
        }
        for schema in ["L3:0=7f0;1=f", "L3:2=1f", "L2:0=7f0", "nonsense"] {
            assert!(!same("l3CacheSchema", schema), "{schema}");
        }
        assert!(same("memBwSchema", "MB:0=20"));
        assert!(!same("memBwSchema", "MB:0=30"));
        // It is written, whatever is there.
        let lines = wanted(r#"{"schemata": ["L3:0=1"]}"#);
        Schemata::of(&lines).compare(found, Path::new("/x")).expect("not compared");
    }

    #[test]
    fn a_class_is_named_by_the_config_or_by_the_container() {
        let resctrl = Resctrl { mount: "/nowhere".into(), cache: true, bandwidth: true };
        let class = |json: &str| Class::new(&resctrl, &wanted(json), "c1");
        let own = class(r#"{"enableMonitoring": true}"#);
        assert_eq!(own.path, Path::new("/nowhere/c1"));
        assert_eq!(own.monitoring.as_deref(), Some(Path::new("/nowhere/c1/mon_groups/c1")));
        assert!(own.own && class(r#"{"closID": ""}"#).own);
        let root = class(r#"{"closID": "/"}"#);
        assert_eq!((root.path, root.own), ("/nowhere".into(), false));
        assert_eq!(class(r#"{"closID": "gold"}"#).path, Path::new("/nowhere/gold"));
    }
}
