//! Cgroups on the real kernel: made, limited, joined, killed, removed, and
//! nothing left.
//!
//! Root only. The tests of the host's own hierarchies run as they are; those of
//! v2 alone start themselves again in a mount namespace of their own, with
//! nothing but v2 on `/sys/fs/cgroup`.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use oci_spec::runtime::{Linux, LinuxResources};
use orlop::Kind;
use orlop::cgroup::{Driver, Manager, Record, Settings};
use orlop::host::{Cgroups, HostFacts};

/// Set in the process that sees v2 alone.
const INSIDE: &str = "ORLOP_TEST_V2_ALONE";

/// A cgroup with a name of its own, removed whatever the test does.
struct Scene {
    host: HostFacts,
    manager: Manager,
    sleepers: Vec<Child>,
}

impl Scene {
    fn new(host: HostFacts, name: &str) -> Self {
        let path = format!("/orlop-test-{}-{name}", std::process::id());
        let manager =
            Manager::new(&host, Driver::ByPath, Some(Path::new(&path)), "unused").unwrap();
        Self { host, manager, sleepers: Vec::new() }
    }

    fn settings(&self, resources: &str) -> Settings {
        let resources: LinuxResources = serde_json::from_str(resources).unwrap();
        let mut linux = Linux::default();
        linux.set_devices(None).set_resources(Some(resources));
        Settings::for_create(Some(&linux), &self.host, self.host.rootless())
            .unwrap_or_else(|e| panic!("{e:?}"))
    }

    fn update(&self, resources: &str) -> orlop::Result<()> {
        let resources: LinuxResources = serde_json::from_str(resources).unwrap();
        let settings =
            Settings::for_update(&resources, &self.host, self.manager.quota().as_deref(), None);
        self.manager.apply(&settings.unwrap_or_else(|e| panic!("{e:?}")))
    }

    /// A process that joins through the descriptors, as the init stage does, and
    /// then runs `command`.
    fn joined(&mut self, command: &str) -> i32 {
        let entries = self.manager.procs().unwrap();
        let unified = self.manager.groups().pop().unwrap().directory().join("cgroup.procs");
        let own = std::process::id();
        let mut files: Vec<PathBuf> =
            entries.iter().map(|fd| format!("/proc/{own}/fd/{}", fd.as_raw_fd()).into()).collect();
        if self.manager.directory().unwrap().is_some() {
            files.push(unified);
        }
        let script =
            format!("for file in \"$@\"; do echo 0 > \"$file\" || exit 1; done; echo; {command}");
        let mut child = Command::new("sh")
            .args(["-c", &script, "sh"])
            .args(files)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.sleepers.push(child);
        assert_eq!(line, "\n", "the process could not join");
        pid
    }

    fn directory(&self, controller: &str) -> PathBuf {
        let groups = self.manager.groups();
        let named = |group: &&&orlop::cgroup::Group| {
            group.controllers.iter().any(|name| name == controller)
        };
        groups.iter().find(named).or(groups.last()).unwrap().directory()
    }

    fn file(&self, controller: &str, file: &str) -> String {
        let text = fs::read_to_string(self.directory(controller).join(file)).unwrap();
        text.trim_end().to_owned()
    }

    fn assert_gone(&self) {
        for group in self.manager.groups() {
            assert!(!group.directory().exists(), "{group:?} is left");
        }
    }

