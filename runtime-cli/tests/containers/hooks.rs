//! Hooks: when, where, with what on their standard input, and what their failure
//! does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Bundle, Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    all_six_kinds_read_the_state,
    a_hook_in_the_container_begins_as_runcs_do,
    a_failure_ends_the_creation,
    a_failure_ends_the_start,
    poststop_hooks_run_after_any_failed_creation,
    a_failed_poststop_hook_stops_nothing,
    a_hook_has_nothing_of_its_caller,
    who_ignores_the_end_of_children_has_hooks_and_a_status,
    poststop_hooks_run_without_the_bundle,
    a_hook_has_a_timeout,
    a_death_before_the_program_is_told,
    a_signal_ends_a_run_whose_hook_hangs,
    a_signal_ends_a_poststop_hook_that_hangs,
    a_forced_deletion_ends_a_creation_whose_hook_hangs,
    a_forced_deletion_ends_a_start_whose_hook_hangs,
    a_forced_deletion_does_not_wait_for_hooks_of_a_started_container,
    a_forced_deletion_does_not_wait_for_poststop_hooks_of_another,
];

/// Kind, and the status it is told.
const KINDS: [(&str, &str); 6] = [
    ("prestart", "creating"),
    ("createRuntime", "creating"),
    ("createContainer", "creating"),
    ("startContainer", "created"),
    ("poststart", "running"),
    ("poststop", "stopped"),
];

fn all_six_kinds_read_the_state(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["annotations"] = json!({ "key": "value" });
    let folder = lab.path("hooks");
    fs::create_dir(&folder).unwrap();
    for (kind, _) in KINDS {
        let place = if kind == "startContainer" { "/work".into() } else { folder.clone() };
        bundle.hook(kind, &["keep", place.join(kind).to_str().unwrap()]);
    }
    let told = |kind: &str| -> Option<Value> {
        let inside = bundle.rootfs().join("work").join(kind);
        let place = if kind == "startContainer" { inside } else { folder.join(kind) };
        Some(serde_json::from_slice(&fs::read(place).ok()?).unwrap())
    };
    let so_far = || KINDS.iter().filter(|(kind, _)| told(kind).is_some()).count();
    lab.create(&bundle, "a", &[]).ok();
    assert_eq!(so_far(), 3);
    let pid = lab.state("a")["pid"].clone();
    lab.on("a", &["start"], &[]).ok();
    assert_eq!(so_far(), 5);
    lab.delete("a");
    for (kind, status) in KINDS {
        let state = told(kind).unwrap();
        assert_eq!(state["status"], status, "{kind}");
        assert_eq!(state["id"], lab.id("a"), "{kind}");
        assert_eq!(state["bundle"], bundle.path.to_str().unwrap(), "{kind}");
        assert_eq!(state["annotations"]["key"], "value", "{kind}");
        let seen = match kind {
            "poststop" => Value::Null,
            // SPEC: as the container sees it.
            "createContainer" | "startContainer" => json!(1),
            _ => pid.clone(),
        };
        assert_eq!(state["pid"], seen, "{kind}");
    }
}

