//! Namespaces, file systems and devices of a container without privileges.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::account::Account;
use crate::harness::{Bundle, Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    each_kind_is_new_or_the_callers,
    each_kind_is_joined_by_its_path,
    what_cannot_be_mounted_is_bound,
    devices_are_bound,
    names_sysctls_and_hooks_work,
    its_life_is_as_any_others,
];

const KINDS: [(&str, &str); 7] = [
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("pid", "pid"),
    ("cgroup", "cgroup"),
    ("time", "time"),
    ("mount", "mnt"),
];

fn of(pid: &Value, file: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap().display().to_string()
}

fn own(file: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{file}")).unwrap().display().to_string()
}

/// Without what only the owner of a namespace may ask for.
fn plain(bundle: &mut Bundle) {
    bundle.config.as_object_mut().unwrap().remove("hostname");
}

fn each_kind_is_new_or_the_callers(lab: &Lab) {
    let account = Account::new(lab);
    let mut bundle = account.bundle(&["sleep"]);
    for (kind, _) in KINDS {
        bundle.namespace(kind, None);
    }
    account.run(&bundle, "a", &["--detach"]).ok();
    let pid = &account.state("a")["pid"];
    for (_, file) in KINDS {
        assert_ne!(of(pid, file), own(file));
    }
    account.delete("a");
    for (kind, file) in &KINDS[..6] {
        let mut bundle = account.bundle(&["sleep"]);
        bundle.without_namespace(kind);
        plain(&mut bundle);
        if !Path::new("/dev/mqueue").is_dir() {
            // There are none of the caller's to bind.
            bundle.config["mounts"].as_array_mut().unwrap().retain(|one| one["type"] != "mqueue");
        }
        account.run(&bundle, "a", &["--detach"]).ok();
        let pid = &account.state("a")["pid"];
        assert_eq!(of(pid, file), own(file));
        assert_eq!(account.on("a", &["exec"], &["/bin/probe", "say", "x"]).ok(), "x\n");
        // Nobody else ends a process that no pid namespace ends.
        account.on("a", &["kill"], &["KILL"]).ok();
        account.delete("a");
    }
}

/// The user namespace is joined too: nobody may join what is another's.
fn each_kind_is_joined_by_its_path(lab: &Lab) {
    let account = Account::new(lab);
    let mut bundle = account.bundle(&["sleep"]);
    for (kind, _) in KINDS {
        bundle.namespace(kind, None);
    }
    account.run(&bundle, "pod", &["--detach"]).ok();
    let pod = &account.state("pod")["pid"];
    let path = |file: &str| format!("/proc/{pod}/ns/{file}");
    let joined = |kinds: &[(&str, &str)]| {
        let mut bundle = account.bundle(&["sleep"]);
        plain(&mut bundle);
        bundle.namespace("user", Some(&path("user")));
        for (kind, file) in kinds {
            bundle.namespace(kind, Some(&path(file)));
        }
        account.run(&bundle, "a", &["--detach"]).ok();
        let pid = &account.state("a")["pid"];
        for (_, file) in kinds.iter().chain(&[("user", "user")]) {
            assert_eq!(of(pid, file), of(pod, file));
        }
        assert_eq!(account.on("a", &["exec"], &["/bin/probe", "say", "x"]).ok(), "x\n");
        account.delete("a");
    };
    for kind in &KINDS[..6] {
        joined(&[*kind]);
    }
    joined(&KINDS[..6]);
    account.delete("pod");
    // Without its owner's namespace there is no way in.
    let mut bundle = account.bundle(&["exit", "0"]);
    bundle.namespace("network", Some("/proc/self/ns/net"));
    let message = account.run(&bundle, "a", &[]).fails();
    assert!(message.contains("operation not permitted"), "{message}");
}

