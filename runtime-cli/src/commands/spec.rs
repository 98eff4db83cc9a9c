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
use serde::Serialize;

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

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    oci_version: &'static str,
    process: Process,
    root: Root,
    hostname: &'static str,
    mounts: Vec<Mount>,
    linux: Linux,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    terminal: bool,
    user: User,
    args: [&'static str; 1],
    env: [&'static str; 2],
    cwd: &'static str,
    capabilities: Capabilities,
    rlimits: [Rlimit; 1],
    no_new_privileges: bool,
}

#[derive(Debug, Serialize)]
struct User {
    uid: u32,
    gid: u32,
}

#[derive(Debug, Serialize)]
struct Capabilities {
    bounding: [&'static str; 3],
    effective: [&'static str; 3],
    permitted: [&'static str; 3],
}

#[derive(Debug, Serialize)]
struct Rlimit {
    r#type: &'static str,
    hard: u64,
    soft: u64,
}

#[derive(Debug, Serialize)]
struct Root {
    path: &'static str,
    readonly: bool,
}

#[derive(Debug, Serialize)]
struct Mount {
    destination: &'static str,
    r#type: &'static str,
    source: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    options: &'static [&'static str],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid_mappings: Option<[Mapping; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid_mappings: Option<[Mapping; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Resources>,
    namespaces: Vec<Namespace>,
    masked_paths: &'static [&'static str],
    readonly_paths: &'static [&'static str],
}

#[derive(Debug, Serialize)]
struct Mapping {
    #[serde(rename = "containerID")]
    container: u32,
    #[serde(rename = "hostID")]
    host: u32,
    size: u32,
}

#[derive(Debug, Serialize)]
struct Resources {
    devices: [Device; 1],
}

#[derive(Debug, Serialize)]
struct Device {
    allow: bool,
    access: &'static str,
}

#[derive(Debug, Serialize)]
struct Namespace {
    r#type: &'static str,
}

const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

const READONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { bundle, rootless } = call.parse()?;
    let unified = matches!(Cgroups::probe()?, Cgroups::Unified { .. });
    let spec = spec(unified, rootless.then(|| (geteuid().as_raw(), getegid().as_raw())));
    let mut text = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    spec.serialize(&mut serde_json::Serializer::with_formatter(&mut text, tabs))?;

    let path = bundle.join("config.json");
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => {
            let written = file.write_all(&text);
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
fn spec(unified: bool, rootless: Option<(u32, u32)>) -> Spec {
    let mapping = |host| [Mapping { container: 0, host, size: 1 }];
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    if unified {
        namespaces.push("cgroup");
    }
    if rootless.is_some() {
        // A network of its own would be without any device that works.
        namespaces.retain(|kind| *kind != "network");
        namespaces.push("user");
    }
    Spec {
        oci_version: orlop::features::SPEC,
        process: Process {
            terminal: true,
            user: User { uid: 0, gid: 0 },
            args: ["sh"],
            env: [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            cwd: "/",
            capabilities: Capabilities {
                bounding: CAPABILITIES,
                effective: CAPABILITIES,
                permitted: CAPABILITIES,
            },
            rlimits: [Rlimit { r#type: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
            no_new_privileges: true,
        },
        root: Root { path: "rootfs", readonly: true },
        hostname: "runc",
        mounts: mounts(rootless.is_some()),
        linux: Linux {
            uid_mappings: rootless.map(|(uid, _)| mapping(uid)),
            gid_mappings: rootless.map(|(_, gid)| mapping(gid)),
            resources: rootless
                .is_none()
                .then_some(Resources { devices: [Device { allow: false, access: "rwm" }] }),
            namespaces: namespaces.into_iter().map(|kind| Namespace { r#type: kind }).collect(),
            masked_paths: MASKED,
            readonly_paths: READONLY,
        },
    }
}

fn mounts(rootless: bool) -> Vec<Mount> {
    const PTS: &[&str] =
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let mount =
        |destination, r#type, source, options| Mount { destination, r#type, source, options };
    let sys = if rootless {
        // sysfs shows the network namespace, which is the host's here.
        mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"])
    } else {
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
    };
    let shm = &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
    // Group 5 is not mapped without privileges.
    let pts = if rootless { &PTS[..PTS.len() - 1] } else { PTS };
    let cgroup = &["nosuid", "noexec", "nodev", "relatime", "ro"];
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", pts),
        mount("/dev/shm", "tmpfs", "shm", shm),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", cgroup),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(unified: bool, rootless: Option<(u32, u32)>) -> serde_json::Value {
        serde_json::to_value(spec(unified, rootless)).unwrap()
    }

    fn kinds(value: &serde_json::Value) -> Vec<&str> {
        let list = value["linux"]["namespaces"].as_array().unwrap();
        list.iter().map(|one| one["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn the_library_reads_it() {
        for rootless in [None, Some((1000, 100))] {
            let text = serde_json::to_string(&spec(true, rootless)).unwrap();
            let parsed: oci_spec::runtime::Spec = serde_json::from_str(&text).unwrap();
            assert_eq!(parsed.version(), "1.3.0");
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