// COMPAT(runc): createContainer hooks begin in the root, startContainer hooks have the
// program's environment, unless they have one, and its filter.
fn a_hook_in_the_container_begins_as_runcs_do(lab: &Lab) {
    let mut bundle = lab.bundle(&["exit", "0"]);
    let (probe, out) = (bundle.rootfs().join("bin/probe"), lab.path("out"));
    let to = |path: &Path, what: &str| json!(["probe", "into", path.to_str().unwrap(), what]);
    bundle.config["process"]["env"] = json!(["A=1", "A=2"]);
    bundle.config["hooks"] = json!({
        "createContainer": [{ "path": probe, "args": to(&out, "cwd") }],
        "startContainer": [
            { "path": "/bin/probe", "args": to(Path::new("/tmp/own"), "env") },
            { "path": "/bin/probe", "args": to(Path::new("/tmp/none"), "env"), "env": [] },
        ],
    });
    bundle.config["root"]["readonly"] = json!(false);
    lab.run(&bundle, "a", &[]).ok();
    let rootfs = bundle.rootfs();
    assert_eq!(fs::read_to_string(&out).unwrap(), format!("{}\n", rootfs.display()));
    let environment = fs::read_to_string(rootfs.join("tmp/own")).unwrap();
    assert_eq!(environment.lines().collect::<Vec<_>>(), ["A=2", "HOME=/"]);
    assert_eq!(fs::read_to_string(rootfs.join("tmp/none")).unwrap(), "");

    bundle.config["hooks"] =
        json!({ "startContainer": [{ "path": "/bin/probe", "args": ["probe", "try", "mkdir"] }] });
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS" }],
    });
    bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }]);
    for no_new_privileges in [true, false] {
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let said = lab.run(&bundle, "a", &[]).fails();
        let wanted = "error running startContainer hook #0: signal: bad system call";
        assert!(said.contains(wanted), "{said}");
    }
    // Docker's profile answers so, whose filter reads the flags of the older call alone.
    bundle.config["linux"]["seccomp"]["syscalls"] =
        json!([{ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }]);
    lab.run(&bundle, "a", &[]).ok();
}

fn a_failure_ends_the_creation(lab: &Lab) {
    for (kind, _) in &KINDS[..5] {
        let mut bundle = lab.bundle(&["sleep"]);
        bundle.hook(kind, &["exit", "9"]);
        let poststop = lab.path(kind);
        bundle.hook("poststop", &["keep", poststop.to_str().unwrap()]);
        let message = lab.run(&bundle, "a", &["--detach"]).fails();
        assert!(message.contains(&format!("/hooks/{kind}/0")), "{kind}: {message}");
        assert_gone(lab, &poststop);
    }
}

/// That the container is deleted, and its poststop hook has run once.
fn assert_gone(lab: &Lab, poststop: &Path) {
    assert!(lab.on("a", &["state"], &[]).fails().contains("does not exist"));
    let state: Value = serde_json::from_slice(&fs::read(poststop).unwrap()).unwrap();
    assert_eq!(state["status"], "stopped");
}

fn a_failure_ends_the_start(lab: &Lab) {
    for kind in ["startContainer", "poststart"] {
        let mut bundle = lab.bundle(&["sleep"]);
        bundle.hook(kind, &["exit", "9"]);
        let poststop = lab.path(kind);
        bundle.hook("poststop", &["keep", poststop.to_str().unwrap()]);
        lab.create(&bundle, "a", &[]).ok();
        let message = lab.on("a", &["start"], &[]).fails();
        assert!(message.contains(&format!("/hooks/{kind}/0")), "{kind}: {message}");
        assert_gone(lab, &poststop);
    }
}

/// What earlier hooks made is theirs to take back.
fn poststop_hooks_run_after_any_failed_creation(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["process"]["args"] = json!(["/no/such/program"]);
    let poststop = lab.path("poststop");
    bundle.hook("poststop", &["keep", poststop.to_str().unwrap()]);
    let message = lab.create(&bundle, "a", &[]).fails();
    assert!(message.contains("no such file"), "{message}");
    assert_gone(lab, &poststop);
}

fn a_failed_poststop_hook_stops_nothing(lab: &Lab) {
    let mut bundle = lab.bundle(&["exit", "5"]);
    let files = [lab.path("first"), lab.path("last")];
    bundle.hook("poststop", &["keep", files[0].to_str().unwrap()]);
    bundle.hook("poststop", &["exit", "9"]);
    bundle.hook("poststop", &["keep", files[1].to_str().unwrap()]);
    // `run` deletes it too.
    let output = lab.run(&bundle, "a", &[]);
    let warnings = output.stderr.matches("level=warning").count();
    assert!(output.stderr.contains("/hooks/poststop/1"), "{}", output.stderr);
    output.ends(5);
    assert_eq!(warnings, 1);
    files.iter().for_each(|file| assert_gone(lab, file));
}

