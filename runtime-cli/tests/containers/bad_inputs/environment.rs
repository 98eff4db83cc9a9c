//! Rows 41 and 44 to 46: what the caller and the host do not give.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount, umount};
use serde_json::json;

use super::case::refused;
use crate::harness::{Lab, Output, Picture, Test, View, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    row_41_descriptors_to_pass_on,
    row_44_no_standard_streams,
    row_44_nobody_reads,
    row_45_few_descriptors,
    row_46_no_place_for_the_state,
    a_folder_that_somebody_planted_is_refused,
    a_bus_that_hangs_is_left,
];

/// The command behind a shell that changes its own surroundings first.
fn through_shell(lab: &Lab, script: &str, command: &Command) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{script} exec \"$@\""), "sh"]).arg(command.get_program());
    shell.args(command.get_args());
    lab.begin(shell).end()
}

/// The same with redirections of the command alone.
fn redirected(lab: &Lab, redirections: &str, command: &Command) -> Output {
    let mut shell = Command::new("sh");
    // Nothing of the tests' own caller.
    let none = "3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-";
    let script = format!("exec {none}; exec \"$@\" {redirections}");
    shell.args(["-c", &script, "sh"]).arg(command.get_program());
    shell.args(command.get_args());
    lab.begin(shell).end()
}

fn row_41_descriptors_to_pass_on(lab: &Lab) {
    let bundle = lab.bundle(&["fds"]);
    for (count, redirections, missing) in [
        ("5", "", 3),
        ("5", "3</etc/passwd 4</etc/passwd", 5),
        ("2147483648", "3</etc/passwd", 4),
        ("4294967295", "", 3),
    ] {
        for verb in ["create", "run"] {
            let command = lab.start_of(verb, &bundle, "a", &["--preserve-fds", count]);
            let said = refused(&redirected(lab, redirections, &command), 1);
            let wanted = format!("unable to stat preserved-fd {missing} (of {count})");
            assert_eq!(said, format!("orlop {verb} failed: {wanted}: bad file descriptor"));
            lab.delete("a");
        }
    }
    // What is in $LISTEN_FDS is the business of somebody else.
    for listen in ["x", "-1", "99999999999999999999", ""] {
        let mut command = lab.start_of("run", &bundle, "a", &[]);
        command.env("LISTEN_FDS", listen).env("LISTEN_PID", "1");
        assert_eq!(lab.begin(command).end().ok().lines().count(), 4, "{listen:?}");
    }
}

fn row_44_no_standard_streams(lab: &Lab) {
    let bundle = lab.bundle(&["exit", "7"]);
    for closed in ["0<&-", "1>&-", "2>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"] {
        let run = lab.start_of("run", &bundle, "a", &[]);
        assert_eq!(redirected(lab, closed, &run).code, 7, "{closed}");
        let create = lab.start_of("create", &bundle, "a", &[]);
        redirected(lab, closed, &create).ok();
        let mut start = lab.command(&["start"]);
        start.arg(lab.id("a"));
        redirected(lab, closed, &start).ok();
        lab.delete("a");
    }
    // The program has all three, so that no file of its own becomes one of them.
    let (fds, sleep) = (lab.bundle(&["fds"]), lab.bundle(&["sleep"]));
    for closed in ["0<&-", "2>&-", "0<&- 2>&-"] {
        let run = lab.start_of("run", &fds, "a", &[]);
        let listed = redirected(lab, closed, &run).ok();
        let pipes = listed.lines().take(3).enumerate();
        let mut pipes = pipes.map(|(number, line)| line.starts_with(&format!("{number} pipe:")));
        assert!(pipes.all(|is| is) && listed.lines().count() == 4, "{closed}: {listed}");
        let run = lab.start_of("run", &sleep, "a", &["--detach"]);
        redirected(lab, closed, &run).ok();
        let pid = lab.state("a")["pid"].clone();
        for number in [0, 2].into_iter().filter(|number| closed.contains(&number.to_string())) {
            let found = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
            assert_eq!(found.to_str(), Some("/dev/null"), "{closed}: {number}");
        }
        lab.delete("a");
    }
}

fn row_44_nobody_reads(lab: &Lab) {
    // It has said it all, and its status is its own.
    let bundle = lab.bundle(&["cat", "/etc/text"]);
    fs::write(bundle.rootfs().join("etc/text"), "text\n").unwrap();
    let run = lab.start_of("run", &bundle, "a", &[]);
    let output = redirected(lab, ">/dev/full", &run);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let warning = "level=warning msg=\"writing what the process says: no space left on device\"\n";
    assert!(output.stderr.ends_with(warning), "{}", output.stderr);
    let run = lab.start_of("run", &bundle, "a", &[]);
    let mut shell = Command::new("sh");
    // The fifo's reader is gone when the runtime begins.
    let script = "mkfifo \"$F\" && (: <\"$F\" & exec 3>\"$F\"; wait; exec \"$@\" >&3 3>&-)";
    shell.env("F", lab.path("fifo")).args(["-c", script, "sh"]).arg(run.get_program());
    shell.args(run.get_args());
    let output = lab.begin(shell).end();
    assert_eq!((output.code, &*output.stderr), (0, ""));
}

