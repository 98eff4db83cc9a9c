//! `orlop try`: a container of the machine's own programs that leaves nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Lab, ORLOP, Running, Test, cgroups, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    it_runs_in_a_cgroup_of_its_own,
    a_signal_ends_what_has_no_handler,
    a_handler_has_its_say_and_its_time,
    nohup_holds,
    nothing_outlives_it,
    the_next_one_cleans_up_after_those_that_were_killed,
    what_is_for_root_alone_stays_so,
    a_pipe_can_be_opened_again,
    no_user_namespaces_mean_no_privileges,
    a_bad_temporary_folder_is_named,
    a_full_one_is_left_as_it_was,
    the_exit_status_survives_a_failed_clean_up,
    a_bad_program_is_told_like_a_shell_does,
    it_runs_in_itself,
    who_is_but_root_of_the_machine_sees_less,
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
    until("the script", || running.printed() == "up\n" && running.is_past_the_start());
    running
}

/// Names of the folders that are there.
fn folders(lab: &Lab) -> Vec<String> {
    let entries = fs::read_dir(lab.folder()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("orlop-try-")).collect()
}

/// The process whose command line starts with these words.
fn process(words: &str) -> Option<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let line = |pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pids.find(|pid| line(*pid).replace('\0', " ").starts_with(words)).map(Pid::from_raw)
}

/// A program that ends when it is ended, and that no other run of these tests has.
fn sleeper(number: u32) -> String {
    format!("sleep {}", 1_000_000 + std::process::id() * 10 + number)
}

/// `try` with a sleeper that runs: what said "up" is the shell before it.
fn asleep(lab: &Lab, program: &str) -> Running {
    let running = up(lab, &format!("echo up; exec {program}"));
    until("the program", || process(program).is_some());
    running
}

/// Also where there is no controller that could limit anything.
fn it_runs_in_a_cgroup_of_its_own(lab: &Lab) {
    let printed = lab.begin(attempt(lab, &["cat", "/proc/self/cgroup"])).end().ok();
    assert!(printed.lines().any(|line| line == "0::/"), "{printed}");
}