fn a_hook_has_nothing_of_its_caller(lab: &Lab) {
    let mut bundle = lab.bundle(&["exit", "0"]);
    let kinds = ["createRuntime", "createContainer", "poststart", "poststop"];
    let seen = |kind: &str| lab.path(&format!("seen-by-{kind}"));
    for kind in kinds {
        let script = format!(
            "exec >{:?}; grep -E '^(Umask|SigBlk|SigIgn)' /proc/self/status; ls /proc/self/fd",
            seen(kind)
        );
        bundle.config["hooks"][kind] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
    }
    let inherited = fs::File::open("/dev/null").unwrap();
    nix::fcntl::fcntl(&inherited, nix::fcntl::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    lab.run(&bundle, "a", &[]).ends(0);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let umask = status.lines().find(|line| line.starts_with("Umask")).unwrap();
    let none = "0000000000000000";
    // The last is of ls itself.
    let expected = format!("{umask}\nSigBlk:\t{none}\nSigIgn:\t{none}\n0\n1\n2\n3\n");
    for kind in kinds {
        assert_eq!(fs::read_to_string(seen(kind)).unwrap(), expected, "{kind}");
    }
}

fn who_ignores_the_end_of_children_has_hooks_and_a_status(lab: &Lab) {
    let mut bundle = lab.bundle(&["exit", "7"]);
    for kind in ["createRuntime", "poststop"] {
        bundle.hook(kind, &["exit", "0"]);
    }
    let run = lab.start_of("run", &bundle, "a", &[]);
    let mut ignoring = std::process::Command::new("env");
    ignoring.arg("--ignore-signal=CHLD").arg(run.get_program()).args(run.get_args());
    lab.begin(ignoring).end().ends(7);
}

fn poststop_hooks_run_without_the_bundle(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    let ran = lab.path("ran");
    bundle.config["hooks"]["poststop"] =
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("pwd >{ran:?}")] }]);
    lab.create(&bundle, "a", &[]).ok();
    let away = lab.path("away");
    fs::rename(&bundle.path, &away).unwrap();
    lab.delete("a");
    fs::rename(&away, &bundle.path).unwrap();
    assert_eq!(fs::read_to_string(&ran).unwrap(), "/\n");
}

