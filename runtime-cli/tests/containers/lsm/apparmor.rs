//! Profiles of AppArmor, loaded into the kernel for one test: each lets everything be
//! done but one file be read.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{apparmor, current, described, of_exec};
use crate::checkpoint::whole::{RESTORE, RUN, command_on, criu, quietly, save};
use crate::harness::{Bundle, Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_profile_is_enforced,
    a_profile_is_enforced_with_ids_of_its_own,
    further_processes_have_the_profile_or_another,
    a_profile_that_is_not_loaded_is_an_error,
    a_profile_is_told_to_the_kernel_alone,
    a_profile_comes_back_or_another,
];

/// A profile in the kernel, as long as the test.
struct Profile(String);

impl Profile {
    /// One that denies to read /work/NAME.
    fn load(lab: &Lab, name: &str) -> Self {
        if !apparmor() {
            lab.skip("AppArmor is off");
        }
        let this = Self(lab.id(name));
        if !this.parser("--replace", name) {
            lab.skip("apparmor_parser is not installed");
        }
        this
    }

    /// False without the program.
    fn parser(&self, what: &str, name: &str) -> bool {
        let text = format!(
            "profile {} flags=(attach_disconnected,mediate_deleted) {{\n\
               file, capability, network, mount, umount, pivot_root, signal, ptrace, unix,\n\
               deny /work/{name} r,\n}}\n",
            self.0
        );
        let mut command = Command::new("apparmor_parser");
        let started = command.args([what, "--skip-cache", "--quiet"]).stdin(Stdio::piped()).spawn();
        let Ok(mut child) = started else { return false };
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{text}");
        true
    }

    /// As the kernel says that a process has it.
    fn enforced(&self) -> String {
        format!("{} (enforce)", self.0)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parser("--remove", "");
    }
}

/// A bundle with two files to be read.
fn bundle(lab: &Lab, profile: &Profile, arguments: &[&str]) -> Bundle {
    let mut bundle = lab.bundle(arguments);
    for name in ["one", "two"] {
        fs::write(bundle.rootfs().join("work").join(name), name).unwrap();
    }
    bundle.config["process"]["apparmorProfile"] = json!(profile.0);
    bundle
}

const CURRENT: &str = "/proc/self/attr/current";

fn reads_two_alone(lab: &Lab, flags: &[&str]) {
    assert_eq!(lab.exec("a", flags, &["cat", "/work/two"]).ok(), "two");
    let denied = lab.exec("a", flags, &["cat", "/work/one"]);
    assert!(denied.stderr.contains("Permission denied"), "{denied:?}");
    denied.ends(99);
}

fn a_profile_is_enforced(lab: &Lab) {
    let one = Profile::load(lab, "one");
    for no_new_privileges in [true, false] {
        let mut bundle = bundle(lab, &one, &["cat", CURRENT, "/work/two"]);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        assert_eq!(lab.run(&bundle, "a", &[]).ok(), format!("{}\ntwo", one.enforced()));
        bundle.args(&["cat", "/work/one"]);
        let denied = lab.run(&bundle, "a", &[]);
        assert!(denied.stderr.contains("Permission denied"), "{denied:?}");
        denied.ends(99);
    }
}

fn a_profile_is_enforced_with_ids_of_its_own(lab: &Lab) {
    let one = Profile::load(lab, "one");
    let mut bundle = bundle(lab, &one, &["sleep"]);
    bundle.user_namespace();
    lab.run(&bundle, "a", &["--detach"]).ok();
    assert_eq!(current(lab, "a"), one.enforced());
    reads_two_alone(lab, &[]);
    lab.delete("a");
}

