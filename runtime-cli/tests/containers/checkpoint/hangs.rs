//! CRIU that never comes to an end, and those who end it.

use std::fs;

use super::told::{Fake, images};
use crate::harness::{Lab, Running, Test, cgroups, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    a_checkpoint_that_hangs_is_ended_by_a_deletion,
    a_restore_that_hangs_is_ended_by_a_deletion,
    a_checkpoint_that_is_interrupted_leaves_no_criu,
    a_restore_that_is_interrupted_leaves_nothing,
    criu_ends_with_whoever_started_it,
    a_criu_that_says_nothing_is_given_up,
];

/// Whether a process is there, and no zombie.
pub(crate) fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next())
        .is_some_and(|state| state != "Z")
}

/// A command for the container, and the CRIU that hangs in it.
pub(crate) fn hanging(lab: &Lab, fake: &Fake<'_>, verb: &[&str]) -> (Running, String) {
    fake.tell("works for ever", "");
    let hangs = lab.path("fake/hangs");
    let mut command = fake.command(verb);
    command.arg(lab.id("a"));
    let running = lab.begin(command);
    until("criu", || hangs.exists());
    let pid = fs::read_to_string(&hangs).unwrap();
    fs::remove_file(&hangs).unwrap();
    assert!(lives(&pid));
    (running, pid)
}

fn a_checkpoint_that_hangs_is_ended_by_a_deletion(lab: &Lab) {
    let fake = Fake::new(lab);
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let (running, criu) = hanging(lab, &fake, &["checkpoint"]);
    lab.delete("a");
    assert!(!lives(&criu));
    let said = running.end().fails();
    assert!(said.contains("criu has ended without an answer"), "{said}");
    assert_eq!(lab.runtime(&["list", "-q"]).ok(), "");
}

pub(crate) fn restore(lab: &Lab) -> [&'static str; 4] {
    let bundle = lab.bundle(&["sleep"]);
    images(lab);
    bundle.write();
    // Few, and needed to the end of the test.
    let path = bundle.path.to_str().unwrap().to_owned().leak();
    ["restore", "--detach", "--bundle", path]
}

fn a_restore_that_hangs_is_ended_by_a_deletion(lab: &Lab) {
    let fake = Fake::new(lab);
    let verb = restore(lab);
    let (running, criu) = hanging(lab, &fake, &verb);
    lab.delete("a");
    assert!(!lives(&criu));
    running.end().fails();
    assert!(cgroups(lab.tag()).is_empty(), "what it had made is left");
}

fn a_checkpoint_that_is_interrupted_leaves_no_criu(lab: &Lab) {
    let fake = Fake::new(lab);
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    for signal in ["SIGINT", "SIGTERM"] {
        let (running, criu) = hanging(lab, &fake, &["checkpoint"]);
        running.signal(signal);
        let said = running.end().fails();
        assert!(said.contains("interrupted"), "{said}");
        assert!(!lives(&criu));
        assert_eq!(lab.status("a"), "running");
    }
    let record = fs::read_to_string(lab.root().join(lab.id("a")).join("state.json")).unwrap();
    assert!(!record.contains("\"saver\""), "{record}");
    lab.delete("a");
}

fn a_restore_that_is_interrupted_leaves_nothing(lab: &Lab) {
    let fake = Fake::new(lab);
    let verb = restore(lab);
    let (running, criu) = hanging(lab, &fake, &verb);
    running.signal("SIGTERM");
    let said = running.end().fails();
    assert!(said.contains("interrupted"), "{said}");
    assert!(!lives(&criu));
    assert_eq!(lab.runtime(&["list", "-q"]).ok(), "");
    assert!(cgroups(lab.tag()).is_empty(), "what it had made is left");
}

fn criu_ends_with_whoever_started_it(lab: &Lab) {
    let fake = Fake::new(lab);
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let verb = restore(lab);
    for verb in [&["checkpoint"][..], &verb] {
        let (running, criu) = hanging(lab, &fake, verb);
        running.signal("SIGKILL");
        assert_eq!(running.end().code, 128 + 9);
        until("the end of criu", || !lives(&criu));
        // With what was half made.
        lab.delete("a");
        assert!(cgroups(lab.tag()).is_empty(), "{verb:?}");
    }
}

fn a_criu_that_says_nothing_is_given_up(lab: &Lab) {
    let fake = Fake::new(lab);
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    fake.tell("is silent", "");
    let said = fake.on(&["checkpoint"], "a").fails();
    assert!(said.contains("criu does not answer"), "{said}");
    assert!(!lives(&fs::read_to_string(lab.path("fake/hangs")).unwrap()));
    lab.delete("a");
}
