//! Rows 38 to 43: names, directories, and containers that are not there or not as
//! the command wants them.

use std::fs;

use super::case::refused;
use crate::harness::{Lab, Test, View, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    row_38_ids,
    row_39_long_and_taken_ids,
    row_40_directories,
    row_42_unknown_containers,
    row_43_signals,
    row_43_wrong_moments,
    files_without_an_end,
    what_ps_can_not_show,
];

fn row_38_ids(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    for id in ["", ".", "..", "a/b", "../x", "a b", " a", "a\n", "é", "a:b", "a\\b", "a\u{7f}"] {
        let said = refused(&lab.runtime(&["create", "--bundle", path, id]), 1);
        let wanted = if id.is_empty() {
            "orlop create failed: container id cannot be empty".to_owned()
        } else {
            format!("orlop create failed: invalid container ID format: {id:?}")
        };
        assert_eq!(said, wanted);
        for verb in [&["state"][..], &["start"], &["delete"], &["delete", "--force"]] {
            let output = lab.runtime(&[verb, &[id]].concat());
            assert!(wanted.ends_with(&refused(&output, 1)), "{verb:?} {id:?}: {output:?}");
        }
    }
}

fn row_39_long_and_taken_ids(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    bundle.write();
    let bundle_path = bundle.path.to_str().unwrap();
    let long = lab.id(&"x".repeat(300));
    let said = refused(&lab.runtime(&["create", "--bundle", bundle_path, &long]), 1);
    let path = lab.root().join(&long);
    let wanted = if lab.view == View::Systemd {
        format!("the container's id is too long: \"orlop-{long}.scope\" can't be a unit's name")
    } else {
        format!("making the state directory {path:?}: file name too long")
    };
    assert_eq!(said, format!("orlop create failed: {wanted}"));
    lab.runtime(&["delete", "--force", &long]).ok();
    lab.create(&bundle, "a", &[]).ok();
    for verb in ["create", "run"] {
        let output = lab.runtime(&[verb, "--bundle", bundle_path, &lab.id("a")]);
        assert_eq!(
            refused(&output, 1),
            format!(
                "orlop {verb} failed: container with given ID already exists \"{}\"",
                lab.root().join(lab.id("a")).display()
            )
        );
    }
    assert_eq!(lab.status("a"), "created");
    lab.delete("a");
}

const PID_FILE: &str = "writing the pid file \"/nope/pid\": no such file or directory";

fn row_40_directories(lab: &Lab) {
    let id = lab.id("a");
    for (path, wanted) in [
        ("/nope", "opening the bundle \"/nope\": no such file or directory"),
        ("/etc/passwd", "opening \"/etc/passwd/config.json\": not a directory"),
    ] {
        let said = refused(&lab.runtime(&["create", "--bundle", path, &id]), 1);
        assert_eq!(said, format!("orlop create failed: {wanted}"));
    }
    let bundle = lab.bundle(&["sleep"]);
    for verb in ["create", "run"] {
        let output =
            lab.begin(lab.start_of(verb, &bundle, "a", &["--pid-file", "/nope/pid"])).end();
        assert_eq!(refused(&output, 1), format!("orlop {verb} failed: {PID_FILE}"));
        assert!(lab.on("a", &["state"], &[]).fails().contains("does not exist"));
        lab.delete("a");
    }
    lab.create(&bundle, "a", &[]).ok();
    lab.on("a", &["start"], &[]).ok();
    let output = lab.on("a", &["exec", "--pid-file", "/nope/pid"], &["/bin/probe", "sleep"]);
    assert_eq!(refused(&output, 255), format!("exec failed: {PID_FILE}"));
    assert_eq!(lab.exec("a", &[], &["say", "one"]).ok(), "one\n");
    lab.delete("a");

    let file = lab.path("file");
    fs::write(&file, "").unwrap();
    let path = bundle.path.to_str().unwrap();
    let file = file.to_str().unwrap();
    let making = |root: &str, why| {
        format!("orlop create failed: making the state directory {root:?}: {why}")
    };
    for (root, wanted) in [
        (file, making(file, "file exists")),
        ("/", "orlop create failed: option --root must not be \"/\"".into()),
        ("/proc", making(&format!("/proc/{id}"), "no such file or directory")),
    ] {
        let arguments = ["--root", root, "create", "--bundle", path, &id];
        assert_eq!(refused(&lab.runtime(&arguments), 1), wanted, "{root}");
    }
    lab.runtime(&["--root", file, "delete", "--force", &id]).ok();
}

