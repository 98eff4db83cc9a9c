//! Scopes: what systemd is told of a container, and that neither its reload nor a
//! unit that failed changes what is true. Runs where systemd does.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::harness::{Bundle, CGROUPS, Lab, ORLOP, Session, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    a_path_names_the_unit_and_its_slice,
    a_path_alone_means_systemd,
    annotations_become_properties,
    a_unit_that_failed_is_removed,
    a_unit_that_exists_is_left_alone,
    a_unit_that_stopped_is_no_hindrance,
    another_pid_namespace_is_noticed,
    limits_are_told_to_systemd,
    limits_of_v1_are_told_to_systemd,
    every_controller_reaches_the_container,
    a_reload_changes_no_limit,
    files_are_exact_where_systemd_is_not,
    a_weight_beside_idleness_is_ignored,
    a_frozen_cgroup_is_refused_at_once,
    a_reload_changes_no_device_rule,
    a_device_that_a_hook_has_added_stays,
    containers_come_and_go_while_it_reloads,
    a_container_whose_unit_was_stopped_is_deleted,
    a_lost_state_is_deleted,
    a_user_has_a_manager_of_his_own,
];

/// A slice that stays when it is empty, as systemd's slices do.
const SLICE: &str = "orloptest-a.slice";

fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn unit(lab: &Lab, name: &str) -> String {
    format!("orlop-{}.scope", lab.id(name))
}

/// A property of a unit.
fn shown(unit: &str, property: &str) -> String {
    systemctl(&["show", unit, "--property", property, "--value"])
}

/// Where the container is in the hierarchy that systemd follows it in.
fn cgroup_of(lab: &Lab, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", lab.state(name)["pid"])).unwrap();
    let own = if lab.view.is_v2() { "0::" } else { "1:name=systemd:" };
    text.lines().find_map(|line| line.strip_prefix(own)).unwrap().to_owned()
}

/// A file of the container's cgroup, in the hierarchy of v1 that has it.
fn path(lab: &Lab, name: &str) -> PathBuf {
    let hierarchy = match name.split('.').next().unwrap() {
        _ if lab.view.is_v2() => "",
        "cgroup" => "systemd",
        controller => controller,
    };
    Path::new(CGROUPS).join(hierarchy).join(cgroup_of(lab, "a").trim_start_matches('/')).join(name)
}

/// Its text.
fn file(lab: &Lab, name: &str) -> String {
    fs::read_to_string(path(lab, name)).unwrap().trim_end().to_owned()
}

fn only_v2(lab: &Lab, why: &str) {
    if !lab.view.is_v2() {
        lab.skip(why);
    }
}

fn at(lab: &Lab, name: &str) -> String {
    format!("{SLICE}:test:{}", lab.id(name))
}

fn bundle_at(lab: &Lab, name: &str) -> Bundle {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["cgroupsPath"] = at(lab, name).into();
    bundle
}

fn a_path_names_the_unit_and_its_slice(lab: &Lab) {
    let mut bundle = bundle_at(lab, "a");
    bundle.namespace("cgroup", None);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let unit = format!("test-{}.scope", lab.id("a"));
    assert_eq!(cgroup_of(lab, "a"), format!("/orloptest.slice/{SLICE}/{unit}"));
    assert_eq!(shown(&unit, "Slice"), SLICE);
    for (property, value) in [
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("CollectMode", "inactive-or-failed"),
        ("ActiveState", "active"),
    ] {
        assert_eq!(shown(&unit, property), value, "{property}");
    }
    assert_eq!(shown(&unit, "Description"), format!("orlop container {}", lab.id("a")));
    // A new namespace is rooted in the scope, for the first process and later ones.
    let own = lab.exec("a", &[], &["cat", "/proc/self/cgroup"]).ok();
    assert!(own.lines().all(|line| line.ends_with(":/")), "{own}");
    assert_eq!(file(lab, "cgroup.procs"), lab.state("a")["pid"].to_string());
    lab.delete("a");
    assert_eq!(shown(&unit, "LoadState"), "not-found");
}

