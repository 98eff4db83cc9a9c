//! The life of a container: each command, in the order an engine gives them.

use crate::harness::{Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![is_created_started_and_deleted, exit_codes_are_passed_on,];

fn is_created_started_and_deleted(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    lab.create(&bundle, "a", &[]).ok();
    assert_eq!(lab.status("a"), "created");
    lab.on("a", &["start"], &[]).ok();
    assert_eq!(lab.status("a"), "running");
    assert_eq!(lab.exec("a", &[], &["say", "hello"]).ok(), "hello\n");
    lab.on("a", &["kill"], &["KILL"]).ok();
    crate::harness::until("its end", || lab.status("a") == "stopped");
    lab.on("a", &["delete"], &[]).ok();
    assert!(lab.on("a", &["state"], &[]).fails().contains("does not exist"));
}

fn exit_codes_are_passed_on(lab: &Lab) {
    for (arguments, code) in [(["exit", "0"], 0), (["exit", "7"], 7), (["exit", "255"], 255)] {
        lab.run(&lab.bundle(&arguments), "a", &[]).ends(code);
    }
    let mut bundle = lab.bundle(&["raise", "SIGKILL"]);
    // Process 1 of a pid namespace can't kill itself.
    bundle.without_namespace("pid");
    lab.run(&bundle, "a", &[]).ends(128 + 9);
}
