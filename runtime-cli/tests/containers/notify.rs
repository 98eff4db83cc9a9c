//! The word that the container is ready, for who waits for it as systemd does.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use serde_json::json;

use crate::harness::{Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    a_started_container_says_that_it_is_ready,
    a_container_that_runs_says_that_it_is_ready,
    a_container_in_the_foreground_says_that_it_is_ready,
    the_barrier_is_waited_for,
    a_container_that_ends_is_not_waited_for,
    a_flood_of_other_words_ends_with_the_container,
    a_socket_may_have_no_path,
    what_can_not_be_told_is_told_otherwise,
];

/// Where the test listens.
fn listen(lab: &Lab) -> UnixDatagram {
    let socket = UnixDatagram::bind(lab.path("host.sock")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

fn told(lab: &Lab, mut command: Command) -> Command {
    command.env("NOTIFY_SOCKET", lab.path("host.sock"));
    command
}

fn word(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// All three of them: the process that is to be watched, and the barrier.
fn hears(socket: &UnixDatagram) -> (String, OwnedFd) {
    assert_eq!(word(socket), "READY=1\n");
    let main = word(socket);
    let main = main.strip_prefix("MAINPID=").and_then(|rest| rest.strip_suffix('\n'));
    let mut last = [0; 256];
    let length = recv(socket.as_raw_fd(), &mut last, MsgFlags::MSG_PEEK).unwrap();
    assert_eq!(&last[..length], b"BARRIER=1");
    let barrier = orlop::launch::receive_terminal(socket.as_fd()).unwrap();
    (main.unwrap().to_owned(), barrier)
}

fn pid(lab: &Lab) -> String {
    lab.state("a")["pid"].to_string()
}

fn a_started_container_says_that_it_is_ready(lab: &Lab) {
    let socket = listen(lab);
    let mut bundle = lab.bundle(&["notify-and-sleep", "STATUS=up", "STATUS=go,READY=1", "READY=1"]);
    // Anybody in there may say it.
    bundle.config["process"]["user"] = json!({"uid": 7, "gid": 7});
    lab.begin(told(lab, lab.start_of("create", &bundle, "a", &[]))).end().ok();
    let mut start = lab.command(&["start"]);
    start.arg(lab.id("a"));
    let start = lab.begin(told(lab, start));
    assert_eq!(hears(&socket).0, pid(lab));
    start.end().ok();
    // Once is enough, and another process of the container says it to nobody.
    assert_eq!(lab.exec("a", &[], &["env"]).ok().matches("NOTIFY_SOCKET").count(), 0);
    let again = lab.on("a", &["start"], &[]).fails();
    assert!(again.contains("cannot start an already running container"), "{again}");
    lab.delete("a");
}

fn a_container_that_runs_says_that_it_is_ready(lab: &Lab) {
    let socket = listen(lab);
    let mut bundle = lab.bundle(&["notify-and-sleep", "READY=1"]);
    bundle.config["process"]["env"] = json!(["NOTIFY_SOCKET=/elsewhere"]);
    bundle.user_namespace();
    // Its root may not make anything in there.
    fs::create_dir_all(bundle.rootfs().join("run/notify")).unwrap();
    let run = lab.begin(told(lab, lab.start_of("run", &bundle, "a", &["--detach"])));
    assert_eq!(hears(&socket).0, pid(lab));
    run.end().ok();
    let folder = lab.root().join(lab.id("a")).join("notify");
    assert!(folder.join("notify.sock").exists());
    lab.delete("a");
}

fn a_container_in_the_foreground_says_that_it_is_ready(lab: &Lab) {
    let socket = listen(lab);
    let bundle = lab.bundle(&["notify", "READY=1"]);
    let run = lab.begin(told(lab, lab.start_of("run", &bundle, "a", &[])));
    // Who waits for it is to be watched, also when it ends at once.
    assert_eq!(hears(&socket).0, run.pid().to_string());
    run.end().ok();
    let mounted = lab.bundle(&["cat", "/proc/self/mountinfo"]);
    let table = lab.begin(told(lab, lab.start_of("run", &mounted, "a", &[]))).end().ok();
    let line = table.lines().find(|line| line.contains(" /run/notify ")).unwrap();
    assert!(line.contains(" ro,nosuid,nodev,noexec"), "{line}");
}

fn the_barrier_is_waited_for(lab: &Lab) {
    let socket = listen(lab);
    let bundle = lab.bundle(&["notify-and-sleep", "READY=1"]);
    let run = lab.begin(told(lab, lab.start_of("run", &bundle, "a", &["--detach"])));
    let (_, barrier) = hears(&socket);
    sleep(Duration::from_millis(200));
    assert!(Path::new(&format!("/proc/{}/exe", run.pid())).read_link().is_ok(), "it has ended");
    drop(barrier);
    run.end().ok();
    lab.delete("a");
}

fn a_container_that_ends_is_not_waited_for(lab: &Lab) {
    let socket = listen(lab);
    let bundle = lab.bundle(&["exit", "0"]);
    for flags in [&["--detach"][..], &[]] {
        lab.begin(told(lab, lab.start_of("run", &bundle, "a", flags))).end().ok();
        lab.delete("a");
    }
    lab.begin(told(lab, lab.start_of("create", &bundle, "a", &[]))).end().ok();
    let mut start = lab.command(&["start"]);
    start.arg(lab.id("a"));
    lab.begin(told(lab, start)).end().ok();
    lab.delete("a");
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0]).is_err());
}

