//! Sockets that systemd listens on, in the container.

use std::process::Command;

use serde_json::json;

use crate::harness::{Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_container_gets_what_it_was_activated_by,
    a_further_process_gets_it_too,
    what_is_meant_for_another_is_not_passed_on,
];

/// The command with two descriptors of systemd's, and one more.
fn activated(command: &Command, settings: &str) -> Command {
    let mut shell = Command::new("sh");
    let script =
        format!("exec 3</dev/zero 4</dev/full 5</dev/null 6</dev/random; {settings} exec \"$@\"");
    shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    shell
}

const MEANT: &str = "export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:ssh;";

/// What is open above the standard streams, but for what lists it.
fn open(listing: &str) -> Vec<&str> {
    listing.lines().skip(3).filter(|line| !line.ends_with("/fd")).collect()
}

fn variables(environment: &str) -> Vec<&str> {
    environment.lines().filter(|line| line.starts_with("LISTEN_")).collect()
}

fn a_container_gets_what_it_was_activated_by(lab: &Lab) {
    let mut bundle = lab.bundle(&["fds"]);
    let run = lab.start_of("run", &bundle, "a", &[]);
    let listing = lab.begin(activated(&run, MEANT)).end().ok();
    assert_eq!(open(&listing), ["3 /dev/zero", "4 /dev/full"]);
    let run = lab.start_of("run", &bundle, "a", &["--preserve-fds", "1"]);
    let listing = lab.begin(activated(&run, MEANT)).end().ok();
    assert_eq!(open(&listing), ["3 /dev/zero", "4 /dev/full", "5 /dev/null"]);
    bundle.args(&["env"]);
    bundle.config["process"]["env"] = json!(["LISTEN_PID=7", "LISTEN_FDNAMES=x", "A=1"]);
    let run = lab.start_of("run", &bundle, "a", &[]);
    let environment = lab.begin(activated(&run, MEANT)).end().ok();
    let told = ["LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=web:ssh"];
    assert_eq!(variables(&environment), told);
    // Without names, and by create and start.
    let unnamed = "export LISTEN_PID=$$ LISTEN_FDS=1;";
    let environment = lab.begin(activated(&run, unnamed)).end().ok();
    assert_eq!(variables(&environment), ["LISTEN_FDS=1", "LISTEN_PID=1"]);
    let create = lab.start_of("create", &lab.bundle(&["sleep"]), "a", &[]);
    lab.begin(activated(&create, MEANT)).end().ok();
    lab.on("a", &["start"], &[]).ok();
    let fd = |number| std::fs::read_link(format!("/proc/{}/fd/{number}", lab.state("a")["pid"]));
    assert_eq!(fd(4).unwrap().to_str(), Some("/dev/full"));
    assert!(fd(5).is_err());
    lab.delete("a");
}

fn a_further_process_gets_it_too(lab: &Lab) {
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let exec = |flags: &[&str], what: &str| {
        let mut exec = lab.command(&[&["exec"], flags].concat());
        exec.arg(lab.id("a")).args(["/bin/probe", what]);
        lab.begin(activated(&exec, MEANT)).end().ok()
    };
    assert_eq!(open(&exec(&[], "fds")), ["3 /dev/zero", "4 /dev/full"]);
    let three = exec(&["--preserve-fds", "1"], "fds");
    assert_eq!(open(&three), ["3 /dev/zero", "4 /dev/full", "5 /dev/null"]);
    let environment = exec(&["--env", "LISTEN_PID=9"], "env");
    assert_eq!(variables(&environment), ["LISTEN_FDS=2", "LISTEN_FDNAMES=web:ssh"]);
    lab.delete("a");
}

fn what_is_meant_for_another_is_not_passed_on(lab: &Lab) {
    let bundle = lab.bundle(&["fds"]);
    let run = lab.start_of("run", &bundle, "a", &[]);
    for settings in [
        "export LISTEN_PID=1 LISTEN_FDS=2;",
        "export LISTEN_FDS=2;",
        "export LISTEN_PID=$$;",
        "export LISTEN_PID=$$ LISTEN_FDS=0;",
        "export LISTEN_PID=$$ LISTEN_FDS=-2;",
        "export LISTEN_PID=$$ LISTEN_FDS=x;",
    ] {
        let listing = lab.begin(activated(&run, settings)).end().ok();
        assert!(open(&listing).is_empty(), "{settings} {listing}");
    }
    // More than there are.
    for (count, missing) in [("5", "7 (of 5)"), ("4294967295", "7 (of 4294967295)")] {
        let settings = format!("export LISTEN_PID=$$ LISTEN_FDS={count};");
        let said = lab.begin(activated(&run, &settings)).end().fails();
        assert!(said.contains(&format!("preserved-fd {missing}: bad file descriptor")), "{said}");
    }
}
