//! The life of a container: each command, in the order an engine gives them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;

use crate::harness::{CGROUPS, Lab, Output, Test, View, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    is_created_started_and_deleted,
    exit_codes_are_passed_on,
    orphans_are_waited_for_whatever_ends_them,
    a_failed_deletion_does_not_hide_the_exit_code,
    whose_container_is_deleted_has_its_exit_code,
    a_program_that_ends_at_once_was_started,
    a_paused_container_is_not_started,
    a_paused_container_can_be_killed,
    an_exec_in_a_paused_container_waits_and_can_be_ended,
    a_creation_below_a_frozen_cgroup_can_be_ended,
    signals_reach_the_process,
    run_detached_lives_on,
    run_with_keep_leaves_a_stopped_container,
    a_running_container_is_deleted_by_force_only,
    a_created_container_is_deleted,
    the_pid_file_names_the_init,
    a_pid_file_is_written_through_no_link,
    a_pid_file_takes_the_place_of_no_special_file,
    a_pid_file_that_has_no_room_leaves_nothing,
    a_pause_does_not_wait_for_what_is_killed,
    exec_passes_codes_and_detaches,
    an_exec_in_a_dying_container_ends,
    kill_all_reaches_every_process,
    sigkill_reaches_every_process_of_a_shared_pid_namespace,
    a_program_that_the_kernel_refuses_is_told_in_one_line,
    each_step_is_told_to_who_debugs,
    cgroups_deeper_than_a_path_go,
    lists_and_processes_are_told,
    a_failed_creation_leaves_nothing,
    a_failed_exec_of_the_program_is_told_by_start,
    an_init_that_dies_without_the_word_is_told_by_start,
];

fn is_created_started_and_deleted(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    lab.create(&bundle, "a", &[]).ok();
    assert_eq!(lab.status("a"), "created");
    lab.on("a", &["start"], &[]).ok();
    assert_eq!(lab.status("a"), "running");
    assert!(lab.on("a", &["start"], &[]).fails().contains("already running"));
    assert_eq!(lab.exec("a", &[], &["say", "hello"]).ok(), "hello\n");
    lab.on("a", &["kill"], &["KILL"]).ok();
    until("its end", || lab.status("a") == "stopped");
    assert!(lab.on("a", &["kill"], &["KILL"]).fails().contains("not running"));
    lab.on("a", &["delete"], &[]).ok();
    assert!(lab.on("a", &["state"], &[]).fails().contains("does not exist"));
    assert!(lab.on("a", &["delete"], &[]).fails().contains("does not exist"));
    lab.delete("a");
}

fn exit_codes_are_passed_on(lab: &Lab) {
    for (arguments, code) in [(["exit", "0"], 0), (["exit", "7"], 7), (["exit", "255"], 255)] {
        lab.run(&lab.bundle(&arguments), "a", &[]).ends(code);
    }
    let mut bundle = lab.bundle(&["raise", "SIGKILL"]);
    // Process 1 of a pid namespace can't kill itself.
    bundle.without_namespace("pid");
    lab.run(&bundle, "a", &[]).ends(128 + 9);
    // A real-time signal.
    bundle.args(&["wait", "SIGUSR1"]);
    let running = lab.begin(lab.start_of("run", &bundle, "a", &[]));
    until("the process", || running.printed() == "ready\n");
    lab.on("a", &["kill"], &["RTMIN+6"]).ok();
    running.end().ends(128 + 40);
}

fn orphans_are_waited_for_whatever_ends_them(lab: &Lab) {
    let mut bundle = lab.bundle(&["bereave"]);
    bundle.without_namespace("pid");
    let running = lab.begin(lab.start_of("run", &bundle, "a", &[]));
    until("the process", || running.printed() == "ready\n");
    let init = lab.state("a")["pid"].clone();
    let pids: Vec<Value> =
        serde_json::from_str(&lab.on("a", &["ps", "-f", "json"], &[]).ok()).unwrap();
    let orphan = pids.iter().find(|pid| **pid != init).unwrap().to_string();
    let kill = std::process::Command::new("sh").args(["-c", "kill -40 $0", &orphan]).status();
    assert!(kill.unwrap().success());
    until("its end", || !Path::new("/proc").join(&orphan).exists());
    lab.on("a", &["kill"], &["KILL"]).ok();
    running.end().ends(128 + 9);
}