fn row_45_few_descriptors(lab: &Lab) {
    let mut bundle = lab.bundle(&["exit", "7"]);
    // Raising them again may not be allowed.
    bundle.config["process"]["rlimits"] = json!([]);
    let before = Picture::take(lab);
    for limit in 3..=40 {
        // What the tests' own caller has open is none of the few.
        let script = format!("exec 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-; ulimit -n {limit};");
        let run = lab.start_of("run", &bundle, "a", &[]);
        let output = through_shell(lab, &script, &run);
        if output.code != 7 {
            let said = refused(&output, 1);
            assert!(said.ends_with("too many open files"), "{limit}: {said}");
        }
        assert!(output.code == 7 || limit < 40, "{limit}: {output:?}");
        lab.delete("a");
        assert_eq!(before.leaks(lab), [""; 0], "{limit}");
    }
}

fn row_46_no_place_for_the_state(lab: &Lab) {
    let bundle = lab.bundle(&["exit", "7"]);
    let root = lab.root();
    fs::create_dir(&root).unwrap();
    let tmpfs = |flags, options: &str| {
        mount(Some("tmpfs"), &root, Some("tmpfs"), flags, Some(options)).unwrap();
    };
    let check = |what: &str, wanted: Option<&str>| {
        for verb in ["run", "create"] {
            let output = lab.begin(lab.start_of(verb, &bundle, "a", &[])).end();
            match wanted {
                Some(wanted) => {
                    let said = refused(&output, 1);
                    assert!(said.ends_with(wanted), "{what}: {said}");
                }
                None if output.code == 1 => {
                    let said = refused(&output, 1);
                    assert!(said.ends_with("no space left on device"), "{what}: {said}");
                }
                None => assert_eq!(output.code, if verb == "run" { 7 } else { 0 }, "{what}"),
            }
            lab.delete("a");
            assert!(fs::read_dir(&root).unwrap().all(|entry| entry.unwrap().file_name() == "full"));
        }
    };
    tmpfs(MsFlags::MS_RDONLY, "");
    check("read-only", Some("read-only file system"));
    umount(&root).unwrap();
    // The root itself is the first; then the folder and each of its files.
    for inodes in 1..8 {
        tmpfs(MsFlags::empty(), &format!("nr_inodes={inodes}"));
        let wanted = (inodes < 3).then_some("no space left on device");
        check(&format!("{inodes} inodes"), wanted);
        umount(&root).unwrap();
    }
    for pages in 1..4 {
        tmpfs(MsFlags::empty(), &format!("size={}k", 4 * pages));
        fs::write(root.join("full"), vec![b'x'; 4096]).unwrap();
        let wanted = (pages < 2).then_some("no space left on device");
        check(&format!("{pages} pages, one of them taken"), wanted);
        umount(&root).unwrap();
    }
}

/// A bus that takes the connection and says nothing.
/// Where everybody may write, as in /tmp.
fn a_folder_that_somebody_planted_is_refused(lab: &Lab) {
    const SOMEBODY: u32 = 54_321;
    fs::create_dir(lab.root()).unwrap();
    fs::set_permissions(lab.root(), Permissions::from_mode(0o1777)).unwrap();
    let (victim, planted) = (lab.path("victim"), lab.root().join(lab.id("a")));
    fs::create_dir(&victim).unwrap();
    for name in ["config.json", "state.json", "start"] {
        fs::write(victim.join(name), "{}").unwrap();
    }
    let refused = |words: &str| {
        for verb in [&["state"][..], &["delete"], &["delete", "--force"], &["kill"], &["start"]] {
            let said = lab.on("a", verb, &[]).fails();
            assert!(said.contains(words), "{verb:?}: {said}");
        }
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 3);
    };
    symlink(&victim, &planted).unwrap();
    refused("what should be the state directory is none");
    fs::remove_file(&planted).unwrap();
    // And a real one, with a record that says what is killed.
    lab.create(&lab.bundle(&["sleep"]), "b", &[]).ok();
    let real = lab.root().join(lab.id("b"));
    chown(&real, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    fs::rename(&real, &planted).unwrap();
    refused("the state directory belongs neither to the caller nor to the root's owner");
    fs::rename(&planted, &real).unwrap();
    chown(&real, Some(0), Some(0)).unwrap();
    lab.delete("b");
    fs::remove_dir(lab.root()).unwrap();
}

fn a_bus_that_hangs_is_left(lab: &Lab) {
    if lab.view == View::Systemd {
        lab.skip("it is tested where systemd is not asked");
    }
    let socket = lab.path("bus");
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["cgroupsPath"] = format!("a.slice:orlop:{}", lab.id("a")).into();
    let begin = || {
        bundle.write();
        let mut command = lab.command(&["--systemd-cgroup", "run", "--bundle"]);
        command.arg(&bundle.path).arg(lab.id("a"));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", socket.display()));
        lab.begin(command)
    };
    let running = begin();
    until("the container", || lab.root().join(lab.id("a")).join("config.json").exists());
    // Whether it waits already or not.
    running.signal("SIGTERM");
    assert!(running.end().fails().contains("interrupted"));
    // It waits for 25 s.
    let said = refused(&begin().end_within(Duration::from_secs(60)), 1);
    let end = format!("at \"unix:path={}\" did not answer in time", socket.display());
    assert_eq!(said, format!("orlop run failed: the system bus {end}"));
}