fn a_path_alone_means_systemd(lab: &Lab) {
    let bundle = bundle_at(lab, "a");
    bundle.write();
    let mut command = Command::new(ORLOP);
    command.arg("--root").arg(lab.root()).args(["run", "--detach", "--bundle"]);
    command.arg(&bundle.path).arg(lab.id("a"));
    lab.begin(command).end().ok();
    assert_eq!(shown(&format!("test-{}.scope", lab.id("a")), "ActiveState"), "active");
    lab.delete("a");
}

fn annotations_become_properties(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["annotations"] = json!({
        "org.systemd.property.TimeoutStopSec": "77",
        "org.systemd.property.Description": "'a \"quoted\" one'",
        "org.systemd.property.Documentation": "['https://example.org/a']",
        "org.other": "x",
    });
    lab.create(&bundle, "a", &[]).ok();
    assert_eq!(shown(&unit(lab, "a"), "TimeoutStopUSec"), "1min 17s");
    assert_eq!(shown(&unit(lab, "a"), "Description"), "a \"quoted\" one");
    assert_eq!(shown(&unit(lab, "a"), "Documentation"), "https://example.org/a");
    lab.delete("a");
    // One that systemd does not know, or that is of another type.
    for (name, value) in [("NoSuchProperty", "1"), ("TimeoutStopUSec", "'long'")] {
        let key = format!("org.systemd.property.{name}");
        bundle.config["annotations"] = json!({ key: value });
        let said = lab.create(&bundle, "a", &[]).fails();
        assert!(said.contains("starting the scope"), "{said}");
    }
}

fn a_unit_that_failed_is_removed(lab: &Lab) {
    for keep in [false, true] {
        let mut bundle = lab.bundle(&["sleep"]);
        bundle.config["annotations"] = json!({
            // Enough for its creation on a slow machine.
            "org.systemd.property.RuntimeMaxSec": "3",
            // Process 1 of a pid namespace gets no signal that it does not wait for.
            "org.systemd.property.TimeoutStopSec": "0.1",
        });
        // One that was to fail stays, so that it tells that it has.
        if !keep {
            bundle.config["annotations"]["org.systemd.property.CollectMode"] =
                "'inactive-or-failed'".into();
        }
        lab.run(&bundle, "a", &["--detach"]).ok();
        let unit = unit(lab, "a");
        let wanted = if keep { "failed" } else { "inactive" };
        until("its end", || shown(&unit, "ActiveState") == wanted);
        until("its end", || lab.status("a") == "stopped");
        lab.on("a", &["delete"], &[]).ok();
        assert_eq!(shown(&unit, "LoadState"), "not-found");
    }
}

fn a_unit_that_exists_is_left_alone(lab: &Lab) {
    lab.run(&bundle_at(lab, "a"), "a", &["--detach"]).ok();
    let said = lab.run(&bundle_at(lab, "a"), "b", &["--detach"]).fails();
    assert!(said.contains("container's cgroup is not empty"), "{said}");
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
    // A unit of somebody else, where no cgroup tells.
    let unit = unit(lab, "a");
    let mut command = Command::new("systemd-run");
    command.args(["--scope", "--slice", SLICE, "--unit", &unit, "--collect", "sleep", "1000"]);
    let other = lab.begin(command);
    until("the unit", || shown(&unit, "ActiveState") == "active");
    let said = lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).fails();
    assert!(said.contains("another container, or something else, has that name"), "{said}");
    assert_eq!(shown(&unit, "ActiveState"), "active");
    systemctl(&["stop", &unit]);
    other.end();
}

/// One that stopped, but that systemd still knows.
fn a_unit_that_stopped_is_no_hindrance(lab: &Lab) {
    let unit = unit(lab, "a");
    let mut command = Command::new("systemd-run");
    command.args(["--scope", "--unit", &unit, "--property", "RuntimeMaxSec=0.1", "sleep", "1000"]);
    lab.begin(command).end();
    until("its failure", || shown(&unit, "ActiveState") == "failed");
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    assert_eq!(shown(&unit, "ActiveState"), "active");
    lab.delete("a");
}

/// A number of ours would be another process's for systemd.
fn another_pid_namespace_is_noticed(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    let command = lab.start_of("run", &bundle, "a", &[]);
    let mut inside = Command::new("unshare");
    inside.args(["--pid", "--fork", "--mount-proc", "--"]).arg(command.get_program());
    inside.args(command.get_args());
    let said = lab.begin(inside).end().fails();
    assert!(said.contains("systemd is in another pid namespace"), "{said}");
    assert_eq!(shown(&unit(lab, "a"), "LoadState"), "not-found");
}

