//! The process of a container: what config.json says of it is what it finds.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{Bundle, Lab, ORLOP, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    ids_and_groups,
    the_working_directory_is_made,
    environment_and_umask,
    limits_of_resources,
    capability_sets_are_exact,
    no_new_privileges,
    the_oom_score,
    descriptors_are_passed_and_no_others,
    scheduling_and_personality,
    memory_policies_with_nodes_and_without,
    an_exec_has_an_affinity_and_the_init_has_not,
    the_callers_own_affinity_is_not_inherited,
    an_exec_without_a_user_is_root,
    a_process_and_limits_may_come_through_pipes,
    a_limit_on_files_leaves_nothing,
    signals_are_as_after_boot,
];

/// Runs the bundle with its probe told to print /proc/self/status.
fn status(lab: &Lab, bundle: &mut Bundle) -> impl Fn(&str) -> String + use<> {
    bundle.args(&["cat", "/proc/self/status"]);
    let text = lab.run(bundle, "a", &[]).ok();
    move |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// COMPAT(runc): the cgroup says where they may run, and not who made them.
fn the_callers_own_affinity_is_not_inherited(lab: &Lab) {
    let before = sched_getaffinity(Pid::this()).unwrap();
    let first = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu).unwrap()).unwrap();
    let mut one = CpuSet::new();
    one.set(first).unwrap();
    if one == before {
        lab.skip("there is one processor");
    }
    let mut bundle = lab.bundle(&["sleep"]);
    let wanted = status(lab, &mut bundle)("Cpus_allowed");
    sched_setaffinity(Pid::this(), &one).unwrap();
    let seen = status(lab, &mut bundle)("Cpus_allowed");
    bundle.args(&["sleep"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let exec = lab.exec("a", &[], &["cat", "/proc/self/status"]).ok();
    sched_setaffinity(Pid::this(), &before).unwrap();
    lab.delete("a");
    assert_eq!(seen, wanted);
    assert!(exec.contains(&format!("\nCpus_allowed:\t{wanted}\n")), "{exec}");
}

/// COMPAT(runc): engines leave it out of the process of an exec.
fn an_exec_without_a_user_is_root(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["process"]["user"] = json!({ "uid": 5, "gid": 6 });
    lab.run(&bundle, "a", &["--detach"]).ok();
    let file = lab.path("process.json");
    let process = json!({ "args": ["/bin/probe", "cat", "/proc/self/status"], "cwd": "/" });
    fs::write(&file, process.to_string()).unwrap();
    let text = lab.on("a", &["exec", "--process", file.to_str().unwrap()], &[]).ok();
    assert!(text.contains("\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n"), "{text}");
    lab.delete("a");
}

fn ids_and_groups(lab: &Lab) {
    let mut bundle = lab.bundle(&[]);
    bundle.config["process"]["user"] =
        json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 6, 4_294_967_294_u32] });
    let field = status(lab, &mut bundle);
    assert_eq!(field("Uid"), "1000 1000 1000 1000");
    assert_eq!(field("Gid"), "1001 1001 1001 1001");
    assert_eq!(field("Groups"), "5 6 4294967294");
}

fn the_working_directory_is_made(lab: &Lab) {
    let mut bundle = lab.bundle(&["cwd"]);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["cwd"] = json!("/new/deep/place");
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "/new/deep/place\n");
    assert!(bundle.rootfs().join("new/deep/place").is_dir());
}

fn environment_and_umask(lab: &Lab) {
    let mut bundle = lab.bundle(&["env"]);
    bundle.config["process"]["env"] = json!(["PATH=/bin", "A=1", "B=two words"]);
    bundle.config["process"]["args"] = json!(["probe", "env"]);
    let text = lab.run(&bundle, "a", &[]).ok();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("HOME=")).collect();
    assert_eq!(lines, ["PATH=/bin", "A=1", "B=two words"]);
    bundle.config["process"]["user"]["umask"] = json!(0o027);
    assert_eq!(status(lab, &mut bundle)("Umask"), "0027");
}

