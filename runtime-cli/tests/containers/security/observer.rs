//! What a process in the container can do to the runtime's processes beside it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use serde_json::{Value, json};

use crate::harness::{Bundle, Lab, Running, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    the_init_is_a_sealed_file,
    the_program_is_the_init_itself,
    a_created_init_is_closed,
    a_joining_process_is_closed,
    nothing_of_the_host_is_seen_by_whom_nothing_is_closed_to,
    who_joins_the_pids_of_others_is_closed,
];

const ORLOP: &str = env!("CARGO_BIN_EXE_orlop");

// CVE-2019-5736: /proc/PID/exe of the runtime in the container led to the host's
// program, which a container could overwrite.
fn the_init_is_a_sealed_file(lab: &Lab) {
    lab.create(&lab.bundle(&["sleep"]), "a", &[]).ok();
    let exe = format!("/proc/{}/exe", lab.state("a")["pid"]);
    let link = fs::read_link(&exe).unwrap();
    assert_eq!(link.to_str(), Some("/memfd:orlop-init (deleted)"));
    let file = File::open(&exe).unwrap();
    let seals = SealFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GET_SEALS).unwrap());
    let all = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    assert!(seals.contains(all), "{seals:?}");
    assert!(File::options().write(true).open(&exe).is_err());
    lab.delete("a");
}

fn the_program_is_the_init_itself(lab: &Lab) {
    let before = fs::read(ORLOP).unwrap();
    let links = |bundle: &Bundle| {
        let work = bundle.rootfs().join("work");
        symlink("/proc/self/exe", work.join("link")).unwrap();
        fs::write(work.join("script"), "#!/proc/self/exe\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(work.join("script"), mode).unwrap();
    };
    for name in ["/work/link", "/work/script", "/proc/self/exe"] {
        let mut bundle = lab.bundle(&["sleep"]);
        links(&bundle);
        bundle.config["process"]["args"] = json!([name]);
        let output = lab.run(&bundle, "a", &[]);
        assert_ne!(output.code, 0, "{name}: the stage without a plan");
        lab.delete("a");

        bundle.args(&["sleep"]);
        lab.create(&bundle, "a", &[]).ok();
        assert_ne!(lab.on("a", &["exec"], &[name]).code, 0, "{name}");
        lab.delete("a");
    }
    assert!(fs::read(ORLOP).unwrap() == before, "the runtime's program has changed");
}

/// With all capabilities of its own user namespace, or without the one to trace.
fn bundles(lab: &Lab) -> Vec<Bundle> {
    let bundle = || {
        let mut bundle = lab.bundle(&["sleep"]);
        bundle.config["process"]["noNewPrivileges"] = json!(false);
        bundle
    };
    let mut without = bundle();
    let caps = json!(["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_KILL"]);
    without.config["process"]["capabilities"] =
        json!({"bounding": caps, "effective": caps, "permitted": caps});
    let mut own = bundle();
    own.namespace("user", None);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    own.config["linux"]["uidMappings"] = map.clone();
    own.config["linux"]["gidMappings"] = map;
    let caps =
        json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN"]);
    own.config["process"]["capabilities"] =
        json!({"bounding": caps, "effective": caps, "permitted": caps});
    vec![without, own]
}

// CVE-2016-9962: a process of the container could trace the runtime's and take the
// descriptors that it held.
fn a_created_init_is_closed(lab: &Lab) {
    for bundle in bundles(lab) {
        lab.create(&bundle, "a", &[]).ok();
        let found = lab.exec("a", &[], &["spy", "1"]).ok();
        assert_eq!(found, "seen 1\n");
        lab.delete("a");
    }
}

fn a_joining_process_is_closed(lab: &Lab) {
    for bundle in bundles(lab) {
        lab.create(&bundle, "a", &[]).ok();
        lab.on("a", &["start"], &[]).ok();
        let mut spy = lab.command(&["exec"]);
        spy.arg(lab.id("a")).args(["/bin/probe", "spy"]);
        let spy = lab.begin(spy);
        until("the spy", || spy.printed().contains("ready"));
        let printed = seen_of_execs(lab, &spy, lab.folder());
        lab.delete("a");
        spy.end();
        assert_eq!(printed, "ready\nseen 3\n");
    }
}

/// What it prints while processes come in, whose `exec` works in `from`.
fn seen_of_execs(lab: &Lab, spy: &Running, from: &Path) -> String {
    // A long search keeps the stage in the container for a while.
    let path: Vec<_> = (0..3000).map(|number| format!("/nope/{number}")).collect();
    let path = format!("PATH={}:/bin", path.join(":"));
    until("what it has seen", || {
        let mut exec = lab.command(&["exec", "--env", &path]);
        exec.arg(lab.id("a")).args(["probe", "exit", "0"]).current_dir(from);
        lab.begin(exec).end().ok();
        spy.printed().contains("seen")
    });
    spy.printed()
}

/// With what opens all that a process has, in the host's user namespace.
fn tracer(lab: &Lab) -> Bundle {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    let caps =
        json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN"]);
    bundle.config["process"]["capabilities"] =
        json!({"bounding": caps, "effective": caps, "permitted": caps});
    bundle
}

// CVE-2016-9962: the kernel closes nothing to such a process, so there must be nothing.
fn nothing_of_the_host_is_seen_by_whom_nothing_is_closed_to(lab: &Lab) {
    let outside = lab.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("marker"), "").unwrap();
    let marker = outside.join("marker").display().to_string();
    let create = |bundle: &Bundle| {
        let mut create = lab.start_of("create", bundle, "a", &[]);
        create.current_dir(&outside);
        lab.begin(create).end().ok();
    };
    create(&tracer(lab));
    assert_eq!(lab.exec("a", &[], &["spy-out", &marker, "1"]).ok(), "seen 1\n");
    let mut spy = lab.command(&["exec"]);
    spy.arg(lab.id("a")).args(["/bin/probe", "spy-out", &marker]);
    let spy = lab.begin(spy);
    until("the spy", || spy.printed().contains("ready"));
    let printed = seen_of_execs(lab, &spy, &outside);
    lab.delete("a");
    spy.end();
    assert_eq!(printed, "ready\nseen 20\n");
}

