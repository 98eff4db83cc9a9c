//! The kernel floor runs real containers: a floor that left something out, or did
//! not run at all, would make every runtime look bad.

use std::path::Path;
use std::process::{Command, Output};

use integration::bench::bundle::Bundles;
use nix::unistd::Uid;

fn floor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kernel-floor")).args(arguments).output().unwrap()
}

fn root(test: &str, directory: &Path) -> Option<String> {
    if !Uid::effective().is_root() {
        println!("SKIP {test}: making a container needs root");
        return None;
    }
    Some(Bundles::create(directory, true).unwrap().root.to_str().unwrap().to_owned())
}

#[test]
fn the_program_runs_in_the_container() {
    let directory = tempfile::tempdir().unwrap();
    let test = "the_program_runs_in_the_container";
    let Some(root) = root(test, directory.path()) else { return };
    let output = floor(&["run", &root, "/bin/true"]);
    assert!(output.status.success(), "{output:?}");
    // What the host has is not in the root.
    for missing in ["/bin/sh", "/etc/passwd"] {
        let output = floor(&["run", &root, missing]);
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(words.contains("exec: No such file or directory"), "{words}");
    }
}

#[test]
fn a_root_that_is_no_directory_is_refused_by_the_step_that_sees_it() {
    let directory = tempfile::tempdir().unwrap();
    let test = "a_root_that_is_no_directory_is_refused_by_the_step_that_sees_it";
    if root(test, directory.path()).is_none() {
        return;
    }
    let output = floor(&["run", "/no/such/root", "/bin/true"]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("opening the root: No such file"), "{words}");
}