fn a_failed_deletion_does_not_hide_the_exit_code(lab: &Lab) {
    let running = lab.begin(lab.start_of("run", &lab.bundle(&["wait", "SIGUSR1"]), "a", &[]));
    until("the process", || running.printed() == "ready\n");
    let inside = lab.root().join(lab.id("a")).join("mount");
    fs::create_dir(&inside).unwrap();
    mount(Some("tmpfs"), &inside, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    lab.on("a", &["kill"], &["KILL"]).ok();
    let output = running.end();
    assert!(output.stderr.contains("=warning msg=\"deleting the container: "), "{output:?}");
    output.ends(128 + 9);
    umount(&inside).unwrap();
    lab.delete("a");
}

fn whose_container_is_deleted_has_its_exit_code(lab: &Lab) {
    let running = lab.begin(lab.start_of("run", &lab.bundle(&["wait", "SIGUSR1"]), "a", &[]));
    until("the process", || running.printed() == "ready\n");
    lab.delete("a");
    let output = running.end();
    assert_eq!(output.stderr, "");
    output.ends(128 + 9);
}

fn a_program_that_ends_at_once_was_started(lab: &Lab) {
    let bundle = lab.bundle(&["exit", "3"]);
    for _ in 0..10 {
        lab.create(&bundle, "a", &[]).ok();
        lab.on("a", &["start"], &[]).ok();
        lab.delete("a");
        lab.run(&bundle, "a", &["--detach"]).ok();
        lab.delete("a");
    }
}

fn a_paused_container_is_not_started(lab: &Lab) {
    lab.create(&lab.bundle(&["sleep"]), "a", &[]).ok();
    lab.on("a", &["pause"], &[]).ok();
    let message = lab.on("a", &["start"], &[]).fails();
    assert_eq!(message, "cannot start a container in the paused state");
    lab.on("a", &["resume"], &[]).ok();
    lab.on("a", &["start"], &[]).ok();
    lab.delete("a");
}

fn an_exec_in_a_paused_container_waits_and_can_be_ended(lab: &Lab) {
    if lab.view.is_v2() || Path::new(CGROUPS).join("unified").exists() {
        exec_in_a_paused_container(lab, false);
    }
    if !lab.view.is_v2() {
        exec_in_a_paused_container(lab, true);
    }
}

fn exec_in_a_paused_container(lab: &Lab, by_v1: bool) {
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let whole = if by_v1 { forget_v2_beside_v1(lab) } else { fs::read(record(lab)).unwrap() };
    lab.on("a", &["pause"], &[]).ok();
    assert!(
        lab.exec("a", &[], &["exit", "0"])
            .fails()
            .contains("paused container (use --ignore-paused to override)")
    );
    let exec = |flags: &[&str], arguments: &[&str]| {
        let id = lab.id("a");
        let words = [&["exec", "--ignore-paused"], flags, &[&*id, "/bin/probe"], arguments];
        lab.begin(lab.command(&words.concat()))
    };
    // As many as there are processes in the container, with the init.
    let inside = |count| {
        until("the processes", || {
            let pids: Vec<i32> =
                serde_json::from_str(&lab.on("a", &["ps", "--format", "json"], &[]).ok()).unwrap();
            pids.len() == count
        });
    };
    for signal in ["SIGTERM", "SIGINT"] {
        let running = exec(&[], &["exit", "3"]);
        inside(2);
        let begun = Instant::now();
        running.signal(signal);
        assert!(running.end().fails().contains(": interrupted"));
        assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
        // A v1 freezer lets a process die when it lets it go.
        if by_v1 {
            lab.on("a", &["resume"], &[]).ok();
        }
        inside(1);
        if by_v1 {
            lab.on("a", &["pause"], &[]).ok();
        }
    }
    // Nobody is told, but nothing hangs and nothing is left.
    let running = exec(&["--detach"], &["sleep"]);
    inside(2);
    running.signal("SIGKILL");
    running.end().ends(128 + 9);
    let running = exec(&[], &["exit", "3"]);
    inside(3);
    lab.on("a", &["resume"], &[]).ok();
    running.end().ends(3);
    inside(1);
    fs::write(record(lab), whole).unwrap();
    lab.delete("a");
}

fn a_creation_below_a_frozen_cgroup_can_be_ended(lab: &Lab) {
    if !lab.view.is_v2() {
        lab.skip("the cgroup above would be made in every hierarchy");
    }
    if lab.view == View::Systemd {
        lab.skip("the path is one of the file system");
    }
    let above = Path::new(CGROUPS).join(lab.tag());
    fs::create_dir(&above).unwrap();
    fs::write(above.join("cgroup.freeze"), "1").unwrap();
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["cgroupsPath"] = format!("/{}/below", lab.tag()).into();
    let running = lab.begin(lab.start_of("run", &bundle, "a", &[]));
    let list = above.join("below/cgroup.procs");
    until("the stage", || fs::read_to_string(&list).is_ok_and(|list| !list.is_empty()));
    running.signal("SIGTERM");
    let begun = Instant::now();
    assert!(running.end().fails().ends_with("starting the init stage: interrupted"));
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    fs::remove_dir(&above).unwrap();
}

fn a_paused_container_can_be_killed(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    for shared in [false, true] {
        if shared {
            bundle.without_namespace("pid");
        }
        for flags in [&["kill"][..], &["kill", "--all"]] {
            lab.run(&bundle, "a", &["--detach"]).ok();
            let whole = forget_v2_beside_v1(lab);
            lab.on("a", &["pause"], &[]).ok();
            assert_eq!(lab.status("a"), "paused");
            lab.on("a", flags, &["KILL"]).ok();
            until("its end", || lab.status("a") == "stopped");
            fs::write(record(lab), whole).unwrap();
            lab.on("a", &["delete"], &[]).ok();
        }
    }
}

fn record(lab: &Lab) -> PathBuf {
    lab.root().join(lab.id("a")).join("state.json")
}

/// Changes the container's record to that of a host with v1 alone, whose freezer is
/// used then. Returns what it was.
fn forget_v2_beside_v1(lab: &Lab) -> Vec<u8> {
    let before = fs::read(record(lab)).unwrap();
    if !lab.view.is_v2() {
        let mut value: Value = serde_json::from_slice(&before).unwrap();
        let groups = value["cgroup"]["groups"].as_array_mut().unwrap();
        groups.retain(|group| !group["controllers"].as_array().unwrap().is_empty());
        fs::write(record(lab), value.to_string()).unwrap();
    }
    before
}

fn signals_reach_the_process(lab: &Lab) {
    let bundle = lab.bundle(&["wait", "SIGUSR1"]);
    let running = lab.begin(lab.start_of("run", &bundle, "a", &[]));
    until("the process", || running.printed() == "ready\n");
    lab.on("a", &["kill"], &["USR1"]).ok();
    running.end().ok();
    // What `run` itself is sent goes to the process too.
    let running = lab.begin(lab.start_of("run", &bundle, "a", &[]));
    until("the process", || running.printed() == "ready\n");
    running.signal("SIGUSR1");
    running.end().ok();
}

fn run_detached_lives_on(lab: &Lab) {
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
}

fn run_with_keep_leaves_a_stopped_container(lab: &Lab) {
    lab.run(&lab.bundle(&["exit", "3"]), "a", &["--keep"]).ends(3);
    let state = lab.state("a");
    assert_eq!((&state["status"], &state["pid"]), (&"stopped".into(), &0.into()));
    lab.on("a", &["delete"], &[]).ok();
}

fn a_running_container_is_deleted_by_force_only(lab: &Lab) {
    lab.run(&lab.bundle(&["family", "3"]), "a", &["--detach"]).ok();
    assert!(lab.on("a", &["delete"], &[]).fails().contains("not stopped: running"));
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
}

fn a_created_container_is_deleted(lab: &Lab) {
    lab.create(&lab.bundle(&["sleep"]), "a", &[]).ok();
    lab.on("a", &["delete"], &[]).ok();
}

fn the_pid_file_names_the_init(lab: &Lab) {
    let file = lab.path("pid");
    let flags = ["--detach", "--pid-file", file.to_str().unwrap()];
    lab.run(&lab.bundle(&["sleep"]), "a", &flags).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), lab.state("a")["pid"].to_string());
    lab.exec("a", &flags, &["sleep"]).ok();
    let pid = fs::read_to_string(&file).unwrap();
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(words, "/bin/probe\0sleep\0");
    lab.delete("a");
}

