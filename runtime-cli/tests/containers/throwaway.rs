//! `orlop try`: a container of the machine's own programs that leaves nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::harness::{Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![it_runs_in_a_cgroup_of_its_own];

/// `try` with a command, in a temporary folder of the test's own.
fn attempt(lab: &Lab, command: &[&str]) -> Command {
    fs::set_permissions(lab.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut arguments = vec!["try", "--"];
    arguments.extend(command);
    let mut attempt = lab.command(&arguments);
    attempt.env("TMPDIR", lab.folder());
    attempt
}

/// Also where there is no controller that could limit anything.
fn it_runs_in_a_cgroup_of_its_own(lab: &Lab) {
    let printed = lab.begin(attempt(lab, &["cat", "/proc/self/cgroup"])).end().ok();
    assert!(printed.lines().any(|line| line == "0::/"), "{printed}");
}
