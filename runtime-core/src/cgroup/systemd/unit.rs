//! Which unit a container is in systemd's eyes, and where its cgroup is. PURE.
//!
//! `cgroupsPath` is `slice:prefix:name` here. The names are checked, since they are
//! part of a path; systemd escapes some of them in the file system, and so do we.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result, excerpt};

const POINTER: &str = "/linux/cgroupsPath";

/// The longest name of a unit (systemd.unit(5)).
const LONGEST: usize = 255;

/// A scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name, with `.scope`.
    pub name: String,
    /// The slice that it is in.
    pub slice: String,
    /// Whether it is the user's own manager that has it, not the system's.
    pub user: bool,
    /// Whether systemd keeps it when it has failed, until somebody has it removed.
    #[serde(default)]
    pub kept: bool,
}

impl Unit {
    /// The scope of container `id`; `path` is `/linux/cgroupsPath`.
    ///
    /// # Errors
    /// Another form than `slice:prefix:name`, or names that no unit can have.
    pub(super) fn new(path: Option<&Path>, id: &str, user: bool) -> Result<Self> {
        let default = if user { "user.slice" } else { "system.slice" };
        let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
            // Of all that an id may have in it, a unit's name can't have "+".
            let name = format!("orlop-{}.scope", id.replace('+', "\\x2b"));
            let unit = Self { name, slice: default.to_owned(), user, kept: false };
            return unit.checked().map_err(|what| {
                Error::new(Kind::InvalidConfig, format!("the container's id is too long: {what}"))
            });
        };
        let text = path.to_string_lossy();
        let [slice, prefix, name] = text.split(':').collect::<Vec<_>>()[..] else {
            // COMPAT(runc): its words.
            let what = format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, \
                 got {text:?} instead"
            );
            return Err(Error::config(POINTER, what));
        };
        if name.ends_with(".slice") {
            let what = format!("the container's unit {name:?} would be a slice, not a scope");
            return Err(Error::unsupported(POINTER, what));
        }
        let slice = if slice.is_empty() { default } else { slice };
        Self { name: format!("{prefix}-{name}.scope"), slice: slice.to_owned(), user, kept: false }
            .checked()
            .map_err(|what| Error::config(POINTER, what))
    }

    fn checked(self) -> Result<Self, String> {
        for name in [&self.name, &self.slice] {
            let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
            if name.len() > LONGEST || !name.chars().all(allowed) {
                return Err(format!("{:?} can't be a unit's name", excerpt(name)));
            }
        }
        Ok(self)
    }

    /// The cgroup, below the manager's own.
    ///
    /// # Errors
    /// A name that no slice can have.
    pub(super) fn cgroup(&self) -> Result<PathBuf> {
        // COMPAT(runc): its words.
        let wrong = || Error::config(POINTER, format!("invalid slice name: {}", self.slice));
        let mut path = PathBuf::new();
        let stem = self.slice.strip_suffix(".slice").ok_or_else(wrong)?;
        if stem != "-" {
            let mut ends = stem.match_indices('-').map(|(end, _)| end).collect::<Vec<_>>();
            ends.push(stem.len());
            let mut begin = 0;
            for end in ends {
                // "a--b" and "-a" have no parent.
                if begin == end {
                    return Err(wrong());
                }
                path.push(escaped(&format!("{}.slice", &stem[..end])));
                begin = end + 1;
            }
        }
        path.push(escaped(&self.name));
        Ok(path)
    }

    /// Where a cgroup is below that of the unit, as systemd calls it: with a slash in
    /// front, and nothing for the unit's own.
    pub(super) fn inner(&self, cgroup: &Path) -> PathBuf {
        let mut parts = cgroup.iter();
        parts.any(|part| part == escaped(&self.name).as_str());
        match parts.as_path() {
            none if none.as_os_str().is_empty() => PathBuf::new(),
            below => Path::new("/").join(below),
        }
    }
}

/// Whether a `cgroupsPath` can only mean a unit of systemd.
pub(in crate::cgroup) fn is_meant(path: &Path) -> bool {
    let text = path.to_string_lossy();
    !text.contains('/')
        && text.split(':').count() == 3
        && text.split(':').next().is_some_and(|slice| slice.ends_with(".slice"))
}

