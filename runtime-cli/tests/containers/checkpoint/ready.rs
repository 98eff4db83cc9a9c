//! A container that says when it is ready (sd_notify(3)), saved and brought back.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use super::told::{Fake, images, pairs};
use super::whole::{RESTORE, command_on, criu, mountinfo, quietly, save};
use crate::harness::{Bundle, Lab, Test, tests};

pub(crate) const TESTS: &[Test] =
    tests![criu_is_told_of_its_place, its_place_comes_back, nobody_is_told_again];

fn told(lab: &Lab, mut command: Command) -> Command {
    command.env("NOTIFY_SOCKET", lab.path("host.sock"));
    command
}

/// One that has its socket, and for whose word nobody waits.
fn running(lab: &Lab, bundle: &Bundle) {
    quietly(told(lab, command_on(lab, bundle, &["create"], "a")));
    lab.on("a", &["start"], &[]).ok();
}

fn criu_is_told_of_its_place(lab: &Lab) {
    let fake = Fake::new(lab);
    let bundle = lab.bundle(&["sleep"]);
    running(lab, &bundle);
    fake.on(&["checkpoint"], "a").ok();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let saved = pairs(&fake.said(), "2.23.1", "2.23.2");
    assert!(saved.contains(&pair("/run/notify", "/run/notify")), "{saved:?}");
    images(lab);
    let folder = lab.root().join(lab.id("a")).join("notify");
    for with in [true, false] {
        let mut command = fake.command(&["restore", "--detach", "--bundle"]);
        command.arg(&bundle.path).arg(lab.id("a"));
        let command = if with { told(lab, command) } else { command };
        lab.begin(command).end().ok();
        let mounts = pairs(&fake.said(), "2.23.1", "2.23.2");
        let wanted = pair("/run/notify", folder.to_str().unwrap());
        assert_eq!(mounts.contains(&wanted), with, "{mounts:?}");
        assert_eq!(folder.exists(), with);
        lab.delete("a");
    }
}

fn its_place_comes_back(lab: &Lab) {
    criu(lab);
    let bundle = lab.bundle(&["sleep"]);
    running(lab, &bundle);
    let before = mountinfo(lab);
    assert!(before.iter().any(|line| line.starts_with("/run/notify ")), "{before:?}");
    save(lab, &[], "a");
    lab.begin(told(lab, command_on(lab, &bundle, &RESTORE, "a"))).end().ok();
    assert_eq!(mountinfo(lab), before);
    // Nobody listens there.
    let folder = lab.root().join(lab.id("a")).join("notify");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    lab.delete("a");
}

/// It was ready before: a restore waits for no word, and sends none.
fn nobody_is_told_again(lab: &Lab) {
    let fake = Fake::new(lab);
    images(lab);
    let socket = UnixDatagram::bind(lab.path("host.sock")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let bundle = lab.bundle(&["sleep"]);
    bundle.write();
    let mut command = fake.command(&["restore", "--detach", "--bundle"]);
    command.arg(&bundle.path).arg(lab.id("a"));
    lab.begin(told(lab, command)).end().ok();
    assert_eq!(lab.status("a"), "running");
    assert!(socket.recv(&mut [0]).is_err());
    lab.delete("a");
}
