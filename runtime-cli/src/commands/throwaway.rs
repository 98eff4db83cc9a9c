//! `try`: a throwaway container of the machine's own programs. No image, no
//! download, no root needed.
//!
//! It writes a bundle into a temporary folder, runs it in the foreground and
//! removes it. What it isolates is in the config, like that of any container.

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use nix::unistd::{Uid, getegid, geteuid};
use orlop::bundle::Bundle;
use orlop::container::{CreateOptions, Store};
use serde_json::{Value, json};

use super::Call;
use crate::foreground::Foreground;

#[derive(Debug, Args)]
struct Arguments {
    /// What to run [default: a shell]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The machine's own directories that the container sees, read-only.
const SHARED: &[&str] = &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt"];

/// Those that are its own and empty.
const PRIVATE: &[&str] = &["tmp", "run", "home", "root", "var", "mnt"];

/// System calls that no program of a throwaway container has business with: they
/// change the kernel, its clock or its keys, or reach around its namespaces.
const REFUSED: &[&str] = &[
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

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { command } = call.parse()?;
    let folder = Folder::new()?;
    let rootfs = folder.path.join("rootfs");
    let shared = lay_out(&rootfs).context("laying out the root")?;
    let terminal = command.is_empty() && std::io::stdin().is_terminal();
    let command = if command.is_empty() { vec![shell()] } else { command };
    let config = config(&command, terminal, &shared);
    fs::write(folder.path.join("config.json"), config.to_string()).context("writing the bundle")?;

    let mut bundle = Bundle::open(&folder.path)?;
    let store = Store::new(folder.path.join("state"));
    let mut foreground = Foreground::new()?;
    let mut options = CreateOptions::default();
    if let Some(process) = bundle.spec.process_mut()
        && terminal
    {
        options.terminal = foreground.terminal(process)?;
    }
    let id = format!("try-{}", std::process::id());
    let (container, started) = store.run(&id, &bundle, &options)?;
    super::warn(&started.warnings);
    drop(options);
    introduce(terminal);
    let status = foreground.wait(&started);
    container.delete()?;
    u8::try_from(status?).context("the exit status is out of range")
}

/// A temporary folder, removed at the end.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let template = std::env::temp_dir().join("orlop-try-XXXXXX");
        let path = nix::unistd::mkdtemp(&template).context("making a temporary folder")?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is mounted in our mount namespace: the folder has only what we
        // put there.
        if let Err(error) = fs::remove_dir_all(&self.path) {
            log::warn!("removing {:?}: {error}", self.path);
        }
    }
}

/// Makes the root's directories. A link of the machine's, such as `/bin`, is a
/// link again; returned are the directories to be bound.
fn lay_out(rootfs: &Path) -> std::io::Result<Vec<&'static str>> {
    let mut shared = Vec::new();
    let make = |path: &Path| fs::DirBuilder::new().mode(0o755).create(path);
    make(rootfs)?;
    for name in SHARED {
        let own = Path::new("/").join(name);
        match fs::symlink_metadata(&own) {
            Err(_) => {}
            Ok(metadata) if metadata.is_symlink() => {
                std::os::unix::fs::symlink(fs::read_link(&own)?, rootfs.join(name))?;
            }
            Ok(_) => {
                make(&rootfs.join(name))?;
                shared.push(*name);
            }
        }
    }
    for name in PRIVATE.iter().chain(&["dev", "proc", "sys"]) {
        make(&rootfs.join(name))?;
    }
    Ok(shared)
}

fn shell() -> String {
    let known = ["/bin/bash", "/bin/sh"].into_iter().find(|path| Path::new(path).exists());
    known.unwrap_or("sh").to_owned()
}

fn config(command: &[String], terminal: bool, shared: &[&str]) -> Value {
    let term = std::env::var("TERM").unwrap_or_else(|_| "dumb".into());
    let capabilities = [
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
    json!({
        "ociVersion": "1.3.0",
        "hostname": "orlop",
        "root": {"path": "rootfs", "readonly": true},
        "process": {
            "terminal": terminal,
            "user": {"uid": 0, "gid": 0},
            "args": command,
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/root",
                format!("TERM={term}"),
            ],
            "cwd": "/root",
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
        },
        "mounts": mounts(shared),
        "linux": linux(geteuid()),
    })
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

fn linux(user: Uid) -> Value {
    let namespaces: Vec<_> = ["user", "pid", "mount", "network", "ipc", "uts", "cgroup", "time"]
        .iter()
        .map(|kind| json!({"type": kind}))
        .collect();
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
    if user.is_root() {
        linux["cgroupsPath"] = format!("/orlop-try-{}", std::process::id()).into();
        linux["resources"] = json!({
            "devices": [{"allow": false, "access": "rwm"}],
            "pids": {"limit": 1024},
        });
    }
    linux
}

/// Three lines for a person, none for a program.
fn introduce(terminal: bool) {
    let mut to = std::io::stderr();
    if !to.is_terminal() {
        return;
    }
    let end = if terminal { "\r\n" } else { "\n" };
    let limits = if geteuid().is_root() {
        "own cgroup, at most 1024 processes"
    } else {
        "no cgroup of its own without root"
    };
    let refused = REFUSED.len();
    let _ = write!(
        to,
        "isolated: user, pid, mount, network, ipc, uts, cgroup and time namespaces{end}\
         files: this machine's programs and /etc read-only; /tmp /run /home /root /var are empty and go with it{end}\
         limits: 10 capabilities, no new privileges, {refused} system calls refused, {limits}{end}"
    );
}
