//! Who the process is, and what it may do.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use crate::harness::{Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_number_is_no_name,
    exec_has_exactly_the_user_it_asks_for,
    the_id_that_is_none_is_nobodys,
    sets_are_exact,
    exec_adds_no_inheritable_capability,
    a_user_has_no_capability_unasked,
    a_user_has_the_ambient_ones_that_it_asks_for,
];

/// /proc/self/status of a process.
struct Status(BTreeMap<String, String>);

impl Status {
    fn new(text: &str) -> Self {
        let line = |line: &str| {
            let (key, value) = line.split_once(":\t")?;
            Some((key.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        };
        Self(text.lines().filter_map(line).collect())
    }

    fn has(&self, wanted: &[(&str, &str)]) {
        for (key, value) in wanted {
            assert_eq!(self.0[*key], *value, "{key}");
        }
    }

    fn is(&self, uid: u32, gid: u32) {
        let four = |id: u32| format!("{id} {id} {id} {id}");
        self.has(&[("Uid", &four(uid)), ("Gid", &four(gid))]);
    }
}

const LOOK: [&str; 2] = ["cat", "/proc/self/status"];
const NONE: &str = "0000000000000000";
/// CAP_KILL (5), CAP_NET_BIND_SERVICE (10), CAP_AUDIT_WRITE (29)
const DEFAULT: &str = "0000000020000420";

// CVE-2016-3697: a number was looked up as a name in the image's passwd file.
fn a_number_is_no_name(lab: &Lab) {
    let mut bundle = lab.bundle(&LOOK);
    let passwd = "1000:x:0:0::/:/bin/sh\nroot:x:0:0::/root:/bin/sh\n";
    fs::write(bundle.rootfs().join("etc/passwd"), passwd).unwrap();
    fs::write(bundle.rootfs().join("etc/group"), "1000:x:0:\n").unwrap();
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    Status::new(&lab.run(&bundle, "a", &[]).ok()).is(1000, 1000);
    bundle.args(&["sleep"]);
    lab.create(&bundle, "a", &[]).ok();
    Status::new(&lab.exec("a", &["--user", "1000:1000"], &LOOK).ok()).is(1000, 1000);
    lab.delete("a");
}

// CVE-2026-30892: `exec -u 1` ran as root.
fn exec_has_exactly_the_user_it_asks_for(lab: &Lab) {
    lab.create(&lab.bundle(&["sleep"]), "a", &[]).ok();
    for (user, uid, gid) in [
        ("1", 1, 0),
        ("1:1", 1, 1),
        ("1000:5", 1000, 5),
        ("0:7", 0, 7),
        ("4294967294:4294967294", u32::MAX - 1, u32::MAX - 1),
        ("0001", 1, 0),
    ] {
        Status::new(&lab.exec("a", &["--user", user], &LOOK).ok()).is(uid, gid);
    }
    for user in ["", "x", "1x", " 1", "1 ", "1:", "1:x", ":1", "1:1:1", "0x1", "4294967297", "1.5"]
    {
        let output = lab.exec("a", &["--user", user], &LOOK);
        assert_eq!((output.code == 0, &*output.stdout), (false, ""), "{user:?}");
    }
    lab.delete("a");
}

// setresuid(-1) changes nothing: the process would stay root.
fn the_id_that_is_none_is_nobodys(lab: &Lab) {
    lab.create(&lab.bundle(&["sleep"]), "a", &[]).ok();
    for flags in [
        &["--user", "4294967295"][..],
        &["--user", "-1"],
        &["--user", "1:4294967295"],
        &["--additional-gids", "4294967295"],
        &["--additional-gids", "-1"],
    ] {
        let output = lab.exec("a", flags, &LOOK);
        assert_ne!(output.code, 0, "{flags:?}");
        assert_eq!(output.stdout, "", "{flags:?}");
    }
    lab.delete("a");
    let id = u32::MAX;
    let extent = json!([{"containerID": 0, "hostID": id, "size": 1}]);
    let inside = json!([{"containerID": id, "hostID": 0, "size": 1}]);
    let node =
        |owner: &str| json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, owner: id}]);
    for (pointer, value) in [
        ("/process/user/uid", json!(id)),
        ("/process/user/gid", json!(id)),
        ("/process/user/additionalGids", json!([id])),
        ("/linux/uidMappings", extent.clone()),
        ("/linux/gidMappings", extent),
        ("/linux/uidMappings", inside),
        ("/linux/devices", node("uid")),
        ("/linux/devices", node("gid")),
    ] {
        let mut bundle = lab.bundle(&LOOK);
        if pointer.contains("Mappings") {
            bundle.namespace("user", None);
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            bundle.config["linux"]["uidMappings"] = map.clone();
            bundle.config["linux"]["gidMappings"] = map;
        }
        let (above, name) = pointer.rsplit_once('/').unwrap();
        bundle.config.pointer_mut(above).unwrap()[name] = value;
        let said = lab.run(&bundle, "a", &[]).fails();
        assert!(said.contains(pointer), "{pointer}: {said}");
    }
}

