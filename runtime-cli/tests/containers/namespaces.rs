//! Namespaces, new and joined.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::extras::mounts;
use crate::harness::{Bundle, Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    each_kind_is_new_or_the_hosts,
    each_kind_is_joined_by_its_path,
    the_mounts_may_be_the_hosts,
    the_mounts_may_be_those_of_a_path,
    a_user_namespace_maps_ids,
    a_user_namespace_may_deny_groups,
    a_time_namespace_has_offsets,
    a_user_namespace_has_offsets_limits_and_a_score,
    names_and_sysctls_are_set,
];

const MAP: &str = "0 100000 1000";

const KINDS: [(&str, &str); 6] = [
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("pid", "pid"),
    ("cgroup", "cgroup"),
    ("mount", "mnt"),
];

fn of(pid: &str, file: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap().display().to_string()
}

fn each_kind_is_new_or_the_hosts(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    for (kind, _) in KINDS {
        bundle.namespace(kind, None);
    }
    lab.run(&bundle, "a", &["--detach"]).ok();
    let pid = lab.state("a")["pid"].to_string();
    for (_, file) in KINDS {
        assert_ne!(of(&pid, file), of("self", file));
    }
    assert_eq!(of(&pid, "user"), of("self", "user"));
    lab.delete("a");
    for (kind, file) in &KINDS[..4] {
        let mut bundle = lab.bundle(&["sleep"]);
        bundle.without_namespace(kind);
        if *kind == "network" {
            // The file system of another network's owner can't be mounted.
            bundle.config["mounts"].as_array_mut().unwrap().retain(|one| one["type"] != "sysfs");
        }
        if *kind == "uts" {
            bundle.config.as_object_mut().unwrap().remove("hostname");
        }
        lab.run(&bundle, "a", &["--detach"]).ok();
        let pid = lab.state("a")["pid"].to_string();
        assert_eq!(of(&pid, file), of("self", file));
        lab.delete("a");
    }
}

fn each_kind_is_joined_by_its_path(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.user_namespace();
    bundle.namespace("cgroup", None);
    bundle.namespace("time", None);
    lab.run(&bundle, "pod", &["--detach"]).ok();
    let pod = lab.state("pod")["pid"].to_string();
    let path = |file: &str| format!("/proc/{pod}/ns/{file}");
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        let mut bundle = lab.bundle(&["sleep"]);
        if kind == "uts" {
            bundle.config.as_object_mut().unwrap().remove("hostname");
        }
        bundle.namespace(kind, Some(&path(file)));
        lab.run(&bundle, "a", &["--detach"]).ok();
        let pid = lab.state("a")["pid"].to_string();
        assert_eq!(of(&pid, file), of(&pod, file));
        lab.delete("a");
    }
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config.as_object_mut().unwrap().remove("hostname");
    let kinds = [
        ("user", "user"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
        ("time", "time"),
    ];
    for (kind, file) in kinds {
        bundle.namespace(kind, Some(&path(file)));
    }
    lab.run(&bundle, "b", &["--detach"]).ok();
    let pid = lab.state("b")["pid"].to_string();
    for (_, file) in kinds {
        assert_eq!(of(&pid, file), of(&pod, file));
    }
    assert_eq!(lab.exec("b", &[], &["say", "joined"]).ok(), "joined\n");
    lab.delete("b");
    lab.delete("pod");
}

/// A file system for devices, which /tmp need not be, on a bundle's /dev until this
/// is dropped.
struct Devices(PathBuf);

impl Devices {
    fn new(bundle: &Bundle) -> Self {
        let (at, tmpfs) = (bundle.rootfs().join("dev"), Some("tmpfs"));
        mount(tmpfs, &at, tmpfs, MsFlags::empty(), Some("mode=755")).unwrap();
        Self(at)
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// A process in namespaces of its own, until this is dropped.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).unwrap();
    }
}

/// A bundle for a mount namespace in which nothing may be mounted.
fn unmounted(lab: &Lab) -> Bundle {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["mounts"] = json!([]);
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.config["root"]["readonly"] = json!(false);
    bundle
}

