//! Cgroups: limits in their files, changed by `update`; pause and resume.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{CGROUPS, Lab, Test, View, cgroups, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    limits_are_in_the_files,
    their_names_are_known_in_any_case,
    update_changes_them,
    updates_of_memory_go_by_the_last_one,
    update_keeps_the_other_half_of_a_cpu_limit,
    a_paused_container_is_resumed_or_deleted,
    devices_are_forbidden,
    devices_are_changed_while_it_runs,
    exec_goes_below,
    exec_follows_the_init,
    exec_follows_an_init_that_has_left,
    exec_is_on_its_processors_first,
];

/// The text of a file in whichever of the test's cgroups has it.
fn file(lab: &Lab, name: &str) -> Option<String> {
    let found = cgroups(lab.tag());
    let text = found.iter().find_map(|place| fs::read_to_string(place.join(name)).ok());
    text.map(|text| text.trim().to_owned())
}

/// The value of a v1 or v2 file, or the test ends: no such controller here.
fn value(lab: &Lab, v1: &str, v2: &str) -> String {
    match file(lab, if lab.view.is_v2() { v2 } else { v1 }) {
        Some(text) => text,
        None => {
            lab.delete("a");
            lab.skip(&format!("no controller for {v2}"))
        }
    }
}

fn limits_are_in_the_files(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    if lab.view.is_v2() && !controllers().contains("memory") {
        lab.skip("cgroup v2 has no memory controller");
    }
    bundle.config["linux"]["resources"] = json!({
        "memory": { "limit": 64 << 20 },
        "cpu": { "quota": 50_000, "period": 100_000, "shares": 512 },
        "pids": { "limit": 77 },
    });
    lab.create(&bundle, "a", &[]).ok();
    assert_eq!(value(lab, "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(value(lab, "pids.max", "pids.max"), "77");
    if lab.view.is_v2() {
        assert_eq!(file(lab, "cpu.max").unwrap(), "50000 100000");
    } else {
        assert_eq!(file(lab, "cpu.cfs_quota_us").unwrap(), "50000");
        assert_eq!(file(lab, "cpu.shares").unwrap(), "512");
    }
    lab.delete("a");
}

fn their_names_are_known_in_any_case(lab: &Lab) {
    if lab.view.is_v2() && !controllers().contains("pids") {
        lab.skip("cgroup v2 has no pids controller");
    }
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["resources"] = json!({ "pids": {}, "PIDS": { "Limit": 77 } });
    lab.create(&bundle, "a", &[]).ok();
    assert_eq!(value(lab, "pids.max", "pids.max"), "77");
    lab.delete("a");
}

fn controllers() -> String {
    fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default()
}

fn update_changes_them(lab: &Lab) {
    if lab.view.is_v2() && !controllers().contains("pids") {
        lab.skip("cgroup v2 has no pids controller");
    }
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    lab.on("a", &["update", "--pids-limit", "55", "--memory", "50M"], &[]).ok();
    assert_eq!(value(lab, "pids.max", "pids.max"), "55");
    assert_eq!(value(lab, "memory.limit_in_bytes", "memory.max"), "52428800");
    lab.on("a", &["update", "--pids-limit", "-1"], &[]).ok();
    assert_eq!(value(lab, "pids.max", "pids.max"), "max");
    lab.delete("a");
}

/// v2 limits swap alone, where the configuration limits both together: who names one of
/// the two means the other as it was last said.
fn updates_of_memory_go_by_the_last_one(lab: &Lab) {
    if !lab.view.is_v2() {
        lab.skip("needs cgroup v2");
    }
    if !controllers().contains("memory") {
        lab.skip("cgroup v2 has no memory controller");
    }
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let mega = |number: u64| (number << 20).to_string();
    let none = || "max".to_owned();
    for (flags, memory, swap) in [
        (&["--memory", "64M"][..], mega(64), none()),
        (&["--memory-swap", "96M"], mega(64), mega(32)),
        (&["--memory", "80M"], mega(80), mega(16)),
        (&["--memory-reservation", "20M"], mega(80), mega(16)),
        (&["--memory", "40M", "--memory-swap", "40M"], mega(40), mega(0)),
        (&["--memory-swap", "-1"], mega(40), none()),
        (&["--memory-swap", "48M"], mega(40), mega(8)),
        (&["--memory", "-1"], none(), none()),
        (&["--memory", "32M"], mega(32), none()),
    ] {
        lab.on("a", &[&["update"], flags].concat(), &[]).ok();
        let seen = ["memory.max", "memory.swap.max"].map(|name| file(lab, name).unwrap());
        assert_eq!(seen, [memory, swap], "{flags:?}");
    }
    // One that is refused is none that the next goes by.
    let said = lab.on("a", &["update", "--memory-swap", "16M"], &[]).fails();
    assert!(said.contains("memory+swap limit should be >= memory limit"), "{said}");
    lab.on("a", &["update", "--memory", "16M"], &[]).ok();
    assert_eq!(file(lab, "memory.swap.max").unwrap(), "max");
    lab.delete("a");
}

/// The CPU limit as v2 writes it.
fn quota(lab: &Lab) -> String {
    if lab.view.is_v2() {
        return file(lab, "cpu.max").unwrap();
    }
    let [quota, period] =
        ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map(|name| file(lab, name).unwrap());
    format!("{} {period}", quota.replace("-1", "max"))
}

fn update_keeps_the_other_half_of_a_cpu_limit(lab: &Lab) {
    if lab.view.is_v2() && !controllers().split_whitespace().any(|found| found == "cpu") {
        lab.skip("cgroup v2 has no cpu controller");
    }
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["resources"] = json!({ "cpu": { "quota": 50_000 } });
    lab.run(&bundle, "a", &["--detach"]).ok();
    assert_eq!(quota(lab), "50000 100000");
    for (flags, wanted) in [
        (&["--cpu-period", "200000"][..], "50000 200000"),
        (&["--cpu-quota", "30000"], "30000 200000"),
        (&["--cpu-share", "512"], "30000 200000"),
        (&["--cpu-quota", "-1"], "max 200000"),
        (&["--cpu-period", "100000"], "max 100000"),
        (&["--cpu-quota", "10000", "--cpu-period", "20000"], "10000 20000"),
    ] {
        lab.on("a", &[&["update"], flags].concat(), &[]).ok();
        assert_eq!(quota(lab), wanted, "{flags:?}");
    }
    lab.delete("a");
}

fn a_paused_container_is_resumed_or_deleted(lab: &Lab) {
    lab.run(&lab.bundle(&["family", "2"]), "a", &["--detach"]).ok();
    lab.on("a", &["pause"], &[]).ok();
    assert_eq!(lab.status("a"), "paused");
    assert!(lab.exec("a", &[], &["exit", "0"]).fails().contains("paused"));
    lab.on("a", &["resume"], &[]).ok();
    assert_eq!(lab.status("a"), "running");
    lab.exec("a", &[], &["exit", "0"]).ok();
    lab.on("a", &["pause"], &[]).ok();
    lab.on("a", &["kill"], &["KILL"]).ok();
    lab.on("a", &["resume"], &[]);
    until("its end", || lab.status("a") == "stopped");
    lab.on("a", &["delete"], &[]).ok();
    lab.run(&lab.bundle(&["family", "2"]), "b", &["--detach"]).ok();
    lab.on("b", &["pause"], &[]).ok();
    lab.delete("b");
}

fn devices_are_forbidden(lab: &Lab) {
    let mut bundle = lab.bundle(&["try", "mknod", "open-node", "open-null"]);
    for set in ["bounding", "permitted", "effective"] {
        bundle.config["process"]["capabilities"][set] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
    }
    bundle.config["process"]["capabilities"]["ambient"] = json!([]);
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["nosuid"]);
    let all = json!({ "allow": false, "access": "rwm" });
    bundle.config["linux"]["resources"]["devices"] = json!([all]);
    // Making a node is harmless, and allowed as everywhere.
    let text = lab.run(&bundle, "a", &[]).ok();
    assert_eq!(text, "mknod ok\nopen-node EPERM\nopen-null ok\n");
    let own = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" });
    bundle.config["linux"]["resources"]["devices"] = json!([all, own]);
    let text = lab.run(&bundle, "a", &[]).ok();
    assert_eq!(text, "mknod ok\nopen-node ok\nopen-null ok\n");
}

fn devices_are_changed_while_it_runs(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    for set in ["bounding", "permitted", "effective"] {
        bundle.config["process"]["capabilities"][set] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
    }
    bundle.config["process"]["capabilities"]["ambient"] = json!([]);
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["nosuid"]);
    let all = json!({ "allow": false, "access": "rwm" });
    let own = |access: &str| json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": access });
    bundle.config["linux"]["resources"] = json!({ "devices": [all] });
    lab.run(&bundle, "a", &["--detach"]).ok();
    // v1 changes nothing as a whole where there are cgroups below.
    for cgroup in cgroups(lab.tag()) {
        fs::create_dir(cgroup.join("inner")).unwrap();
    }
    let file = lab.path("resources.json");
    let update = |devices: Option<Value>| {
        let resources = devices.map_or(json!({}), |devices| json!({ "devices": devices }));
        fs::write(&file, resources.to_string()).unwrap();
        lab.on("a", &["update", "--resources", file.to_str().unwrap()], &[])
    };
    let open = || {
        let text = lab.exec("a", &[], &["try", "mknod", "open-node", "open-null"]).ok();
        assert!(text.ends_with("open-null ok\n"), "{text}");
        text.contains("open-node ok")
    };
    for (devices, allowed) in [
        (json!([all]), false),
        (json!([all, own("w")]), false),
        (json!([all, own("rw")]), true),
        (json!([all, own("r")]), true),
        (json!([all, own("w")]), false),
        (json!([all]), false),
    ] {
        update(Some(devices.clone())).ok();
        assert_eq!(open(), allowed, "{devices}");
        update(None).ok();
        assert_eq!(open(), allowed, "{devices}, and a limit");
    }
    let said = update(Some(json!([{ "allow": true, "access": "x" }]))).fails();
    assert!(said.contains("/linux/resources/devices/0/access"), "{said}");
    for cgroup in cgroups(lab.tag()).into_iter().filter(|cgroup| cgroup.ends_with("inner")) {
        fs::remove_dir(cgroup).unwrap();
    }
    lab.delete("a");
}

