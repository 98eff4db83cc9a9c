//! Where a container's cgroup is: one directory in each hierarchy, and the
//! record of them that outlives this process.
//!
//! Resolves `cgroupsPath` as runc does, by text alone. Touches nothing.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::systemd::Unit;
use crate::error::{Error, Result};
use crate::host::Cgroups;

/// The container's cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The controllers of the hierarchy, or `name=systemd`; empty for v2.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The cgroup, absolute, seen from the mount.
    pub path: PathBuf,
}

impl Group {
    /// The cgroup's directory on the host.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        match self.path.strip_prefix("/") {
            Ok(inner) => self.mount.join(inner),
            Err(_) => self.mount.join(&self.path),
        }
    }

    /// Where a process is in this hierarchy, by the text of its `/proc/PID/cgroup`.
    pub(super) fn place_in<'a>(&self, text: &'a str) -> Option<&'a Path> {
        text.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            let same = match self.controllers.first() {
                Some(first) => names.split(',').any(|name| name == first),
                None => names.is_empty(),
            };
            same.then_some(Path::new(path))
        })
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// What a state file keeps so that a later process finds and removes the cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// How cgroups were mounted.
    pub mode: Mode,
    /// One for each hierarchy, in the order in which they are joined.
    pub groups: Vec<Group>,
    /// The unit of systemd that has the cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

/// How cgroups were mounted when a container was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Not at all.
    None,
    /// v2 alone.
    V2,
    /// v1, perhaps with v2 beside it.
    V1,
}

impl Record {
    /// The cgroups of container `id`.
    pub(super) fn new(cgroups: &Cgroups, cgroups_path: Option<&Path>, id: &str) -> Result<Self> {
        let path = cgroups_path.filter(|path| !path.as_os_str().is_empty());
        let inner = clean(path.unwrap_or(Path::new(id)))?;
        let absolute = path.is_some_and(Path::is_absolute);
        let place = |own: &Path| {
            if absolute { Path::new("/").join(&inner) } else { own.join(&inner) }
        };
        Ok(match cgroups {
            Cgroups::None => Self { mode: Mode::None, groups: Vec::new(), unit: None },
            Cgroups::Unified { mount, own, .. } => {
                // COMPAT(runc): beside the caller's own cgroup, not below it: that
                // one holds processes, so no controller can be enabled in it.
                let path = place(own.parent().unwrap_or(own));
                let group = Group { controllers: Vec::new(), mount: mount.clone(), path };
                Self { mode: Mode::V2, groups: vec![group], unit: None }
            }
            Cgroups::Legacy { hierarchies } => {
                let group = |hierarchy: &crate::host::Hierarchy| Group {
                    controllers: hierarchy.controllers.clone(),
                    mount: hierarchy.mount.clone(),
                    // COMPAT(runc): the v2 hierarchy of a hybrid host takes
                    // relative paths from its root.
                    path: if hierarchy.controllers.is_empty() {
                        place(Path::new("/"))
                    } else {
                        place(&hierarchy.own)
                    },
                };
                Self { mode: Mode::V1, groups: hierarchies.iter().map(group).collect(), unit: None }
            }
        })
    }
}

/// The path without `.` and `..`, relative. `..` can't leave the hierarchy.
fn clean(path: &Path) -> Result<PathBuf> {
    let refused = |why: &str| {
        let name = path.display();
        Err(Error::config("/linux/cgroupsPath", format!("the cgroup path {name:?} {why}")))
    };
    let bytes = path.as_os_str().as_bytes();
    if bytes.iter().any(|byte| matches!(byte, 0 | b'\n')) {
        return refused("has a NUL or a newline in it");
    }
    let mut parts: Vec<&OsStr> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    if parts.is_empty() {
        return refused("names a cgroup that is not the container's own");
    }
    Ok(parts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Hierarchy;

    fn unified(own: &str) -> Cgroups {
        let (mount, own) = ("/sys/fs/cgroup".into(), own.into());
        Cgroups::Unified { mount, own, controllers: Vec::new() }
    }

    fn v2(own: &str, path: Option<&str>) -> String {
        let record = Record::new(&unified(own), path.map(Path::new), "c1").unwrap();
        record.groups[0].directory().display().to_string()
    }

    #[test]
    fn v2_paths_are_beside_the_caller_or_from_the_root() {
        assert_eq!(v2("/", None), "/sys/fs/cgroup/c1");
        assert_eq!(v2("/user/session", None), "/sys/fs/cgroup/user/c1");
        assert_eq!(v2("/user/session", Some("")), "/sys/fs/cgroup/user/c1");
        assert_eq!(v2("/user/session", Some("a/b")), "/sys/fs/cgroup/user/a/b");
        assert_eq!(v2("/user/session", Some("/a/b")), "/sys/fs/cgroup/a/b");
        assert_eq!(v2("/user/session", Some("/../../a/../b/./")), "/sys/fs/cgroup/b");
        assert_eq!(v2("/user/session", Some("../../../etc")), "/sys/fs/cgroup/user/etc");
    }

    #[test]
    fn v1_paths_are_below_the_caller_in_each_hierarchy() {
        let hierarchy = |controllers: &[&str], mount: &str, own: &str| Hierarchy {
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            mount: mount.into(),
            own: own.into(),
        };
        let host = Cgroups::Legacy {
            hierarchies: vec![
                hierarchy(&["memory"], "/cg/memory", "/job/7"),
                hierarchy(&["cpu", "cpuacct"], "/cg/cpu,cpuacct", "/"),
                hierarchy(&[], "/cg/unified", "/init.scope"),
            ],
        };
        let directories = |path: Option<&str>| -> Vec<String> {
            let record = Record::new(&host, path.map(Path::new), "c1").unwrap();
            record.groups.iter().map(|group| group.directory().display().to_string()).collect()
        };
        assert_eq!(
            directories(None),
            ["/cg/memory/job/7/c1", "/cg/cpu,cpuacct/c1", "/cg/unified/c1"]
        );
        assert_eq!(
            directories(Some("/x/y")),
            ["/cg/memory/x/y", "/cg/cpu,cpuacct/x/y", "/cg/unified/x/y"]
        );
    }

    #[test]
    fn a_process_has_a_place_in_each_hierarchy() {
        let text = "5:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/d\n";
        let place = |names: &[&str]| {
            let controllers = names.iter().map(|name| (*name).to_owned()).collect();
            let group = Group { controllers, mount: "/cg".into(), path: "/".into() };
            group.place_in(text).map(|path| path.display().to_string())
        };
        assert_eq!(place(&["cpu", "cpuacct"]).as_deref(), Some("/a"));
        assert_eq!(place(&["cpuacct"]).as_deref(), Some("/a"));
        assert_eq!(place(&["name=systemd"]).as_deref(), Some("/b:c"));
        assert_eq!(place(&[]).as_deref(), Some("/d"));
        assert_eq!(place(&["acct"]), None);
    }

    #[test]
    fn paths_that_would_confuse_the_kernel_or_us_are_refused() {
        for path in ["a\nb", "a\0b", "/", "..", ".", "a/.."] {
            let error = Record::new(&unified("/"), Some(Path::new(path)), "c1").unwrap_err();
            assert!(error.to_string().contains("/linux/cgroupsPath"), "{path:?}: {error}");
        }
    }

    #[test]
    fn a_record_survives_its_file() {
        let record = Record::new(&unified("/a"), None, "c1").unwrap();
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
