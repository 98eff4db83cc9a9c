//! Where the resctrl file system is mounted, and which of the processor's resources
//! it shares out.
//!
//! Looked for only for who needs it, since the mount table can be long. It does not
//! know what a container wants.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, statfs};

use super::cgroups::{host_lines, mount_points};
use crate::error::{Error, Result};

/// Where the kernel has a place for it (Documentation/filesystems/resctrl.rst).
const USUAL: &str = "/sys/fs/resctrl";

/// `RDTGROUP_SUPER_MAGIC` (linux/magic.h)
const MAGIC: FsType = FsType(0x0765_5821);

/// The mounted resctrl file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resctrl {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Whether it shares out the L3 cache.
    pub cache: bool,
    /// Whether it shares out memory bandwidth.
    pub bandwidth: bool,
}

impl Resctrl {
    /// Looks for it; `None` when it is not mounted.
    ///
    /// # Errors
    /// A `/proc` that can't be read.
    pub fn probe() -> Result<Option<Self>> {
        let usual = Path::new(USUAL);
        if statfs(usual).is_ok_and(|found| found.filesystem_type() == MAGIC) {
            return Ok(Some(Self::at(usual.into())));
        }
        let path = "/proc/self/mountinfo";
        let table =
            fs::read_to_string(path).map_err(|error| Error::io(&error, "reading").at_path(path))?;
        Ok(mount_points(host_lines(&table), "resctrl").next().map(Self::at))
    }

    fn at(mount: PathBuf) -> Self {
        let has = |names: &[&str]| names.iter().any(|name| mount.join("info").join(name).exists());
        // The second name is the one of a cache that is shared out to code and data apart.
        let (cache, bandwidth) = (has(&["L3", "L3CODE"]), has(&["MB"]));
        Self { mount, cache, bandwidth }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_out_stands_below_info() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let found = || Resctrl::at(root.path().into());
        assert!(!found().cache && !found().bandwidth);
        fs::create_dir_all(root.path().join("info/L3CODE")).expect("made");
        assert!(found().cache && !found().bandwidth);
        fs::create_dir_all(root.path().join("info/MB")).expect("made");
        assert!(found().cache && found().bandwidth);
    }
}
