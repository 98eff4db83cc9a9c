//! newuidmap and newgidmap: where the programs are that write an id map for a
//! caller without the privilege.
//!
//! Looks for them, once, where there is such a caller. What they are told to map
//! is not known here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// CAP_SETGID and CAP_SETUID (capabilities(7)): who has them writes any map.
const SETGID: u32 = 6;
const SETUID: u32 = 7;

/// COMPAT(runc): where a program is looked for when there is no `PATH` (execvp(3)).
const USUAL: &str = "/bin:/usr/bin";

/// The programs that the caller needs to map other ids than its own; none where it
/// needs none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMappers {
    /// newuidmap(1).
    pub uid: Option<PathBuf>,
    /// newgidmap(1).
    pub gid: Option<PathBuf>,
}

impl IdMappers {
    /// Looks through `PATH` for what a caller with these capabilities lacks.
    pub(super) fn probe(capabilities: u64) -> Self {
        let needed = |capability: u32, name: &str| {
            if capabilities >> capability & 1 == 1 {
                return None;
            }
            let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(USUAL));
            std::env::split_paths(&path).find_map(|directory| program(&directory, name))
        };
        Self { uid: needed(SETUID, "newuidmap"), gid: needed(SETGID, "newgidmap") }
    }
}

/// A program in a directory, which must not depend on the working directory.
fn program(directory: &Path, name: &str) -> Option<PathBuf> {
    let path = directory.join(name);
    let found = path.is_absolute() && path.is_file() && access(&path, AccessFlags::X_OK).is_ok();
    found.then_some(path)
}
