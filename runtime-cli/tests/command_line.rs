//! The built program, for all that needs no container: arguments, answers, failures
//! and the log.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

const ORLOP: &str = env!("CARGO_BIN_EXE_orlop");

/// A root of its own, so that the machine's containers do not show.
struct Room {
    root: TempDir,
}

impl Room {
    fn new() -> Self {
        Self { root: tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.root.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(ORLOP);
        command.arg("--root").arg(self.root.path()).args(arguments);
        command.output().unwrap()
    }

    /// The message of the one line that a failure leaves on stderr. Nothing is on
    /// stdout then.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        assert_eq!(err.lines().count(), 1, "{arguments:?}: {err}");
        match err.split_once(" level=error msg=") {
            Some((_, message)) => serde_json::from_str(message).unwrap(),
            None => err.trim_end().to_owned(), // the log is in a file
        }
    }

    fn answers(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        assert!(output.status.success(), "{arguments:?}");
        text(&output.stdout)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// An `orlop` with another name, in `directory`.
fn named(directory: &Path, name: &str) -> Command {
    let link = directory.join(name);
    symlink(ORLOP, &link).unwrap();
    Command::new(link)
}

#[test]
fn the_version_carries_the_name_it_is_called_by() {
    let directory = tempdir().unwrap();
    let output = Command::new(ORLOP).arg("--version").output().unwrap();
    assert!(text(&output.stdout).starts_with("orlop version "));
    for flag in ["--version", "-v"] {
        let output = Command::new(ORLOP).arg(flag).output().unwrap();
        assert_eq!(text(&output.stdout).lines().count(), 3);
    }
    // go-runc/runc.go (parseVersion).
    let output = named(directory.path(), "runc").arg("--version").output().unwrap();
    let out = text(&output.stdout);
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].starts_with("runc version "), "{out}");
    assert!(lines[1].starts_with("commit: ") && lines[2] == "spec: 1.3.0", "{out}");
}

#[test]
fn help_is_an_answer() {
    let room = Room::new();
    let all = room.answers(&[]);
    assert_eq!(room.answers(&["help"]), all);
    assert_eq!(room.answers(&["--help"]), all);
    for command in ["create", "exec", "update", "plan"] {
        assert!(all.contains(command), "{all}");
        let one = room.answers(&["help", command]);
        assert!(one.contains(&format!("orlop {command}")), "{one}");
        assert_eq!(room.answers(&[command, "--help"]), one);
        assert_eq!(room.answers(&[command, "-h"]), one);
    }
}

#[test]
fn bad_arguments_are_told_in_one_line() {
    let room = Room::new();
    for (arguments, part) in [
        (&["kill", "--regex", "a(b"] as &[_], "the pattern \"a(b\": unclosed group"),
        (&["--debug=yes", "list"], "--debug"),
        (&["checkpoint", "--status-fd", "x", "y"], "--status-fd"),
        (&["restore", "--empty-ns", "uts", "x"], "namespace \"uts\" is not supported"),
        (&["restore", "--manage-cgroups-mode", "x", "y"], "invalid manage-cgroups-mode value"),
        (&["--frobnicate"], "--frobnicate"),
        (&["state"], "CONTAINER-ID"),
        (&["state", "x", "y"], "'y'"),
        (&["state", "--frobnicate", "x"], "--frobnicate"),
        (&["exec"], "CONTAINER-ID"),
        (&["exec", "--frobnicate", "x"], "--frobnicate"),
        (&["kill", "x", "RTMIN+31"], "unknown signal \"RTMIN+31\""),
        (&["kill", "x", "TERM", "y"], "'y'"),
        (&["run", "--preserve-fds", "many", "x"], "--preserve-fds"),
        (&["update", "--memory", "lots", "x"], "--memory"),
        (&["list", "--format", "xml"], "invalid format"),
        (&["--log-format", "xml", "list"], "invalid log-format: xml"),
        (&["--root", "/", "list"], "--root"),
        (&["--rootless=maybe", "create", "x"], "--rootless"),
        (&["--cgroup-manager", "none", "create", "x"], "--cgroup-manager"),
    ] {
        let err = room.fails(1, arguments);
        assert!(err.contains(part), "{arguments:?}: {err}");
    }
    for arguments in [&["frobnicate"] as &[_], &["help", "frobnicate"]] {
        let err = room.fails(3, arguments);
        assert!(err.contains("No help topic for 'frobnicate'"), "{err}");
    }
}

