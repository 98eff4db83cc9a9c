//! One cgroup, several containers in turn: who is deleted takes nobody along.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Bundle, Lab, Output, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    who_has_the_cgroup_next_outlives_the_first,
    who_has_the_cgroup_next_outlives_a_creation_that_died,
    who_has_the_cgroup_next_outlives_a_lost_record,
    who_has_the_cgroup_next_outlives_records_of_other_stores,
    a_record_of_a_later_version_says_where_the_cgroup_is,
    what_an_init_leaves_in_a_shared_pid_namespace_is_ended,
    what_joins_a_paused_container_ends_with_it,
    an_init_without_its_first_thread_is_alive,
];

/// What sleeps in the test's own cgroup.
fn sleeper(lab: &Lab, shared_pids: bool) -> Bundle {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.cgroup(lab, &format!("{}-cgroup", lab.tag()));
    if shared_pids {
        bundle.without_namespace("pid");
    }
    bundle
}

/// A container `a` that has ended, whose cgroup `b` has got.
fn taken_over(lab: &Lab, shared_pids: bool) {
    let bundle = sleeper(lab, shared_pids);
    lab.run(&bundle, "a", &["--detach"]).ok();
    lab.on("a", &["kill"], &["KILL"]).ok();
    until("its end", || lab.status("a") == "stopped");
    until("an empty cgroup", || lab.create(&bundle, "b", &[]).code == 0);
    lab.on("b", &["start"], &[]).ok();
}

fn change_record(lab: &Lab, change: impl FnOnce(&mut Value)) {
    let path = lab.root().join(lab.id("a")).join("state.json");
    let mut record = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, record.to_string()).unwrap();
}

/// `a` is deleted, which says of the cgroup that it stays, and `b` runs.
fn delete_first(lab: &Lab, flags: &[&str]) {
    stays(lab, &lab.on("a", &[&["delete"], flags].concat(), &[]));
}

fn stays(lab: &Lab, output: &Output) {
    let found = output.stderr.matches("=warning ").count();
    assert_eq!(found, 1, "{output:?}");
    assert!(output.stderr.contains("is left: it has processes of others in it"), "{output:?}");
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(lab.status("b"), "running");
    lab.on("b", &["pause"], &[]).ok();
    lab.delete("b");
}

fn who_has_the_cgroup_next_outlives_the_first(lab: &Lab) {
    for (shared_pids, flags) in [(false, &[][..]), (true, &["--force"])] {
        taken_over(lab, shared_pids);
        assert_eq!(lab.on("a", &["ps", "--format", "json"], &[]).ok().trim(), "null");
        lab.on("a", &["kill", "--all"], &["KILL"]).ok();
        lab.on("a", &["kill", "--all"], &["TERM"]).ok();
        assert_eq!(lab.status("b"), "running");
        delete_first(lab, flags);
    }
}

/// It died before it knew its init.
fn who_has_the_cgroup_next_outlives_a_creation_that_died(lab: &Lab) {
    taken_over(lab, false);
    change_record(lab, |record| {
        record["phase"] = json!("creating");
        record["pid"] = json!(0);
    });
    delete_first(lab, &["--force"]);
}

fn who_has_the_cgroup_next_outlives_a_lost_record(lab: &Lab) {
    taken_over(lab, false);
    change_record(lab, |record| *record = json!("lost"));
    delete_first(lab, &["--force"]);
}

/// Which list nothing of it: neither of a container whose init left others behind, nor
/// of one whose creation died.
fn who_has_the_cgroup_next_outlives_records_of_other_stores(lab: &Lab) {
    let other = lab.path("other");
    fs::create_dir(&other).unwrap();
    for died in [false, true] {
        taken_over(lab, !died);
        if died {
            change_record(lab, |record| {
                record["phase"] = json!("creating");
                record["pid"] = json!(0);
            });
        }
        let id = lab.id("a");
        fs::rename(lab.root().join(&id), other.join(&id)).unwrap();
        stays(lab, &lab.runtime(&["--root", other.to_str().unwrap(), "delete", &id]));
        assert!(!other.join(&id).exists());
    }
}

/// The config tells only where it is for who stands where the creator stood.
fn a_record_of_a_later_version_says_where_the_cgroup_is(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    lab.run(&bundle, "a", &["--detach"]).ok();
    change_record(lab, |record| {
        record["version"] = json!(1_000_000);
        record["pid"] = json!("a word");
    });
    bundle.config["linux"]["cgroupsPath"] = json!("elsewhere");
    bundle.write();
    let copy = lab.root().join(lab.id("a")).join("config.json");
    fs::copy(bundle.path.join("config.json"), copy).unwrap();
    let output = lab.on("a", &["delete", "--force"], &[]);
    assert_eq!(output.stderr, "");
    output.ok();
}

fn what_an_init_leaves_in_a_shared_pid_namespace_is_ended(lab: &Lab) {
    let mut bundle = sleeper(lab, true);
    bundle.args(&["family", "3"]);
    let running = lab.begin(lab.start_of("run", &bundle, "a", &["--keep"]));
    until("the family", || running.printed() == "ready\n");
    lab.on("a", &["kill"], &["TERM"]).ok();
    running.end().ends(128 + 15);
    let pids = || -> Vec<i32> {
        serde_json::from_str(&lab.on("a", &["ps", "--format", "json"], &[]).ok()).unwrap()
    };
    assert_eq!(pids().len(), 3);
    let output = lab.on("a", &["delete"], &[]);
    assert_eq!(output.stderr, "");
    output.ok();
}

/// A process on its way into the pid namespace, for which nobody waits any more.
fn what_joins_a_paused_container_ends_with_it(lab: &Lab) {
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    lab.on("a", &["pause"], &[]).ok();
    let id = lab.id("a");
    let words = ["exec", "--ignore-paused", "--detach", &*id, "/bin/probe", "sleep"];
    let running = lab.begin(lab.command(&words));
    until("the process", || {
        lab.on("a", &["ps", "--format", "json"], &[]).ok().matches(',').count() == 1
    });
    running.signal("SIGKILL");
    running.end().ends(128 + 9);
    lab.on("a", &["kill"], &["KILL"]).ok();
    until("its end", || lab.status("a") == "stopped");
    let output = lab.on("a", &["delete"], &[]);
    assert_eq!(output.stderr, "");
    output.ok();
}

fn an_init_without_its_first_thread_is_alive(lab: &Lab) {
    let mut bundle = lab.bundle(&["lose-first-thread"]);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["chroot"], "action": "SCMP_ACT_KILL_THREAD" }],
    });
    lab.run(&bundle, "a", &["--detach"]).ok();
    let path = format!("/proc/{}/stat", lab.state("a")["pid"]);
    until("the end of the thread", || fs::read_to_string(&path).unwrap().contains(") Z "));
    assert_eq!(lab.status("a"), "running");
    assert!(lab.on("a", &["delete"], &[]).fails().contains("not stopped: running"));
    lab.delete("a");
}