fn limits_of_resources(lab: &Lab) {
    let mut bundle = lab.bundle(&["cat", "/proc/self/limits"]);
    bundle.config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
    ]);
    let text = lab.run(&bundle, "a", &[]).ok();
    let limit = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(limit("Max open files"), "100 200");
    assert_eq!(limit("Max core file size"), "0 0");
}

fn capability_sets_are_exact(lab: &Lab) {
    let mut bundle = lab.bundle(&[]);
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_CHOWN", "CAP_KILL"],
        "ambient": ["CAP_CHOWN"],
    });
    bundle.config["process"]["user"] = json!({ "uid": 9, "gid": 9 });
    let field = status(lab, &mut bundle);
    // An exec by a user keeps what is ambient (capabilities(7)); KILL is bit 5.
    assert_eq!(field("CapBnd"), "0000000000002021");
    assert_eq!(field("CapInh"), "0000000000000021");
    assert_eq!(field("CapAmb"), "0000000000000001");
    assert_eq!(field("CapPrm"), "0000000000000001");
    assert_eq!(field("CapEff"), "0000000000000001");
    bundle.config["process"].as_object_mut().unwrap().remove("capabilities");
    bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    let field = status(lab, &mut bundle);
    for set in ["CapBnd", "CapInh", "CapAmb", "CapPrm", "CapEff"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
}

fn no_new_privileges(lab: &Lab) {
    for (wanted, told) in [(true, "1"), (false, "0")] {
        let mut bundle = lab.bundle(&[]);
        bundle.config["process"]["noNewPrivileges"] = json!(wanted);
        assert_eq!(status(lab, &mut bundle)("NoNewPrivs"), told);
    }
}

fn the_oom_score(lab: &Lab) {
    let mut bundle = lab.bundle(&["cat", "/proc/self/oom_score_adj"]);
    bundle.config["process"]["oomScoreAdj"] = json!(321);
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "321\n");
}

fn descriptors_are_passed_and_no_others(lab: &Lab) {
    let file = fs::File::create(lab.path("passed")).unwrap();
    let bundle = lab.bundle(&["fds"]);
    // Inherited by the command whatever it is told: 5 and 6.
    let shell = |flags: &str| {
        bundle.write();
        let mut command = std::process::Command::new("/bin/sh");
        let (path, root) = (bundle.path.display(), lab.root());
        let script = format!(
            "exec 3</dev/null 4</dev/null 5<{at} 6<{at}; exec {} --root {} run {flags} --bundle {path} {}",
            ORLOP,
            root.display(),
            lab.id("a"),
            at = lab.path("passed").display(),
        );
        command.args(["-c", &script]);
        let text = lab.begin(command).end().ok();
        let numbers = text.lines().map(|line| line.split(' ').next().unwrap().to_owned());
        // The probe's own descriptor of the directory is the first free one.
        numbers.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shell(""), "0 1 2 3");
    assert_eq!(shell("--preserve-fds 2"), "0 1 2 3 4 5");
    assert!(file.as_raw_fd() > 2);
}

fn scheduling_and_personality(lab: &Lab) {
    let mut bundle = lab.bundle(&["cat", "/proc/self/personality"]);
    bundle.config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "00000008\n");
    let mut bundle = lab.bundle(&["cat", "/proc/self/stat"]);
    bundle.config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 5 });
    let text = lab.run(&bundle, "a", &[]).ok();
    // proc_pid_stat(5): 19 is the nice value, 41 the policy; BATCH is 3.
    let fields: Vec<_> = text.split_whitespace().collect();
    assert_eq!((fields[18], fields[40]), ("5", "3"));
}

fn memory_policies_with_nodes_and_without(lab: &Lab) {
    if !Path::new("/proc/self/numa_maps").exists() {
        lab.skip("the kernel knows no memory nodes");
    }
    let policies = [
        (json!({ "mode": "MPOL_BIND", "nodes": "0" }), "bind:0"),
        (json!({ "mode": "MPOL_LOCAL" }), "local"),
        (json!({ "mode": "MPOL_DEFAULT" }), "default"),
    ];
    for (policy, shown) in policies {
        let mut bundle = lab.bundle(&["cat", "/proc/self/numa_maps"]);
        bundle.config["linux"]["memoryPolicy"] = policy;
        let text = lab.run(&bundle, "a", &[]).ok();
        // numa(7): the address of a mapping, its policy, its pages.
        assert_eq!(text.split(' ').nth(1), Some(shown));
    }
}

