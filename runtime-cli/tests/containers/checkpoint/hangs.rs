//! CRIU that never comes to an end, and those who end it.

use std::fs;

use nix::mount::{MsFlags, mount};

use super::told::{Fake, images};
use crate::harness::{CGROUPS, Lab, Running, Test, cgroups, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    a_checkpoint_that_hangs_is_ended_by_a_deletion,
    a_restore_that_hangs_is_ended_by_a_deletion,
    a_checkpoint_that_is_interrupted_leaves_no_criu,
    a_restore_that_is_interrupted_leaves_nothing,
    criu_ends_with_whoever_started_it,
    options_that_criu_took_come_back_with_the_deletion,
    of_two_criu_the_last_one_gives_options_back,
    a_criu_that_says_nothing_is_given_up,
];

/// Whether a process is there, and no zombie.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next())
        .is_some_and(|state| state != "Z")
}

/// A command for the container, and the CRIU that hangs in it.
fn hanging(lab: &Lab, fake: &Fake<'_>, verb: &[&str]) -> (Running, String) {
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

fn restore(lab: &Lab) -> [&'static str; 4] {
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

/// The options of cgroup v2, which are the whole machine's.
fn options() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = text.lines().find_map(|line| line.split_once(" - cgroup2 ")).unwrap();
    line.1.split([' ', ',']).skip(1).map(str::to_owned).collect()
}

/// Puts them back whatever a test has found out.
struct Again(Vec<String>);

impl Drop for Again {
    fn drop(&mut self) {
        if options() == self.0 {
            return;
        }
        let closed = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RELATIME | closed;
        let own = self.0.iter().filter(|option| *option != "rw");
        let own = own.cloned().collect::<Vec<_>>().join(",");
        let none = None::<&str>;
        mount(none, CGROUPS, none, flags, Some(&*own)).unwrap();
    }
}

/// The options that there are, who gives them back at the end, and a CRIU that takes them.
fn taker(lab: &Lab) -> (Vec<String>, Again, Fake<'_>) {
    let before = options();
    if !before.iter().any(|option| option == "nsdelegate") {
        lab.skip("cgroup v2 has no option here that criu could take");
    }
    let fake = Fake::new(lab);
    fake.tell("takes options", "");
    (before.clone(), Again(before), fake)
}

/// Who started it was killed, and could not put them back.
fn options_that_criu_took_come_back_with_the_deletion(lab: &Lab) {
    let (before, _again, fake) = taker(lab);
    let restore = restore(lab);
    for verb in [&["checkpoint"][..], &["checkpoint", "--pre-dump"], &restore] {
        // And by a record of which no more can be read than that.
        for readable in [true, false] {
            if verb[0] == "checkpoint" {
                lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
            }
            let (running, criu) = hanging(lab, &fake, verb);
            assert!(options().iter().all(|option| option != "nsdelegate"));
            running.signal("SIGKILL");
            assert_eq!(running.end().code, 128 + 9);
            until("the end of criu", || !lives(&criu));
            assert_ne!(options(), before, "{verb:?}");
            if !readable {
                let file = lab.root().join(lab.id("a")).join("state.json");
                let text = fs::read_to_string(&file).unwrap();
                let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
                record.as_object_mut().unwrap().remove("bundle").unwrap();
                fs::write(&file, record.to_string()).unwrap();
            }
            lab.delete("a");
            assert_eq!(options(), before, "{verb:?}");
        }
    }
}

/// The second begins when the first has taken them, and takes them when they are back.
fn of_two_criu_the_last_one_gives_options_back(lab: &Lab) {
    let (before, _again, fake) = taker(lab);
    for name in ["a", "b"] {
        lab.run(&lab.bundle(&["sleep"]), name, &["--detach"]).ok();
    }
    let (running, _) = hanging(lab, &fake, &["checkpoint"]);
    fs::remove_file(lab.path("fake/works for ever")).unwrap();
    fake.tell("takes them later", "");
    let mut second = fake.command(&["checkpoint", "--leave-running"]);
    second.arg(lab.id("b"));
    let second = lab.begin(second);
    until("the second", || lab.path("fake/waits").exists());
    assert_ne!(options(), before);
    running.signal("SIGTERM");
    running.end().fails();
    assert_eq!(options(), before);
    fake.tell("go", "");
    second.end().ok();
    assert_eq!(options(), before);
    for name in ["a", "b"] {
        lab.delete(name);
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