fn a_hook_has_a_timeout(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.hook("createRuntime", &["sleep"])["timeout"] = json!(1);
    let begun = Instant::now();
    let message = lab.run(&bundle, "a", &["--detach"]).fails();
    assert!(message.contains("/hooks/createRuntime/0"), "{message}");
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

/// A bundle with a hook that says that it runs and waits, and how to wait for it
/// and to let it go.
struct Hanging {
    bundle: Bundle,
    runs: PathBuf,
    let_go: PathBuf,
}

fn hanging(lab: &Lab, kind: &str) -> Hanging {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["root"]["readonly"] = json!(false);
    let folder = bundle.rootfs().join("work");
    let seen = if kind == "startContainer" { "/work".into() } else { folder.clone() };
    let [go, runs] = ["go", "runs"].map(|name| seen.join(name));
    bundle.hook(kind, &["until", go.to_str().unwrap(), runs.to_str().unwrap()]);
    Hanging { bundle, runs: folder.join("runs"), let_go: folder.join("go") }
}

impl Hanging {
    fn wait(&self) {
        until("the hook", || self.runs.exists());
    }

    fn let_go(&self) {
        fs::write(&self.let_go, "").unwrap();
    }
}

fn a_death_before_the_program_is_told(lab: &Lab) {
    for verb in ["start", "run", "run --detach"] {
        let hanging = hanging(lab, "startContainer");
        let command = match verb {
            "start" => {
                lab.create(&hanging.bundle, "a", &[]).ok();
                lab.command(&["start", &lab.id("a")])
            }
            "run" => lab.start_of("run", &hanging.bundle, "a", &[]),
            _ => lab.start_of("run", &hanging.bundle, "a", &["--detach"]),
        };
        let running = lab.begin(command);
        hanging.wait();
        lab.on("a", &["kill"], &["KILL"]).ok();
        let message = running.end().fails();
        let told = "the init process died before its program was executed";
        assert!(message.contains(told), "{verb}: {message}");
        if verb == "start" {
            assert_eq!(lab.status("a"), "stopped");
            lab.delete("a");
        }
    }
}

fn a_signal_ends_a_run_whose_hook_hangs(lab: &Lab) {
    for (kind, signal) in [
        ("createRuntime", "SIGINT"),
        ("createRuntime", "SIGTERM"),
        ("createContainer", "SIGHUP"),
        ("startContainer", "SIGINT"),
        ("poststart", "SIGQUIT"),
    ] {
        let mut hanging = hanging(lab, kind);
        // They have their chance: it is not they who were interrupted.
        let poststop = lab.path(&format!("{kind}-{signal}"));
        hanging.bundle.hook("poststop", &["keep", poststop.to_str().unwrap()]);
        let running = lab.begin(lab.start_of("run", &hanging.bundle, "a", &[]));
        hanging.wait();
        let begun = Instant::now();
        running.signal(signal);
        let message = running.end().fails();
        assert!(begun.elapsed() < Duration::from_secs(9), "{kind}: {:?}", begun.elapsed());
        assert!(message.contains(": interrupted"), "{kind}: {message}");
        assert_gone(lab, &poststop);
    }
}

fn a_signal_ends_a_poststop_hook_that_hangs(lab: &Lab) {
    let mut hanging = hanging(lab, "poststop");
    hanging.bundle.args(&["exit", "5"]);
    let running = lab.begin(lab.start_of("run", &hanging.bundle, "a", &[]));
    hanging.wait();
    running.signal("SIGINT");
    let output = running.end();
    assert!(output.stderr.contains("poststop hook #0: interrupted"), "{output:?}");
    output.ends(5);
}

/// `delete --force` within a moment.
fn delete_at_once(lab: &Lab) {
    let begun = Instant::now();
    lab.delete("a");
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
}

fn a_forced_deletion_ends_a_creation_whose_hook_hangs(lab: &Lab) {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        for verb in ["create", "run"] {
            let hanging = hanging(lab, kind);
            let running = lab.begin(lab.start_of(verb, &hanging.bundle, "a", &[]));
            hanging.wait();
            delete_at_once(lab);
            let message = running.end().fails();
            assert!(message.contains("died"), "{kind}: {message}");
            if kind != "createContainer" {
                assert!(message.contains(&format!("/hooks/{kind}/0")), "{kind}: {message}");
            }
        }
    }
}

fn a_forced_deletion_ends_a_start_whose_hook_hangs(lab: &Lab) {
    let hanging = hanging(lab, "startContainer");
    lab.create(&hanging.bundle, "a", &[]).ok();
    let running = lab.begin(lab.command(&["start", &lab.id("a")]));
    hanging.wait();
    delete_at_once(lab);
    let message = running.end().fails();
    assert!(message.contains("the init process died"), "{message}");
}

fn a_forced_deletion_does_not_wait_for_hooks_of_a_started_container(lab: &Lab) {
    let hanging = hanging(lab, "poststart");
    let running = lab.begin(lab.start_of("run", &hanging.bundle, "a", &["--detach"]));
    hanging.wait();
    delete_at_once(lab);
    hanging.let_go();
    // The program was executed, and that it ends is no failure of the start.
    running.end().ok();
}

fn a_forced_deletion_does_not_wait_for_poststop_hooks_of_another(lab: &Lab) {
    let hanging = hanging(lab, "poststop");
    lab.run(&hanging.bundle, "a", &["--detach"]).ok();
    let running = lab.begin(lab.command(&["delete", "--force", &lab.id("a")]));
    hanging.wait();
    delete_at_once(lab);
    hanging.let_go();
    running.end().ok();
}
