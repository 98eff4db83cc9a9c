//! The session keyring: one for all processes of a container, and its name.

use serde_json::json;

use crate::harness::{Bundle, Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_container_has_a_keyring_that_its_processes_share,
    a_user_namespace_has_one_too,
    the_callers_may_be_kept,
];

/// A bundle that shows which keys there are.
fn bundle(lab: &Lab) -> Bundle {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle
}

/// The session keyrings that a further process sees.
fn seen(lab: &Lab, flags: &[&str]) -> Vec<String> {
    let keys = lab.exec("a", flags, &["cat", "/proc/keys"]).ok();
    let named = keys.lines().filter(|line| line.contains(&format!("_ses.{}", lab.id("a"))));
    named.map(str::to_owned).collect()
}

fn a_container_has_a_keyring_that_its_processes_share(lab: &Lab) {
    lab.run(&bundle(lab), "a", &["--detach"]).ok();
    for _ in 0..2 {
        assert_eq!(seen(lab, &[]).len(), 1);
    }
    lab.delete("a");
}

fn a_user_namespace_has_one_too(lab: &Lab) {
    let mut bundle = bundle(lab);
    bundle.user_namespace();
    lab.run(&bundle, "a", &["--detach"]).ok();
    for _ in 0..2 {
        assert_eq!(seen(lab, &[]).len(), 1);
    }
    assert_eq!(seen(lab, &["--user", "7"]).len(), 1);
    lab.delete("a");
}

fn the_callers_may_be_kept(lab: &Lab) {
    lab.run(&bundle(lab), "a", &["--detach", "--no-new-keyring"]).ok();
    assert_eq!(seen(lab, &[]).len(), 0);
    lab.delete("a");
}