fn a_pid_file_is_written_through_no_link(lab: &Lab) {
    let (file, victim) = (lab.path("pid"), lab.path("victim"));
    let flags = ["--detach", "--pid-file", file.to_str().unwrap()];
    for link in ["pid", ".pid"] {
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, lab.path(link)).unwrap();
        lab.run(&lab.bundle(&["sleep"]), "a", &flags).ok();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{link}");
        assert!(fs::symlink_metadata(&file).unwrap().is_file(), "{link}");
        assert_eq!(fs::read_to_string(&file).unwrap(), lab.state("a")["pid"].to_string());
        assert!(!lab.path(".pid").is_symlink());
        lab.delete("a");
        fs::remove_file(&file).unwrap();
    }
}

fn a_pid_file_takes_the_place_of_no_special_file(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    let [fifo, device, socket, folder] =
        ["fifo", "device", "socket", "folder"].map(|name| lab.path(name));
    mkfifo(&fifo, Mode::S_IRUSR).unwrap();
    mknod(&device, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 7)).unwrap();
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::create_dir(&folder).unwrap();
    let refused = |path: &Path, output: Output| {
        let wanted = format!("a pid file can't take the place of what is no regular file {path:?}");
        let message = output.fails();
        assert!(message.ends_with(&wanted), "{message}");
        assert!(!fs::symlink_metadata(path).unwrap().is_file(), "{path:?}");
    };
    let run = |verb: &str, path: &Path| {
        let flags = ["--detach", "--pid-file", path.to_str().unwrap()];
        let flags = if verb == "create" { &flags[1..] } else { &flags };
        lab.begin(lab.start_of(verb, &bundle, "a", flags)).end()
    };
    for path in [&fifo, &device, &socket, &folder] {
        for verb in ["run", "create"] {
            refused(path, run(verb, path));
            assert!(lab.on("a", &["state"], &[]).fails().contains("does not exist"));
        }
    }
    lab.run(&bundle, "a", &["--detach"]).ok();
    for path in [&fifo, &device, &socket, &folder] {
        let output = lab.exec("a", &["--detach", "--pid-file", path.to_str().unwrap()], &["sleep"]);
        assert_eq!(output.code, 255);
        refused(path, output);
    }
    lab.delete("a");
}