fn a_flood_of_other_words_ends_with_the_container(lab: &Lab) {
    let _socket = listen(lab);
    let bundle = lab.bundle(&["notify-for-ever"]);
    let run = lab.begin(told(lab, lab.start_of("run", &bundle, "a", &["--detach"])));
    until("the flood", || run.printed() == "more\n");
    lab.on("a", &["kill"], &["KILL"]).ok();
    run.end().ok();
    lab.delete("a");
}

fn a_socket_may_have_no_path(lab: &Lab) {
    let address = SocketAddr::from_abstract_name(lab.tag()).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let bundle = lab.bundle(&["notify-and-sleep", "READY=1"]);
    let mut run = lab.start_of("run", &bundle, "a", &["--detach"]);
    run.env("NOTIFY_SOCKET", format!("@{}", lab.tag()));
    let run = lab.begin(run);
    assert_eq!(hears(&socket).0, pid(lab));
    run.end().ok();
    lab.delete("a");
}

fn what_can_not_be_told_is_told_otherwise(lab: &Lab) {
    // Nobody listens: the container runs, and a person is told.
    let bundle = lab.bundle(&["sleep"]);
    let output = lab.begin(told(lab, lab.start_of("run", &bundle, "a", &["--detach"]))).end();
    assert!(output.stderr.contains("connecting to $NOTIFY_SOCKET"), "{}", output.stderr);
    output.ok();
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
    // It was not asked to say anything.
    lab.create(&lab.bundle(&["sleep"]), "a", &[]).ok();
    let mut start = lab.command(&["start"]);
    start.arg(lab.id("a"));
    let output = lab.begin(told(lab, start)).end();
    assert!(output.stderr.contains("it was not set for create"), "{}", output.stderr);
    output.ok();
    lab.delete("a");
    // What is in the way is told as what it is.
    let bundle = lab.bundle(&["sleep"]);
    fs::create_dir_all(bundle.rootfs().join("run")).unwrap();
    fs::write(bundle.rootfs().join("run/notify"), "").unwrap();
    let said = lab.begin(told(lab, lab.start_of("create", &bundle, "a", &[]))).end().fails();
    assert!(said.contains("\"/run/notify\"") && !said.contains("config.json"), "{said}");
}
