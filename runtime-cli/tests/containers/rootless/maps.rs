//! Id maps: one's own id by oneself, ranges by newuidmap and newgidmap, and all the
//! ways in which these fail.

use std::fs;
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::json;

use super::account::{Account, COUNT, FIRST, ID, ranges};
use crate::harness::{Lab, Picture, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    what_spec_writes_runs_as_it_is,
    ranges_are_mapped,
    a_user_of_a_range_has_groups_and_a_shell,
    one_side_may_be_ones_own_id,
    the_programs_get_nothing_of_ours,
    what_the_machine_does_not_give_is_named,
    a_program_that_is_missing_is_told_first,
    a_program_that_cannot_map_is_told,
    a_program_that_hangs_is_ended,
    a_program_that_hangs_can_be_interrupted,
];

const MAPS: [&str; 2] = ["/proc/self/uid_map", "/proc/self/gid_map"];

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Also where no program is to be found that would map more.
fn what_spec_writes_runs_as_it_is(lab: &Lab) {
    let mut account = Account::new(lab);
    account.path = "/nowhere".into();
    let bundle = account.bundle(&["cat", MAPS[0], MAPS[1], "/proc/self/setgroups"]);
    let (own, text) = (ID.to_string(), account.run(&bundle, "a", &[]).ok());
    assert_eq!(words(&text), ["0", &own, "1", "0", &own, "1", "deny"]);
}

fn ranges_are_mapped(lab: &Lab) {
    let account = Account::with_ranges(lab);
    let bundle = account.bundle_with_ranges(&["cat", MAPS[0], MAPS[1], "/proc/self/setgroups"]);
    let (own, first) = (ID.to_string(), FIRST.to_string());
    let count = COUNT.to_string();
    let map = ["0", &own, "1", "1", &first, &count];
    let text = account.run(&bundle, "a", &[]).ok();
    assert_eq!(words(&text), [&map[..], &map, &["allow"]].concat());
}

fn a_user_of_a_range_has_groups_and_a_shell(lab: &Lab) {
    let account = Account::with_ranges(lab);
    let mut bundle = account.bundle_with_ranges(&["sleep"]);
    bundle.config["process"]["user"] = json!({ "uid": 33, "gid": 34, "additionalGids": [35] });
    account.run(&bundle, "a", &["--detach"]).ok();
    let pid = account.state("a")["pid"].to_string();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        words(line.unwrap()).iter().map(|id| id.parse().unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(line("Uid:"), [FIRST + 32; 4]);
    assert_eq!(line("Gid:"), [FIRST + 33; 4]);
    assert_eq!(line("Groups:"), [FIRST + 34]);
    let groups = |user: &str| {
        let command = ["/bin/probe", "cat", "/proc/self/status"];
        let text = account.on("a", &["exec", "--user", user], &command).ok();
        text.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap().trim().to_owned()
    };
    assert_eq!(groups("0"), "35");
    assert_eq!(groups("7:8"), "35");
    account.delete("a");
}

/// newuidmap for the users; the group is the account's own, and no program is
/// asked.
fn one_side_may_be_ones_own_id(lab: &Lab) {
    let mut account = Account::with_ranges(lab);
    account.program("newgidmap", "exit 1");
    let mut bundle = account.bundle(&["cat", MAPS[0], MAPS[1], "/proc/self/setgroups"]);
    bundle.config["linux"]["uidMappings"] = ranges(FIRST, 10);
    let (own, first) = (ID.to_string(), FIRST.to_string());
    let text = account.run(&bundle, "a", &[]).ok();
    let wanted = ["0", &own, "1", "1", &first, "10", "0", &own, "1", "deny"];
    assert_eq!(words(&text), wanted);
}

/// Neither variables, nor open files, nor signals that are ignored.
fn the_programs_get_nothing_of_ours(lab: &Lab) {
    let mut account = Account::with_ranges(lab);
    let (noted, real) = (lab.path("noted"), account.path.clone());
    account.folder(&noted);
    for name in ["newuidmap", "newgidmap"] {
        let look = format!(
            "exec >{}/{name}; PATH={real}; export -p; trap; ls /proc/self/fd; \
             grep SigIgn /proc/self/status; echo $#; exec {name} \"$@\"",
            noted.display(),
        );
        account.program(name, &look);
    }
    let bundle = account.bundle_with_ranges(&["exit", "0"]);
    let run = account.start_of(&bundle, "a", &["run", "--preserve-fds", "1"]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\" 3</etc/passwd 7</etc/passwd"]);
    shell.arg(run.get_program()).args(run.get_args());
    account.does(&mut shell);
    shell.env("SECRET", "word");
    lab.begin(shell).end().ok();
    for name in ["newuidmap", "newgidmap"] {
        let text = fs::read_to_string(noted.join(name)).unwrap();
        assert!(!text.contains("SECRET") && !text.contains("XDG"), "{text}");
        // The standard streams, and the directory that is listed.
        let numbers: Vec<_> = text.lines().filter(|line| line.parse::<u32>().is_ok()).collect();
        assert_eq!(numbers, ["0", "1", "2", "3", "7"], "{text}");
        assert!(text.contains("SigIgn:\t0000000000000000"), "{text}");
    }
}

