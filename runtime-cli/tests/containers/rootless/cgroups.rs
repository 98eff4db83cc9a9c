//! Cgroups: delegated ones, none, and what is shown of those that are others'.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::unistd::getpid;
use serde_json::{Value, json};

use super::account::{Account, ID};
use crate::harness::{Bundle, CGROUPS, Lab, Test, cgroups, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_delegated_cgroup_is_used,
    limits_hold_in_a_delegated_cgroup,
    rules_for_devices_that_nobody_keeps_are_told_of,
    a_range_of_ids_is_no_hindrance,
    a_full_one_is_told,
    one_that_is_out_of_reach_is_told,
    where_none_can_be_had_it_goes_without,
    a_limit_or_a_path_needs_one,
    whether_it_needs_one_can_be_said,
    none_is_made_when_they_are_disabled,
    disabled_ones_hold_no_limit,
    those_of_others_cannot_be_written,
];

/// A cgroup that belongs to the account, with this process in one below it.
pub(super) struct Delegated {
    path: PathBuf,
    before: PathBuf,
}

impl Delegated {
    /// None where cgroup v1 is: nobody delegates that.
    pub(super) fn new(lab: &Lab) -> Option<Self> {
        if !lab.view.is_v2() {
            return None;
        }
        let path = Path::new(CGROUPS).join(format!("{}-user", lab.tag()));
        let here = path.join("here");
        fs::create_dir_all(&here).unwrap();
        // cgroups(7), "Delegation".
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(path.join(file), Some(ID), Some(ID)).unwrap();
        }
        let delegated = Self { path, before: Path::new(CGROUPS).join(&own_cgroup("self")[1..]) };
        chown(here.join("cgroup.procs"), Some(ID), Some(ID)).unwrap();
        fs::write(here.join("cgroup.procs"), getpid().to_string()).unwrap();
        Some(delegated)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        fs::write(self.before.join("cgroup.procs"), getpid().to_string()).unwrap();
        // A failed test leaves more in it, for the oracle.
        let _ = fs::remove_dir(self.path.join("here"));
        let _ = fs::remove_dir(&self.path);
    }
}

