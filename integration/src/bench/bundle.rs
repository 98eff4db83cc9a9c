//! What the containers of the benchmark are: the default bundle, as `runc spec`
//! writes it, without a terminal, on a root file system of two tiny programs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

const TRUE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/true"));
const PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// The exit status by which a probed runtime shows that the container ran.
pub const PROBE_STATUS: i32 = 7;

/// The bundles on disk, all with the same root.
#[derive(Debug)]
pub struct Bundles {
    /// The root file system.
    pub root: PathBuf,
    /// Exits at once with 0.
    pub exit: PathBuf,
    /// Exits at once with [`PROBE_STATUS`].
    pub probe: PathBuf,
    /// Sleeps until it is killed.
    pub pause: PathBuf,
    v2: bool,
}

impl Bundles {
    /// Writes them below `directory`; `v2` says whether a container may have a
    /// cgroup namespace, as `runc spec` decides it.
    ///
    /// # Errors
    /// Of the writes.
    pub fn create(directory: &Path, v2: bool) -> io::Result<Self> {
        let root = directory.join("rootfs");
        for name in ["bin", "proc", "dev", "sys"] {
            fs::create_dir_all(root.join(name))?;
        }
        for (name, bytes) in [("true", TRUE), ("pause", PAUSE)] {
            let path = root.join("bin").join(name);
            fs::write(&path, bytes)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        let [exit, probe, pause] = ["exit", "probe", "pause"].map(|name| directory.join(name));
        for path in [&exit, &probe, &pause] {
            fs::create_dir(path)?;
        }
        let bundles = Self { root, exit, probe, pause, v2 };
        bundles.write(true)?;
        Ok(bundles)
    }

    /// Writes their configs anew, with or without the default device rules.
    ///
    /// # Errors
    /// Of the writes.
    pub fn write(&self, device_rules: bool) -> io::Result<()> {
        let mut probe = vec!["/bin/true"];
        probe.resize(1 + PROBE_STATUS as usize, "argument");
        let all: [(&Path, &[&str]); 3] =
            [(&self.exit, &["/bin/true"]), (&self.probe, &probe), (&self.pause, &["/bin/pause"])];
        for (path, args) in all {
            let mut config = config(&self.root, args, self.v2);
            if !device_rules && let Some(linux) = config["linux"].as_object_mut() {
                linux.remove("resources");
            }
            fs::write(path.join("config.json"), config.to_string())?;
        }
        Ok(())
    }
}

/// The config of a container; `v2` as for [`Bundles::create`].
pub(crate) fn config(root: &Path, args: &[&str], v2: bool) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    if v2 {
        namespaces.push("cgroup");
    }
    let namespaces: Vec<Value> =
        namespaces.into_iter().map(|kind| json!({ "type": kind })).collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm"
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
                "ambient": capabilities
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": root, "readonly": true },
        "hostname": "runc",
        "mounts": mounts(),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
            ]
        }
    })
}

fn mounts() -> Value {
    let mount = |at: &str, kind: &str, source: &str, options: &[&str]| {
        let mut mount = json!({ "destination": at, "type": kind, "source": source });
        if !options.is_empty() {
            mount["options"] = json!(options);
        }
        mount
    };
    let closed = |more: &[&'static str]| [&["nosuid", "noexec", "nodev"], more].concat();
    let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    json!([
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &dev),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", "shm", &closed(&["mode=1777", "size=65536k"])),
        mount("/dev/mqueue", "mqueue", "mqueue", &closed(&[])),
        mount("/sys", "sysfs", "sysfs", &closed(&["ro"])),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &closed(&["relatime", "ro"])),
    ])
}