fn a_pid_file_that_has_no_room_leaves_nothing(lab: &Lab) {
    let full = lab.path("full");
    fs::create_dir(&full).unwrap();
    mount(Some("tmpfs"), &full, Some("tmpfs"), MsFlags::empty(), Some("size=4k")).unwrap();
    fs::write(full.join("filler"), [1; 4096]).unwrap();
    let file = full.join("pid");
    let flags = ["--pid-file", file.to_str().unwrap()];
    let message = lab.create(&lab.bundle(&["sleep"]), "a", &flags).fails();
    let names: Vec<_> =
        fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    umount(&full).unwrap();
    assert!(message.contains("writing the pid file"), "{message}");
    assert!(message.ends_with("no space left on device"), "{message}");
    assert_eq!(names, ["filler"]);
}

// Who kills it thaws it, and the kernel tells the one who freezes nothing of that.
fn a_pause_does_not_wait_for_what_is_killed(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    for round in 0..40 {
        lab.run(&bundle, "a", &["--detach"]).ok();
        let begun = Instant::now();
        let mut command = lab.command(&["pause"]);
        command.arg(lab.id("a"));
        let pause = lab.begin(command);
        sleep(Duration::from_micros(round * 150));
        lab.on("a", &["kill"], &["KILL"]);
        pause.end();
        assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
        lab.delete("a");
    }
}

fn exec_passes_codes_and_detaches(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["root"]["readonly"] = false.into();
    lab.run(&bundle, "a", &["--detach"]).ok();
    lab.exec("a", &[], &["exit", "5"]).ends(5);
    lab.on("a", &["exec"], &["--", "/bin/probe", "exit", "6"]).ends(6);
    lab.exec("a", &[], &["raise", "SIGTERM"]).ends(128 + 15);
    lab.exec("a", &["--detach"], &["write", "/tmp/here", "detached"]).ok();
    until("the file", || {
        fs::read_to_string(bundle.rootfs().join("tmp/here")).is_ok_and(|text| text == "detached")
    });
    let text = lab.exec("a", &["--cwd", "/tmp", "--env", "A=b"], &["env"]).ok();
    assert!(text.lines().any(|line| line == "A=b"), "{text}");
    assert_eq!(lab.exec("a", &["--cwd", "/tmp"], &["cwd"]).ok(), "/tmp\n");
    let status = lab.exec("a", &["--user", "7:8"], &["cat", "/proc/self/status"]).ok();
    assert!(status.contains("Uid:\t7\t7\t7\t7\nGid:\t8\t8\t8\t8\n"), "{status}");
    let missing = lab.on("a", &["exec"], &["/no/such/program"]);
    assert_eq!(missing.code, 255);
    assert!(missing.fails().contains("no such file or directory"));
    lab.delete("a");
    assert!(lab.exec("a", &[], &["exit", "0"]).fails().contains("does not exist"));
}