/// The root is the bundle's for whoever comes in, and nothing else is changed: the
/// oracle sees every mount.
fn in_its_root(lab: &Lab, bundle: &Bundle, mounts: &str) {
    let output = lab.create(bundle, "a", &[]);
    assert!(output.stderr.contains("the root is a chroot"), "{}", output.stderr);
    output.ok();
    lab.on("a", &["start"], &[]).ok();
    let pid = lab.state("a")["pid"].to_string();
    assert_eq!(of(&pid, "mnt"), mounts);
    let root = fs::read_link(format!("/proc/{pid}/root")).unwrap();
    assert_eq!(root, bundle.rootfs());
    let text = lab.exec("a", &[], &["ls", "/"]).ok();
    assert_eq!(text, "bin\ndev\netc\nproc\nsys\ntmp\nwork\n");
    assert_eq!(lab.exec("a", &[], &["try", "open-null"]).ok(), "open-null ok\n");
    assert_eq!(lab.exec("a", &["--cwd", "/tmp"], &["cwd"]).ok(), "/tmp\n");
    assert!(fs::read_dir(bundle.rootfs().join("dev")).unwrap().count() > 6);
    lab.delete("a");
}

fn the_mounts_may_be_the_hosts(lab: &Lab) {
    let mut bundle = unmounted(lab);
    bundle.without_namespace("mount");
    let _devices = Devices::new(&bundle);
    in_its_root(lab, &bundle, &of("self", "mnt"));
}

fn the_mounts_may_be_those_of_a_path(lab: &Lab) {
    let mut bundle = unmounted(lab);
    let _devices = Devices::new(&bundle);
    let mut holder = Command::new("unshare");
    holder.args(["--mount", "sleep", "1000"]).stdin(Stdio::null());
    let holder = Holder(holder.spawn().unwrap());
    let pid = holder.0.id().to_string();
    until("the namespace", || of(&pid, "mnt") != of("self", "mnt"));
    let table = || fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let before = table();
    bundle.namespace("mount", Some(&format!("/proc/{pid}/ns/mnt")));
    in_its_root(lab, &bundle, &of(&pid, "mnt"));
    assert_eq!(table(), before);
}

fn a_user_namespace_maps_ids(lab: &Lab) {
    let mut bundle = lab.bundle(&["cat", "/proc/self/uid_map", "/proc/self/gid_map"]);
    bundle.user_namespace();
    let text = lab.run(&bundle, "a", &[]).ok();
    let map: Vec<_> = text.split_whitespace().collect();
    assert_eq!(map, ["0", "100000", "1000", "0", "100000", "1000"]);
    bundle.args(&["sleep"]);
    bundle.config["process"]["user"] = json!({ "uid": 5, "gid": 6, "additionalGids": [7] });
    lab.run(&bundle, "a", &["--detach"]).ok();
    let pid = &lab.state("a")["pid"];
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ids = "Uid:\t100005\t100005\t100005\t100005\nGid:\t100006\t100006\t100006\t100006\n";
    assert!(status.contains(ids), "{status}");
    assert_eq!(lab.exec("a", &["--user", "0"], &["exit", "0"]).code, 0);
    // It is made with the namespace, by root of the other one.
    let queues = lab.exec("a", &["--user", "0"], &["stat", "/dev/mqueue"]).ok();
    assert_eq!(queues, "/dev/mqueue dir 1777 0:0\n");
    lab.delete("a");
}