fn a_signal_ends_what_has_no_handler(lab: &Lab) {
    for (signal, number) in [("SIGHUP", 1), ("SIGINT", 2), ("SIGQUIT", 3), ("SIGTERM", 15)] {
        let program = sleeper(0);
        let words: Vec<_> = program.split(' ').collect();
        let running = lab.begin(attempt(lab, &words));
        // No shell, which has handlers.
        until("the program", || process(&program).is_some() && running.is_past_the_start());
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
    until("the script", || running.printed() == "up\n" && running.is_past_the_start());
    running.signal("SIGHUP");
    // Of several signals the one with the lowest number is read first.
    running.signal("SIGTERM");
    running.end().ends(128 + 15);
}

fn nothing_outlives_it(lab: &Lab) {
    let program = sleeper(1);
    let running = asleep(lab, &program);
    let [folder] = folders(lab).try_into().unwrap();
    running.signal("SIGKILL");
    running.end().ends(128 + 9);
    until("the end of the container", || process(&program).is_none());
    until("the end of its folder", || folders(lab).is_empty());
    assert!(cgroups(&folder).is_empty());
}

fn the_next_one_cleans_up_after_those_that_were_killed(lab: &Lab) {
    let program = sleeper(2);
    let killed = asleep(lab, &program);
    let [folder] = folders(lab).try_into().unwrap();
    let guard = format!("orlop try --guard {}", lab.path(&folder).display());
    // It has executed its program soon, and waits for the lock until it has ended.
    until("the guard", || process(&guard).is_some());
    kill(process(&guard).unwrap(), Signal::SIGKILL).unwrap();
    until("its end", || process(&guard).is_none());
    killed.signal("SIGKILL");
    killed.end().ends(128 + 9);
    assert!(process(&program).is_some() && !cgroups(&folder).is_empty());
    // Neither a living one's nor another user's.
    let strange = lab.path("orlop-try-aaaaaa");
    fs::create_dir(&strange).unwrap();
    chown(&strange, Some(1), Some(1)).unwrap();
    let living = up(lab, "echo up; exec sleep 1000");
    assert!(process(&program).is_none());
    assert!(cgroups(&folder).is_empty() && !folders(lab).contains(&folder));
    assert_eq!(folders(lab).len(), 2);
    lab.begin(attempt(lab, &["true"])).end().ok();
    assert_eq!(folders(lab).len(), 2);
    living.signal("SIGTERM");
    living.end().ends(128 + 15);
    assert_eq!(folders(lab), ["orlop-try-aaaaaa"]);
}

/// The test's own secret, at a place that the container sees.
fn secret() -> Mounted {
    let mounted = Mounted::new("/opt".into(), "");
    for (name, mode) in [("open", 0o644), ("secret", 0o600), ("group", 0o640)] {
        fs::write(Path::new("/opt").join(name), format!("{name}\n")).unwrap();
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(Path::new("/opt").join(name), mode).unwrap();
    }
    mounted
}

/// A tmpfs, until this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: PathBuf, options: &str) -> Self {
        let tmpfs = Some("tmpfs");
        mount(tmpfs, &at, tmpfs, MsFlags::empty(), Some(options)).unwrap();
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// Tells who it is and what it can read and write.
const LOOK: &str = "id -u; touch /root/a /tmp/b /home/c && chmod 700 /root && echo own; \
    cat /opt/open /opt/secret /opt/group";

fn what_is_for_root_alone_stays_so(lab: &Lab) {
    if !Path::new("/opt").is_dir() {
        lab.skip("there is no /opt");
    }
    let _secret = secret();
    // A careful umask changes nothing.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "umask 077; exec \"$0\" \"$@\""]);
    let attempt = attempt(lab, &["/bin/sh", "-c", LOOK]);
    command.arg(attempt.get_program()).args(attempt.get_args()).env("TMPDIR", lab.folder());
    assert_eq!(lab.begin(command).end().ends(1), "0\nown\nopen\n");
}

fn a_pipe_can_be_opened_again(lab: &Lab) {
    let script = "echo out >/dev/stdout; echo err >/dev/stderr";
    let output = attempt(lab, &["/bin/sh", "-c", script]).output().unwrap();
    assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
}

/// In a user namespace that has all ids and allows no other one, which is to the
/// runtime what a machine is where they are turned off. The cgroups of this one it
/// may not have.
fn no_user_namespaces_mean_no_privileges(lab: &Lab) {
    if !Path::new("/opt").is_dir() {
        lab.skip("there is no /opt");
    }
    let _secret = secret();
    let [first, second] = ["first.sh", "second.sh"].map(|name| lab.path(name));
    let script = "echo $$ >\"$TMPDIR/pid\"; until [ -e \"$TMPDIR/mapped\" ]; do sleep 0.01; done";
    // A program that root executes has the capabilities, which the shell has lost.
    fs::write(&first, format!("{script}; exec sh {second:?} \"$@\"")).unwrap();
    let script = "echo 0 >/proc/sys/user/max_user_namespaces; exec \"$@\"";
    fs::write(&second, script).unwrap();
    let attempt = attempt(lab, &["/bin/sh", "-c", LOOK]);
    let mut unshare = Command::new("unshare");
    let script = "umount -R /sys/fs/cgroup; exec unshare --user sh \"$0\" \"$@\"";
    unshare.args(["--mount", "--propagation", "private", "/bin/sh", "-c", script]).arg(first);
    unshare.arg(attempt.get_program()).args(attempt.get_args()).env("TMPDIR", lab.folder());
    let running = lab.begin(unshare);
    let pid = || fs::read_to_string(lab.path("pid")).unwrap_or_default();
    until("the namespace", || pid().ends_with('\n'));
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", pid().trim()), "0 0 4294967295").unwrap();
    }
    fs::write(lab.path("mapped"), "").unwrap();
    assert_eq!(running.end().ends(1), "1879048192\nown\nopen\n");
}

fn a_bad_temporary_folder_is_named(lab: &Lab) {
    let (file, private) = (lab.path("file"), lab.path("private"));
    fs::write(&file, "").unwrap();
    fs::create_dir_all(private.join("inner")).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    for (folder, named, why) in [
        (lab.path("none"), lab.path("none"), "no such file or directory"),
        (file.clone(), file, "not a directory"),
        (private.join("inner"), private.clone(), "the container's user"),
    ] {
        let mut attempt = attempt(lab, &["true"]);
        attempt.env("TMPDIR", folder);
        let message = lab.begin(attempt).end().fails();
        assert!(message.contains(&format!("{named:?}")) && message.contains(why), "{message}");
    }
    assert_eq!(fs::read_dir(private.join("inner")).unwrap().count(), 0);
}

