//! `spec`: a bundle's first config.json, for a person to edit.
//!
//! COMPAT(runc): the content is that of runc's, field by field and in its order.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use nix::unistd::{getegid, geteuid};
use orlop::Error;
use orlop::host::Cgroups;

use super::Call;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Write one that runs without privileges
    #[arg(long)]
    rootless: bool,
}

/// The content line by line. A line begins with a mark: a space, if it is always there;
/// `R` for root; `U` for a user without privileges, with his ids; `C` with cgroup v2.
const LINES: &str = include_str!("spec.txt");

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { bundle, rootless } = call.parse()?;
    let unified = matches!(Cgroups::probe()?, Cgroups::Unified { .. });
    let text = spec(unified, rootless.then(|| (geteuid().as_raw(), getegid().as_raw())));

    let path = bundle.join("config.json");
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => {
            let written = file.write_all(text.as_bytes());
            if written.is_err() {
                // It is ours, and would keep the next one from being written.
                let _ = fs::remove_file(&path);
            }
            written.map_err(|error| Error::io(&error, "writing").at_path(&path))?;
            Ok(0)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("File config.json exists. Remove it first")
        }
        Err(error) => Err(Error::io(&error, "creating").at_path(&path).into()),
    }
}

/// The content; with the caller's ids, one for a user namespace of its own.
fn spec(unified: bool, rootless: Option<(u32, u32)>) -> String {
    let is_there = |line: &&str| match line.as_bytes().first() {
        Some(b'R') => rootless.is_none(),
        Some(b'U') => rootless.is_some(),
        Some(b'C') => unified,
        _ => true,
    };
    let lines: Vec<&str> = LINES.lines().filter(is_there).map(|line| &line[1..]).collect();
    let (uid, gid) = rootless.unwrap_or_default();
    lines.join("\n").replace("UID", &uid.to_string()).replace("GID", &gid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(unified: bool, rootless: Option<(u32, u32)>) -> serde_json::Value {
        serde_json::from_str(&spec(unified, rootless)).unwrap()
    }

    fn kinds(value: &serde_json::Value) -> Vec<&str> {
        let list = value["linux"]["namespaces"].as_array().unwrap();
        list.iter().map(|one| one["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn the_library_reads_it() {
        for rootless in [None, Some((1000, 100))] {
            let parsed: oci_spec::runtime::Spec =
                serde_json::from_str(&spec(true, rootless)).unwrap();
            assert_eq!(parsed.version(), orlop::features::SPEC);
        }
    }

    #[test]
    fn a_cgroup_namespace_is_for_cgroup_v2() {
        assert_eq!(kinds(&value(false, None)), ["pid", "network", "ipc", "uts", "mount"]);
        assert_eq!(kinds(&value(true, None)), ["pid", "network", "ipc", "uts", "mount", "cgroup"]);
    }

    #[test]
    fn without_privileges_it_has_what_a_user_may_have() {
        let value = value(false, Some((1000, 100)));
        assert_eq!(kinds(&value), ["pid", "ipc", "uts", "mount", "user"]);
        let linux = &value["linux"];
        let mapping = serde_json::json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        assert_eq!(linux["uidMappings"], mapping);
        assert_eq!(linux["gidMappings"][0]["hostID"], 100);
        assert!(linux["resources"].is_null());
        assert_eq!(value["mounts"][2]["options"].as_array().unwrap().len(), 5);
        assert_eq!(value["mounts"][5]["source"], "/sys");
    }
}
