//! The options of cgroup v2, which are one for the whole machine: whoever mounts it
//! without them outside of any cgroup namespace takes them from everybody.
//!
//! Two suites beside each other would see each other's, so `.ci/run` has these alone.

use std::fs;

use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::checkpoint::hangs::{hanging, lives, restore};
use crate::checkpoint::told::Fake;
use crate::checkpoint::whole::{RUN, command_on, criu, quietly};
use crate::harness::{CGROUPS, Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    who_joins_the_hosts_cgroup_namespace_leaves_options,
    options_stay_over_criu,
    options_that_criu_took_come_back_with_the_deletion,
    of_two_criu_the_last_one_gives_options_back,
];

/// Those of the mount that is ours.
fn options() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = text.lines().find_map(|line| line.split_once(" - cgroup2 "));
    let all = line.map_or("", |line| line.1);
    all.split([' ', ',']).skip(1).map(str::to_owned).collect()
}

/// The options, where there are some to be taken.
fn some(lab: &Lab) -> Vec<String> {
    let options = options();
    if !options.iter().any(|option| option == "nsdelegate") {
        lab.skip("cgroup v2 has no option here that could be taken");
    }
    options
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
    let before = some(lab);
    let fake = Fake::new(lab);
    fake.tell("takes options", "");
    (before.clone(), Again(before), fake)
}

fn who_joins_the_hosts_cgroup_namespace_leaves_options(lab: &Lab) {
    let before = some(lab);
    let _again = Again(before.clone());
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.namespace("cgroup", Some("/proc/self/ns/cgroup"));
    bundle.mount("/work", "tmpfs", "tmpfs", &[]);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    assert_eq!(options(), before, "by its own mount");
    let path = lab.path("mounts.json");
    let list = json!([{ "destination": "/work/cgroup", "type": "cgroup", "source": "cgroup" }]);
    fs::write(&path, list.to_string()).unwrap();
    lab.on("a", &["mounts", "add"], &[path.to_str().unwrap()]).ok();
    assert_eq!(options(), before, "by a later one");
    lab.delete("a");
}

fn options_stay_over_criu(lab: &Lab) {
    criu(lab);
    let before = some(lab);
    let _again = Again(before.clone());
    let bundle = lab.bundle(&["sleep"]);
    quietly(command_on(lab, &bundle, &RUN, "a"));
    let mut command = lab.command(&["checkpoint"]);
    command.arg(lab.id("a")).current_dir(lab.folder());
    lab.begin(command).end().ok();
    assert_eq!(options(), before);
    lab.begin(command_on(lab, &bundle, &["restore", "--detach"], "a")).end().ok();
    assert_eq!(options(), before);
    lab.delete("a");
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
