//! `orlop try`: a container of the machine's own programs that leaves nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Lab, Running, Test, cgroups, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    it_runs_in_a_cgroup_of_its_own,
    a_signal_ends_what_has_no_handler,
    a_handler_has_its_say_and_its_time,
    nohup_holds,
    nothing_outlives_it,
    the_next_one_cleans_up_after_those_that_were_killed,
];

/// `try` with a command, in a temporary folder of the test's own.
fn attempt(lab: &Lab, command: &[&str]) -> Command {
    fs::set_permissions(lab.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut arguments = vec!["try", "--"];
    arguments.extend(command);
    let mut attempt = lab.command(&arguments);
    attempt.env("TMPDIR", lab.folder());
    attempt
}

/// The same with a script that says "up" when it is ready, begun and ready.
fn up(lab: &Lab, script: &str) -> Running {
    let running = lab.begin(attempt(lab, &["/bin/sh", "-c", script]));
    until("the script", || running.printed() == "up\n");
    running
}

/// Names of the folders that are there.
fn folders(lab: &Lab) -> Vec<String> {
    let entries = fs::read_dir(lab.folder()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("orlop-try-")).collect()
}

/// The process with these words in its command line.
fn process(words: &str) -> Option<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let line = |pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pids.find(|pid| line(*pid).replace('\0', " ").contains(words)).map(Pid::from_raw)
}

/// Also where there is no controller that could limit anything.
fn it_runs_in_a_cgroup_of_its_own(lab: &Lab) {
    let printed = lab.begin(attempt(lab, &["cat", "/proc/self/cgroup"])).end().ok();
    assert!(printed.lines().any(|line| line == "0::/"), "{printed}");
}

fn a_signal_ends_what_has_no_handler(lab: &Lab) {
    for (signal, number) in [("SIGHUP", 1), ("SIGINT", 2), ("SIGQUIT", 3), ("SIGTERM", 15)] {
        let running = up(lab, "echo up; exec sleep 1000");
        running.signal(signal);
        running.end().ends(128 + number);
    }
}

fn a_handler_has_its_say_and_its_time(lab: &Lab) {
    let running = up(lab, "trap 'echo asked; exit 7' TERM; echo up; while :; do sleep 0.02; done");
    running.signal("SIGTERM");
    assert_eq!(running.end().ends(7), "up\nasked\n");
    // One that does not end, and one that is asked again before its time is over.
    let script = "trap 'echo asked' TERM; echo up; while :; do sleep 0.02; done";
    let running = up(lab, script);
    running.signal("SIGTERM");
    assert_eq!(running.end().ends(128 + 15), "up\nasked\n");
    let running = up(lab, script);
    running.signal("SIGTERM");
    until("the handler", || running.printed().ends_with("asked\n"));
    running.signal("SIGINT");
    running.end().ends(128 + 15);
}

fn nohup_holds(lab: &Lab) {
    let attempt = attempt(lab, &["/bin/sh", "-c", "echo up; exec sleep 1000"]);
    let mut nohup = Command::new("/bin/sh");
    nohup.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(attempt.get_program());
    nohup.args(attempt.get_args()).env("TMPDIR", lab.folder());
    let running = lab.begin(nohup);
    until("the script", || running.printed() == "up\n");
    running.signal("SIGHUP");
    // Of several signals the one with the lowest number is read first.
    running.signal("SIGTERM");
    running.end().ends(128 + 15);
}

fn nothing_outlives_it(lab: &Lab) {
    let running = up(lab, "echo up; exec sleep 1001");
    let [folder] = folders(lab).try_into().unwrap();
    running.signal("SIGKILL");
    running.end().ends(128 + 9);
    until("the end of the container", || process("sleep 1001").is_none());
    until("the end of its folder", || folders(lab).is_empty());
    assert!(cgroups(&folder).is_empty());
}

fn the_next_one_cleans_up_after_those_that_were_killed(lab: &Lab) {
    let killed = up(lab, "echo up; exec sleep 1002");
    let [folder] = folders(lab).try_into().unwrap();
    kill(process("--guard").unwrap(), Signal::SIGKILL).unwrap();
    killed.signal("SIGKILL");
    killed.end().ends(128 + 9);
    assert!(process("sleep 1002").is_some() && !cgroups(&folder).is_empty());
    // Neither a living one's nor another user's.
    let strange = lab.path("orlop-try-aaaaaa");
    fs::create_dir(&strange).unwrap();
    chown(&strange, Some(1), Some(1)).unwrap();
    let living = up(lab, "echo up; exec sleep 1003");
    assert!(process("sleep 1002").is_none());
    assert!(cgroups(&folder).is_empty() && !folders(lab).contains(&folder));
    assert_eq!(folders(lab).len(), 2);
    lab.begin(attempt(lab, &["true"])).end().ok();
    assert_eq!(folders(lab).len(), 2);
    living.signal("SIGTERM");
    living.end().ends(128 + 15);
    assert_eq!(folders(lab), ["orlop-try-aaaaaa"]);
}