fn exec_goes_below(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    for cgroup in cgroups(lab.tag()) {
        fs::create_dir(cgroup.join("inner")).unwrap();
    }
    let cat = ["cat", "/proc/self/cgroup"];
    let in_it = |text: &str| -> Vec<String> {
        let names = text.lines().filter(|line| line.ends_with("/inner"));
        names.map(|line| line.split(':').nth(1).unwrap().to_owned()).collect()
    };
    let flag = if lab.view.is_v2() { "/inner" } else { "pids,freezer:inner" };
    let mut joined = in_it(&lab.exec("a", &["--cgroup", flag], &cat).ok());
    joined.sort();
    let wanted: &[&str] = if lab.view.is_v2() { &[""] } else { &["freezer", "pids"] };
    assert_eq!(joined, wanted);
    assert!(in_it(&lab.exec("a", &["--cgroup", "/"], &cat).ok()).is_empty());
    let neighbours: Vec<_> = cgroups(lab.tag())
        .iter()
        .map(|cgroup| std::path::PathBuf::from(format!("{}2", cgroup.display())))
        .collect();
    neighbours.iter().for_each(|neighbour| fs::create_dir(neighbour).unwrap());
    let name = neighbours[0].file_name().unwrap().to_str().unwrap().trim_end_matches('2');
    for (flags, why) in [
        (&["--cgroup", ".."][..], "bad sub cgroup path"),
        (&["--cgroup", "../x"], "bad sub cgroup path"),
        // Another's, whose name begins as the container's.
        (&["--cgroup", &*format!("../{name}2")], "bad sub cgroup path"),
        (&["--cgroup", &*format!("/inner/../../{name}2")], "bad sub cgroup path"),
        (&["--cgroup", "nope"], "no such file or directory"),
        (&["--cgroup", "nope:inner"], "unknown controller nope: "),
        (&["--cgroup", ":inner"], "empty <controller> prefix"),
        (&["--cgroup", "a", "--cgroup", "b:c"], "missing <controller>: prefix"),
        (&["--cgroup", "pids:a", "--cgroup", "pids:b"], "pids specified multiple times"),
    ] {
        let message = lab.exec("a", flags, &cat).fails();
        assert!(message.contains(why), "{flags:?}: {message}");
    }
    neighbours.iter().for_each(|neighbour| fs::remove_dir(neighbour).unwrap());
    lab.delete("a");
}