fn further_processes_have_the_profile_or_another(lab: &Lab) {
    let (one, two) = (Profile::load(lab, "one"), Profile::load(lab, "two"));
    for no_new_privileges in [true, false] {
        let mut bundle = bundle(lab, &one, &["sleep"]);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        lab.run(&bundle, "a", &["--detach"]).ok();
        assert_eq!(current(lab, "a"), one.enforced());
        assert_eq!(of_exec(lab, &[]), one.enforced());
        reads_two_alone(lab, &[]);
        let flags = ["--apparmor", &two.0];
        assert_eq!(of_exec(lab, &flags), two.enforced());
        assert_eq!(lab.exec("a", &flags, &["cat", "/work/one"]).ok(), "one");
        lab.exec("a", &flags, &["cat", "/work/two"]).ends(99);
        let words = ["/bin/probe", "cat", CURRENT, "/work/one"];
        let path = described(lab, &bundle, &words, "apparmorProfile", json!(two.0));
        let said = lab.on("a", &["exec", "--process", &path], &[]).ok();
        assert_eq!(said, format!("{}\none", two.enforced()));
        lab.delete("a");
    }
}

fn a_profile_that_is_not_loaded_is_an_error(lab: &Lab) {
    let one = Profile::load(lab, "one");
    let mut bundle = bundle(lab, &one, &["sleep"]);
    let missing = lab.id("missing");
    bundle.config["process"]["apparmorProfile"] = json!(missing);
    let what = format!("applying the AppArmor profile {missing:?}: writing: \"exec {missing}\"");
    let why = "no such file or directory";
    let said = lab.create(&bundle, "a", &[]).fails();
    assert!(
        said.ends_with(&format!("{what} (config.json: /process/apparmorProfile): {why}")),
        "{said}"
    );
    assert_eq!(lab.on("a", &["state"], &[]).fails(), "container does not exist");
    bundle.config["process"]["apparmorProfile"] = json!(one.0);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let said = lab.exec("a", &["--apparmor", &missing], &["exit", "0"]).fails();
    assert!(said.contains(&what) && said.ends_with(why), "{said}");
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
}

/// The image's /proc looks like one, and would take what is written (CVE-2019-16884).
fn a_profile_is_told_to_the_kernel_alone(lab: &Lab) {
    let one = Profile::load(lab, "one");
    let mut bundle = bundle(lab, &one, &["sleep"]);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/proc");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    let decoys = ["self", "thread-self", "1"].map(|process| {
        let folder = bundle.rootfs().join("proc").join(process).join("attr/apparmor");
        fs::create_dir_all(&folder).unwrap();
        [folder.join("exec"), folder.join("../exec")]
    });
    decoys.iter().flatten().for_each(|path| fs::write(path, "").unwrap());
    lab.run(&bundle, "a", &["--detach"]).ok();
    assert_eq!(current(lab, "a"), one.enforced());
    reads_two_alone(lab, &[]);
    for path in decoys.iter().flatten() {
        assert_eq!(fs::read_to_string(path).unwrap(), "");
    }
    lab.delete("a");
}

fn a_profile_comes_back_or_another(lab: &Lab) {
    let (one, two) = (Profile::load(lab, "one"), Profile::load(lab, "two"));
    criu(lab);
    let bundle = bundle(lab, &one, &["sleep"]);
    quietly(command_on(lab, &bundle, &RUN, "a"));
    save(lab, &[], "a");
    let wanted = format!("apparmor:{}", two.0);
    for (flags, enforced) in
        [(&[] as &[&str], one.enforced()), (&["--lsm-profile", &wanted], two.enforced())]
    {
        let verb = [&RESTORE as &[_], flags].concat();
        lab.begin(command_on(lab, &bundle, &verb, "a")).end().ok();
        assert_eq!(current(lab, "a"), enforced);
        reads_two_alone(lab, &[]);
        lab.delete("a");
    }
    let missing = format!("apparmor:{}", lab.id("missing"));
    let verb = [&RESTORE as &[_], &["--lsm-profile", &missing]].concat();
    let said = lab.begin(command_on(lab, &bundle, &verb, "a")).end().fails();
    assert!(said.starts_with("criu failed"), "{said}");
    assert_eq!(lab.on("a", &["state"], &[]).fails(), "container does not exist");
}