fn row_42_unknown_containers(lab: &Lab) {
    let unknown = "container does not exist";
    for verb in [&["state"][..], &["start"], &["delete"], &["pause"], &["resume"], &["ps"]] {
        assert_eq!(refused(&lab.on("a", verb, &[]), 1), unknown, "{verb:?}");
    }
    assert_eq!(refused(&lab.on("a", &["kill"], &["KILL"]), 1), unknown);
    let said = refused(&lab.on("a", &["exec"], &["/bin/probe"]), 255);
    assert_eq!(said, format!("exec failed: {unknown}"));
    assert_eq!(lab.on("a", &["delete", "--force"], &[]).ok(), "");
}

fn row_43_signals(lab: &Lab) {
    lab.create(&lab.bundle(&["sleep"]), "a", &[]).ok();
    for signal in ["X", "SIGX", "", "SIGRTMAX+1", "9x", " 9"] {
        let said = refused(&lab.on("a", &["kill"], &[signal]), 1);
        assert_eq!(said, format!("unknown signal {signal:?}"));
    }
    // A number goes to the kernel as it is, as runc does it.
    for signal in ["65", "-1"] {
        let said = refused(&lab.on("a", &["kill"], &[signal]), 1);
        assert_eq!(said, format!("sending signal {signal}: invalid argument"));
    }
    assert_eq!(lab.status("a"), "created");
    lab.delete("a");
}

fn row_43_wrong_moments(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    lab.create(&bundle, "a", &[]).ok();
    lab.on("a", &["start"], &[]).ok();
    let said = refused(&lab.on("a", &["start"], &[]), 1);
    assert_eq!(said, "cannot start an already running container");
    let said = refused(&lab.on("a", &["delete"], &[]), 1);
    assert_eq!(
        said,
        format!("cannot delete container {} that is not stopped: running", lab.id("a"))
    );
    assert_eq!(lab.status("a"), "running");

    lab.on("a", &["kill"], &["KILL"]).ok();
    until("its end", || lab.status("a") == "stopped");
    assert_eq!(refused(&lab.on("a", &["kill"], &["KILL"]), 1), "container not running");
    let said = refused(&lab.on("a", &["start"], &[]), 1);
    assert_eq!(said, "cannot start a container that has stopped");
    let said = refused(&lab.exec("a", &[], &["say"]), 255);
    assert_eq!(said, "exec failed: cannot exec in a stopped container");
    let said = refused(&lab.on("a", &["pause"], &[]), 1);
    assert_eq!(said, "container not running");
    lab.delete("a");

    lab.create(&bundle, "a", &[]).ok();
    assert_eq!(lab.on("a", &["delete"], &[]).ok(), "", "one that was never started");
}

// Nothing of them is of use, and all of it would be kept.
fn files_without_an_end(lab: &Lab) {
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let wanted = "\"/dev/zero\" has more than 64 MiB";
    let output = lab.on("a", &["exec", "--process", "/dev/zero"], &[]);
    assert_eq!(refused(&output, 255), format!("exec failed: {wanted}"));
    assert_eq!(refused(&lab.on("a", &["update", "-r", "/dev/zero"], &[]), 1), wanted);
    assert_eq!(refused(&lab.on("a", &["mounts", "add"], &["/dev/zero"]), 1), wanted);
    lab.delete("a");
}

fn what_ps_can_not_show(lab: &Lab) {
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let said = refused(&lab.on("a", &["ps"], &["--frobnicate"]), 1);
    assert!(said.starts_with("ps: exit status: 1: ") && !said.contains('\n'), "{said:?}");
    let said = refused(&lab.on("a", &["ps"], &["--", "-C", "no-such-program"]), 1);
    assert_eq!(said, "ps: exit status: 1: no process is shown");
    lab.delete("a");
}