fn an_exec_in_a_dying_container_ends(lab: &Lab) {
    for shared in [false, true] {
        let mut bundle = lab.bundle(&["sleep"]);
        if shared {
            bundle.without_namespace("pid");
        }
        for delay in 0..10 {
            lab.run(&bundle, "a", &["--detach"]).ok();
            let id = lab.id("a");
            let running: Vec<_> = (0..4)
                .map(|_| lab.begin(lab.command(&["exec", &id, "/bin/probe", "exit", "4"])))
                .collect();
            sleep(Duration::from_millis(delay));
            lab.delete("a");
            for one in running {
                // Its own status, the init's fate, or why it could not begin.
                let code = one.end().code;
                assert!([4, 128 + 9, 255].contains(&code), "{code}");
            }
        }
    }
}

fn kill_all_reaches_every_process(lab: &Lab) {
    let mut bundle = lab.bundle(&["family", "4"]);
    // No init whose end would take the others along.
    bundle.without_namespace("pid");
    lab.run(&bundle, "a", &["--detach"]).ok();
    until("the family", || {
        lab.on("a", &["ps", "--format", "json"], &[]).ok().matches(',').count() == 4
    });
    lab.on("a", &["kill", "--all"], &["KILL"]).ok();
    until("its end", || lab.status("a") == "stopped");
    lab.on("a", &["delete"], &[]).ok();
}

// COMPAT(runc): nobody else would end them.
fn sigkill_reaches_every_process_of_a_shared_pid_namespace(lab: &Lab) {
    let mut bundle = lab.bundle(&["family", "4"]);
    bundle.without_namespace("pid");
    for init_alone in [false, true] {
        lab.run(&bundle, "a", &["--detach"]).ok();
        let listed = || lab.on("a", &["ps", "--format", "json"], &[]).ok();
        until("the family", || listed().matches(',').count() == 4);
        let pids: Vec<i32> = serde_json::from_str(&listed()).unwrap();
        if init_alone {
            let init = lab.state("a")["pid"].as_i64().unwrap();
            let init = Pid::from_raw(i32::try_from(init).unwrap());
            kill(init, Signal::SIGKILL).unwrap();
            until("its end", || lab.status("a") == "stopped");
            let said = lab.on("a", &["kill"], &["TERM"]).fails();
            assert_eq!(said, "container not running");
        }
        lab.on("a", &["kill"], &["KILL"]).ok();
        until("their end", || pids.iter().all(|pid| !is_alive(*pid)));
        assert_eq!(lab.on("a", &["kill"], &["KILL"]).fails(), "container not running");
        lab.on("a", &["delete"], &[]).ok();
    }
}

fn is_alive(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains("zombie"))
}

