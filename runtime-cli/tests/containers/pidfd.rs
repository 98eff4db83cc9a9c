//! A pidfd of a process for who asked for one.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Command;

use nix::sys::socket::{MsgFlags, recv};
use serde_json::json;

use crate::harness::{Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    a_created_container_is_ended_by_its_pidfd,
    a_container_that_runs_is_ended_by_its_pidfd,
    a_further_process_is_ended_by_its_pidfd,
    a_further_process_that_nobody_is_told_of_runs_nothing,
    a_socket_that_takes_none_leaves_nothing,
];

/// Runs a command; the process that its pidfd is of, and the word with it.
fn received(lab: &Lab, command: Command) -> (OwnedFd, String) {
    let path = lab.path("pidfd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let running = lab.begin(command);
    listener.set_nonblocking(true).unwrap();
    let mut stream = None;
    until("the pidfd", || {
        stream = listener.accept().ok();
        stream.is_some()
    });
    let (mut stream, _) = stream.unwrap();
    stream.set_nonblocking(false).unwrap();
    let mut word = [0; 32];
    let length = recv(stream.as_raw_fd(), &mut word, MsgFlags::MSG_PEEK).unwrap();
    let pidfd = orlop::launch::receive_terminal(stream.as_fd()).unwrap();
    running.end().ok();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "nothing else");
    fs::remove_file(path).unwrap();
    (pidfd, String::from_utf8_lossy(&word[..length]).into_owned())
}

fn asking(lab: &Lab, mut command: Command) -> Command {
    let program = command.get_program().to_owned();
    let mut arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let verbs = ["create", "run", "exec"];
    let at = arguments.iter().position(|one| verbs.iter().any(|verb| one == verb)).unwrap();
    arguments.insert(at + 1, lab.path("pidfd.sock").into());
    arguments.insert(at + 1, "--pidfd-socket".into());
    command = Command::new(program);
    command.args(arguments);
    command
}

/// The number of the process that a pidfd is of (proc_pid_fdinfo(5)).
fn number(pidfd: &OwnedFd) -> String {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.unwrap().trim().to_owned()
}

fn send(pidfd: &OwnedFd, signal: i32) {
    let sent = orlop_init::sys::pidfd_send_signal(pidfd.as_raw_fd(), signal.cast_unsigned());
    sent.unwrap();
}

fn a_created_container_is_ended_by_its_pidfd(lab: &Lab) {
    // Process 1 of its pid namespace, which hears no signal that it does not expect.
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGKILL] {
        let create = lab.start_of("create", &lab.bundle(&["sleep"]), "a", &[]);
        let (pidfd, word) = received(lab, asking(lab, create));
        assert_eq!((number(&pidfd), &*word), (lab.state("a")["pid"].to_string(), "standard"));
        assert_eq!(lab.status("a"), "created");
        send(&pidfd, signal);
        until("its end", || lab.status("a") == "stopped");
        lab.delete("a");
    }
    // By its name as well; a program has the default again.
    lab.create(&lab.bundle(&["sleep"]), "a", &[]).ok();
    lab.on("a", &["kill"], &["TERM"]).ok();
    until("its end", || lab.status("a") == "stopped");
    lab.delete("a");
    let caught = lab.bundle(&["cat", "/proc/self/status"]);
    let status = lab.run(&caught, "a", &[]).ok();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
    let caught = u64::from_str_radix(caught, 16).unwrap();
    // HUP, INT, QUIT, TERM
    assert_eq!(caught & 0x4007, 0, "{status}");
}

fn a_container_that_runs_is_ended_by_its_pidfd(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    // Where the init is a child of the stage that was cloned.
    lab.run(&bundle, "pod", &["--detach"]).ok();
    bundle.namespace("pid", Some(&format!("/proc/{}/ns/pid", lab.state("pod")["pid"])));
    let (pidfd, word) =
        received(lab, asking(lab, lab.start_of("run", &bundle, "a", &["--detach"])));
    assert_eq!((number(&pidfd), &*word), (lab.state("a")["pid"].to_string(), "standard"));
    send(&pidfd, libc::SIGKILL);
    until("its end", || lab.status("a") == "stopped");
    lab.delete("a");
    lab.delete("pod");
}

fn a_further_process_is_ended_by_its_pidfd(lab: &Lab) {
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let pid_file = lab.path("pid");
    let mut exec = lab.command(&["exec", "--detach", "--pid-file"]);
    exec.arg(&pid_file).arg(lab.id("a")).args(["/bin/probe", "sleep"]);
    let (pidfd, word) = received(lab, asking(lab, exec));
    let pid = fs::read_to_string(pid_file).unwrap();
    assert_eq!((number(&pidfd), &*word), (pid.clone(), "setns"));
    send(&pidfd, libc::SIGKILL);
    until("its end", || !fs::exists(format!("/proc/{pid}")).unwrap());
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
}

/// Whoever asked for its pid would know of none that is to be ended.
fn a_further_process_that_nobody_is_told_of_runs_nothing(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["root"]["readonly"] = json!(false);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let missing = lab.path("missing").join("pid");
    let flags = ["--detach", "--pid-file", missing.to_str().unwrap()];
    for _ in 0..50 {
        let output = lab.exec("a", &flags, &["write", "/work/ran", "x"]);
        assert_eq!(output.code, 255);
        let said = output.fails();
        assert!(said.ends_with("no such file or directory"), "{said}");
        assert!(said.contains("writing the pid file"), "{said}");
    }
    assert!(!bundle.rootfs().join("work/ran").exists());
    let listed = lab.on("a", &["ps"], &[]).ok();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    lab.exec("a", &[], &["write", "/work/ran", "x"]).ok();
    assert!(bundle.rootfs().join("work/ran").exists());
    lab.delete("a");
}

fn a_socket_that_takes_none_leaves_nothing(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    let said = lab.begin(asking(lab, lab.start_of("create", &bundle, "a", &[]))).end().fails();
    let path = lab.path("pidfd.sock");
    let words = format!("connecting to the pidfd socket {path:?}: no such file or directory");
    assert!(said.ends_with(&words), "{said}");
    // Who is gone when it is sent.
    let listener = UnixListener::bind(&path).unwrap();
    let gone = lab.path("gone");
    bundle.hook("createRuntime", &["until", gone.to_str().unwrap(), "/dev/null"]);
    bundle.config["hooks"]["createRuntime"][0]["timeout"] = json!(20);
    let running = lab.begin(asking(lab, lab.start_of("create", &bundle, "a", &[])));
    drop(listener.accept().unwrap());
    fs::write(gone, "").unwrap();
    let said = running.end().fails();
    assert!(said.ends_with(&format!("sending the pidfd {path:?}: broken pipe")), "{said}");
    assert!(!lab.root().join(lab.id("a")).exists());
}
