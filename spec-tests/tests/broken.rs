//! Runtimes that hang, lie and leave things behind: the suite ends, says so, and
//! takes everything away, also when it is killed itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const SUITE: &str = env!("CARGO_BIN_EXE_spec-tests");

/// A runtime whose commands are lines of a shell's `case`.
struct Runtime {
    folder: TempDir,
}

impl Runtime {
    fn new(commands: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // It knows the commands by the first word behind `--root DIR`.
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = --root ] && shift 2\ncase $1 in\n\
             --version) echo broken version 1.0.0 ;;\n{commands}\n*) exit 1 ;;\nesac\n"
        );
        let [draft, path] = ["draft", "broken"].map(|name| folder.path().join(name));
        fs::write(&draft, script).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        // By a process of its own: a child that another test begins would have the file
        // open for writing for a moment, and nobody could execute it.
        let copied = Command::new("cp").arg("-p").args([draft, path]).status();
        assert!(copied.unwrap().success());
        Self { folder }
    }

    /// The suite with one case of it.
    fn suite(&self, case: &str) -> Command {
        let mut command = Command::new(SUITE);
        command.arg("--runtime").arg(self.folder.path().join("broken"));
        command.arg("--out").arg(self.out()).arg(case).stdin(Stdio::null());
        command
    }

    fn run(&self, case: &str) -> Output {
        self.suite(case).output().unwrap()
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }
}

/// How long one sleeps that no other run of these tests has.
fn seconds(name: u32) -> String {
    format!("{name}{}", std::process::id())
}

/// Processes that sleep for so long, which is their name here.
fn sleepers(seconds: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line == format!("sleep\0{seconds}\0").as_bytes()).count()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited too long for {what}");
        sleep(Duration::from_millis(5));
    }
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_it_leaves_behind_is_told_and_taken_away() {
    let seconds = seconds(271_828);
    let create = format!("create) sleep {seconds} >/dev/null 2>&1 & ;;");
    let runtime = Runtime::new(&format!("{create}\nstart|kill|delete) ;;"));
    let output = runtime.run("lifecycle/nothing-runs-at-create");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("differs"), "{text}");
    assert_eq!(sleepers(&seconds), 0, "{text}");
}

#[test]
fn a_leak_is_a_failure_of_its_own() {
    // Everything that the case looks at is as it should be.
    let seconds = seconds(314_159);
    let create = format!("create) sleep {seconds} >/dev/null 2>&1 & exit 1 ;;");
    let runtime = Runtime::new(&format!("{create}\nstate) exit 1 ;;"));
    let output = runtime.run("bundle/no-config");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("left behind: process"), "{text}");
    assert!(text.contains(&format!("sleep {seconds}")), "{text}");
    assert_eq!(sleepers(&seconds), 0, "{text}");
}

#[test]
fn a_command_that_hangs_is_ended() {
    let seconds = seconds(161_803);
    let runtime = Runtime::new(&format!("create) sleep {seconds} ;;"));
    let begun = Instant::now();
    let output = runtime.run("lifecycle/one-life");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("did not end within"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(sleepers(&seconds), 0, "{text}");
}

/// The worker finds out by itself.
#[test]
fn nothing_is_left_when_the_suite_is_killed() {
    let seconds = seconds(141_421);
    let runtime = Runtime::new(&format!("create) sleep {seconds} ;;"));
    let temporary = runtime.folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut suite = runtime.suite("lifecycle/one-life");
    let child = suite.env("TMPDIR", &temporary).stdout(Stdio::null()).spawn().unwrap();
    until("the runtime", || sleepers(&seconds) == 1);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGSTOP).unwrap();
    end(child);
    until("the end of what it started", || sleepers(&seconds) == 0);
    until("the end of its files", || fs::read_dir(&temporary).unwrap().next().is_none());
}

#[test]
fn the_report_is_there_for_people_and_programs() {
    let runtime = Runtime::new("state|start|kill|delete) exit 1 ;;");
    let output = runtime.run("lifecycle/state-unknown");
    assert!(output.status.success(), "{output:?}");
    let mut reports: Vec<PathBuf> =
        fs::read_dir(runtime.out()).unwrap().flatten().map(|entry| entry.path()).collect();
    reports.sort();
    let ends = |path: &Path, end: &str| path.extension().is_some_and(|extension| extension == end);
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(ends(&reports[0], "html") && ends(&reports[1], "json"));
    let page = fs::read_to_string(&reports[0]).unwrap();
    assert!(page.contains("broken 1.0.0") && page.contains("<svg"));
    // It must stand alone.
    assert!(!page.contains("src=") && !page.contains("<link") && !page.contains("<script"));
    let document: serde_json::Value =
        serde_json::from_slice(&fs::read(&reports[1]).unwrap()).unwrap();
    assert_eq!(document["summary"]["passed"], 1);
    assert_eq!(document["cases"][0]["id"], "lifecycle/state-unknown");
}
