//! Labels of SELinux, as Debian's policy has them for containers: one with other
//! categories than a file has does not get at it.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::{current, described, of_exec, selinux};
use crate::checkpoint::whole::{RESTORE, RUN, command_on, criu, quietly, save};
use crate::harness::{Bundle, Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_label_is_enforced,
    a_label_is_enforced_with_ids_of_its_own,
    further_processes_have_the_label_or_another,
    a_label_that_is_none_is_an_error,
    mounts_have_their_label,
    the_keyring_has_the_processs_label,
    a_label_that_does_not_come_back_is_an_error,
    mounts_come_back_with_their_label_or_another,
];

const ONE: &str = "system_u:system_r:container_t:s0:c1,c2";
const TWO: &str = "system_u:system_r:container_t:s0:c3,c4";
const FILES: &str = "system_u:object_r:container_file_t:s0";
const FILES_OF_ONE: &str = "system_u:object_r:container_file_t:s0:c1,c2";
const FILES_OF_TWO: &str = "system_u:object_r:container_file_t:s0:c3,c4";

fn set(path: &std::path::Path, label: &str) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "security.selinux", label.as_bytes(), flags).unwrap();
}

/// A bundle whose files are containers', but for those of one and two.
fn bundle(lab: &Lab, arguments: &[&str]) -> Bundle {
    if !selinux() {
        lab.skip("SELinux is off");
    }
    // What is made in there from now on has it too: what is printed goes to files.
    set(lab.folder(), FILES);
    let mut bundle = lab.bundle(arguments);
    for (name, label) in [("one", FILES_OF_ONE), ("two", FILES_OF_TWO)] {
        let path = bundle.rootfs().join("work").join(name);
        fs::write(&path, name).unwrap();
        set(&path, label);
    }
    bundle.config["process"]["selinuxLabel"] = json!(ONE);
    bundle.config["linux"]["mountLabel"] = json!(FILES_OF_ONE);
    bundle
}

const CURRENT: &str = "/proc/self/attr/current";

fn reads_one_alone(lab: &Lab, flags: &[&str]) {
    assert_eq!(lab.exec("a", flags, &["cat", "/work/one"]).ok(), "one");
    let denied = lab.exec("a", flags, &["cat", "/work/two"]);
    assert!(denied.stderr.contains("Permission denied"), "{denied:?}");
    denied.ends(99);
}

fn a_label_is_enforced(lab: &Lab) {
    for no_new_privileges in [true, false] {
        let mut bundle = bundle(lab, &["cat", CURRENT, "/work/one"]);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        assert_eq!(lab.run(&bundle, "a", &[]).ok(), format!("{ONE}\0one"));
        bundle.args(&["cat", "/work/two"]);
        let denied = lab.run(&bundle, "a", &[]);
        assert!(denied.stderr.contains("Permission denied"), "{denied:?}");
        denied.ends(99);
    }
}

fn a_label_is_enforced_with_ids_of_its_own(lab: &Lab) {
    let mut bundle = bundle(lab, &["sleep"]);
    bundle.user_namespace();
    lab.run(&bundle, "a", &["--detach"]).ok();
    assert_eq!(current(lab, "a"), ONE);
    reads_one_alone(lab, &[]);
    lab.delete("a");
}

fn further_processes_have_the_label_or_another(lab: &Lab) {
    for no_new_privileges in [true, false] {
        let mut bundle = bundle(lab, &["sleep"]);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        lab.run(&bundle, "a", &["--detach"]).ok();
        assert_eq!(current(lab, "a"), ONE);
        assert_eq!(of_exec(lab, &[]), ONE);
        reads_one_alone(lab, &[]);
        let flags = ["--process-label", TWO];
        assert_eq!(of_exec(lab, &flags), TWO);
        assert_eq!(lab.exec("a", &flags, &["cat", "/work/two"]).ok(), "two");
        lab.exec("a", &flags, &["cat", "/work/one"]).ends(99);
        let words = ["/bin/probe", "cat", CURRENT, "/work/two"];
        let path = described(lab, &bundle, &words, "selinuxLabel", json!(TWO));
        let said = lab.on("a", &["exec", "--process", &path], &[]).ok();
        assert_eq!(said, format!("{TWO}\0two"));
        lab.delete("a");
    }
}

fn a_label_that_is_none_is_an_error(lab: &Lab) {
    let mut bundle = bundle(lab, &["sleep"]);
    let none = "system_u:system_r:no_such_t:s0";
    bundle.config["process"]["selinuxLabel"] = json!(none);
    let what = format!("setting the SELinux label {none:?}");
    for flags in [&[] as &[&str], &["--no-new-keyring"]] {
        let said = lab.create(&bundle, "a", flags).fails();
        let end = "(config.json: /process/selinuxLabel): invalid argument";
        assert!(said.contains(&what) && said.ends_with(end), "{said}");
        assert_eq!(lab.on("a", &["state"], &[]).fails(), "container does not exist");
    }
    bundle.config["process"]["selinuxLabel"] = json!(ONE);
    bundle.config["linux"]["mountLabel"] = json!("system_u:object_r:no_such_t:s0");
    let said = lab.create(&bundle, "a", &[]).fails();
    assert!(said.contains("mounting tmpfs on \"/dev\""), "{said}");
    assert_eq!(lab.on("a", &["state"], &[]).fails(), "container does not exist");
    bundle.config["linux"]["mountLabel"] = json!(FILES_OF_ONE);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let said = lab.exec("a", &["--process-label", none], &["exit", "0"]).fails();
    assert!(said.contains(&what) && said.ends_with("invalid argument"), "{said}");
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
}