/// The v2 cgroup of a process.
fn own_cgroup(pid: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

/// All its cgroups.
fn all_cgroups(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

fn a_delegated_cgroup_is_used(lab: &Lab) {
    let Some(delegated) = Delegated::new(lab) else { return };
    let account = Account::new(lab);
    let bundle = account.bundle(&["sleep"]);
    account.run(&bundle, "a", &["--detach"]).ok();
    let pid = account.state("a")["pid"].to_string();
    let cgroup = delegated.path.join(lab.id("a"));
    assert_eq!(Path::new(CGROUPS).join(&own_cgroup(&pid)[1..]), cgroup);
    let listed = account.on("a", &["ps", "--format", "json"], &[]).ok();
    assert_eq!(listed.trim(), format!("[{pid}]"));
    let text = account.on("a", &["exec"], &["/bin/probe", "cat", "/proc/self/cgroup"]).ok();
    assert!(text.lines().any(|line| line == "0::/"), "{text}");
    account.on("a", &["pause"], &[]).ok();
    assert_eq!(account.state("a")["status"], "paused");
    account.on("a", &["resume"], &[]).ok();
    account.delete("a");
    assert!(!cgroup.exists());
    // One that is named, from the root or beside the caller's.
    for path in [format!("/{}-user/x/{}", lab.tag(), lab.id("b")), lab.id("b")] {
        let mut bundle = account.bundle(&["sleep"]);
        bundle.config["linux"]["cgroupsPath"] = json!(path);
        account.run(&bundle, "b", &["--detach"]).ok();
        let pid = account.state("b")["pid"].to_string();
        let cgroup = own_cgroup(&pid);
        assert!(cgroup.starts_with(&format!("/{}-user/", lab.tag())), "{cgroup}");
        assert!(cgroup.ends_with(&path), "{cgroup}");
        account.delete("b");
        let _ = fs::remove_dir(delegated.path.join("x"));
    }
}

fn limits_hold_in_a_delegated_cgroup(lab: &Lab) {
    let Some(delegated) = Delegated::new(lab) else { return };
    let there = fs::read_to_string(Path::new(CGROUPS).join("cgroup.controllers")).unwrap();
    let has = |name: &str| there.split_whitespace().any(|found| found == name);
    let (controller, limits, file, value) = if has("pids") {
        ("pids", json!({ "pids": { "limit": 77 } }), "pids.max", "77")
    } else if has("hugetlb") {
        let limit = json!([{ "pageSize": "2MB", "limit": 4_194_304 }]);
        ("hugetlb", json!({ "hugepageLimits": limit }), "hugetlb.2MB.max", "4194304")
    } else {
        lab.skip("no controller can be delegated");
    };
    for cgroup in [Path::new(CGROUPS), &delegated.path] {
        fs::write(cgroup.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    }
    let account = Account::new(lab);
    let mut bundle = account.bundle(&["sleep"]);
    bundle.config["linux"]["resources"] = limits;
    account.run(&bundle, "a", &["--detach"]).ok();
    let file = delegated.path.join(lab.id("a")).join(file);
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), value);
    account.delete("a");
}

/// The container's processes are somebody else's then.
/// Where there are some in the config: what is always denied is not.
fn rules_for_devices_that_nobody_keeps_are_told_of(lab: &Lab) {
    let account = Account::new(lab);
    let rules = json!([{ "allow": false, "access": "rwm" }]);
    let told = |bundle: &mut Bundle, word: &[&str], why: &str| {
        bundle.config["linux"]["resources"]["devices"] = rules.clone();
        let arguments = [word, &["run", "--detach"]].concat();
        let output = lab.begin(account.start_of(bundle, "a", &arguments)).end();
        let words = "/linux/resources/devices: no device is kept from the container: ";
        let line = output.stderr.trim_end();
        assert!(line.contains(words) && line.contains(why), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        output.ok();
        account.on("a", &["kill"], &["KILL"]).ok();
        account.delete("a");
    };
    let mut bundle = account.bundle(&["sleep"]);
    told(&mut bundle, &["--cgroup-manager", "disabled"], "it has no cgroup");
    told(&mut bundle, &[], "it has no cgroup");
    let Some(_delegated) = Delegated::new(lab) else { return };
    told(&mut account.bundle(&["sleep"]), &[], "operation not permitted");
}

fn a_range_of_ids_is_no_hindrance(lab: &Lab) {
    let Some(delegated) = Delegated::new(lab) else { return };
    let account = Account::with_ranges(lab);
    let mut bundle = account.bundle_with_ranges(&["sleep"]);
    bundle.config["process"]["user"] = json!({ "uid": 9, "gid": 9 });
    account.run(&bundle, "a", &["--detach"]).ok();
    let text = account.on("a", &["exec"], &["/bin/probe", "cat", "/proc/self/cgroup"]).ok();
    assert!(text.lines().any(|line| line == "0::/"), "{text}");
    assert!(delegated.path.join(lab.id("a")).exists());
    account.on("a", &["kill"], &["KILL"]).ok();
    account.delete("a");
}

fn a_full_one_is_told(lab: &Lab) {
    let Some(delegated) = Delegated::new(lab) else { return };
    let account = Account::new(lab);
    let bundle = account.bundle(&["exit", "0"]);
    fs::write(delegated.path.join("cgroup.max.descendants"), "1").unwrap();
    let message = account.run(&bundle, "a", &[]).fails();
    let path = delegated.path.join(lab.id("a"));
    assert!(message.contains(&format!("making the cgroup {path:?}: ")), "{message}");
    assert!(message.contains("cgroup.max.descendants"), "{message}");
}

/// It is the account's, but nothing above both it and the caller is.
fn one_that_is_out_of_reach_is_told(lab: &Lab) {
    let Some(delegated) = Delegated::new(lab) else { return };
    let account = Account::new(lab);
    let mut bundle = account.bundle(&["sleep"]);
    account.run(&bundle, "a", &["--detach"]).ok();
    fs::write(delegated.before.join("cgroup.procs"), getpid().to_string()).unwrap();
    let words = "(a process may be moved only between cgroups below one that is the caller's)";
    let message = account.on("a", &["exec"], &["/bin/probe", "say", "x"]).fails();
    assert!(message.ends_with(words), "{message}");
    account.delete("a");
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}-user/x", lab.tag()));
    let message = account.run(&bundle, "a", &[]).fails();
    assert!(message.ends_with(words), "{message}");
    assert!(!delegated.path.join("x").exists());
}

/// The container stays in the caller's.
fn where_none_can_be_had_it_goes_without(lab: &Lab) {
    let account = Account::new(lab);
    let bundle = account.bundle(&["sleep"]);
    for rootless in ["auto", "true"] {
        let output =
            lab.begin(account.start_of(&bundle, "a", &["--rootless", rootless, "run", "--detach"]));
        let output = output.end();
        assert_eq!(output.stderr, "");
        output.ok();
        let pid = account.state("a")["pid"].to_string();
        assert_eq!(all_cgroups(&pid), all_cgroups("self"));
        assert_eq!(account.on("a", &["exec"], &["/bin/probe", "say", "x"]).ok(), "x\n");
        let message = account.on("a", &["pause"], &[]).fails();
        assert!(message.contains("freezer"), "{message}");
        account.on("a", &["kill"], &["KILL"]).ok();
        account.delete("a");
        assert!(cgroups(lab.tag()).is_empty());
    }
}

fn a_limit_or_a_path_needs_one(lab: &Lab) {
    let account = Account::new(lab);
    let words = "(rootless needs no limits + no cgrouppath when no permission is granted for \
                 cgroups)";
    let path = format!("/{}-nobody/{}", lab.tag(), lab.id("a"));
    let there = fs::read_to_string(Path::new(CGROUPS).join("cgroup.controllers"));
    let pids = !lab.view.is_v2() || there.unwrap().contains("pids");
    let limit = if pids {
        json!({ "pids": { "limit": 77 } })
    } else {
        json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }] })
    };
    for (field, value) in [("resources", limit), ("cgroupsPath", json!(path))] {
        let mut bundle = account.bundle(&["exit", "0"]);
        bundle.config["linux"][field] = value;
        let message = account.run(&bundle, "a", &[]).fails();
        assert!(message.contains("making the cgroup \""), "{message}");
        assert!(message.contains("permission denied") && message.ends_with(words), "{message}");
    }
}

