//! The cgroups of one test, by a tag that is part of their names.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the hierarchies are.
pub const ROOT: &str = "/sys/fs/cgroup";

/// Those in every hierarchy, children first.
#[must_use]
pub fn of(tag: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    find(Path::new(ROOT), tag, &mut found);
    found
}

fn find(directory: &Path, tag: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            find(&path, tag, found);
            if path.to_string_lossy().contains(tag) {
                found.push(path);
            }
        }
    }
}

/// Lets their processes go on: a frozen one does not die.
pub fn thaw(tag: &str) {
    for path in of(tag) {
        let _ = fs::write(path.join("freezer.state"), "THAWED");
        let _ = fs::write(path.join("cgroup.freeze"), "0");
    }
}
