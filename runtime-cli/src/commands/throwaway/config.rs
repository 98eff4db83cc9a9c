//! The config of a throwaway container.
//!
//! Decides what it sees, may do and may not do; what the machine allows of that is
//! told by `isolation.rs`. Pure.

use nix::unistd::{Uid, getegid, geteuid};
use serde_json::{Value, json};

use super::isolation::{Cgroup, Isolation};

/// Those that are its own and empty.
pub(super) const PRIVATE: &[&str] = &["tmp", "run", "home", "root", "var", "mnt"];

/// What its root may do, to its own.
pub(super) const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Most processes that it may have.
pub(super) const PROCESSES: u32 = 1024;

/// System calls that no program of a throwaway container has business with: they
/// change the kernel, its clock or its keys, or reach around its namespaces.
pub(super) const REFUSED: &[&str] = &[
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "pivot_root",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "userfaultfd",
    "vhangup",
];

/// What differs from one container to the next.
pub(super) struct Config<'a> {
    pub(super) id: &'a str,
    pub(super) command: &'a [String],
    pub(super) terminal: bool,
    /// The machine's own directories, without their slash.
    pub(super) shared: &'a [&'a str],
}

impl Config<'_> {
    pub(super) fn write(&self, isolation: &Isolation) -> Value {
        let term = std::env::var("TERM").unwrap_or_else(|_| "dumb".into());
        json!({
            "ociVersion": "1.3.0",
            "hostname": "orlop",
            "root": {"path": "rootfs", "readonly": true},
            "process": {
                "terminal": self.terminal,
                "user": {"uid": 0, "gid": 0},
                "args": self.command,
                "env": [
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "HOME=/root",
                    format!("TERM={term}"),
                ],
                "cwd": "/root",
                "noNewPrivileges": true,
                "capabilities": {
                    "bounding": CAPABILITIES,
                    "effective": CAPABILITIES,
                    "permitted": CAPABILITIES,
                },
            },
            "mounts": mounts(self.shared),
            "linux": self.linux(isolation),
        })
    }

    fn linux(&self, isolation: &Isolation) -> Value {
        let user: Uid = geteuid();
        let kinds = isolation.namespaces.iter();
        let namespaces: Vec<_> = kinds.map(|kind| json!({"type": kind})).collect();
        // Root's own ids are all there; anybody else has one to give.
        let map = |own: u32| {
            let (first, size) = if user.is_root() { (0, u32::MAX) } else { (own, 1) };
            json!([{"containerID": 0, "hostID": first, "size": size}])
        };
        let mut linux = json!({
            "namespaces": namespaces,
            "uidMappings": map(user.as_raw()),
            "gidMappings": map(getegid().as_raw()),
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": REFUSED, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
            },
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
                "/proc/timer_stats", "/sys/firmware", "/sys/devices/virtual/powercap",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        });
        if let Cgroup::Limited { processes } = isolation.cgroup {
            linux["cgroupsPath"] = format!("/{}", self.id).into();
            linux["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
            if processes {
                linux["resources"]["pids"] = json!({"limit": PROCESSES});
            }
        }
        linux
    }
}

fn mounts(shared: &[&str]) -> Vec<Value> {
    let mut mounts: Vec<_> = shared
        .iter()
        .map(|name| {
            let path = format!("/{name}");
            let options = ["rbind", "rslave", "rro", "rnosuid", "rnodev"];
            json!({"destination": path, "source": path, "type": "bind", "options": options})
        })
        .collect();
    let mut add = |at: &str, kind: &str, options: &[&str]| {
        mounts.push(json!({"destination": at, "source": kind, "type": kind, "options": options}));
    };
    for name in PRIVATE {
        let mode = if *name == "tmp" { "mode=1777" } else { "mode=755" };
        add(&format!("/{name}"), "tmpfs", &["nosuid", "nodev", mode, "size=256m"]);
    }
    add("/proc", "proc", &["nosuid", "noexec", "nodev"]);
    add("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=64k"]);
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    add("/dev/pts", "devpts", &pts);
    add("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=64m"]);
    add("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
    add("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]);
    mounts
}