/// The limits of a container in both their forms: in files and as properties.
const LIMITS: &[(&str, &str, &str, &str)] = &[
    ("memory.max", "67108864", "MemoryMax", "67108864"),
    ("memory.low", "33554432", "MemoryLow", "33554432"),
    ("memory.high", "50331648", "MemoryHigh", "50331648"),
    ("memory.swap.max", "0", "MemorySwapMax", "0"),
    ("pids.max", "77", "TasksMax", "77"),
    ("cpu.weight", "59", "CPUWeight", "59"),
    ("cpu.max", "2000 100000", "CPUQuotaPerSecUSec", "20ms"),
    ("cpuset.cpus", "0", "AllowedCPUs", "0"),
    ("memory.oom.group", "1", "OOMPolicy", "kill"),
];

/// The same for v1.
const LIMITS_V1: &[(&str, &str, &str, &str)] = &[
    ("memory.limit_in_bytes", "67108864", "MemoryLimit", "67108864"),
    ("pids.max", "77", "TasksMax", "77"),
    ("cpu.shares", "512", "CPUShares", "512"),
    ("cpu.cfs_quota_us", "2000", "CPUQuotaPerSecUSec", "20ms"),
    // Which it can't give on v1.
    ("cpuset.cpus", "0", "AllowedCPUs", ""),
];

fn has_v1(controller: &str) -> bool {
    Path::new(CGROUPS).join(controller).join("cgroup.procs").exists()
}

/// Those that this host has controllers for.
fn limits(lab: &Lab) -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    let all = if lab.view.is_v2() { LIMITS } else { LIMITS_V1 };
    let here = |file: &str| lab.view.is_v2() || has_v1(file.split('.').next().unwrap());
    all.iter().copied().filter(|(file, ..)| here(file)).collect()
}

/// A container with those limits.
fn limited(lab: &Lab) {
    if !lab.view.is_v2() {
        return limited_v1(lab);
    }
    let here = fs::read_to_string(Path::new(CGROUPS).join("cgroup.controllers")).unwrap();
    for controller in ["memory", "pids", "cpu", "cpuset"] {
        if !here.split_whitespace().any(|found| found == controller) {
            lab.skip(&format!("cgroup v2 has no {controller} controller"));
        }
    }
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["resources"] = json!({
        "memory": { "limit": 64 << 20, "swap": 64 << 20, "reservation": 32 << 20 },
        "pids": { "limit": 77 },
        "cpu": { "shares": 512, "quota": 2000, "period": 100_000, "cpus": "0" },
        "unified": { "memory.high": "48M", "memory.oom.group": "1" },
    });
    lab.run(&bundle, "a", &["--detach"]).ok();
}

/// A kernel may have no memory and no cpusets for v1.
fn limited_v1(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["resources"] = json!({
        "pids": { "limit": 77 },
        "cpu": { "shares": 512, "quota": 2000, "period": 100_000 },
    });
    if has_v1("memory") {
        bundle.config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    }
    if has_v1("cpuset") {
        bundle.config["linux"]["resources"]["cpu"]["cpus"] = "0".into();
    }
    lab.run(&bundle, "a", &["--detach"]).ok();
}

fn limits_hold(lab: &Lab) {
    for (name, text, property, value) in limits(lab) {
        assert_eq!(file(lab, name), text, "{name}");
        assert_eq!(shown(&unit(lab, "a"), property), value, "{property}");
    }
}