#[test]
fn an_argument_that_can_not_be_read_is_named() {
    let root = tempdir().unwrap();
    let mut command = Command::new(ORLOP);
    command.arg("--root").arg(root.path()).args(["exec", "x", "echo", "a"]);
    let output = command.arg(OsStr::from_bytes(b"b\xffc")).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(r#"an argument is not UTF-8, among [\"b\\xFFc\"]"#), "{said}");
}

// containerd passes --systemd-cgroup and --rootless with every command, `delete` after
// a refused `create` among them (go-runc/runc.go, Runc.args).
#[test]
fn a_driver_that_can_not_work_does_not_stop_the_clean_up() {
    let room = Room::new();
    room.answers(&["--systemd-cgroup", "--rootless=true", "delete", "--force", "x"]);
}

#[test]
fn ids_are_checked() {
    let room = Room::new();
    let long = "x".repeat(300);
    for id in ["", ".", "..", "a/b", "../x", "a b", "a\nb", "é", "a:b", &long] {
        for command in ["state", "start", "pause"] {
            room.fails(1, &[command, id]);
        }
        room.fails(255, &["exec", id, "true"]);
    }
    let err = room.fails(1, &["state", "a/b"]);
    assert!(err.to_lowercase().contains("container id"), "{err}");
}

// containerd cmd/containerd-shim-runc-v2/process (checkKillError, delete); buildkit
// executor/runcexecutor; podman libpod/oci_conmon_common.go (UpdateContainerStatus).
#[test]
fn an_unknown_container_does_not_exist() {
    let room = Room::new();
    for arguments in [
        &["state", "x"] as &[_],
        &["start", "x"],
        &["kill", "x", "KILL"],
        &["kill", "--all", "x", "9"],
        &["kill", "x", "--", "SIGRTMIN+3"],
        &["delete", "x"],
        &["pause", "x"],
        &["resume", "x"],
        &["ps", "--format", "json", "x"],
        &["ps", "x", "-aux"],
        &["update", "--pids-limit", "-1", "x"],
    ] {
        let err = room.fails(1, arguments);
        assert!(err.contains("container does not exist"), "{arguments:?}: {err}");
    }
    let err = room.fails(255, &["exec", "-t", "--env", "A=1", "x", "ls", "-l", "--tty"]);
    assert!(err.contains("exec failed: container does not exist"), "{err}");
    assert_eq!(room.answers(&["delete", "-f", "x"]), "");
    assert_eq!(room.answers(&["delete", "x", "--force"]), "");
}

#[test]
fn a_failed_create_says_so_under_its_name() {
    let room = Room::new();
    let nope = room.path("nope");
    let err = room.fails(1, &["create", "--bundle", &nope, "x"]);
    assert!(err.contains("orlop create failed: "), "{err}");
    assert!(err.contains("no such file or directory"), "{err}");
    let directory = tempdir().unwrap();
    let mut runc = named(directory.path(), "runc");
    let output = runc.args(["run", "-b", &nope, "x"]).output().unwrap();
    assert!(text(&output.stderr).contains("runc run failed: "));
}

// containerd process/utils.go (getLastRuntimeError) and podman
// libpod/oci_conmon_common.go (readConmonPipeData): one JSON object.
#[test]
fn a_failure_is_one_object_in_the_log_and_plain_on_stderr() {
    let room = Room::new();
    let log = room.path("log.json");
    let flags = ["--log", &log, "--log-format", "json"];
    let err = room.fails(1, &[&flags[..], &["state", "x"]].concat());
    assert_eq!(err, "container does not exist");
    let written = fs::read_to_string(&log).unwrap();
    let object: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(object["level"], "error");
    assert_eq!(object["msg"], "container does not exist");
    assert!(object["time"].as_str().unwrap().ends_with('Z'));

    // Another command adds its own, and a bad flag is told there too.
    room.fails(1, &[&flags[..], &["state", "--frobnicate"]].concat());
    let written = fs::read_to_string(&log).unwrap();
    assert_eq!(written.lines().count(), 2);
    assert!(written.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[test]
fn a_text_log_has_one_line_a_record() {
    let room = Room::new();
    let log = room.path("log");
    room.fails(1, &["--log", &log, "state", "x"]);
    let written = fs::read_to_string(&log).unwrap();
    assert!(written.starts_with("time=\""), "{written}");
    assert!(written.ends_with(" level=error msg=\"container does not exist\"\n"), "{written}");
}

#[test]
fn a_log_is_its_owners_whatever_the_umask() {
    let room = Room::new();
    let log = room.path("log");
    let script = format!("umask 0; {ORLOP} --log {log} state x");
    Command::new("sh").args(["-c", &script]).output().unwrap();
    let mode = fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "{mode:o}");
}

#[test]
fn a_log_that_can_not_be_opened_is_a_failure() {
    let room = Room::new();
    let err = room.fails(1, &["--log", &room.path("nope/log"), "list"]);
    assert!(err.contains("opening the log"), "{err}");
}

#[test]
fn an_answer_that_can_not_be_written_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(ORLOP);
    let status = command.arg("features").stdout(full).output().unwrap();
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status.stderr).contains("no space left on device"));
}

