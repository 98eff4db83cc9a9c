//! A container in a container: the runtime is the outer one's program.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use serde_json::{Value, json};

use super::account::{Account, ID};
use crate::harness::{Bundle, Lab, ORLOP, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    of_a_users_own_id,
    of_a_users_ranges,
    of_root,
    of_root_with_cgroups,
    of_root_of_a_user_namespace,
    below_what_is_masked,
];

/// What the inner one prints: whose ids they are, and that it is alone.
const LOOK: [&str; 3] = ["cat", "/proc/self/uid_map", "/proc/1/comm"];

/// Puts the runtime and an inner bundle into `outer`, which runs it then, with a
/// config made by itself.
fn nest(lab: &Lab, outer: &mut Bundle, owner: u32, spec: &[&str], run: &[&str]) {
    let rootfs = outer.rootfs();
    let inner = rootfs.join("work");
    fs::copy(ORLOP, rootfs.join("bin/orlop")).unwrap();
    let source = lab.bundle(&[]).rootfs();
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "work"] {
        fs::create_dir_all(inner.join("rootfs").join(name)).unwrap();
    }
    fs::hard_link(source.join("bin/probe"), inner.join("rootfs/bin/probe")).unwrap();
    own(&inner, owner);
    own(&rootfs, owner);
    // The probe has no shell: the config is written by who runs the test, with what
    // the runtime would write in there.
    let mut config = spec_of(lab, spec);
    config["process"]["terminal"] = json!(false);
    let mut args = vec!["/bin/probe"];
    args.extend(LOOK);
    config["process"]["args"] = json!(args);
    fs::write(inner.join("config.json"), config.to_string()).unwrap();
    let mut args = vec!["/bin/orlop", "--root", "/tmp/state"];
    args.extend(run);
    args.extend(["run", "--bundle", "/work", "inner"]);
    outer.config["process"]["args"] = json!(args);
    outer.config["root"]["readonly"] = json!(false);
    outer.config["process"]["noNewPrivileges"] = json!(false);
}

fn own(directory: &Path, owner: u32) {
    chown(directory, Some(owner), Some(owner)).unwrap();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            own(&entry.path(), owner);
        }
    }
}

/// A config of root's, since that is who the outer container's process is.
fn spec_of(lab: &Lab, flags: &[&str]) -> Value {
    let folder = lab.path("inner-spec");
    fs::create_dir_all(&folder).unwrap();
    let mut verb = vec!["spec", "--bundle", folder.to_str().unwrap()];
    verb.extend(flags);
    lab.runtime(&verb).ok();
    let text = fs::read(folder.join("config.json")).unwrap();
    fs::remove_dir_all(folder).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// With every capability, or what this one has of them.
fn privileged(bundle: &mut Bundle) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let bits = u64::from_str_radix(line, 16).unwrap();
    let all = caps::all();
    let names: Vec<_> =
        all.iter().filter(|one| bits & one.bitmask() != 0).map(ToString::to_string).collect();
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set] = json!(names);
    }
}

/// The kernel lets a user namespace mount only what it sees all of.
fn unmasked(bundle: &mut Bundle) {
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
}

/// With a cgroup file system that its root may write to.
fn with_cgroups(bundle: &mut Bundle) {
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        }
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn of_a_users_own_id(lab: &Lab) {
    let account = Account::new(lab);
    let mut outer = account.bundle(&[]);
    privileged(&mut outer);
    unmasked(&mut outer);
    let id = ID.to_string();
    nest(lab, &mut outer, ID, &["--rootless"], &[]);
    assert_eq!(words(&account.run(&outer, "a", &[]).ok()), ["0", "0", "1", "probe"]);
    // Of all capabilities but one.
    for set in ["bounding", "effective", "permitted"] {
        let set = outer.config["process"]["capabilities"][set].as_array_mut().unwrap();
        set.retain(|name| name != "CAP_SETFCAP");
    }
    let message = account.run(&outer, "a", &[]).fails();
    assert!(message.contains("CAP_SETFCAP is needed"), "{message}");
    // Without a user namespace of its own.
    let mut outer = account.bundle(&[]);
    privileged(&mut outer);
    nest(lab, &mut outer, ID, &[], &[]);
    without_network(&outer.rootfs().join("work/config.json"));
    assert_eq!(words(&account.run(&outer, "a", &[]).ok()), ["0", &id, "1", "probe"]);
}

/// Changes the config at a path.
fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