/// With an affinity to begin with, an exec joins cgroup v2 by itself.
fn an_exec_has_an_affinity_and_the_init_has_not(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["process"]["execCPUAffinity"] = json!({ "initial": "0", "final": "0" });
    lab.run(&bundle, "a", &["--detach"]).ok();
    let pid = lab.state("a")["pid"].as_i64().unwrap();
    let cpus = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
        line.unwrap().to_owned()
    };
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let init = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert_eq!(cpus(&init), cpus(&own));
    assert_eq!(cpus(&lab.exec("a", &[], &["cat", "/proc/self/status"]).ok()), "0");
    let groups = lab.exec("a", &[], &["cat", "/proc/self/cgroup"]).ok();
    let v2 = groups.lines().find(|line| line.starts_with("0::")).unwrap();
    assert!(v2.contains(lab.tag()) || v2 == "0::/", "{groups}");
    lab.delete("a");
}

// Engines write files, people `<(…)` and `-`.
fn a_process_and_limits_may_come_through_pipes(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let shell = |text: &str, verb: &str, rest: &str| {
        let script = format!(
            "printf %s \"$TEXT\" | {ORLOP} --root {root} {verb} {rest} {id}",
            root = lab.root().display(),
            id = lab.id("a"),
        );
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &script]).env("TEXT", text);
        lab.begin(command).end().ok()
    };
    bundle.args(&["say", "hello"]);
    let process = bundle.config["process"].to_string();
    assert_eq!(shell(&process, "exec", "--process /dev/stdin"), "hello\n");
    shell("{}", "update", "-r -");
    shell("{}", "update", "-r /dev/stdin");
    lab.delete("a");
}

// The kernel kills with SIGXFSZ whoever does not block or ignore it.
fn a_limit_on_files_leaves_nothing(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    for verb in ["create", "run"] {
        let command = lab.start_of(verb, &bundle, "a", &[]);
        let mut limited = std::process::Command::new("/bin/sh");
        limited.args(["-c", "ulimit -f 1; exec \"$0\" \"$@\""]);
        limited.arg(command.get_program()).args(command.get_args());
        let message = lab.begin(limited).end().fails();
        assert!(message.ends_with(": file too large"), "{message}");
        assert!(lab.on("a", &["state"], &[]).fails().contains("does not exist"));
    }
}

fn signals_are_as_after_boot(lab: &Lab) {
    let none = |text: &str| {
        for name in ["SigBlk:", "SigIgn:", "SigCgt:"] {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            // The probe is a Rust program: std ignores SIGPIPE and looks for overflows.
            let own = match name {
                "SigIgn:" => 1 << (libc::SIGPIPE - 1),
                "SigCgt:" => 1 << (libc::SIGSEGV - 1) | 1 << (libc::SIGBUS - 1),
                _ => 0,
            };
            assert_eq!(u64::from_str_radix(line.trim(), 16).unwrap() & !own, 0, "{text}");
        }
    };
    // One in whose caller everything is ignored that can be, and one in the foreground.
    let mut bundle = lab.bundle(&["cat", "/proc/self/status"]);
    none(&lab.run(&bundle, "a", &[]).ok());
    bundle.args(&["sleep"]);
    let command = lab.start_of("run", &bundle, "a", &["--detach"]);
    let mut ignoring = std::process::Command::new("/bin/sh");
    ignoring.args(["-c", "trap '' HUP USR1 XFSZ; exec \"$0\" \"$@\""]);
    ignoring.arg(command.get_program()).args(command.get_args());
    lab.begin(ignoring).end().ok();
    let pid = lab.state("a")["pid"].to_string();
    none(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap());
    none(&lab.exec("a", &[], &["cat", "/proc/self/status"]).ok());
    lab.delete("a");
}