/// The directory of a unit: a name that would collide with the kernel's files gets
/// an underscore in front of it (systemd, docs/CGROUP_DELEGATION.md).
fn escaped(name: &str) -> String {
    const RESERVED: [&str; 9] =
        ["cgroup", "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids"];
    let first = name.split('.').next().unwrap_or_default();
    if name.starts_with(['_', '.']) || RESERVED.contains(&first) {
        format!("_{name}")
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(path: Option<&str>, user: bool) -> Result<Unit> {
        Unit::new(path.map(Path::new), "c+1", user)
    }

    fn place(path: Option<&str>, user: bool) -> (String, String) {
        let unit = unit(path, user).unwrap();
        let cgroup = unit.cgroup().unwrap().display().to_string();
        (unit.name, cgroup)
    }

    #[test]
    fn a_path_names_a_scope_in_a_slice() {
        let (name, cgroup) = place(Some("machine.slice:libpod:abc"), false);
        assert_eq!(name, "libpod-abc.scope");
        assert_eq!(cgroup, "machine.slice/libpod-abc.scope");
        let path = "kubepods-besteffort-pod1_2.slice:cri-containerd:abc";
        assert_eq!(
            place(Some(path), false).1,
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/\
             cri-containerd-abc.scope"
        );
        assert_eq!(place(Some("-.slice:a:b"), false).1, "a-b.scope");
    }

    #[test]
    fn without_a_path_or_a_slice_there_is_a_usual_one() {
        let name = "orlop-c\\x2b1.scope";
        for path in [None, Some("")] {
            assert_eq!(place(path, false), (name.into(), format!("system.slice/{name}")));
            assert_eq!(place(path, true), (name.into(), format!("user.slice/{name}")));
        }
        assert_eq!(place(Some(":a:b"), false).1, "system.slice/a-b.scope");
        assert_eq!(place(Some(":a:b"), true).1, "user.slice/a-b.scope");
    }

    #[test]
    fn names_of_the_kernels_files_are_escaped() {
        assert_eq!(place(Some("_a.slice:_b:c"), false).1, "__a.slice/__b-c.scope");
        assert_eq!(place(Some("cpu.slice:io.x:c"), false).1, "_cpu.slice/_io.x-c.scope");
    }

    #[test]
    fn a_cgroup_is_below_that_of_its_unit() {
        for path in ["a.slice:b:c", "a.slice:_b:c", "a.slice:cpu.b:c"] {
            let unit = unit(Some(path), false).unwrap();
            let cgroup = Path::new("/").join(unit.cgroup().unwrap());
            assert_eq!(unit.inner(&cgroup), Path::new(""), "{path}");
            assert_eq!(unit.inner(&cgroup.join("d/e")), Path::new("/d/e"), "{path}");
        }
    }

    #[test]
    fn an_id_that_is_too_long_is_not_the_configurations_fault() {
        let error = Unit::new(None, &"c".repeat(300), false).unwrap_err();
        assert!(error.to_string().starts_with("the container's id is too long: "), "{error}");
        assert_eq!(error.place(), None);
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        for path in [
            "/a/b",
            "a",
            "a.slice:b",
            "a.slice:b:c:d",
            "a:b:c",
            "-a.slice:b:c",
            "a--b.slice:b:c",
            ".slice:b:c",
            "a-.slice:b:c",
            "a.slice:../b:c",
            "a/b.slice:b:c",
            "a.slice:b:c d",
            "a.slice:b:c.slice",
            "a.slice:b:\n",
        ] {
            let error = unit(Some(path), false).and_then(|unit| unit.cgroup()).unwrap_err();
            assert!(error.to_string().contains("/linux/cgroupsPath"), "{path:?}: {error}");
        }
        let long = format!("a.slice:b:{}", "c".repeat(300));
        assert!(unit(Some(&long), false).is_err());
    }

    #[test]
    fn only_a_slice_and_two_names_mean_systemd() {
        for path in ["a.slice:b:c", "a-b.slice:b:", "-.slice::c"] {
            assert!(is_meant(Path::new(path)), "{path}");
        }
        for path in ["/a.slice:b:c", "a:b:c", ":b:c", "a.slice", "a.slice:b", "a.slice:b:c/d", ""] {
            assert!(!is_meant(Path::new(path)), "{path}");
        }
    }
}