fn limits_of_v1_are_told_to_systemd(lab: &Lab) {
    if lab.view.is_v2() {
        lab.skip("cgroup v1 is not there");
    }
    limited(lab);
    limits_hold(lab);
    for (flag, value, name, text, property, told) in [
        ("--pids-limit", "55", "pids.max", "55", "TasksMax", "55"),
        ("--memory", "73400320", "memory.limit_in_bytes", "73400320", "MemoryLimit", "73400320"),
        ("--cpu-share", "300", "cpu.shares", "300", "CPUShares", "300"),
        ("--pids-limit", "-1", "pids.max", "max", "TasksMax", "infinity"),
        // In whole percents, as systemd has it, which is told of the half that stays, too.
        ("--cpu-quota", "2500", "cpu.cfs_quota_us", "3000", "CPUQuotaPerSecUSec", "30ms"),
        ("--cpu-period", "50000", "cpu.cfs_period_us", "50000", "CPUQuotaPerSecUSec", "60ms"),
        ("--cpu-quota", "-1", "cpu.cfs_quota_us", "-1", "CPUQuotaPerSecUSec", "infinity"),
        ("--cpuset-cpus", "0", "cpuset.cpus", "0", "TasksMax", "infinity"),
    ] {
        if has_v1(name.split('.').next().unwrap()) {
            lab.on("a", &["update", flag, value], &[]).ok();
            assert_eq!(file(lab, name), text, "{flag}");
            assert_eq!(shown(&unit(lab, "a"), property), told, "{flag}");
        }
    }
    lab.delete("a");
}

fn limits_are_told_to_systemd(lab: &Lab) {
    only_v2(lab, "v1 has other limits");
    limited(lab);
    limits_hold(lab);
    lab.on("a", &["update", "--pids-limit", "55", "--memory", "70M", "--memory-swap", "80M"], &[])
        .ok();
    for (name, text, property) in [
        ("memory.max", "73400320", "MemoryMax"),
        ("memory.swap.max", "10485760", "MemorySwapMax"),
        ("pids.max", "55", "TasksMax"),
    ] {
        assert_eq!(file(lab, name), text, "{name}");
        assert_eq!(shown(&unit(lab, "a"), property), text, "{property}");
    }
    lab.on("a", &["update", "--cpu-quota", "1500"], &[]).ok();
    lab.on("a", &["update", "--pids-limit", "-1"], &[]).ok();
    assert_eq!(file(lab, "pids.max"), "max");
    // In whole percents, as systemd has it.
    assert_eq!(file(lab, "cpu.max"), "2000 100000");
    assert_eq!(shown(&unit(lab, "a"), "TasksMax"), "infinity");
    // It is told of the half that stays, too.
    for (flag, value, text, period, percent) in [
        ("--cpu-quota", "2500", "3000 100000", "100ms", "30ms"),
        ("--cpu-period", "50000", "3000 50000", "50ms", "60ms"),
        ("--cpu-quota", "-1", "max 50000", "50ms", "infinity"),
    ] {
        lab.on("a", &["update", flag, value], &[]).ok();
        assert_eq!(file(lab, "cpu.max"), text);
        assert_eq!(shown(&unit(lab, "a"), "CPUQuotaPeriodUSec"), period);
        assert_eq!(shown(&unit(lab, "a"), "CPUQuotaPerSecUSec"), percent);
    }
    lab.delete("a");
}