fn whether_it_needs_one_can_be_said(lab: &Lab) {
    let account = Account::new(lab);
    let bundle = account.bundle(&["exit", "0"]);
    let run = account.start_of(&bundle, "a", &["--rootless=false", "run"]);
    let message = lab.begin(run).end().fails();
    assert!(message.contains("making the cgroup \""), "{message}");
    assert!(message.ends_with("permission denied"), "{message}");
}

fn none_is_made_when_they_are_disabled(lab: &Lab) {
    let disabled = ["--cgroup-manager", "disabled", "run", "--detach"];
    let account = Account::new(lab);
    let bundle = account.bundle(&["sleep"]);
    let output = lab.begin(account.start_of(&bundle, "a", &disabled)).end();
    assert_eq!(output.stderr, "");
    output.ok();
    // What only a cgroup can do is no success.
    for verb in [&["update", "--pids-limit", "9"][..], &["ps"]] {
        let message = account.on("a", verb, &[]).fails();
        assert!(message.contains("the container has no cgroup"), "{message}");
    }
    account.on("a", &["kill"], &["0"]).ok();
    account.delete("a");

    // Root could have one, and its devices are not watched without.
    let bundle = lab.bundle(&["sleep"]);
    bundle.write();
    let mut command = lab.command(&disabled);
    command.arg("--bundle").arg(&bundle.path).arg(lab.id("b"));
    let output = lab.begin(command).end();
    assert!(output.stderr.contains("level=warning"), "{}", output.stderr);
    assert!(
        output.stderr.contains("no device is kept from the container: it has no cgroup"),
        "{}",
        output.stderr
    );
    output.ok();
    let pid = lab.state("b")["pid"].to_string();
    assert_eq!(all_cgroups(&pid), all_cgroups("self"));
    assert!(cgroups(lab.tag()).is_empty());
    lab.exec("b", &[], &["say", "x"]).ok();
    lab.delete("b");
}

