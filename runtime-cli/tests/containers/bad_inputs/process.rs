//! Rows 14 to 19: what the process may do, and how it is scheduled.

use std::process::Command;

use serde_json::{Value, json};

use super::case::{Case, check, refused};
use crate::harness::{Lab, Test, tests};
use crate::lsm::{apparmor, selinux};

pub(crate) const TESTS: &[Test] = tests![
    row_14_unknown_capability,
    row_15_limits,
    row_16_oom_score,
    row_17_labels,
    row_18_terminal,
    row_19_scheduling,
];

fn process(field: &str, value: Value) -> Value {
    let mut patch = json!({"process": {}});
    patch["process"][field] = value;
    patch
}

fn row_14_unknown_capability(lab: &Lab) {
    let sets = |names: &[&str]| json!({"bounding": names, "effective": names, "permitted": names});
    check(
        lab,
        &[
            Case::patch("in every set", process("capabilities", sets(&["CAP_KILL", "CAP_BOGUS"])))
                .warns(&["ignoring unknown or unavailable capabilities: [CAP_BOGUS]"]),
            Case::patch("no name", process("capabilities", sets(&["CAP_BPF", "KILL", "cap_kill"])))
                .warns(&["ignoring unknown or unavailable capabilities: [KILL cap_kill]"]),
            Case::patch("no name at all", process("capabilities", sets(&[""])))
                .warns(&["ignoring unknown or unavailable capabilities: []"]),
        ],
    );
}

fn row_15_limits(lab: &Lab) {
    let limit =
        |kind: &str, soft: i64, hard: i64| json!({"type": kind, "soft": soft, "hard": hard});
    let limits = |limits: &[Value]| process("rlimits", json!(limits));
    let files = limit("RLIMIT_NOFILE", 5, 9);
    check(
        lab,
        &[
            Case::patch("unknown", limits(&[limit("RLIMIT_FOO", 1, 1)]))
                .fails("unknown variant `RLIMIT_FOO`, expected one of * (config.json: /process/rlimits/0/type)"),
            Case::patch("soft above hard", limits(&[limit("RLIMIT_NOFILE", 9, 5)]))
                .fails("soft limit 9 of RLIMIT_NOFILE is above the hard limit 5 (config.json: /process/rlimits/0)"),
            Case::patch("negative", limits(&[limit("RLIMIT_NOFILE", -1, 5)]))
                .fails("invalid value: integer `-1`, expected u64 (config.json: /process/rlimits/0/soft)"),
            Case::patch("twice", limits(&[files.clone(), limit("RLIMIT_CPU", 9, 9), files]))
                .fails("rlimit RLIMIT_NOFILE is given twice (config.json: /process/rlimits/2)"),
            // The limit holds for what looks for the program, as with runc.
            Case::patch("three files", limits(&[limit("RLIMIT_NOFILE", 3, 3)]))
                .fails("exec: \"/bin/probe\": opening the program (config.json: /process/args/0): too many open files"),
            Case::patch("three files, and a name to look for", limits(&[limit("RLIMIT_NOFILE", 3, 3)]))
                .and(|bundle| bundle.config["process"]["args"] = json!(["probe"]))
                .fails("exec: \"probe\": opening the program (config.json: /process/args/0): too many open files"),
        ],
    );
}

fn row_16_oom_score(lab: &Lab) {
    check(
        lab,
        &[
            Case::patch("too high", process("oomScoreAdj", json!(5000)))
                .fails("oomScoreAdj 5000 is not between -1000 and 1000 (config.json: /process/oomScoreAdj)"),
            Case::patch("too low", process("oomScoreAdj", json!(-1001)))
                .fails("oomScoreAdj -1001 is not between -1000 and 1000 (config.json: /process/oomScoreAdj)"),
        ],
    );
    // Lower than a caller without CAP_SYS_RESOURCE may, written by either side.
    let refusal = "lowering it takes CAP_SYS_RESOURCE in the first user namespace";
    for mapped in [false, true] {
        let mut bundle = lab.bundle(&["exit", "7"]);
        bundle.config["process"]["oomScoreAdj"] = json!(-900);
        if mapped {
            bundle.user_namespace();
        }
        let command = lab.start_of("run", &bundle, "a", &[]);
        let mut without = Command::new("setpriv");
        without.args(["--bounding-set=-sys_resource", "--"]).arg(command.get_program());
        without.args(command.get_args());
        let said = refused(&lab.begin(without).end(), 1);
        let end = format!("(config.json: /process/oomScoreAdj): permission denied ({refusal})");
        assert!(said.ends_with(&end), "{said}");
    }
}

