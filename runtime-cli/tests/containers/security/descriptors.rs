//! Descriptors and directories of the host that would be a way out.
//!
//! CVE-2024-21626: a directory of the host was left open, and the working directory
//! of a container could be set to it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::close;
use serde_json::json;

use crate::harness::{Lab, Output, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    a_created_container_holds_nothing_of_the_host,
    a_started_container_has_the_standard_streams_alone,
    an_exec_has_the_standard_streams_alone,
    what_is_passed_on_is_passed_on_alone,
    no_directory_through_a_descriptor,
    no_program_through_a_descriptor,
];

/// The command with descriptor 20 open on a directory of the host, as an engine with
/// a leak of its own would call us.
fn leaking(lab: &Lab, command: Command) -> Output {
    let directory = File::open(outside(lab)).unwrap();
    let leak = fcntl(&directory, FcntlArg::F_DUPFD(20)).unwrap();
    assert_eq!(leak, 20);
    let running = lab.begin(command);
    close(leak).unwrap();
    running.end()
}

/// A directory of the host with a file by which it is known.
fn outside(lab: &Lab) -> PathBuf {
    let outside = lab.path("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("marker"), "the host's\n").unwrap();
    outside
}

/// The descriptors of a process, as links.
fn descriptors(pid: i64) -> Vec<(i32, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            // It may have been closed meanwhile.
            Some((number, fs::read_link(entry.path()).ok()?.display().to_string()))
        })
        .collect();
    found.sort();
    found
}

fn a_created_container_holds_nothing_of_the_host(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    leaking(lab, lab.start_of("create", &bundle, "a", &[])).ok();
    let pid = lab.state("a")["pid"].as_i64().unwrap();
    let is_directory = |number: i32| {
        fs::metadata(format!("/proc/{pid}/fd/{number}")).is_ok_and(|file| file.is_dir())
    };
    // What it had them for is done when `create` ends, and then it closes them.
    until("the end of its directories", || {
        !descriptors(pid).iter().any(|(number, _)| is_directory(*number))
    });
    let fifo = lab.root().join(lab.id("a")).join("exec.fifo").display().to_string();
    for (number, target) in descriptors(pid) {
        let well = match number {
            0..3 => true,
            _ => target == fifo || target.starts_with("socket:["),
        };
        assert!(well && !is_directory(number), "{number} {target}");
    }
    lab.delete("a");
}

/// The listing's own descriptor is the first that is free.
fn only_streams(listing: &str) {
    let numbers: Vec<_> = listing.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(numbers, ["0", "1", "2", "3"], "{listing}");
    assert!(listing.lines().nth(3).unwrap().ends_with("/fd"), "{listing}");
}

fn a_started_container_has_the_standard_streams_alone(lab: &Lab) {
    let bundle = lab.bundle(&["fds"]);
    only_streams(&leaking(lab, lab.start_of("run", &bundle, "a", &[])).ok());

    // The container lives on with the files that its create was given.
    let create = lab.start_of("create", &bundle, "a", &[]);
    let printed = lab.path("printed");
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" >\"$0\""]).arg(&printed);
    shell.arg(create.get_program()).args(create.get_args());
    leaking(lab, shell).ok();
    let mut start = lab.command(&["start"]);
    start.arg(lab.id("a"));
    leaking(lab, start).ok();
    until("its end", || lab.status("a") == "stopped");
    only_streams(&fs::read_to_string(printed).unwrap());
    lab.delete("a");
}

fn an_exec_has_the_standard_streams_alone(lab: &Lab) {
    lab.create(&lab.bundle(&["sleep"]), "a", &[]).ok();
    for started in [false, true] {
        if started {
            lab.on("a", &["start"], &[]).ok();
        }
        let mut exec = lab.command(&["exec"]);
        exec.arg(lab.id("a")).args(["/bin/probe", "fds"]);
        only_streams(&leaking(lab, exec).ok());
    }
    lab.delete("a");
}

fn what_is_passed_on_is_passed_on_alone(lab: &Lab) {
    let bundle = lab.bundle(&["fds"]);
    let run = lab.start_of("run", &bundle, "a", &["--preserve-fds", "2"]);
    let mut shell = Command::new("sh");
    let script = "exec 3</dev/zero 4</etc/passwd 5</etc/passwd 6<\"$0\"; exec \"$@\"";
    shell.args(["-c", script]).arg(outside(lab)).arg(run.get_program()).args(run.get_args());
    let listing = lab.begin(shell).end().ok();
    let lines: Vec<_> = listing.lines().skip(3).collect();
    assert_eq!(lines[..2], ["3 /dev/zero", "4 /etc/passwd"], "{listing}");
    assert!(lines.len() == 3 && lines[2].ends_with("/fd"), "{listing}");
}

/// The files of the working directory, if there was one.
fn never_outside(output: &Output, what: &str) {
    assert!(!output.stdout.contains("marker"), "{what}: {}", output.stdout);
    if output.code != 0 {
        let lines = output.stderr.lines().filter(|line| !line.contains("level=warning")).count();
        assert_eq!(lines, 1, "{what}: {}", output.stderr);
        assert!(output.stderr.contains("level=error"), "{what}: {}", output.stderr);
    }
}

fn no_directory_through_a_descriptor(lab: &Lab) {
    let mut bundle = lab.bundle(&["ls", "."]);
    let numbers = (3..=30).map(|number| format!("/proc/self/fd/{number}"));
    let others = ["/proc/self/fd/20/..", "/proc/1/fd/20", "/proc/thread-self/fd/20", "/dev/fd/20"];
    let all: Vec<_> = numbers.chain(others.map(str::to_owned)).collect();
    for cwd in &all {
        bundle.config["process"]["cwd"] = json!(cwd);
        never_outside(&leaking(lab, lab.start_of("run", &bundle, "a", &[])), cwd);
        lab.delete("a");
    }
    lab.create(&lab.bundle(&["sleep"]), "a", &[]).ok();
    lab.on("a", &["start"], &[]).ok();
    for cwd in &all {
        let mut exec = lab.command(&["exec", "--cwd", cwd]);
        exec.arg(lab.id("a")).args(["/bin/probe", "ls", "."]);
        never_outside(&leaking(lab, exec), cwd);
    }
    lab.delete("a");
}

fn no_program_through_a_descriptor(lab: &Lab) {
    let outside = outside(lab);
    fs::copy("/proc/self/exe", outside.join("probe")).unwrap();
    let mut bundle = lab.bundle(&["sleep"]);
    for number in 3..=30 {
        bundle.config["process"]["args"] =
            json!([format!("/proc/self/fd/{number}/probe"), "say", "marker"]);
        let output = leaking(lab, lab.start_of("run", &bundle, "a", &[]));
        assert_ne!(output.code, 0, "{number}");
        never_outside(&output, "a program");
        lab.delete("a");
    }
}
