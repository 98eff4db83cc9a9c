//! What a process in the container can do to the runtime's processes beside it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use serde_json::json;

use crate::harness::{Bundle, Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    the_init_is_a_sealed_file,
    the_program_is_the_init_itself,
    a_created_init_is_closed,
    a_joining_process_is_closed,
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
        // A long search keeps the stage in the container for a while.
        let path: Vec<_> = (0..3000).map(|number| format!("/nope/{number}")).collect();
        let path = format!("PATH={}:/bin", path.join(":"));
        until("what it has seen", || {
            let mut exec = lab.command(&["exec", "--env", &path]);
            exec.arg(lab.id("a")).args(["probe", "exit", "0"]);
            lab.begin(exec).end().ok();
            spy.printed().contains("seen")
        });
        let printed = spy.printed();
        lab.delete("a");
        spy.end();
        assert_eq!(printed, "ready\nseen 3\n");
    }
}