/// The kernel lets nobody mount a procfs of a pid namespace, a sysfs of a network
/// namespace or the queues of an IPC namespace but its owner.
fn what_cannot_be_mounted_is_bound(lab: &Lab) {
    let account = Account::new(lab);
    let files = ["/proc/self/mountinfo", "/proc/self/comm"];
    let mut bundle = account.bundle(&["cat", files[0], files[1]]);
    for kind in ["pid", "network", "ipc"] {
        bundle.without_namespace(kind);
    }
    let mount = |at: &str, kind: &str| json!({ "destination": at, "type": kind, "source": kind, "options": ["nosuid", "noexec", "nodev"] });
    bundle.config["linux"]["sysctl"] = json!({});
    bundle.config["mounts"] =
        json!([mount("/proc", "proc"), mount("/sys", "sysfs"), mount("/dev/mqueue", "mqueue")]);
    if !Path::new("/dev/mqueue").is_dir() {
        bundle.config["mounts"].as_array_mut().unwrap().pop();
    }
    let text = account.run(&bundle, "a", &[]).ok();
    assert!(text.ends_with("\nprobe\n"), "{text}");
    let options = |at: &str| {
        let found = text.lines().find(|line| line.split(' ').nth(4) == Some(at));
        found.unwrap().split(' ').nth(5).unwrap().to_owned()
    };
    assert!(options("/sys").starts_with("ro,nosuid,nodev,noexec"), "{text}");
    assert!(options("/proc").starts_with("rw,nosuid,nodev,noexec"), "{text}");
    // What is covered in /proc is covered in this one too.
    assert_eq!(options("/proc/sys").split(',').next(), Some("ro"));
}

fn devices_are_bound(lab: &Lab) {
    let account = Account::new(lab);
    let nodes = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
    let mut arguments = vec!["stat"];
    arguments.extend(nodes);
    arguments.push("/dev/pipe");
    let mut bundle = account.bundle(&arguments);
    bundle.config["linux"]["devices"] = json!([{ "path": "/dev/pipe", "type": "p" }]);
    let text = account.run(&bundle, "a", &[]).ok();
    for (node, number) in nodes.iter().zip(["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"]) {
        assert!(text.contains(&format!("{node} char {number} ")), "{text}");
    }
    assert!(text.contains("/dev/pipe fifo 666 0:0"), "{text}");
    // One that the machine does not have.
    let device = json!([{ "path": "/dev/nope", "type": "c", "major": 1, "minor": 77 }]);
    bundle.config["linux"]["devices"] = device;
    let message = account.run(&bundle, "a", &[]).fails();
    assert!(message.contains("binding the device \"/dev/nope\""), "{message}");
    assert!(message.contains("config.json: /linux/devices/0"), "{message}");
}

fn names_sysctls_and_hooks_work(lab: &Lab) {
    let account = Account::new(lab);
    let files = ["hostname", "shmmni"].map(|name| format!("/proc/sys/kernel/{name}"));
    let mut bundle =
        account.bundle(&["cat", &files[0], &files[1], "/proc/sys/net/ipv4/ip_forward"]);
    bundle.namespace("network", None);
    bundle.config["hostname"] = json!("orlop-host");
    bundle.config["linux"]["sysctl"] =
        json!({ "kernel.shmmni": "1234", "net.ipv4.ip_forward": "1" });
    let note = lab.path("runtime/note");
    for kind in ["createRuntime", "createContainer", "startContainer", "poststop"] {
        let inside = matches!(kind, "startContainer");
        let at = if inside { "/tmp/note".to_owned() } else { note.display().to_string() };
        bundle.hook(kind, &["keep", &at]);
    }
    bundle.config["root"]["readonly"] = json!(false);
    assert_eq!(account.run(&bundle, "a", &[]).ok(), "orlop-host\n1234\n1\n");
    let noted = fs::read_to_string(note).unwrap();
    assert_eq!(noted.matches("\"ociVersion\"").count(), 3, "{noted}");
    let noted = fs::read_to_string(bundle.rootfs().join("tmp/note")).unwrap();
    assert!(noted.contains("\"status\":\"created\""), "{noted}");
}

/// Below `$XDG_RUNTIME_DIR`, since nothing else is said.
fn its_life_is_as_any_others(lab: &Lab) {
    let account = Account::new(lab);
    let bundle = account.bundle(&["sleep"]);
    bundle.write();
    let call = |words: &[&str]| {
        let mut command = std::process::Command::new(lab.path("orlop"));
        command.args(words);
        account.does(&mut command);
        lab.begin(command).end()
    };
    let (id, path) = (lab.id("a"), bundle.path.to_str().unwrap());
    call(&["create", "--bundle", path, &id]).ok();
    assert!(account.runtime_folder.join("orlop").join(&id).is_dir());
    assert!(call(&["state", &id]).ok().contains("\"created\""));
    call(&["start", &id]).ok();
    assert!(call(&["list"]).ok().contains(&id));
    assert_eq!(call(&["exec", &id, "/bin/probe", "say", "x"]).ok(), "x\n");
    call(&["kill", &id, "KILL"]).ok();
    call(&["delete", "--force", &id]).ok();
    assert!(!account.runtime_folder.join("orlop").join(&id).exists());
}