/// A namespace of somebody without privileges, who has to deny it to map a group.
fn a_user_namespace_may_deny_groups(lab: &Lab) {
    let mut holder = Command::new("unshare");
    holder.args(["--user", "sleep", "1000"]).stdin(Stdio::null());
    let holder = Holder(holder.spawn().unwrap());
    let pid = holder.0.id().to_string();
    until("the namespace", || of(&pid, "user") != of("self", "user"));
    for (file, text) in [("setgroups", "deny"), ("uid_map", MAP), ("gid_map", MAP)] {
        fs::write(format!("/proc/{pid}/{file}"), text).unwrap();
    }
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.namespace("user", Some(&format!("/proc/{pid}/ns/user")));
    bundle.config["process"]["user"] = json!({ "uid": 5, "gid": 6 });
    lab.run(&bundle, "a", &["--detach"]).ok();
    let status = lab.exec("a", &["--user", "7:8"], &["cat", "/proc/self/status"]).ok();
    assert!(status.contains("Uid:\t7\t7\t7\t7\nGid:\t8\t8\t8\t8\n"), "{status}");
    mounts(lab, "add", &json!([{ "destination": "/tmp", "type": "tmpfs" }])).ok();
    let denied = "becoming user 5:6: setgroups (config.json: /process/user): operation not \
                  permitted (the user namespace that is joined denies it (user_namespaces(7)): \
                  additionalGids can't be had there)";
    let said = lab.exec("a", &["--additional-gids", "9"], &["sleep"]).fails();
    assert!(said.ends_with(&denied.replace("config.json: /process", "process: ")), "{said}");
    lab.delete("a");
    bundle.config["process"]["user"]["additionalGids"] = json!([9]);
    let said = lab.run(&bundle, "a", &[]).fails();
    assert!(said.ends_with(denied), "{said}");

    // A filter that answers the same says nothing of the namespace.
    bundle.config["process"]["user"] = json!({ "uid": 5, "gid": 6 });
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    let rule = json!({ "names": ["setgroups"], "action": "SCMP_ACT_ERRNO" });
    bundle.config["linux"]["seccomp"] =
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    lab.run(&bundle, "a", &["--detach"]).ok();
    lab.delete("a");
    bundle.user_namespace();
    lab.create(&bundle, "a", &[]).fails();
}

fn a_time_namespace_has_offsets(lab: &Lab) {
    let mut bundle = lab.bundle(&["cat", "/proc/uptime"]);
    bundle.namespace("time", None);
    bundle.config["linux"]["timeOffsets"] = json!({
        "boottime": { "secs": 1_000_000, "nanosecs": 0 },
    });
    let text = lab.run(&bundle, "a", &[]).ok();
    let seconds = |text: &str| text.split('.').next().unwrap().parse::<i64>().unwrap();
    let ours = seconds(&fs::read_to_string("/proc/uptime").unwrap());
    assert!((seconds(&text) - ours - 1_000_000).abs() < 60, "{text} {ours}");
}

/// What the launcher writes for a stage that has no say outside.
fn a_user_namespace_has_offsets_limits_and_a_score(lab: &Lab) {
    let files = ["/proc/self/timens_offsets", "/proc/self/limits", "/proc/self/oom_score_adj"];
    let mut bundle = lab.bundle(&["cat", files[0], files[1], files[2]]);
    bundle.user_namespace();
    bundle.namespace("time", None);
    bundle.config["linux"]["timeOffsets"] = json!({
        "monotonic": { "secs": 77, "nanosecs": 5 },
    });
    let limit = json!({ "type": "RLIMIT_CORE", "soft": 4096, "hard": 8192 });
    bundle.config["process"]["rlimits"] = json!([limit]);
    bundle.config["process"]["oomScoreAdj"] = json!(321);
    let text = lab.run(&bundle, "a", &[]).ok();
    let lines: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let core = ["Max", "core", "file", "size", "4096", "8192", "bytes"];
    for line in [&["monotonic", "77", "5"][..], &core, &["321"]] {
        assert!(lines.iter().any(|found| found == line), "{line:?} is not in {text}");
    }
}

fn names_and_sysctls_are_set(lab: &Lab) {
    let files = ["hostname", "domainname", "shmmni"].map(|name| format!("/proc/sys/kernel/{name}"));
    let mut arguments = vec!["cat"];
    arguments.extend(files.iter().map(String::as_str));
    arguments.push("/proc/sys/net/ipv4/ip_forward");
    let mut bundle = lab.bundle(&arguments);
    bundle.config["hostname"] = json!("orlop-host");
    bundle.config["domainname"] = json!("orlop-domain");
    bundle.config["linux"]["sysctl"] =
        json!({ "kernel.shmmni": "1234", "net.ipv4.ip_forward": "1" });
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "orlop-host\norlop-domain\n1234\n1\n");
}