fn what_the_machine_does_not_give_is_named(lab: &Lab) {
    let mut account = Account::with_ranges(lab);
    let mut bundle = account.bundle_with_ranges(&["exit", "0"]);
    let last = FIRST + COUNT;
    bundle.config["linux"]["uidMappings"] = ranges(FIRST, COUNT + 2);
    let message = account.run(&bundle, "a", &[]).fails();
    let why = format!(" (\"/etc/subuid\" gives user {ID} no uids {last} to {})", last + 1);
    assert!(message.ends_with(&why), "{message}");
    assert!(message.contains("config.json: /linux/uidMappings"), "{message}");
    let mut bundle = account.bundle_with_ranges(&["exit", "0"]);
    bundle.config["linux"]["gidMappings"] = ranges(FIRST - 1, 1);
    let message = account.run(&bundle, "a", &[]).fails();
    let why = format!(" (\"/etc/subgid\" gives user {ID} no gid {})", FIRST - 1);
    assert!(message.ends_with(&why), "{message}");
    // Ids of somebody else.
    account.gives("/etc/subuid", &format!("another:{FIRST}:{COUNT}\n"));
    let bundle = account.bundle_with_ranges(&["exit", "0"]);
    let message = account.run(&bundle, "a", &[]).fails();
    let why = format!(" (\"/etc/subuid\" gives user {ID} no uids {FIRST} to {})", last - 1);
    assert!(message.ends_with(&why), "{message}");
}

/// Before anything of the container is made.
fn a_program_that_is_missing_is_told_first(lab: &Lab) {
    let mut account = Account::new(lab);
    let bundle = account.bundle_with_ranges(&["exit", "0"]);
    // One that depends on where the caller stands is none.
    account.program("newuidmap", "exit 0");
    account.path = format!("bin:/nowhere:{}", lab.path("runtime").display());
    let mut run = account.start_of(&bundle, "a", &["run"]);
    run.current_dir(lab.folder());
    let message = lab.begin(run).end().fails();
    for name in ["newuidmap", "newgidmap"] {
        assert!(message.contains(&format!("takes {name}: not in $PATH")), "{message}");
    }
}

fn a_program_that_cannot_map_is_told(lab: &Lab) {
    let mut account = Account::with_ranges(lab);
    let bundle = account.bundle_with_ranges(&["exit", "0"]);
    let run = account.start_of(&bundle, "a", &["run"]);
    let mut bound = Command::new("setpriv");
    bound.arg("--no-new-privs").arg(run.get_program()).args(run.get_args());
    account.does(&mut bound);
    let message = lab.begin(bound).end().fails();
    assert!(message.contains("no_new_privs is set"), "{message}");

    account.program("newgidmap", "exec 3>&-; echo it is >&2; echo broken; exit 7");
    let message = account.run(&bundle, "a", &[]).fails();
    let words = "newgidmap\": exit status 7, output: \"it is\\nbroken\" (config.json: ";
    assert!(message.contains(words), "{message}");
    assert!(message.contains("it must be setuid, or have the file capability"), "{message}");

    account.program("newgidmap", "kill -9 $$");
    let message = account.run(&bundle, "a", &[]).fails();
    assert!(message.contains("newgidmap\": signal: killed"), "{message}");
    // One that is content with nothing.
    account.program("newgidmap", "exit 0");
    let message = account.run(&bundle, "a", &[]).fails();
    let words = "newgidmap\" ended well and has written no map (config.json: /linux/gidMappings)";
    assert!(message.contains(words), "{message}");
}

fn a_program_that_hangs_is_ended(lab: &Lab) {
    let mut account = Account::with_ranges(lab);
    let bundle = account.bundle_with_ranges(&["exit", "0"]);
    account.program("newuidmap", "exec sleep 1000");
    let begun = Instant::now();
    let message = account.run(&bundle, "a", &[]).fails();
    assert!(message.contains("newuidmap\" did not end within 5 s"), "{message}");
    assert!(begun.elapsed().as_secs() >= 5, "{:?}", begun.elapsed());
}

fn a_program_that_hangs_can_be_interrupted(lab: &Lab) {
    let mut account = Account::with_ranges(lab);
    let bundle = account.bundle_with_ranges(&["exit", "0"]);
    let there = lab.path("runtime/there");
    account.program("newuidmap", &format!("echo >{}; exec sleep 1000", there.display()));
    let before = Picture::take(lab);
    let run = lab.begin(account.start_of(&bundle, "a", &["run"]));
    until("the program", || there.exists());
    run.signal(Signal::SIGTERM.as_str());
    let begun = Instant::now();
    let message = run.end().fails();
    assert!(message.contains("interrupted"), "{message}");
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    assert_eq!(before.leaks(lab), Vec::<String>::new());
}
