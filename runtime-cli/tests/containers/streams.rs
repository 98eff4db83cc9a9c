//! The standard streams of a process in the foreground: pipes, and what goes over them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    the_callers_files_stay_the_callers,
    in_the_background_they_are_the_callers_own,
    all_that_is_said_arrives,
    who_writes_learns_that_nobody_reads,
    those_that_it_leaves_behind_are_waited_for,
    those_that_the_container_leaves_behind_are_not,
];

/// Its input, output and error are files of the caller's; its end, and what they hold then.
fn with_files(lab: &Lab, mut command: Command) -> (i32, [(String, u32); 3]) {
    let paths = ["input", "output", "error"].map(|name| lab.path(name));
    for path in &paths {
        fs::write(path, "before\n").unwrap();
    }
    let append = |path: &PathBuf| File::options().append(true).open(path).unwrap();
    command.stdin(File::open(&paths[0]).unwrap());
    command.stdout(append(&paths[1])).stderr(append(&paths[2]));
    let code = command.status().unwrap().code().unwrap();
    let files =
        paths.map(|path| (fs::read_to_string(&path).unwrap(), fs::metadata(&path).unwrap().uid()));
    (code, files)
}

/// The files are neither given to the container's user nor written over by who opens them
/// once more, which he can all the same, whoever he is.
fn the_callers_files_stay_the_callers(lab: &Lab) {
    let reads = ["copy", "/dev/stdin"];
    let writes = ["write", "/dev/stdout", "heard\n"];
    let check = |command: Command, said: &str| {
        let (code, [input, output, error]) = with_files(lab, command);
        assert_eq!((code, &*input.0, input.1), (0, "before\n", 0), "{error:?}");
        assert_eq!((output.0, output.1), (format!("before\n{said}"), 0), "{error:?}");
        assert_eq!((&*error.0, error.1), ("before\n", 0));
    };
    for user_namespace in [false, true] {
        let mut bundle = lab.bundle(&["sleep"]);
        if user_namespace {
            bundle.user_namespace();
        }
        bundle.config["process"]["user"] = json!({ "uid": 999, "gid": 999 });
        lab.run(&bundle, "b", &["--detach"]).ok();
        for (words, said) in [(&reads[..], "before\n"), (&writes, "heard\n")] {
            bundle.args(words);
            check(lab.start_of("run", &bundle, "a", &[]), said);
            let mut exec = lab.command(&["exec", "--user", "7:7"]);
            exec.arg(lab.id("b")).arg("/bin/probe").args(words);
            check(exec, said);
        }
        lab.delete("b");
    }
}

fn in_the_background_they_are_the_callers_own(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    let (code, _) = with_files(lab, lab.start_of("run", &bundle, "a", &["--detach"]));
    assert_eq!(code, 0);
    let pid = lab.state("a")["pid"].clone();
    for (number, name) in ["input", "output", "error"].into_iter().enumerate() {
        let found = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
        assert_eq!(found, lab.path(name));
    }
    lab.delete("a");
}

fn piped(mut command: Command) -> std::process::Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// More than any pipe holds, to and fro, with an end to each.
fn all_that_is_said_arrives(lab: &Lab) {
    let bundle = lab.bundle(&["copy", "/dev/stdin"]);
    let mut child = piped(lab.start_of("run", &bundle, "a", &[]));
    let text = "0123456789abcdef".repeat(1 << 16);
    let mut input = child.stdin.take().unwrap();
    let sent = text.clone();
    let writer = std::thread::spawn(move || input.write_all(sent.as_bytes()).unwrap());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(status.code(), Some(0), "{}", String::from_utf8_lossy(&stderr));
    assert!(stdout == text.as_bytes(), "{} bytes of {}", stdout.len(), text.len());
}

fn who_writes_learns_that_nobody_reads(lab: &Lab) {
    let bundle = lab.bundle(&["copy", "/dev/zero"]);
    let mut child = piped(lab.start_of("run", &bundle, "a", &[]));
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 8192]).unwrap();
    drop(output);
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    // The probe says so, and ends.
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.code() == Some(99) && said.contains("Broken pipe"), "{status} {said}");
}

/// Whether it has not ended; a zombie has no program.
fn runs(pid: &str) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// COMPAT(runc): what `exec` leaves behind may say more.
fn those_that_it_leaves_behind_are_waited_for(lab: &Lab) {
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    for ends_by_itself in [true, false] {
        let mut exec = lab.command(&["exec", "--pid-file"]);
        let pid_file = lab.path("exec.pid");
        exec.arg(&pid_file).arg(lab.id("a")).args(["/bin/probe", "leave"]);
        let running = lab.begin(exec);
        let pid = || fs::read_to_string(&pid_file).unwrap_or_default();
        until("the end of the process", || !pid().is_empty() && !runs(&pid()));
        let processes = lab.on("a", &["ps", "--format", "json"], &[]).ok();
        let processes: Vec<i32> = serde_json::from_str(&processes).unwrap();
        let [_, left] = processes[..] else { panic!("{processes:?}") };
        assert!(runs(&running.pid().to_string()));
        let end = || kill(Pid::from_raw(left), Signal::SIGKILL).unwrap();
        if ends_by_itself {
            end();
        } else {
            running.signal("SIGTERM");
        }
        running.end().ok();
        if !ends_by_itself {
            end();
        }
        fs::remove_file(&pid_file).unwrap();
    }
    lab.delete("a");
}

/// They end with the container, in whichever pid namespace they are.
fn those_that_the_container_leaves_behind_are_not(lab: &Lab) {
    let mut bundle = lab.bundle(&["leave"]);
    bundle.without_namespace("pid");
    lab.run(&bundle, "a", &[]).ok();
    assert_eq!(lab.on("a", &["state"], &[]).fails(), "container does not exist");
}