fn row_17_labels(lab: &Lab) {
    // What is on is tested in `lsm`.
    let mut cases = Vec::new();
    if !apparmor() {
        cases.push(
            Case::patch("AppArmor", process("apparmorProfile", json!("nope")))
                .fails("apparmor: config provided but apparmor not supported (config.json: /process/apparmorProfile)"),
        );
    }
    if !selinux() {
        cases.extend([
            Case::patch("SELinux", process("selinuxLabel", json!("a:b:c:d")))
                .fails("selinux label is specified in config, but selinux is disabled or not supported (config.json: /process/selinuxLabel)"),
            Case::patch("SELinux for mounts", json!({"linux": {"mountLabel": "a:b:c:d"}}))
                .fails("the label of mounts needs SELinux, which is off here (config.json: /linux/mountLabel)"),
        ]);
    }
    check(lab, &cases);
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    for (on, flag, words) in [
        (apparmor(), "--apparmor", "apparmor: config provided but apparmor not supported"),
        (selinux(), "--process-label", "but selinux is disabled or not supported"),
    ] {
        if !on {
            let said = lab.exec("a", &[flag, "nope"], &["exit", "0"]).fails();
            assert!(said.contains(words), "{said}");
        }
    }
    lab.delete("a");
}

fn row_18_terminal(lab: &Lab) {
    let terminal = process("terminal", json!(true));
    let size =
        json!({"process": {"terminal": true, "consoleSize": {"height": 1, "width": 65_536}}});
    check(
        lab,
        &[
            Case::patch("no socket", terminal.clone())
                .fails("cannot allocate tty if runc will detach without setting console socket"),
            Case::patch("no socket, detached", terminal.clone())
                .at_run()
                .flags(&["--detach"])
                .fails("cannot allocate tty if runc will detach without setting console socket"),
            Case::patch("a socket that is missing", terminal.clone())
                .flags(&["--console-socket", "/proc/nope"])
                .fails(
                    "connecting to the console socket \"/proc/nope\": no such file or directory",
                ),
            Case::patch("a socket that is a file", terminal)
                .flags(&["--console-socket", "/etc/passwd"])
                .fails("connecting to the console socket \"/etc/passwd\": connection refused"),
            Case::change("a socket but no terminal", |_| {})
                .flags(&["--console-socket", "/proc/nope"])
                .fails("cannot use console socket if runc will not detach or allocate tty"),
            Case::patch("a size that does not fit", size).fails(
                "a terminal's width is at most 65535 (config.json: /process/consoleSize/width)",
            ),
        ],
    );
}

fn row_19_scheduling(lab: &Lab) {
    let scheduler = |value| process("scheduler", value);
    check(
        lab,
        &[
            Case::patch("an unknown policy", scheduler(json!({"policy": "SCHED_FOO"})))
                .fails("unknown variant `SCHED_FOO`, expected one of * (config.json: /process/scheduler/policy)"),
            Case::patch("a policy nobody has", scheduler(json!({"policy": "SCHED_ISO"})))
                .fails("invalid scheduler policy: SCHED_ISO (config.json: /process/scheduler/policy)"),
            Case::patch("nice", scheduler(json!({"policy": "SCHED_OTHER", "nice": 50})))
                .fails("invalid scheduler.nice: 50 (config.json: /process/scheduler/nice)"),
            Case::patch("io", process("ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 9})))
                .fails("invalid ioPriority.Priority: 9 (config.json: /process/ioPriority/priority)"),
            Case::patch("an io class", process("ioPriority", json!({"class": "X", "priority": 1})))
                .fails("unknown variant `X`, expected one of * (config.json: /process/ioPriority/class)"),
            Case::patch("processors", process("execCPUAffinity", json!({"initial": "3-1"})))
                .fails("bad CPUAffinity.initial: not a list of processors (config.json: /process/execCPUAffinity/initial)"),
            Case::patch("no processors", process("execCPUAffinity", json!({"final": "x"})))
                .fails("Invalid execCPUAffinity format: x (config.json: /process/execCPUAffinity)"),
        ],
    );
}
