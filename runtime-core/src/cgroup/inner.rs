//! Cgroups below the container's that a further process is told to join, and the one
//! to which the container has moved its first.
//!
//! Says where they are; they are the container's own to make.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Group, Manager};
use crate::error::{Error, Kind, Result};

/// A cgroup below the container's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    /// The cgroup v1 controllers whose hierarchy is meant; empty for every one.
    pub controllers: Vec<String>,
    /// Where, seen from the container's own.
    pub path: PathBuf,
}

impl Manager {
    /// The same cgroups, but those further below that are asked for.
    ///
    /// # Errors
    /// [`Kind::InvalidConfig`]: a path that leads out, a controller that is not
    /// there, or a container without a cgroup.
    pub fn below(&self, wanted: &[Inner]) -> Result<Self> {
        let refused = |what: String| Err(Error::new(Kind::InvalidConfig, what));
        let mut record = self.record();
        if record.groups.is_empty() && !wanted.is_empty() {
            return refused("the container has no cgroup to go below".to_owned());
        }
        for Inner { controllers, path } in wanted {
            let is_named = |group: &Group, name: &String| group.controllers.contains(name);
            let groups = &record.groups;
            if let Some(name) =
                controllers.iter().find(|name| !groups.iter().any(|group| is_named(group, name)))
            {
                // COMPAT(runc): the first words.
                let what = format!("unknown controller {name}: the container has no cgroup of it");
                return refused(what);
            }
            let Some(path) = inside(path) else {
                // COMPAT(runc): the first words.
                return refused(format!("bad sub cgroup path: {path:?} leads out of it"));
            };
            let meant = |group: &Group| {
                controllers.is_empty() || controllers.iter().any(|name| is_named(group, name))
            };
            for group in record.groups.iter_mut().filter(|group| meant(group)) {
                group.path.extend(path.components());
            }
        }
        Ok(Self::from_record(record))
    }

    /// The same for the cgroup of process `pid`, the container's first, if it is not the
    /// container's own: where that has given controllers to others below it, no process
    /// can be in it any more (cgroup v2); or it is gone, as nobody is in it.
    #[must_use]
    pub fn at_process(&self, pid: i32) -> Option<Self> {
        let group = &self.v2()?.group;
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = Path::new(text.lines().find_map(|line| line.strip_prefix("0::"))?);
        let (path, own) = (Path::new("/").join(inside(path)?), &group.path);
        if path == *own {
            return None;
        }
        let mut record = self.record();
        record.groups.iter_mut().for_each(|group| group.path.clone_from(&path));
        let below = path.starts_with(own);
        let found = Self::from_record(record);
        // Where only a part of the hierarchy is mounted, that is another's.
        (below || found.has(pid)).then_some(found)
    }

    /// Whether the process itself is in there.
    fn has(&self, pid: i32) -> bool {
        self.groups().iter().any(|group| {
            let list = fs::read_to_string(group.directory().join("cgroup.procs"));
            list.is_ok_and(|list| list.lines().any(|line| line.parse() == Ok(pid)))
        })
    }
}

/// A path without `..`, relative.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Mode, Record};

    fn manager(mode: Mode, groups: &[&[&str]]) -> Manager {
        let group = |names: &&[&str]| Group {
            controllers: names.iter().map(|name| (*name).to_owned()).collect(),
            mount: "/cg".into(),
            path: "/c1".into(),
        };
        Manager::from_record(Record {
            mode,
            groups: groups.iter().map(group).collect(),
            unit: None,
        })
    }

    fn inner(controllers: &[&str], path: &str) -> Inner {
        let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
        Inner { controllers, path: path.into() }
    }

    fn paths(manager: &Manager) -> Vec<String> {
        manager.groups().iter().map(|group| group.path.display().to_string()).collect()
    }

    #[test]
    fn each_hierarchy_has_its_own() {
        let v1 = manager(Mode::V1, &[&["cpu", "cpuacct"], &["pids"], &[]]);
        assert_eq!(paths(&v1.below(&[]).unwrap()), ["/c1", "/c1", "/c1"]);
        let all = v1.below(&[inner(&[], "/x/./y")]).unwrap();
        assert_eq!(paths(&all), ["/c1/x/y", "/c1/x/y", "/c1/x/y"]);
        let some = [inner(&["cpuacct"], "a"), inner(&["pids"], "b")];
        assert_eq!(paths(&v1.below(&some).unwrap()), ["/c1/a", "/c1/b", "/c1"]);
        let root = v1.below(&[inner(&[], "/")]).unwrap();
        assert_eq!(paths(&root), ["/c1", "/c1", "/c1"]);
    }

    #[test]
    fn none_lies_outside() {
        let v2 = manager(Mode::V2, &[&[]]);
        for path in ["..", "a/../..", "a/..", "/../x"] {
            assert!(v2.below(&[inner(&[], path)]).is_err(), "{path}");
        }
        assert!(v2.below(&[inner(&["pids"], "a")]).is_err());
        assert!(manager(Mode::None, &[]).below(&[inner(&[], "a")]).is_err());
    }
}
