//! The config of a throwaway container.
//!
//! Decides what it sees, may do and may not do; what the machine allows of that is
//! told by `isolation.rs`. Pure.

use serde_json::{Value, json};

use super::isolation::{Cgroup, Identity, Ids, Isolation};

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
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Most processes that it may have.
pub(super) const PROCESSES: u32 = 1024;

/// System calls that no program of a throwaway container has business with: they
/// change the kernel or its clock, or go around a container's borders. Those that
/// make a container are not among them.
pub(super) const REFUSED: &[&str] = &[
    "acct",
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
    "lookup_dcookie",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "userfaultfd",
    "vhangup",
];

/// Those of a kernel without keys: refused like this, a container inside goes without.
pub(super) const ABSENT: &[&str] = &["add_key", "keyctl", "request_key"];

/// What is for root alone, where it is that of the machine. Nobody else needs a cover:
/// the kernel asks for the owner, and it lets a container in this one mount a procfs
/// only if all of ours can be seen.
const COVERED: &[&str] = &[
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What root of the machine could change the machine by.
const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What differs from one container to the next.
pub(super) struct Config<'a> {
    pub(super) id: &'a str,
    pub(super) command: &'a [String],
    pub(super) terminal: bool,
    /// What the caller's `TERM` says.
    pub(super) term: &'a str,
    /// The machine's own directories, without their slash.
    pub(super) shared: &'a [&'a str],
}

impl Config<'_> {
    pub(super) fn write(&self, isolation: &Isolation) -> Value {
        let (uid, gid, capabilities) = match isolation.identity {
            Identity::Root { .. } => (0, 0, CAPABILITIES),
            Identity::User { uid, gid } => (uid, gid, &[] as _),
        };
        json!({
            "ociVersion": "1.3.0",
            "hostname": "orlop",
            "root": {"path": "rootfs", "readonly": true},
            "process": {
                "terminal": self.terminal,
                "user": {"uid": uid, "gid": gid},
                "args": self.command,
                "env": [
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "HOME=/root",
                    format!("TERM={}", self.term),
                ],
                "cwd": "/root",
                "noNewPrivileges": true,
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
            },
            "mounts": mounts(self.shared, uid, gid),
            "linux": self.linux(isolation),
        })
    }

    fn linux(&self, isolation: &Isolation) -> Value {
        let kinds = isolation.namespaces.iter();
        let namespaces: Vec<_> = kinds.map(|kind| json!({"type": kind})).collect();
        let mut linux = json!({
            "namespaces": namespaces,
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {"names": REFUSED, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}, // EPERM
                    {"names": ABSENT, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}, // ENOSYS
                ],
            },
        });
        if isolation.covered {
            linux["maskedPaths"] = json!(COVERED);
            linux["readonlyPaths"] = json!(READ_ONLY);
        }
        if let Identity::Root { uid, gid } = isolation.identity {
            let map =
                |Ids { first, count }| json!([{"containerID": 0, "hostID": first, "size": count}]);
            linux["uidMappings"] = map(uid);
            linux["gidMappings"] = map(gid);
        }
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

fn mounts(shared: &[&str], uid: u32, gid: u32) -> Vec<Value> {
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
    let owner = [format!("uid={uid}"), format!("gid={gid}")];
    for name in PRIVATE {
        let mode = if *name == "tmp" { "mode=1777" } else { "mode=755" };
        add(
            &format!("/{name}"),
            "tmpfs",
            &["nosuid", "nodev", mode, "size=256m", &owner[0], &owner[1]],
        );
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