#[test]
fn closed_descriptors_are_no_trouble() {
    let room = Room::new();
    let (root, log) = (room.path("root"), room.path("log"));
    fs::create_dir(&root).unwrap();
    for closed in ["0<&- 1>&- 2>&-", "0<&- 1>&-", "0<&-"] {
        // The log is the first file that is opened: it must not become stdout.
        let script = format!("exec {ORLOP} --root {root} --log {log} --debug list {closed}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{closed}: {}", text(&output.stderr));
        assert_eq!(fs::read_to_string(&log).unwrap(), "", "{closed}");
    }
}

#[test]
fn no_containers_are_listed_as_runc_does() {
    let room = Room::new();
    let head = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
    assert_eq!(room.answers(&["list"]), head);
    assert_eq!(room.answers(&["list", "--format=json"]), "null\n");
    assert_eq!(room.answers(&["list", "-q"]), "");
    // runc list.go (getContainers): a root that was asked for has to be there.
    let err = room.fails(1, &["--root", &room.path("nope"), "list"]);
    assert!(err.contains("no such file or directory"), "{err}");
}

#[test]
fn features_are_json() {
    let room = Room::new();
    let value: Value = serde_json::from_str(&room.answers(&["features"])).unwrap();
    assert_eq!(value["ociVersionMax"], "1.3.0");
    assert_eq!(value["linux"]["cgroup"]["systemd"], true);
    for part in ["enabled", "schemata", "monitoring"] {
        assert_eq!(value["linux"]["intelRdt"][part], true, "{part}");
    }
    room.fails(1, &["features", "x"]);
}

#[test]
fn a_spec_is_written_once() {
    let room = Room::new();
    let bundle = tempdir().unwrap();
    let directory = bundle.path().to_str().unwrap();
    assert_eq!(room.answers(&["spec", "--bundle", directory]), "");
    let written = fs::read_to_string(bundle.path().join("config.json")).unwrap();
    let spec: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(spec["ociVersion"], "1.3.0");
    assert_eq!(spec["process"]["args"][0], "sh");
    let err = room.fails(1, &["spec", "-b", directory]);
    assert!(err.contains("File config.json exists. Remove it first"), "{err}");
    assert_eq!(fs::read_to_string(bundle.path().join("config.json")).unwrap(), written);
}

// The next call would not write over it.
#[test]
fn a_file_that_has_no_room_does_not_stay() {
    let room = Room::new();
    let bundle = tempdir().unwrap();
    let directory = bundle.path().to_str().unwrap();
    // SIGXFSZ is no signal of this program's: the write fails as on a full file system.
    for arguments in [format!("spec --bundle {directory}"), format!("stage {directory}/init")] {
        let script = format!("ulimit -f 1; exec {ORLOP} {arguments}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = text(&output.stderr);
        assert!(said.contains("file too large"), "{arguments}: {said}");
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0, "{arguments}");
    }
    assert_eq!(room.answers(&["spec", "--bundle", directory]), "");
}

#[test]
fn a_plan_needs_a_bundle() {
    let room = Room::new();
    let bundle = tempdir().unwrap();
    let err = room.fails(1, &["plan", bundle.path().to_str().unwrap()]);
    assert!(err.contains("config.json not found"), "{err}");
    fs::write(bundle.path().join("config.json"), "{").unwrap();
    let err = room.fails(1, &["plan", bundle.path().to_str().unwrap()]);
    assert!(err.contains("config.json") && err.contains("line 1"), "{err}");
}

#[test]
fn the_stage_is_written_as_a_program() {
    let room = Room::new();
    let file = room.path("libexec/init");
    room.answers(&["stage", &file]);
    assert_eq!(fs::read(&file).unwrap(), orlop::launch::STAGE);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "{mode:o}");
    // A device is somebody's.
    let socket = room.path("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let err = room.fails(1, &["stage", &socket]);
    assert!(err.contains("no regular file"), "{err}");
    assert!(!fs::metadata(&socket).unwrap().is_file());
}
