//! Looks at files, here and from outside alike: `stat PATH`, `read PATH`,
//! `list PATH`.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::sys::stat::{major, minor};
use nix::sys::statfs::statfs;
use serde_json::{Value, json};

use super::attempt::failure;

/// One look; what can't be seen is `{"error": "ENOENT"}`.
pub(crate) fn look(act: &str) -> Value {
    let (verb, path) = act.split_once(' ').unwrap_or((act, ""));
    let found = match verb {
        "stat" => fs::symlink_metadata(path).map(|data| describe(path, &data)),
        // What is behind a link.
        "target" => fs::metadata(path).map(|data| describe(path, &data)),
        "read" => fs::read(path).map(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            json!(text.trim_end_matches('\n').chars().take(4096).collect::<String>())
        }),
        "list" => list(path),
        "magic" => statfs(path)
            .map(|found| json!(format!("{:x}", found.filesystem_type().0)))
            .map_err(std::io::Error::from),
        _ => return json!({ "error": "unknown act" }),
    };
    found.unwrap_or_else(|error| failure(&error))
}

fn describe(path: &str, data: &Metadata) -> Value {
    let kind = data.file_type();
    let device = kind.is_char_device() || kind.is_block_device();
    let name = match () {
        () if kind.is_symlink() => "link",
        () if kind.is_dir() => "directory",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "file",
    };
    json!({
        "kind": name,
        "device": device.then(|| format!("{}:{}", major(data.rdev()), minor(data.rdev()))),
        "target": fs::read_link(path).ok(),
        "mode": format!("{:o}", data.mode() & 0o7777),
        "uid": data.uid(),
        "gid": data.gid(),
        "size": data.size(),
    })
}

fn list(path: &str) -> std::io::Result<Value> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(json!(names))
}
