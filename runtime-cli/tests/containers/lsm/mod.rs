//! Labels of security modules: which tests run depends on the one that is on.

pub(crate) mod apparmor;
pub(crate) mod selinux;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Bundle, Lab};

/// Whether AppArmor is on.
pub(crate) fn apparmor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text == "Y\n")
}

/// Whether SELinux is on.
pub(crate) fn selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// What a container's process is confined by, as the kernel says it to us.
fn current(lab: &Lab, name: &str) -> String {
    let path = format!("/proc/{}/attr/current", lab.state(name)["pid"]);
    fs::read_to_string(path).unwrap().trim_end_matches(['\n', '\0']).to_owned()
}

/// What a further process says that it is confined by.
fn of_exec(lab: &Lab, flags: &[&str]) -> String {
    let said = lab.exec("a", flags, &["cat", "/proc/self/attr/current"]).ok();
    said.trim_end_matches(['\n', '\0']).to_owned()
}

/// The process of a config, but for what it executes, as `exec --process` takes it.
fn described(lab: &Lab, bundle: &Bundle, arguments: &[&str], field: &str, value: Value) -> String {
    let mut process = bundle.config["process"].clone();
    process["args"] = arguments.into();
    process[field] = value;
    let path = lab.path("process.json");
    fs::write(&path, process.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}
