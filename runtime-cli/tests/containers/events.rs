//! `events`: what a container uses, and when the kernel ends a process of it for want
//! of memory.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{CGROUPS, Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    statistics_are_printed_once,
    statistics_are_printed_until_it_ends,
    want_of_memory_is_told,
    events_of_nothing_are_refused,
];

fn objects(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether the view counts what this controller counts.
fn counts(lab: &Lab, controller: &str) -> bool {
    let all = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    !lab.view.is_v2() || all.unwrap().split_whitespace().any(|found| found == controller)
}

fn statistics_are_printed_once(lab: &Lab) {
    lab.run(&lab.bundle(&["family", "2"]), "a", &["--detach"]).ok();
    until("the family", || {
        lab.on("a", &["ps", "--format", "json"], &[]).ok().matches(',').count() == 2
    });
    let printed = lab.on("a", &["events", "--stats"], &[]).ok();
    assert!(printed.starts_with(&format!("{{\"type\":\"stats\",\"id\":{:?},", lab.id("a"))));
    let [event] = &objects(&printed)[..] else { panic!("{printed}") };
    let data = &event["data"];
    assert!(data["cpu"]["usage"]["kernel"].is_u64() && data["cpuset"].is_object(), "{data:#}");
    assert!(data["hugetlb"].is_object() && data["blkio"].is_object(), "{data:#}");
    // COMPAT(runc): what there is none of is there all the same, and last.
    let last = "\"intel_rdt\":{},\"network_interfaces\":null}}\n";
    assert!(printed.ends_with(last), "{printed}");
    assert_eq!(data["pids"]["current"], 3, "{data:#}");
    if counts(lab, "memory") {
        assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{data:#}");
        assert!(!data["memory"]["raw"].as_object().unwrap().is_empty(), "{data:#}");
    }
    if counts(lab, "cpu") {
        assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{data:#}");
    }
    lab.delete("a");
}

fn statistics_are_printed_until_it_ends(lab: &Lab) {
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let mut command = lab.command(&["events", "--interval", "20ms"]);
    command.arg(lab.id("a"));
    let events = lab.begin(command);
    until("two objects", || events.printed().lines().count() >= 2);
    lab.on("a", &["pause"], &[]).ok();
    let before = events.printed().lines().count();
    until("more of a paused one", || events.printed().lines().count() > before + 1);
    lab.delete("a");
    let printed = events.end().ok();
    assert!(objects(&printed).iter().all(|event| event["type"] == "stats"), "{printed}");
}

fn want_of_memory_is_told(lab: &Lab) {
    if !counts(lab, "memory") {
        lab.skip("cgroup v2 has no memory controller");
    }
    let mut bundle = lab.bundle(&["sleep"]);
    let memory = &mut bundle.config["linux"]["resources"]["memory"];
    *memory = json!({ "limit": 32 << 20 });
    // Of swap there may be more than it ever takes.
    if lab.view.is_v2() || Path::new(CGROUPS).join("memory/memory.memsw.limit_in_bytes").exists() {
        memory["swap"] = memory["limit"].clone();
    }
    lab.run(&bundle, "a", &["--detach"]).ok();
    let mut command = lab.command(&["events", "--interval", "1h"]);
    command.arg(lab.id("a"));
    let events = lab.begin(command);
    // Told by the kernel, not looked for with the statistics.
    let watches = [Path::new("anon_inode:[eventpoll]"), Path::new("anon_inode:[eventfd]")];
    let stat = format!("/proc/{}/stat", events.pid());
    until("the watch", || {
        watches.iter().any(|watch| events.has_open(watch))
            && fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") S "))
    });
    assert_eq!(lab.exec("a", &[], &["eat", "64"]).code, 128 + 9);
    let told = format!("{{\"type\":\"oom\",\"id\":{:?}}}", lab.id("a"));
    until("the word", || events.printed().lines().any(|line| line == told));
    lab.delete("a");
    events.end().ok();
}

fn events_of_nothing_are_refused(lab: &Lab) {
    let ended = format!("container with id {} is not running", lab.id("a"));
    assert!(lab.on("a", &["events", "--stats"], &[]).fails().contains("does not exist"));
    lab.run(&lab.bundle(&["exit", "0"]), "a", &["--detach"]).ok();
    until("its end", || lab.status("a") == "stopped");
    for flags in [&["events"][..], &["events", "--stats"]] {
        assert!(lab.on("a", flags, &[]).fails().contains(&ended));
    }
    for (interval, wanted) in [
        ("0s", "duration interval must be greater than 0"),
        ("-1s", "invalid value '-1s' for '--interval <DURATION>'"),
        ("5", "time unit needed"),
    ] {
        let said = lab.on("a", &["events", "--interval", interval], &[]).fails();
        assert!(said.contains(wanted), "{interval}: {said}");
    }
    lab.delete("a");
}