    fn reap(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        for mut child in self.sleepers.drain(..) {
            while child.try_wait().unwrap().is_none() {
                assert!(Instant::now() < deadline, "a process did not die");
                sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.manager.thaw();
        for child in &mut self.sleepers {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.manager.remove();
    }
}

fn root(test: &str) -> Option<HostFacts> {
    let host = HostFacts::probe().unwrap();
    if host.rootless() {
        println!("SKIP {test}: needs root");
        return None;
    }
    Some(host)
}

/// The host as it is, when that is v1.
fn hybrid(test: &str) -> Option<HostFacts> {
    let host = root(test)?;
    if !matches!(host.cgroups, Cgroups::Legacy { .. }) {
        println!("SKIP {test}: this host has no cgroup v1");
        return None;
    }
    Some(host)
}

/// The host as if v2 were not mounted beside v1.
fn pure_v1(test: &str) -> Option<HostFacts> {
    let mut host = hybrid(test)?;
    if let Cgroups::Legacy { hierarchies } = &mut host.cgroups {
        hierarchies.retain(|hierarchy| !hierarchy.controllers.is_empty());
    }
    Some(host)
}

/// The host with v2 alone: from a second start of this test.
fn v2_alone(test: &str) -> Option<HostFacts> {
    let host = root(test)?;
    if env::var_os(INSIDE).is_some() || matches!(host.cgroups, Cgroups::Unified { .. }) {
        assert!(matches!(host.cgroups, Cgroups::Unified { .. }), "{:?}", host.cgroups);
        return Some(host);
    }
    again(&host, test, "");
    None
}

/// Starts this test again where nothing but v2 is mounted, after `more`.
fn again(host: &HostFacts, test: &str, more: &str) {
    let v2 = match host.cgroups {
        // Mounted anew, it would lose its options on the whole machine.
        Cgroups::Unified { .. } => "",
        _ => "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup &&",
    };
    let script = format!("{v2} {more} exec \"$@\"");
    let status = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    match status {
        Ok(status) => assert!(status.success(), "{test} failed with v2 alone"),
        Err(error) => println!("SKIP {test}: unshare(1): {error}"),
    }
}

/// One life of a container's cgroup.
fn life(host: HostFacts, name: &str) {
    let mut scene = Scene::new(host, name);
    let settings = scene.settings(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
    scene.manager.create().unwrap();
    scene.manager.apply(&settings).unwrap();
    let pid = scene.joined("exec sleep 1000");
    assert_eq!(scene.manager.processes().unwrap(), [pid]);
    for group in scene.manager.groups() {
        let listed = fs::read_to_string(group.directory().join("cgroup.procs")).unwrap();
        assert_eq!(listed.trim_end(), pid.to_string(), "{group:?}");
    }
    let text = serde_json::to_string(&scene.manager.record()).unwrap();
    let later = Manager::from_record(serde_json::from_str::<Record>(&text).unwrap());
    later.kill().unwrap();
    scene.reap();
    later.remove().unwrap();
    scene.assert_gone();
    // A second time finds nothing and is fine.
    later.kill().unwrap();
    later.remove().unwrap();
    assert!(later.processes().unwrap().is_empty());
    assert!(!later.is_frozen().unwrap());
}

#[test]
fn life_hybrid() {
    if let Some(host) = hybrid("life_hybrid") {
        life(host, "life");
    }
}

#[test]
fn life_v1() {
    if let Some(host) = pure_v1("life_v1") {
        life(host, "life-v1");
    }
}

#[test]
fn life_v2() {
    if let Some(host) = v2_alone("life_v2") {
        life(host, "life-v2");
    }
}

/// Processes that fork, in a cgroup and one below it, frozen: all die.
fn frozen(host: HostFacts, name: &str) {
    let mut scene = Scene::new(host, name);
    scene.manager.create().unwrap();
    for _ in 0..3 {
        scene.joined("while :; do sleep 0.01; done");
    }
    scene.manager.freeze().unwrap();
    assert!(scene.manager.is_frozen().unwrap());
    let listed = scene.manager.processes().unwrap();
    assert!(listed.len() >= 3, "{listed:?}");
    sleep(Duration::from_millis(30));
    assert_eq!(scene.manager.processes().unwrap(), listed, "a frozen cgroup changed");

    scene.manager.kill().unwrap();
    scene.reap();
    scene.manager.remove().unwrap();
    scene.assert_gone();
}

#[test]
fn frozen_hybrid() {
    if let Some(host) = hybrid("frozen_hybrid") {
        frozen(host, "frozen");
    }
}

#[test]
fn frozen_v1() {
    if let Some(host) = pure_v1("frozen_v1") {
        frozen(host, "frozen-v1");
    }
}

#[test]
fn frozen_v2() {
    if let Some(host) = v2_alone("frozen_v2") {
        frozen(host, "frozen-v2");
    }
}

/// A cgroup that is in use, or frozen, is no new container's; an empty one is.
fn occupied(host: HostFacts, name: &str) {
    let mut scene = Scene::new(host, name);
    let claim = scene.manager.create().unwrap();
    let text = scene.manager.create().unwrap_err().to_string();
    assert!(text.contains("the cgroup is being taken by another container"), "{text}");
    drop(claim);
    scene.manager.create().unwrap();
    scene.joined("exec sleep 1000");
    let error = scene.manager.create().unwrap_err();
    assert_eq!(error.kind(), Kind::Cgroup);
    let text = error.to_string();
    assert!(text.contains("container's cgroup is not empty: 1 process(es) found"), "{text}");
    scene.manager.kill().unwrap();
    scene.reap();
    scene.manager.freeze().unwrap();
    let text = scene.manager.create().unwrap_err().to_string();
    assert!(text.contains("container's cgroup unexpectedly frozen"), "{text}");
    scene.manager.thaw().unwrap();
    scene.manager.create().unwrap();
    scene.manager.remove().unwrap();
    scene.assert_gone();
}

#[test]
fn occupied_hybrid() {
    if let Some(host) = hybrid("occupied_hybrid") {
        occupied(host, "occupied");
    }
}

#[test]
fn occupied_v1() {
    if let Some(host) = pure_v1("occupied_v1") {
        occupied(host, "occupied-v1");
    }
}

#[test]
fn occupied_v2() {
    if let Some(host) = v2_alone("occupied_v2") {
        occupied(host, "occupied-v2");
    }
}

#[test]
fn limits_v1() {
    let Some(host) = hybrid("limits_v1") else { return };
    let mut scene = Scene::new(host, "limits");
    let settings = scene.settings(
        r#"{"memory":{"limit":67108864,"swap":134217728,"reservation":33554432,"swappiness":30},
            "cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0","mems":"0"},
            "pids":{"limit":17},"blockIO":{"throttleReadBpsDevice":[]}}"#,
    );
    scene.manager.create().unwrap();
    scene.manager.apply(&settings).unwrap();
    scene.joined("exec sleep 1000");
    let table = [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "134217728"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.swappiness", "30"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "17"),
    ];
    for (controller, file, value) in table {
        assert_eq!(scene.file(controller, file), value, "{file}");
    }
    let devices = scene.file("devices", "devices.list");
    assert!(devices.lines().any(|line| line == "c 1:3 rwm"), "{devices}");
    assert!(devices.lines().all(|line| !line.starts_with('a')), "{devices}");

    // Both memory limits move over each other, up and down.
    scene.update(r#"{"memory":{"limit":268435456,"swap":268435456}}"#).unwrap();
    assert_eq!(scene.file("memory", "memory.memsw.limit_in_bytes"), "268435456");
    scene.update(r#"{"memory":{"limit":16777216,"swap":33554432}}"#).unwrap();
    assert_eq!(scene.file("memory", "memory.limit_in_bytes"), "16777216");
    scene.update(r#"{"memory":{"limit":-1}}"#).unwrap();
    assert_ne!(scene.file("memory", "memory.memsw.limit_in_bytes"), "33554432");
    // So do period and burst with the quota.
    scene.update(r#"{"cpu":{"period":20000,"quota":20000,"burst":20000}}"#).unwrap();
    scene.update(r#"{"cpu":{"period":10000,"quota":5000,"burst":5000}}"#).unwrap();
    assert_eq!(scene.file("cpu", "cpu.cfs_period_us"), "10000");
    scene.update(r#"{"pids":{"limit":0}}"#).unwrap();
    assert_eq!(scene.file("pids", "pids.max"), "1");
    scene.update(r#"{"pids":{"limit":-5}}"#).unwrap();
    assert_eq!(scene.file("pids", "pids.max"), "max");
}

#[test]
fn refused_limits_v1() {
    let Some(host) = hybrid("refused_limits_v1") else { return };
    let mut scene = Scene::new(host, "refused");
    scene.manager.create().unwrap();
    scene.joined("exec sleep 1000");
    let error = scene.update(r#"{"cpu":{"quota":1}}"#).unwrap_err().to_string();
    assert!(error.starts_with("writing \"1\" to \"/sys/fs/cgroup/cpu"), "{error}");
    let end = "cpu.cfs_quota_us\" (config.json: /linux/resources/cpu/quota): invalid argument";
    assert!(error.ends_with(end), "{error}");
    let error = scene.update(r#"{"cpu":{"cpus":"999"}}"#).unwrap_err();
    assert!(error.to_string().contains("/linux/resources/cpu/cpus"), "{error}");
    assert_eq!(error.kind(), Kind::Cgroup);
    let error = scene.update(r#"{"memory":{"limit":1}}"#).unwrap_err().to_string();
    assert!(error.starts_with("unable to set memory limit to 1 (current usage: "), "{error}");
    assert!(error.contains("peak usage: "), "{error}");
}

#[test]
fn limits_v2() {
    let Some(host) = v2_alone("limits_v2") else { return };
    let Cgroups::Unified { controllers, .. } = &host.cgroups else { unreachable!() };
    let has = |name: &str| controllers.iter().any(|found| found == name);
    if !has("hugetlb") {
        println!("SKIP limits_v2: no hugetlb controller in v2");
        return;
    }
    let scene = Scene::new(host.clone(), "limits-v2");
    let settings = scene.settings(
        r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
            "unified":{"cgroup.max.depth":"3","hugetlb.2MB.max":"6291456\n"}}"#,
    );
    scene.manager.create().unwrap();
    scene.manager.apply(&settings).unwrap();
    assert_eq!(scene.file("hugetlb", "hugetlb.2MB.max"), "6291456");
    assert_eq!(scene.file("hugetlb", "hugetlb.2MB.rsvd.max"), "4194304");
    assert_eq!(scene.file("", "cgroup.max.depth"), "3");
    let error = scene.update(r#"{"unified":{"hugetlb.nonsense":"1"}}"#).unwrap_err().to_string();
    assert!(error.contains(": the kernel has no such file"), "{error}");
    assert!(error.contains("/linux/resources/unified/hugetlb.nonsense"), "{error}");
}

/// What the kernel says that a process of the cgroup may open.
fn devices(host: HostFacts, name: &str) {
    let mut scene = Scene::new(host, name);
    // Not where temporary files are: devices often can't be opened there.
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let node = |name: &str, minor: &str| {
        let path = folder.path().join(name);
        let made = Command::new("mknod").arg(&path).args(["c", "1", minor]).status();
        assert!(made.unwrap().success(), "mknod {path:?}");
        path
    };
    // mem(4): null is a default device, kmsg is not.
    let (null, kmsg) = (node("null", "3"), node("kmsg", "11"));
    let script = format!("exec 3<{null:?} && echo null; exec 4<{kmsg:?} && echo kmsg; echo end");
    let mut opened = |resources: &str| {
        let settings = scene.settings(resources);
        scene.manager.create().unwrap();
        scene.manager.apply(&settings).unwrap();
        let out = folder.path().join("opened");
        let script = format!("({script}) >{out:?} 2>/dev/null");
        scene.joined(&script);
        scene.reap();
        let text = fs::read_to_string(&out).unwrap();
        // Applied again to a cgroup that has rules: they are replaced.
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let denied = opened(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
    let listed = opened(
        r#"{"devices":[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#,
    );
    let again = opened(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
    let all = opened(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
    // A shell ends at the first redirection that fails.
    assert_eq!(denied, ["null"]);
    assert_eq!(listed, ["null", "kmsg", "end"]);
    assert_eq!(again, ["null"]);
    assert_eq!(all, ["null", "kmsg", "end"]);
}

#[test]
fn devices_v1() {
    if let Some(host) = hybrid("devices_v1") {
        devices(host, "devices");
    }
}

#[test]
fn devices_v2() {
    if let Some(host) = v2_alone("devices_v2") {
        devices(host, "devices-v2");
    }
}

/// Limits and processes in cgroups that the container made below its own.
#[test]
fn nested_cgroups_are_killed_and_removed() {
    let Some(host) = hybrid("nested_cgroups_are_killed_and_removed") else { return };
    let mut scene = Scene::new(host, "nested");
    scene.manager.create().unwrap();
    let pid = scene.joined("exec sleep 1000");
    let unified = scene.manager.groups().pop().unwrap().directory().join("inner/most");
    let freezer = scene.directory("freezer").join("inner");
    for path in [&unified, &freezer] {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    assert_eq!(scene.manager.processes().unwrap(), [pid]);
    scene.manager.kill().unwrap();
    scene.reap();
    scene.manager.remove().unwrap();
    scene.assert_gone();
}

/// Where a directory can't be made, those before it go again.
#[test]
fn a_failed_creation_leaves_nothing() {
    let Some(host) = hybrid("a_failed_creation_leaves_nothing") else { return };
    let Cgroups::Legacy { hierarchies } = host.cgroups.clone() else { unreachable!() };
    let mut broken = host.clone();
    let mut last = hierarchies[0].clone();
    last.mount = PathBuf::from("/proc/self/fdinfo");
    last.controllers = vec!["broken".into()];
    broken.cgroups = Cgroups::Legacy { hierarchies: [&hierarchies[..3], &[last]].concat() };
    let path = format!("/orlop-test-{}-fails/a/b", std::process::id());
    let manager = Manager::new(&broken, Driver::ByPath, Some(Path::new(&path)), "c").unwrap();
    assert!(manager.create().is_err());
    for hierarchy in &hierarchies[..3] {
        let top = hierarchy.mount.join(format!("orlop-test-{}-fails", std::process::id()));
        assert!(!top.exists(), "{top:?} is left");
    }
}

#[test]
fn a_process_is_moved_by_its_number() {
    let Some(host) = hybrid("a_process_is_moved_by_its_number") else { return };
    let mut scene = Scene::new(host, "moved");
    scene.manager.create().unwrap();
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = child.id() as i32;
    scene.sleepers.push(child);
    scene.manager.add(pid, None).unwrap();
    assert_eq!(scene.manager.processes().unwrap(), [pid]);
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(cgroups.lines().all(|line| line.ends_with("-moved")), "{cgroups}");
    scene.manager.kill().unwrap();
    scene.reap();
    scene.manager.remove().unwrap();
    scene.assert_gone();
}

#[test]
fn a_read_only_mount_is_a_matter_of_permission() {
    let test = "a_read_only_mount_is_a_matter_of_permission";
    let Some(host) = root(test) else { return };
    if env::var_os(INSIDE).is_none() {
        return again(&host, test, "mount -o remount,bind,ro /sys/fs/cgroup &&");
    }
    let scene = Scene::new(host, "read-only");
    assert_eq!(scene.manager.create().unwrap_err().kind(), Kind::Permission);
    // Nothing is there, so nothing is left to remove.
    scene.manager.remove().unwrap();
}

#[test]
fn controllers_reach_a_deep_cgroup() {
    let Some(host) = v2_alone("controllers_reach_a_deep_cgroup") else { return };
    let Cgroups::Unified { controllers, mount, .. } = host.cgroups.clone() else { unreachable!() };
    let top = format!("orlop-test-{}-deep", std::process::id());
    let path = format!("/{top}/a/b");
    let manager = Manager::new(&host, Driver::ByPath, Some(Path::new(&path)), "c").unwrap();
    let scene = Scene { host, manager, sleepers: Vec::new() };
    scene.manager.create().unwrap();
    let enabled = scene.file("", "cgroup.controllers");
    scene.manager.remove().unwrap();
    for left in ["a", ""] {
        fs::remove_dir(mount.join(&top).join(left)).unwrap();
    }
    assert_eq!(enabled.split_whitespace().collect::<Vec<_>>(), controllers);
}

/// A threaded cgroup has neither `cgroup.kill` nor a list of processes.
#[test]
fn a_threaded_cgroup_is_killed_by_signals() {
    let Some(host) = v2_alone("a_threaded_cgroup_is_killed_by_signals") else { return };
    let Cgroups::Unified { controllers, mount, .. } = host.cgroups.clone() else { unreachable!() };
    if !controllers.iter().any(|name| name == "hugetlb") {
        println!("SKIP a_threaded_cgroup_is_killed_by_signals: no controller needs a domain");
        return;
    }
    let top = format!("orlop-test-{}-threaded", std::process::id());
    let above = mount.join(&top);
    fs::create_dir(&above).unwrap();
    fs::write(above.join("cgroup.type"), "threaded").unwrap();
    let path = format!("/{top}/c");
    let manager = Manager::new(&host, Driver::ByPath, Some(Path::new(&path)), "c").unwrap();
    let mut scene = Scene { host, manager, sleepers: Vec::new() };
    scene.manager.create().unwrap();
    assert_eq!(scene.file("", "cgroup.type"), "threaded");
    let pid = scene.joined("exec sleep 1000");
    assert_eq!(scene.manager.processes().unwrap(), [pid]);
    scene.manager.kill().unwrap();
    scene.reap();
    scene.manager.remove().unwrap();
    scene.assert_gone();
    fs::remove_dir(above).unwrap();
}