// CVE-2022-29162, CVE-2022-27650, CVE-2025-27612: inheritable capabilities that
// nobody asked for.
fn sets_are_exact(lab: &Lab) {
    let bundle = lab.bundle(&LOOK);
    Status::new(&lab.run(&bundle, "a", &[]).ok()).has(&[
        ("CapInh", NONE),
        ("CapPrm", DEFAULT),
        ("CapEff", DEFAULT),
        ("CapBnd", DEFAULT),
        ("CapAmb", NONE),
        ("NoNewPrivs", "1"),
        ("Groups", ""),
    ]);
    let mut bundle = lab.bundle(&LOOK);
    bundle.config["process"]["capabilities"] = json!({});
    Status::new(&lab.run(&bundle, "a", &[]).ok()).has(&[
        ("CapInh", NONE),
        ("CapPrm", NONE),
        ("CapEff", NONE),
        ("CapBnd", NONE),
        ("CapAmb", NONE),
    ]);
}

fn exec_adds_no_inheritable_capability(lab: &Lab) {
    lab.create(&lab.bundle(&["sleep"]), "a", &[]).ok();
    let sets = "0000000020002420"; // and CAP_NET_RAW (13)
    Status::new(&lab.exec("a", &["--cap", "CAP_NET_RAW"], &LOOK).ok()).has(&[
        ("CapInh", NONE),
        ("CapPrm", sets),
        ("CapEff", sets),
        ("CapBnd", sets),
        ("CapAmb", NONE),
    ]);
    Status::new(&lab.exec("a", &["--cap", "CAP_NET_RAW", "--user", "1"], &LOOK).ok()).has(&[
        ("CapInh", NONE),
        ("CapPrm", NONE),
        ("CapEff", NONE),
        ("CapAmb", NONE),
    ]);
    lab.delete("a");
}

// CVE-2016-8867: a user that is not root had ambient capabilities.
fn a_user_has_no_capability_unasked(lab: &Lab) {
    let mut bundle = lab.bundle(&LOOK);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7, 9]});
    let status = Status::new(&lab.run(&bundle, "a", &[]).ok());
    status.is(1000, 1000);
    status.has(&[
        ("CapInh", NONE),
        ("CapPrm", NONE),
        ("CapEff", NONE),
        ("CapBnd", DEFAULT),
        ("CapAmb", NONE),
        ("Groups", "7 9"),
    ]);
}

fn a_user_has_the_ambient_ones_that_it_asks_for(lab: &Lab) {
    let mut bundle = lab.bundle(&LOOK);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let sets = &mut bundle.config["process"]["capabilities"];
    sets["inheritable"] = json!(["CAP_KILL"]);
    sets["ambient"] = json!(["CAP_KILL"]);
    let kill = "0000000000000020";
    Status::new(&lab.run(&bundle, "a", &[]).ok()).has(&[
        ("CapInh", kill),
        ("CapEff", kill),
        ("CapBnd", DEFAULT),
        ("CapAmb", kill),
    ]);
}