/// Also those of which systemd knows nothing: hugetlb.
fn every_controller_reaches_the_container(lab: &Lab) {
    if !lab.view.is_v2() {
        lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
        let own = cgroup_of(lab, "a");
        let unified = Path::new(CGROUPS).join("unified").exists();
        lab.exec("a", &["--detach"], &["sleep"]).ok();
        let pids = file(lab, "cgroup.procs");
        assert_eq!(pids.lines().count(), 2, "{pids}");
        for pid in pids.lines() {
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            let mut lines = text.lines().filter(|line| unified || !line.starts_with("0::"));
            assert!(lines.all(|line| line.ends_with(&format!(":{own}"))), "{text}");
        }
        return lab.delete("a");
    }
    let all = fs::read_to_string(Path::new(CGROUPS).join("cgroup.controllers")).unwrap();
    let bundle = lab.bundle(&["sleep"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let own = file(lab, "cgroup.controllers");
    let missing: Vec<_> =
        all.split_whitespace().filter(|name| !own.split(' ').any(|own| own == *name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    lab.delete("a");
}

fn reload() {
    systemctl(&["daemon-reload"]);
    systemctl(&["daemon-reexec"]);
    systemctl(&["daemon-reload"]);
}

fn a_reload_changes_no_limit(lab: &Lab) {
    limited(lab);
    reload();
    limits_hold(lab);
    assert_eq!(lab.exec("a", &[], &["say", "here"]).ok(), "here\n");
    lab.delete("a");
}

/// What systemd has in other units is exact in the files, also when it has written all
/// of its own again for another limit's sake.
fn files_are_exact_where_systemd_is_not(lab: &Lab) {
    only_v2(lab, "what systemd has in units of its own is v2's");
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["resources"] = json!({
        "blockIO": { "weight": 750 },
        "unified": { "cpu.max": "1500 100000" },
    });
    lab.run(&bundle, "a", &["--detach"]).ok();
    let weight = || {
        let path = format!("{CGROUPS}{}/io.bfq.weight", cgroup_of(lab, "a"));
        match fs::read_to_string(path) {
            Ok(text) => assert_eq!(text, "default 750\n"),
            Err(_) => assert_eq!(file(lab, "io.weight"), "default 7475"),
        }
    };
    for _ in 0..2 {
        weight();
        assert_eq!(file(lab, "cpu.max"), "1500 100000");
        lab.on("a", &["update", "--pids-limit", "55"], &[]).ok();
    }
    lab.delete("a");
}

/// systemd has one property for both.
fn a_weight_beside_idleness_is_ignored(lab: &Lab) {
    only_v2(lab, "v1 has shares, which are no weight");
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["resources"] = json!({ "cpu": { "shares": 1024 } });
    lab.run(&bundle, "a", &["--detach"]).ok();
    let output = lab.on("a", &["update", "--cpu-share", "200", "--cpu-idle", "1"], &[]);
    assert!(output.stderr.contains("unable to apply both"), "{}", output.stderr);
    output.ok();
    assert_eq!(file(lab, "cpu.idle"), "1");
    lab.on("a", &["update", "--cpu-share", "200"], &[]).ok();
    assert_eq!(file(lab, "cpu.idle"), "0");
    lab.delete("a");
}

fn a_frozen_cgroup_is_refused_at_once(lab: &Lab) {
    let (hierarchy, file, state) = match lab.view.is_v2() {
        true => ("", "cgroup.freeze", "1"),
        false => ("/freezer", "freezer.state", "FROZEN"),
    };
    let cgroup = format!("{CGROUPS}{hierarchy}/system.slice/{}", unit(lab, "a"));
    fs::create_dir_all(&cgroup).unwrap();
    fs::write(format!("{cgroup}/{file}"), state).unwrap();
    let said = lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).fails();
    fs::remove_dir(&cgroup).unwrap();
    assert!(said.contains("container's cgroup unexpectedly frozen"), "{said}");
    assert_eq!(shown(&unit(lab, "a"), "LoadState"), "not-found");
}

fn a_reload_changes_no_device_rule(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    for set in ["bounding", "permitted", "effective"] {
        bundle.config["process"]["capabilities"][set] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
    }
    bundle.config["process"]["capabilities"]["ambient"] = json!([]);
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["nosuid"]);
    let all = json!({ "allow": false, "access": "rwm" });
    let own = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" });
    for (rules, node) in [(json!([all]), "EPERM"), (json!([all, own]), "ok")] {
        bundle.config["linux"]["resources"]["devices"] = rules;
        lab.run(&bundle, "a", &["--detach"]).ok();
        let wanted = format!("mknod ok\nopen-node {node}\nopen-null ok\n");
        assert_eq!(lab.exec("a", &[], &["try", "mknod", "open-node", "open-null"]).ok(), wanted);
        reload();
        // That makes systemd write all it knows again.
        systemctl(&["set-property", "--runtime", &unit(lab, "a"), "IOAccounting=yes"]);
        let wanted = format!("open-node {node}\nopen-null ok\n");
        assert_eq!(lab.exec("a", &[], &["try", "open-node", "open-null"]).ok(), wanted);
        lab.delete("a");
    }
}

/// Whatever systemd is doing when it is asked.
fn containers_come_and_go_while_it_reloads(lab: &Lab) {
    let bundle = lab.bundle(&["say", "hello"]);
    bundle.write();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for verb in ["daemon-reload", "daemon-reexec"].into_iter().cycle() {
                let begun = Instant::now();
                systemctl(&[verb]);
                // One that never does anything else serves nobody on the bus.
                thread::sleep(begun.elapsed());
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let runs = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..10 {
                assert_eq!(lab.run(&bundle, "a", &[]).ok(), "hello\n");
            }
        }));
        over.store(true, Ordering::Relaxed);
        runs.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

fn a_container_whose_unit_was_stopped_is_deleted(lab: &Lab) {
    lab.run(&lab.bundle(&["family", "2"]), "a", &["--detach"]).ok();
    systemctl(&["kill", "--signal", "KILL", &unit(lab, "a")]);
    systemctl(&["stop", &unit(lab, "a")]);
    until("its end", || lab.status("a") == "stopped");
    lab.on("a", &["delete"], &[]).ok();
}

fn a_lost_state_is_deleted(lab: &Lab) {
    for bundle in [lab.bundle(&["sleep"]), bundle_at(lab, "a")] {
        lab.run(&bundle, "a", &["--detach"]).ok();
        fs::write(lab.root().join(lab.id("a")).join("state.json"), "").unwrap();
        let output = lab.on("a", &["delete", "--force"], &[]);
        assert_eq!(output.code, 0, "{output:?}");
    }
}

/// What systemd does not know of, and writes over when it is told of anything.
fn a_device_that_a_hook_has_added_stays(lab: &Lab) {
    if lab.view.is_v2() {
        lab.skip("the rules of v2 are none of systemd's business");
    }
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    fs::write(path(lab, "devices.allow"), "c 1:11 r").unwrap();
    let before = file(lab, "devices.list");
    lab.on("a", &["update", "--pids-limit", "55"], &[]).ok();
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&file(lab, "devices.list")), sorted(&before));
    assert_eq!(lab.status("a"), "running");
    // Nobody lets go who was held before.
    lab.on("a", &["pause"], &[]).ok();
    lab.on("a", &["update", "--pids-limit", "56"], &[]).ok();
    assert_eq!(lab.status("a"), "paused");
    lab.delete("a");
}

