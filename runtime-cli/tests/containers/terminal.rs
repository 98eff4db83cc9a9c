//! Terminals: the console socket, the size, and a terminal of `exec`.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::harness::{Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] =
    tests![the_console_socket_gets_the_master, exec_has_a_terminal_of_its_own];

fn accept(listener: &UnixListener) -> OwnedFd {
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