/// A config for who has one id: its network is the caller's.
fn without_network(path: &Path) {
    change(path, |config| {
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != "network");
        // Group 5 is not mapped.
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "devpts" {
                mount["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
            }
        }
    });
}

fn of_a_users_ranges(lab: &Lab) {
    let account = Account::with_ranges(lab);
    let mut outer = account.bundle_with_ranges(&[]);
    privileged(&mut outer);
    unmasked(&mut outer);
    nest(lab, &mut outer, ID, &["--rootless"], &[]);
    // Ids that it has: nobody needs newuidmap for them.
    change(&outer.rootfs().join("work/config.json"), |config| {
        let map = json!([{ "containerID": 0, "hostID": 1000, "size": 500 }]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    let account_of_inner = super::account::FIRST + 999;
    own(&outer.rootfs().join("work"), account_of_inner);
    assert_eq!(words(&account.run(&outer, "a", &[]).ok()), ["0", "1000", "500", "probe"]);
}

/// With its cgroups read-only, as every engine has it: it has to be said that none
/// is needed.
fn of_root(lab: &Lab) {
    for (spec, map) in [(&[][..], ["0", "0", "4294967295"]), (&["--rootless"], ["0", "0", "1"])] {
        let mut outer = lab.bundle(&[]);
        privileged(&mut outer);
        if !spec.is_empty() {
            unmasked(&mut outer);
        }
        let run = |outer: &mut Bundle, flags: &[&str]| {
            let _ = fs::remove_dir_all(outer.rootfs().join("work/rootfs"));
            nest(lab, outer, 0, spec, flags);
            lab.run(outer, "a", &[])
        };
        let output = run(&mut outer, &[]);
        assert!(output.stderr.contains("read-only file system"), "{}", output.stderr);
        assert_eq!(output.code, 1);
        for flags in [&["--rootless=true"][..], &["--cgroup-manager=disabled"]] {
            let text = run(&mut outer, flags).ok();
            assert_eq!(words(&text), [&map[..], &["probe"]].concat(), "{spec:?} {flags:?}");
        }
    }
}

fn of_root_with_cgroups(lab: &Lab) {
    for (spec, map) in [(&[][..], ["0", "0", "4294967295"]), (&["--rootless"], ["0", "0", "1"])] {
        for cgroup in [true, false] {
            let mut outer = lab.bundle(&[]);
            privileged(&mut outer);
            unmasked(&mut outer);
            with_cgroups(&mut outer);
            outer.without_namespace("cgroup");
            if cgroup {
                outer.namespace("cgroup", None);
            }
            nest(lab, &mut outer, 0, spec, &[]);
            let text = lab.run(&outer, "a", &[]).ok();
            assert_eq!(words(&text), [&map[..], &["probe"]].concat(), "{spec:?} {cgroup}");
        }
    }
}

fn of_root_of_a_user_namespace(lab: &Lab) {
    for (spec, map) in [(&[][..], ["0", "100000", "1000"]), (&["--rootless"], ["0", "0", "1"])] {
        let mut outer = lab.bundle(&[]);
        outer.user_namespace();
        privileged(&mut outer);
        unmasked(&mut outer);
        nest(lab, &mut outer, 100_000, spec, &[]);
        let text = lab.run(&outer, "a", &[]).ok();
        assert_eq!(words(&text), [&map[..], &["probe"]].concat(), "{spec:?}");
    }
}

/// A user namespace can't have another procfs there, and its sysfs is bound.
fn below_what_is_masked(lab: &Lab) {
    let account = Account::new(lab);
    let mut outer = account.bundle(&[]);
    privileged(&mut outer);
    nest(lab, &mut outer, ID, &["--rootless"], &[]);
    let message = account.run(&outer, "a", &[]).fails();
    assert!(message.contains("mounting proc on \"/proc\""), "{message}");
    assert!(message.contains("masked, which a user namespace can't undo"), "{message}");

    let mut outer = account.bundle(&[]);
    privileged(&mut outer);
    unmasked(&mut outer);
    outer.config["linux"]["maskedPaths"] = json!(["/sys/firmware"]);
    nest(lab, &mut outer, ID, &["--rootless"], &[]);
    change(&outer.rootfs().join("work/config.json"), |config| {
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.push(json!({ "type": "network" }));
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/sys"));
        let sysfs = json!({
            "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"],
        });
        mounts.push(sysfs);
    });
    account.run(&outer, "a", &[]).ok();
}