fn a_full_one_is_left_as_it_was(lab: &Lab) {
    let place = lab.path("small");
    fs::create_dir(&place).unwrap();
    let mut failures = 0;
    for inodes in 1..40 {
        let mounted = Mounted::new(place.clone(), &format!("mode=1777,nr_inodes={inodes}"));
        let mut attempt = attempt(lab, &["true"]);
        attempt.env("TMPDIR", &place);
        let output = lab.begin(attempt).end();
        if output.code != 0 {
            failures += 1;
            let message = output.fails();
            let told = message.contains("no space left") && message.contains("/small");
            assert!(told, "{inodes}: {message}");
        }
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "{inodes}");
        drop(mounted);
    }
    assert!((10..38).contains(&failures), "{failures} failures");
}

fn the_exit_status_survives_a_failed_clean_up(lab: &Lab) {
    let running = up(lab, "trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done");
    let [folder] = folders(lab).try_into().unwrap();
    // The record is hidden, and a mount point can't be removed.
    let state = lab.path(&folder).join("state").join(&folder);
    let mounted = Mounted::new(state, "");
    running.signal("SIGTERM");
    let output = running.end();
    let warnings = output.stderr.lines().filter(|line| line.contains("=warning ")).count();
    assert_eq!((output.code, warnings), (7, 1), "{}", output.stderr);
    assert_eq!(folders(lab), [&*folder]);
    drop(mounted);
    lab.begin(attempt(lab, &["true"])).end().ok();
    assert!(folders(lab).is_empty() && cgroups(&folder).is_empty());
}

fn a_bad_program_is_told_like_a_shell_does(lab: &Lab) {
    for (program, code, why) in [
        ("no-such-program", 127, "executable file not found"),
        ("/no/such/program", 127, "no such file"),
        ("/etc/passwd", 126, "permission denied"),
        ("/etc", 126, "is a directory"),
    ] {
        let output = lab.begin(attempt(lab, &[program])).end();
        assert_eq!(output.code, code, "{program}: {}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{program}: {}", output.stderr);
        let message = output.fails();
        assert!(message.contains(&format!("{program:?}")) && message.contains(why), "{message}");
    }
}

/// The runtime, where a user can execute it, and a container too.
fn installed() -> Mounted {
    let mounted = Mounted::new("/opt".into(), "mode=755");
    fs::copy(ORLOP, "/opt/orlop").unwrap();
    mounted
}

/// A folder that is a user's own.
fn folder_of(lab: &Lab, user: u32) -> PathBuf {
    let folder = lab.path(&format!("of-{user}"));
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(lab.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(&folder, Some(user), Some(user)).unwrap();
    folder
}

fn it_runs_in_itself(lab: &Lab) {
    if !Path::new("/opt").is_dir() {
        lab.skip("there is no /opt");
    }
    let _installed = installed();
    for user in [0, 1234] {
        let mut command = Command::new("/opt/orlop");
        command.args(["try", "--", "/opt/orlop", "try", "--", "/opt/orlop", "try", "--"]);
        command.args(["/bin/sh", "-c", "id -u; echo /proc/[0-9]*; ls -A /tmp"]);
        command.uid(user).gid(user).env("TMPDIR", folder_of(lab, user));
        assert_eq!(lab.begin(command).end().ok(), "0\n/proc/1\n", "{user}");
        assert_eq!(fs::read_dir(lab.path(&format!("of-{user}"))).unwrap().count(), 0);
    }
}

/// One who is root of a user namespace that has no id but that of the machine's root.
fn who_is_but_root_of_the_machine_sees_less(lab: &Lab) {
    let look = "id -u; cat /etc/shadow; test -w /proc/sys/kernel/core_pattern; echo $?";
    // In a mount namespace that is not its own, and in one that is.
    for flags in [&["--map-root-user"] as &[_], &["--map-root-user", "--mount"]] {
        let attempt = attempt(lab, &["/bin/sh", "-c", look]);
        let mut unshare = Command::new("unshare");
        unshare.args(flags).arg(attempt.get_program()).args(attempt.get_args());
        unshare.env("TMPDIR", lab.folder());
        assert_eq!(lab.begin(unshare).end().ok(), "0\n1\n", "{flags:?}");
    }
}