fn disabled_ones_hold_no_limit(lab: &Lab) {
    let mut bundle = lab.bundle(&["exit", "0"]);
    bundle.config["linux"]["resources"]["unified"] = json!({ "cgroup.max.depth": "9" });
    if !lab.view.is_v2() {
        bundle.config["linux"]["resources"] = json!({ "pids": { "limit": 77 } });
    }
    bundle.write();
    let run = |flags: &[&str]| {
        let mut command = lab.command(flags);
        command.args(["run", "--bundle"]).arg(&bundle.path).arg(lab.id("a"));
        lab.begin(command).end().fails()
    };
    let message = run(&["--cgroup-manager", "disabled"]);
    let words = "a limit needs a cgroup, and the container is to have none (config.json: \
                 /linux/resources/";
    assert!(message.contains(words), "{message}");
    let message = run(&["--cgroup-manager", "disabled", "--systemd-cgroup"]);
    assert!(message.contains("--systemd-cgroup contradicts --cgroup-manager"), "{message}");
    let message = run(&["--cgroup-manager", "none"]);
    assert!(message.contains("is neither cgroupfs, systemd nor disabled"), "{message}");
}

/// Mounts of cgroup file systems, as the container's own table tells them: the
/// place, and whether it can be written to.
fn shown(table: &str) -> Vec<(String, bool)> {
    let line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let fields: Vec<_> = left.split(' ').collect();
        let (at, options) = (fields[4].to_owned(), fields[5]);
        right.starts_with("cgroup").then(|| (at, options.split(',').any(|option| option == "rw")))
    };
    table.lines().filter_map(line).collect()
}

/// CVE-2023-25809, and a container that has no cgroup though it is root's.
fn those_of_others_cannot_be_written(lab: &Lab) {
    let account = Account::new(lab);
    let mount = |at: &str, kind: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": "/sys", "options": options });
    let sys = mount("/sys", "none", &["rbind", "nosuid", "noexec", "nodev", "ro"]);
    let cgroup = mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    for namespace in [true, false] {
        for mounts in [json!([sys]), json!([sys, cgroup]), json!([cgroup])] {
            let change = |config: &mut Value, proc: Value| {
                let mut list = vec![proc];
                list.extend(mounts.as_array().unwrap().clone());
                config["mounts"] = json!(list);
            };
            let proc = mount("/proc", "proc", &[]);
            let mut bundle = account.bundle(&["cat", "/proc/self/mountinfo"]);
            change(&mut bundle.config, proc.clone());
            let mut of_root = lab.bundle(&["cat", "/proc/self/mountinfo"]);
            change(&mut of_root.config, proc);
            // Where the bundle is, a device may be of no use.
            let dev = mount("/dev", "tmpfs", &["mode=755"]);
            of_root.config["mounts"].as_array_mut().unwrap().push(dev);
            for bundle in [&mut bundle, &mut of_root] {
                bundle.without_namespace("cgroup");
                if namespace {
                    bundle.namespace("cgroup", None);
                }
            }
            let mut tables = vec![account.run(&bundle, "a", &[]).ok()];
            // The mount of /sys is the caller's own wish there.
            if mounts.as_array().unwrap().len() == 1 && mounts[0]["type"] == "cgroup" {
                of_root.write();
                let mut command = lab.command(&["--cgroup-manager", "disabled", "run"]);
                command.arg("--bundle").arg(&of_root.path).arg(lab.id("b"));
                tables.push(lab.begin(command).end().ok());
            }
            for table in tables {
                let shown = shown(&table);
                assert!(!shown.is_empty(), "{table}");
                let writable: Vec<_> = shown.iter().filter(|(_, writable)| *writable).collect();
                assert!(writable.is_empty(), "{namespace} {mounts}: {writable:?}");
            }
        }
    }
}
