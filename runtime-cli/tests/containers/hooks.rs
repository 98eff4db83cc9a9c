//! Hooks: when, where, with what on their standard input, and what their failure
//! does.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Lab, Test, tests};

pub(crate) const TESTS: &[Test] =
    tests![all_six_kinds_read_the_state, a_failure_ends_the_creation, a_hook_has_a_timeout];

/// Kind, and the status it is told.
const KINDS: [(&str, &str); 6] = [
    ("prestart", "creating"),
    ("createRuntime", "creating"),
    ("createContainer", "creating"),
    ("startContainer", "created"),
    ("poststart", "running"),
    ("poststop", "stopped"),
];

fn all_six_kinds_read_the_state(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["annotations"] = json!({ "key": "value" });
    let folder = lab.path("hooks");
    fs::create_dir(&folder).unwrap();
    for (kind, _) in KINDS {
        let place = if kind == "startContainer" { "/work".into() } else { folder.clone() };
        bundle.hook(kind, &["keep", place.join(kind).to_str().unwrap()]);
    }
    let told = |kind: &str| -> Option<Value> {
        let inside = bundle.rootfs().join("work").join(kind);
        let place = if kind == "startContainer" { inside } else { folder.join(kind) };
        Some(serde_json::from_slice(&fs::read(place).ok()?).unwrap())
    };
    let so_far = || KINDS.iter().filter(|(kind, _)| told(kind).is_some()).count();
    lab.create(&bundle, "a", &[]).ok();
    assert_eq!(so_far(), 3);
    let pid = lab.state("a")["pid"].clone();
    lab.on("a", &["start"], &[]).ok();
    assert_eq!(so_far(), 5);
    lab.delete("a");
    for (kind, status) in KINDS {
        let state = told(kind).unwrap();
        assert_eq!(state["status"], status, "{kind}");
        assert_eq!(state["id"], lab.id("a"), "{kind}");
        assert_eq!(state["bundle"], bundle.path.to_str().unwrap(), "{kind}");
        assert_eq!(state["annotations"]["key"], "value", "{kind}");
        if kind != "poststop" {
            assert_eq!(state["pid"], pid, "{kind}");
        }
    }
}

fn a_failure_ends_the_creation(lab: &Lab) {
    for (kind, _) in &KINDS[..5] {
        let mut bundle = lab.bundle(&["sleep"]);
        bundle.hook(kind, &["exit", "9"]);
        let message = lab.run(&bundle, "a", &["--detach"]).fails();
        assert!(message.contains(&format!("/hooks/{kind}/0")), "{kind}: {message}");
        if *kind == "poststart" {
            lab.delete("a");
        }
    }
}

fn a_hook_has_a_timeout(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.hook("createRuntime", &["sleep"])["timeout"] = json!(1);
    let begun = Instant::now();
    let message = lab.run(&bundle, "a", &["--detach"]).fails();
    assert!(message.contains("/hooks/createRuntime/0"), "{message}");
    assert!(begun.elapsed().as_secs() < 10);
}