fn mounts_have_their_label(lab: &Lab) {
    let labels = |bundle: &mut Bundle, paths: &[&str]| {
        bundle.args(&[&["labels"], paths].concat());
        let said = lab.run(bundle, "a", &[]).ok();
        said.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let mut bundle = bundle(lab, &[]);
    fs::create_dir(bundle.rootfs().join("work/masked")).unwrap();
    bundle.config["linux"]["maskedPaths"] = json!(["/work/masked"]);
    bundle.mount("/tmp", "tmpfs", "tmpfs", &[]);
    // As the mount's own option wants it, in mount(8)'s quotes.
    let own = format!("context=\"{FILES_OF_TWO}\"");
    bundle.mount("/etc", "tmpfs", "tmpfs", &[&own]);
    for user_namespace in [false, true] {
        if user_namespace {
            bundle.user_namespace();
        }
        // Devices are the host's own there.
        let null = if user_namespace { "/dev" } else { "/dev/null" };
        let theirs = ["/dev", null, "/dev/pts", "/dev/shm", "/dev/mqueue", "/tmp", "/work/masked"];
        for label in labels(&mut bundle, &theirs) {
            assert_eq!(label, FILES_OF_ONE);
        }
        assert_eq!(labels(&mut bundle, &["/etc"]), [FILES_OF_TWO]);
        // What the kernel labels by itself.
        for (path, kind) in
            [("/proc", "proc_t"), ("/sys", "sysfs_t"), ("/sys/fs/cgroup", "cgroup_t")]
        {
            let [label] = &labels(&mut bundle, &[path])[..] else { panic!() };
            assert!(label.ends_with(&format!(":object_r:{kind}:s0")), "{label}");
        }
    }
}

fn the_keyring_has_the_processs_label(lab: &Lab) {
    let bundle = bundle(lab, &["sleep"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let keys = fs::read_to_string("/proc/keys").unwrap();
    let ours = format!("_ses.{}", lab.id("a"));
    let line = keys.lines().find(|line| line.contains(&ours)).expect("the keyring");
    let id = format!("0x{}", line.split(' ').next().unwrap());
    let said = Command::new("keyctl").args(["security", &id]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim_end(), ONE, "{said:?}");
    lab.delete("a");
}

/// CRIU works while it is here: the policy lets nobody have what it needs. Labels are
/// given all the same.
struct Permissive;

impl Permissive {
    const ENFORCE: &str = "/sys/fs/selinux/enforce";

    fn new() -> Self {
        fs::write(Self::ENFORCE, "0").unwrap();
        Self
    }
}

impl Drop for Permissive {
    fn drop(&mut self) {
        fs::write(Self::ENFORCE, "1").unwrap();
    }
}

/// Debian builds CRIU without SELinux: it saves no label, and its processes would come
/// back with that of who restores them.
fn a_label_that_does_not_come_back_is_an_error(lab: &Lab) {
    let bundle = bundle(lab, &["sleep"]);
    let _permissive = Permissive::new();
    criu(lab);
    quietly(command_on(lab, &bundle, &RUN, "a"));
    save(lab, &[], "a");
    let restore = |flags: &[&str]| {
        let verb = [&RESTORE as &[_], flags].concat();
        let said = lab.begin(command_on(lab, &bundle, &verb, "a")).end().fails();
        assert_eq!(lab.on("a", &["state"], &[]).fails(), "container does not exist");
        said
    };
    let said = restore(&[]);
    assert!(said.starts_with("criu has left the processes with its own label, "), "{said}");
    let end = format!(", not {ONE:?} (config.json: /process/selinuxLabel)");
    assert!(said.ends_with(&end), "{said}");
    // One that is asked for like this it refuses by itself.
    let said = restore(&["--lsm-profile", &format!("selinux:{TWO}")]);
    assert!(said.contains("selinux LSM specified but selinux not supported"), "{said}");
}

fn mounts_come_back_with_their_label_or_another(lab: &Lab) {
    let mut bundle = bundle(lab, &["sleep"]);
    bundle.config["process"].as_object_mut().unwrap().remove("selinuxLabel");
    let _permissive = Permissive::new();
    criu(lab);
    quietly(command_on(lab, &bundle, &RUN, "a"));
    save(lab, &[], "a");
    for (flags, label) in
        [(&[] as &[_], FILES_OF_ONE), (&["--lsm-mount-context", FILES_OF_TWO], FILES_OF_TWO)]
    {
        let verb = [&RESTORE as &[_], flags].concat();
        lab.begin(command_on(lab, &bundle, &verb, "a")).end().ok();
        let said = lab.exec("a", &[], &["labels", "/dev/shm"]).ok();
        assert_eq!(said, format!("/dev/shm {label}\n"));
        lab.delete("a");
    }
}
