//! What confines the processes of a restored container, whatever the images say.

use std::process::Command;

use serde_json::{Value, json};

use super::fake::NAMESPACES;
use super::told::{Fake, images};
use crate::harness::{Bundle, Lab, Test, tests};
use crate::net_devices::Network;

pub(crate) const TESTS: &[Test] = tests![
    what_criu_leaves_of_privileges_is_looked_at,
    the_callers_network_is_not_taken_for_the_containers,
    the_callers_namespaces_are_not_taken_for_the_containers,
];

/// CVE-2026-92574: what confines the processes is not left to the images. Those of the
/// program in CRIU's place have all that root has.
fn what_criu_leaves_of_privileges_is_looked_at(lab: &Lab) {
    let fake = Fake::new(lab);
    images(lab);
    fake.tell("says it all", "");
    let features: Value = serde_json::from_str(&lab.runtime(&["features"]).ok()).unwrap();
    let names = features["linux"]["capabilities"].as_array().unwrap();
    let mut free = lab.bundle(&["sleep"]);
    free.config["process"]["noNewPrivileges"] = json!(false);
    for set in ["bounding", "effective", "permitted"] {
        free.config["process"]["capabilities"][set] = json!(names);
    }
    fake.restore(&free, &[], "a").ok();
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["kexec_load"], "action": "SCMP_ACT_ERRNO" }
    ] });
    let some = json!(names[1..]);
    for (pointer, value) in [
        ("/process/capabilities/bounding", some.clone()),
        ("/process/noNewPrivileges", json!(true)),
        ("/linux/seccomp", filter),
    ] {
        let mut bundle = lab.bundle(&["sleep"]);
        bundle.config = free.config.clone();
        let (above, name) = pointer.rsplit_once('/').unwrap();
        bundle.config.pointer_mut(above).unwrap()[name] = value;
        if name == "bounding" {
            bundle.config["process"]["capabilities"]["effective"] = some.clone();
            bundle.config["process"]["capabilities"]["permitted"] = some.clone();
        }
        let message = fake.restore(&bundle, &[], "a").fails();
        let words = "criu has left the processes with more privileges than the config gives";
        assert_eq!(message, format!("{words} (config.json: {pointer})"));
        assert_eq!(lab.on("a", &["state"], &[]).fails(), "container does not exist");
    }
}

/// CVE-2026-92574: the fake brings processes back where it is itself, as CRIU does with an
/// image that has no network namespace.
fn the_callers_network_is_not_taken_for_the_containers(lab: &Lab) {
    let fake = Fake::new(lab);
    images(lab);
    fake.tell("stays in", "network");
    let (caller, pod) = (Network::empty(), Network::empty());
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    for path in [None, Some(&*pod.path())] {
        bundle.namespace("network", path);
        bundle.write();
        let restore = fake.command(&["restore", "--detach", "--bundle"]);
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net={}", caller.path())).arg("/usr/bin/env");
        for (name, value) in restore.get_envs() {
            inside.arg(format!("{}={}", name.display(), value.unwrap().display()));
        }
        inside.arg(restore.get_program()).args(restore.get_args()).arg(&bundle.path);
        inside.arg(lab.id("a")).current_dir(lab.folder());
        let message = lab.begin(inside).end().fails();
        let words = "criu has left the processes in another net namespace";
        assert!(message.starts_with(words), "{message}");
        let mut forward = Command::new("nsenter");
        forward.arg(format!("--net={}", caller.path()));
        let output = forward.args(["cat", "/proc/sys/net/ipv4/ip_forward"]).output().unwrap();
        assert_eq!(output.stdout, b"0\n");
    }
}

/// CVE-2026-92574: so it is with the other kinds, which the fake brings its processes back
/// in, all but one: and with one that the container shares with others.
fn the_callers_namespaces_are_not_taken_for_the_containers(lab: &Lab) {
    let fake = Fake::new(lab);
    images(lab);
    let refused = |bundle: &Bundle, name: &str| {
        let index = bundle.config["linux"]["namespaces"].as_array().unwrap().len() - 1;
        let message = fake.restore(bundle, &[], "a").fails();
        let words = format!("criu has left the processes in another {name} namespace");
        assert_eq!(message, format!("{words} (config.json: /linux/namespaces/{index})"));
        assert_eq!(lab.on("a", &["state"], &[]).fails(), "container does not exist");
    };
    for (kind, _) in NAMESPACES {
        let mut bundle = lab.bundle(&["sleep"]);
        bundle.namespace(kind, None);
        fake.tell("stays in", kind);
        let name = match kind {
            "mount" => "mnt",
            "network" => "net",
            other => other,
        };
        refused(&bundle, name);
    }
    // CRIU makes no namespace of cgroups that it shall leave alone.
    let bundle = lab.bundle(&["sleep"]);
    fake.tell("stays in", "cgroup");
    fake.restore(&bundle, &["--manage-cgroups-mode", "ignore"], "a").ok();
    lab.delete("a");
    // What the config has not may be the image's.
    let mut bundle = lab.bundle(&["sleep"]);
    for kind in ["ipc", "network"] {
        bundle.without_namespace(kind);
        fake.tell("stays in", kind);
        fake.restore(&bundle, &[], "a").ok();
        lab.delete("a");
    }
}