fn a_user_has_a_manager_of_his_own(lab: &Lab) {
    only_v2(lab, "a user's manager has no cgroups of v1");
    let Some(Session { user: uid, runtime }) = Session::find() else {
        lab.skip("nobody has a session with systemd")
    };
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.namespace("user", None);
    let map = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if let Some(options) = mount["options"].as_array_mut() {
            // Of his only group there is no other.
            options.retain(|option| option != "gid=5");
        }
    }
    bundle.config["linux"]["cgroupsPath"] = at(lab, "a").into();
    bundle.write();
    let unit = format!("test-{}.scope", lab.id("a"));
    let ids = [format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()];
    let begin = |program: &str, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(&ids).arg(program).args(arguments).env("XDG_RUNTIME_DIR", &runtime);
        command.env_remove("DBUS_SESSION_BUS_ADDRESS");
        lab.begin(command).end()
    };
    let root = format!("{}/{}", runtime.display(), lab.tag());
    let orlop = |arguments: &[&str]| {
        begin(ORLOP, &[&["--root", &root, "--systemd-cgroup"], arguments].concat())
    };
    let (id, path) = (lab.id("a"), bundle.path.to_str().unwrap());
    orlop(&["run", "--detach", "--bundle", path, &id]).ok();
    let shown = |property| {
        begin("systemctl", &["--user", "show", &unit, "--property", property, "--value"]).ok()
    };
    assert_eq!(shown("ActiveState"), "active\n");
    let group = shown("ControlGroup");
    let own = format!("/user.slice/user-{uid}.slice/user@{uid}.service/orloptest.slice/{SLICE}/");
    assert_eq!(group.trim_end(), format!("{own}{unit}"));
    // A further process gets there too, from wherever he is.
    orlop(&["exec", "--detach", &id, "/bin/probe", "sleep"]).ok();
    let list = fs::read_to_string(format!("{CGROUPS}{}/cgroup.procs", group.trim_end())).unwrap();
    assert_eq!(list.lines().count(), 2, "{list}");
    orlop(&["delete", "--force", &id]).ok();
    assert_eq!(shown("LoadState"), "not-found\n");
    fs::remove_dir(&root).unwrap();
    // Without a session there is one clear error, and nothing is left.
    let mut command = Command::new("setpriv");
    command.args(&ids).args([ORLOP, "--root", &root, "--systemd-cgroup", "run", "--bundle", path]);
    command.arg(&id).env_remove("XDG_RUNTIME_DIR").env_remove("DBUS_SESSION_BUS_ADDRESS");
    let said = lab.begin(command).end().fails();
    assert!(said.contains(&format!("user {uid} has no session with systemd")), "{said}");
    assert!(!Path::new(&root).exists());
}