// COMPAT(runc): its process says so itself, on the streams of the container.
fn a_program_that_the_kernel_refuses_is_told_in_one_line(lab: &Lab) {
    let mut bundle = lab.bundle(&[]);
    bundle.config["process"]["args"] = serde_json::json!(["/bin/script"]);
    let script = bundle.rootfs().join("bin/script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let out = lab.run(&bundle, "a", &[]);
    assert_eq!((out.code, &*out.stderr), (255, "exec /bin/script: no such file or directory\n"));
    // Who starts it and goes away is told all of it.
    lab.create(&bundle, "a", &[]).ok();
    let said = lab.on("a", &["start"], &[]).fails();
    assert!(said.starts_with("exec /bin/script: no such file or directory (config"), "{said}");
    assert!(said.contains("the interpreter"), "{said}");
    lab.delete("a");
}

fn each_step_is_told_to_who_debugs(lab: &Lab) {
    let bundle = lab.bundle(&["exit", "0"]);
    let told = |verb: &str, out: Output, wanted: &[&str]| {
        let lines: Vec<_> =
            out.stderr.lines().filter(|line| line.contains("level=debug")).collect();
        for words in wanted {
            assert!(lines.iter().any(|line| line.contains(words)), "{verb}: {words}: {lines:#?}");
        }
        out.ok();
    };
    let begun = ["nsexec container setup", "child process in init()"];
    let mut command = lab.command(&["--debug", "run", "--bundle"]);
    bundle.write();
    command.arg(&bundle.path).arg(lab.id("a"));
    let end = "init: closing the pipe to signal completion";
    told("run", lab.begin(command).end(), &[&begun[..], &[end]].concat());
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let mut command = lab.command(&["--debug", "exec"]);
    command.arg(lab.id("a")).args(["/bin/probe", "exit", "0"]);
    let end = "setns_init: about to exec";
    told("exec", lab.begin(command).end(), &[&begun[..], &[end]].concat());
    lab.delete("a");
}

/// A container may make cgroups below its own, if they are shown writable.
fn cgroups_deeper_than_a_path_go(lab: &Lab) {
    let mut bundle = lab.bundle(&["nest", "/sys/fs/cgroup"]);
    bundle.without_namespace("pid");
    bundle.namespace("cgroup", None);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["type"] != "cgroup");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    for by_v1 in [false, true] {
        let running = lab.begin(lab.start_of("run", &bundle, "a", &["--keep"]));
        until("the cgroups", || running.printed() == "ready\n");
        let before = by_v1.then(|| forget_v2_beside_v1(lab));
        let pids = lab.on("a", &["ps", "--format", "json"], &[]).ok();
        assert_eq!(pids.matches(',').count(), 2, "{pids}");
        lab.on("a", &["kill", "--all"], &["KILL"]).ok();
        running.end().ends(128 + 9);
        if let Some(before) = before {
            fs::write(record(lab), before).unwrap();
        }
        let output = lab.on("a", &["delete"], &[]);
        assert_eq!(output.stderr, "");
        output.ok();
    }
}

fn lists_and_processes_are_told(lab: &Lab) {
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    lab.create(&lab.bundle(&["sleep"]), "b", &[]).ok();
    let list: Value =
        serde_json::from_str(&lab.runtime(&["list", "--format", "json"]).ok()).unwrap();
    let told: Vec<_> =
        list.as_array().unwrap().iter().map(|one| (&one["id"], &one["status"])).collect();
    let (a, b) = (lab.id("a").into(), lab.id("b").into());
    assert_eq!(told, [(&a, &"running".into()), (&b, &"created".into())]);
    let quiet = lab.runtime(&["list", "--quiet"]).ok();
    assert_eq!(quiet, format!("{}\n{}\n", lab.id("a"), lab.id("b")));
    let pids: Value =
        serde_json::from_str(&lab.on("a", &["ps", "--format", "json"], &[]).ok()).unwrap();
    assert_eq!(pids, serde_json::json!([lab.state("a")["pid"]]));
    lab.delete("a");
    lab.delete("b");
}

fn a_failed_creation_leaves_nothing(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.mount("/work", "bind", "/no/such/source", &["bind"]);
    let message = lab.create(&bundle, "a", &[]).fails();
    assert!(message.contains("/no/such/source"), "{message}");
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.mount("/work", "tmpfs", "tmpfs", &["size=nonsense"]);
    let message = lab.create(&bundle, "a", &[]).fails();
    assert!(message.contains("/mounts/"), "{message}");
}

fn a_failed_exec_of_the_program_is_told_by_start(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["process"]["args"] = serde_json::json!(["/no/such/program"]);
    let message = lab.run(&bundle, "a", &[]).fails();
    assert!(message.contains("no such file or directory"), "{message}");
}

/// What `start` reads then is its own word, which nobody took.
fn an_init_that_dies_without_the_word_is_told_by_start(lab: &Lab) {
    lab.create(&lab.bundle(&["sleep"]), "a", &[]).ok();
    let pid = i32::try_from(lab.state("a")["pid"].as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    let stat = format!("/proc/{pid}/stat");
    until("its stop", || fs::read_to_string(&stat).unwrap().contains(") T "));
    let start = lab.begin(lab.command(&["start", &lab.id("a")]));
    until("the word is given", || !lab.root().join(lab.id("a")).join("exec.fifo").exists());
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let message = start.end().fails();
    assert!(message.contains("the init process died before"), "{message}");
    lab.delete("a");
}