/// What a process of `a` sees of an init that has joined its pid namespace and not left
/// the host's root yet.
fn seen_of_an_init(lab: &Lab, bundle: &Bundle) -> String {
    let mut others = lab.bundle(&["sleep"]);
    lab.create(bundle, "a", &[]).ok();
    let pid = lab.state("a")["pid"].to_string();
    others.namespace("pid", Some(&format!("/proc/{pid}/ns/pid")));
    let (state, began, go) = (lab.path("state-b"), lab.path("began"), lab.path("go"));
    let [state, began, go] = [&state, &began, &go].map(|path| path.to_str().unwrap());
    others.hook("createRuntime", &["keep", state]);
    others.hook("createRuntime", &["until", go, began]);
    let create = lab.begin(lab.start_of("create", &others, "b", &[]));
    until("the hook", || Path::new(began).exists());
    let state: Value = serde_json::from_str(&fs::read_to_string(state).unwrap()).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", state["pid"])).unwrap();
    let numbers = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
    let inside = numbers.split_whitespace().last().unwrap();
    let seen = lab.exec("a", &[], &["spy", inside]).ok();
    fs::write(go, "").unwrap();
    create.end().ok();
    lab.delete("b");
    lab.delete("a");
    for path in [lab.path("state-b"), lab.path("began"), lab.path("go")] {
        fs::remove_file(path).unwrap();
    }
    seen
}

// crun 1.31: an init that had joined a pid namespace could be looked at by those in there,
// as it was hidden later, and its root was the host's.
fn who_joins_the_pids_of_others_is_closed(lab: &Lab) {
    for bundle in bundles(lab) {
        assert_eq!(seen_of_an_init(lab, &bundle), "seen 1\n");
    }
}