/// Which has moved, and given a controller to its cgroups, so that none of its
/// processes may be in the container's own any more.
fn exec_follows_the_init(lab: &Lab) {
    if !lab.view.is_v2() {
        return;
    }
    let bundle = lab.bundle(&["sleep"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let [cgroup] = cgroups(lab.tag()).try_into().unwrap();
    let controllers = fs::read_to_string(cgroup.join("cgroup.controllers")).unwrap();
    let Some(first) = controllers.split_whitespace().next() else {
        lab.delete("a");
        lab.skip("cgroup v2 has no controller")
    };
    fs::create_dir(cgroup.join("inner")).unwrap();
    let pid = lab.state("a")["pid"].to_string();
    fs::write(cgroup.join("inner/cgroup.procs"), pid).unwrap();
    fs::write(cgroup.join("cgroup.subtree_control"), format!("+{first}")).unwrap();
    let cat = ["cat", "/proc/self/cgroup"];
    assert!(lab.exec("a", &[], &cat).ok().ends_with("/inner\n"));
    let message = lab.exec("a", &["--cgroup", "/"], &cat).fails();
    assert!(message.contains("has controllers enabled for cgroups below it"), "{message}");
    lab.delete("a");
}

/// Which has left the container's own cgroup, and that is gone.
fn exec_follows_an_init_that_has_left(lab: &Lab) {
    if !lab.view.is_v2() {
        return;
    }
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.without_namespace("cgroup");
    lab.run(&bundle, "a", &["--detach"]).ok();
    let [cgroup] = cgroups(lab.tag()).try_into().unwrap();
    let other = Path::new(CGROUPS).join(format!("{}-left", lab.id("a")));
    fs::create_dir(&other).unwrap();
    fs::write(other.join("cgroup.procs"), lab.state("a")["pid"].to_string()).unwrap();
    // systemd would believe in the unit for ever if anybody else did it.
    if lab.view != View::Systemd {
        fs::remove_dir(&cgroup).unwrap();
    }
    until("the removal", || !cgroup.exists());
    let cat = ["cat", "/proc/self/cgroup"];
    let own = lab.exec("a", &[], &cat).ok();
    assert!(own.ends_with(&format!("::/{}-left\n", lab.id("a"))), "{own}");
    let message = lab.exec("a", &["--cgroup", "/"], &cat).fails();
    assert!(message.contains("no such file or directory"), "{message}");
    lab.on("a", &["delete", "--force"], &[]).ok();
    fs::remove_dir(&other).unwrap();
}

/// The initial affinity holds before the process is in the cgroup, so it is not
/// born there.
fn exec_is_on_its_processors_first(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let file = lab.path("process.json");
    let files = ["/proc/self/status", "/proc/self/cgroup"];
    let process = json!({
        "args": ["/bin/probe", "cat", files[0], files[1]], "cwd": "/", "user": {"uid": 0, "gid": 0},
        "execCPUAffinity": { "initial": "0" },
    });
    fs::write(&file, process.to_string()).unwrap();
    let text = lab.on("a", &["exec", "--process", file.to_str().unwrap()], &[]).ok();
    assert!(text.contains("Cpus_allowed_list:\t0\n"), "{text}");
    // Of every hierarchy the container's, not the caller's.
    let id = lab.id("a");
    let mut cgroups = text.lines().filter(|line| line.contains(":/"));
    let right = match lab.view.is_v2() {
        true => cgroups.any(|line| line == "0::/"),
        false => cgroups.all(|line| line.contains(&id)),
    };
    assert!(right, "{text}");
    lab.delete("a");
}
