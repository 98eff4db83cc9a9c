//! Terminals: the console socket, the size, a terminal of `exec`, and ours.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use rustix::termios::{tcgetwinsize, tcsetwinsize};
use serde_json::json;

use crate::harness::{Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    the_console_socket_gets_the_master,
    who_has_the_master_hears_the_end,
    a_socket_that_takes_nobody_is_given_up,
    lines_to_a_pipe_have_no_carriage_return,
    exec_has_a_terminal_of_its_own,
    keys_and_sizes_go_through_ours,
    others_at_its_terminal_keep_nobody,
    in_the_background_it_leaves_ours_alone,
];

pub(crate) fn accept(listener: &UnixListener) -> OwnedFd {
    listener.set_nonblocking(true).unwrap();
    let mut master = None;
    until("the terminal", || {
        let Ok((stream, _)) = listener.accept() else { return false };
        stream.set_nonblocking(false).unwrap();
        master = Some(orlop::launch::receive_terminal(stream.as_fd()).unwrap());
        true
    });
    master.unwrap()
}

/// All that the terminal prints until its last user is gone.
fn read(master: OwnedFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    let mut file = File::from(master);
    // EIO says that the other end is closed.
    while let Ok(length @ 1..) = file.read(&mut buffer) {
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8(text).unwrap()
}

const SEEN: &str = "0 /dev/pts/0\r\n1 /dev/pts/0\r\n2 /dev/pts/0\r\n";

fn the_console_socket_gets_the_master(lab: &Lab) {
    let socket = lab.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut bundle = lab.bundle(&["terminal"]);
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["consoleSize"] = json!({ "height": 33, "width": 111 });
    let message = lab.create(&bundle, "a", &[]).fails();
    assert!(message.contains("console socket"), "{message}");
    lab.create(&bundle, "a", &["--console-socket", socket.to_str().unwrap()]).ok();
    let master = accept(&listener);
    lab.on("a", &["start"], &[]).ok();
    assert_eq!(read(master), format!("{SEEN}33 rows 111 columns\r\n"));
    lab.delete("a");
}

/// A created container may wait for days, and holds no socket all the while.
fn who_has_the_master_hears_the_end(lab: &Lab) {
    let socket = lab.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut bundle = lab.bundle(&["terminal"]);
    bundle.config["process"]["terminal"] = json!(true);
    lab.create(&bundle, "a", &["--console-socket", socket.to_str().unwrap()]).ok();
    let (mut stream, _) = listener.accept().unwrap();
    let master = orlop::launch::receive_terminal(stream.as_fd()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let folder = format!("/proc/{}/fd", lab.state("a")["pid"]);
    let sockets = || {
        let open = std::fs::read_dir(&folder).unwrap().flatten();
        let names = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        names.filter(|name| name.to_string_lossy().starts_with("socket:")).count()
    };
    until("the end of its sockets", || sockets() == 0);
    lab.on("a", &["start"], &[]).ok();
    assert!(read(master).starts_with(SEEN));
    lab.delete("a");
}

fn a_socket_that_takes_nobody_is_given_up(lab: &Lab) {
    let path = lab.path("full");
    let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let mut bundle = lab.bundle(&["terminal"]);
    bundle.config["process"]["terminal"] = json!(true);
    let message = lab.create(&bundle, "a", &["--console-socket", path.to_str().unwrap()]).fails();
    assert!(message.ends_with("(nobody accepts there)"), "{message}");
}

// COMPAT(runc): who reads a pipe gets the lines as the program ends them.
fn lines_to_a_pipe_have_no_carriage_return(lab: &Lab) {
    let mut bundle = lab.bundle(&["say", "hello"]);
    bundle.config["process"]["terminal"] = json!(true);
    for _ in 0..10 {
        assert_eq!(lab.run(&bundle, "a", &[]).ok(), "hello\n");
    }
    bundle.args(&["sleep"]);
    bundle.config["process"]["terminal"] = json!(false);
    lab.run(&bundle, "a", &["--detach"]).ok();
    assert_eq!(lab.exec("a", &["--tty"], &["say", "hello"]).ok(), "hello\n");
    lab.delete("a");
}

fn exec_has_a_terminal_of_its_own(lab: &Lab) {
    let socket = lab.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let flags = ["--tty", "--detach", "--console-socket", socket.to_str().unwrap()];
    lab.exec("a", &flags, &["terminal"]).ok();
    let text = read(accept(&listener));
    assert!(text.starts_with(SEEN), "{text}");
    lab.delete("a");
}

/// A command of ours at a terminal that somebody else made.
struct Seat {
    master: File,
    child: Child,
    seen: String,
}

impl Seat {
    fn take(lab: &Lab, arguments: &[&str]) -> Self {
        Self::take_with(lab, arguments, &[])
    }

    /// The same with words in front of the command's.
    fn take_with(lab: &Lab, arguments: &[&str], before: &[&str]) -> Self {
        let size = Winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let mut bundle = lab.bundle(arguments);
        bundle.config["process"]["terminal"] = json!(true);
        let mut command = lab.start_of("run", &bundle, "a", &[]);
        if let [program, words @ ..] = before {
            let mut with = Command::new(program);
            with.args(words).arg(command.get_program()).args(command.get_args());
            command = with;
        }
        let stream = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let child = command.spawn().unwrap();
        Self { master: pty.master.into(), child, seen: String::new() }
    }

    /// Waits until the terminal shows it. A line of the process comes through two
    /// terminals; only its own adds a carriage return.
    fn shows(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        while !self.seen.contains(text) {
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, PollTimeout::from(10_000_u16)), Ok(1), "{:?}", self.seen);
            let length = self.master.read(&mut buffer).expect(&self.seen);
            self.seen.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.master).unwrap().local_flags.contains(LocalFlags::ICANON)
    }

    fn ends(mut self) -> i32 {
        let mut code = None;
        until("the end of the command", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        let settings = tcgetattr(&self.master).unwrap().local_flags;
        let cooked = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG;
        assert!(settings.contains(cooked), "the terminal is left raw: {settings:?}");
        code.and_then(|status| status.code()).unwrap()
    }
}

fn keys_and_sizes_go_through_ours(lab: &Lab) {
    let mut seat = Seat::take(lab, &["terminal"]);
    seat.shows(&format!("{SEEN}33 rows 111 columns\r\n"));
    assert_eq!(seat.ends(), 0);

    // The key for an interrupt is a byte to us, and a signal to the process.
    let mut seat = Seat::take(lab, &["wait", "SIGINT"]);
    seat.shows("ready\r\n");
    seat.master.write_all(b"\x03").unwrap();
    assert_eq!(seat.ends(), 0);

    // Nothing is said to a process whose terminal has the same size as before.
    let mut seat = Seat::take(lab, &["wait", "SIGWINCH"]);
    seat.shows("ready\r\n");
    let mut size = tcgetwinsize(&seat.master).unwrap();
    size.ws_row += 1;
    tcsetwinsize(&seat.master, size).unwrap();
    kill(Pid::from_raw(seat.child.id().cast_signed()), Signal::SIGWINCH).unwrap();
    assert_eq!(seat.ends(), 0);
}

/// A process that goes on writing to the terminal of one that has ended.
fn others_at_its_terminal_keep_nobody(lab: &Lab) {
    lab.run(&lab.bundle(&["flood", "/dev/pts/0"]), "a", &["--detach"]).ok();
    let mut exec = lab.command(&["exec", "--tty"]);
    exec.arg(lab.id("a")).args(["/bin/probe", "wait", "SIGTERM"]);
    let running = lab.begin(exec);
    until("the flood", || running.printed().contains("ready") && running.printed().contains("xx"));
    running.signal("SIGTERM");
    running.end().ends(0);

    // Nor does a reader that has stopped, when we are asked to end.
    let mut exec = lab.command(&["exec", "--tty"]);
    exec.arg(lab.id("a")).args(["/bin/probe", "wait", "SIGTERM"]);
    let mut child = exec.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut begun, mut stdout) = ([0; 4096], child.stdout.take().unwrap());
    let mut seen = Vec::new();
    while !seen.windows(5).any(|word| word == b"ready") {
        let length = stdout.read(&mut begun).unwrap();
        seen.extend_from_slice(&begun[..length]);
    }
    until("the end", || {
        // The first one is for the process.
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        child.try_wait().unwrap().is_some_and(|status| status.success())
    });
    lab.delete("a");
}

fn in_the_background_it_leaves_ours_alone(lab: &Lab) {
    let script = "set -m; \"$@\" & read line; fg >/dev/null; exit $?";
    let shell = ["setsid", "--ctty", "--wait", "sh", "-c", script, "sh"];
    let mut seat = Seat::take_with(lab, &["wait", "SIGINT"], &shell);
    seat.shows("ready");
    assert!(!seat.is_raw(), "the shell reads from it");
    // What is typed is the shell's, which brings the job to the front.
    seat.master.write_all(b"\n").unwrap();
    until("the foreground", || seat.is_raw());
    seat.master.write_all(b"\x03").unwrap();
    assert_eq!(seat.ends(), 0);
}
