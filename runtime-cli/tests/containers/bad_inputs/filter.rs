//! Rows 34 and 35: seccomp profiles that are wrong, and those that forbid too much.

use serde_json::{Value, json};

use super::case::{Case, check, refused};
use crate::harness::{Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] =
    tests![row_34_profiles, row_35_listeners, row_35_nothing_is_allowed];

const FORBIDDEN: &str =
    "the profile forbids execve, by which the program is started (config.json: /linux/seccomp)";

fn seccomp(value: Value) -> Value {
    let mut patch = json!({"linux": {}});
    patch["linux"]["seccomp"] = value;
    patch
}

fn rule(rule: Value) -> Value {
    let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    profile["syscalls"] = Value::Array(vec![rule]);
    seccomp(profile)
}

fn row_34_profiles(lab: &Lab) {
    let compare = |index: u32, op: &str| {
        rule(json!({
            "names": ["mkdirat"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": index, "value": 1, "op": op}],
        }))
    };
    let with = |field: &str, value: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        profile[field] = value;
        seccomp(profile)
    };
    check(
        lab,
        &[
            Case::patch("an unknown call", rule(json!({"names": ["foo"], "action": "SCMP_ACT_KILL"})))
                .warns(&["/linux/seccomp: ignoring unknown system calls \"foo\""]),
            Case::patch("an empty name", rule(json!({"names": [""], "action": "SCMP_ACT_KILL"})))
                .fails("empty string is not a valid syscall (config.json: /linux/seccomp/syscalls/0/names/0)"),
            Case::patch("an action", rule(json!({"names": ["mkdirat"], "action": "SCMP_ACT_FOO"})))
                .fails("unknown variant `SCMP_ACT_FOO`, expected one of * (config.json: /linux/seccomp/syscalls/0/action)"),
            Case::patch("a default", seccomp(json!({"defaultAction": "FOO"})))
                .fails("unknown variant `FOO`, expected one of * (config.json: /linux/seccomp/defaultAction)"),
            Case::patch("nothing", seccomp(json!({})))
                .fails("missing field `defaultAction` (config.json: /linux/seccomp)"),
            Case::patch("no default", seccomp(json!({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]})))
                .fails("missing field `defaultAction` (config.json: /linux/seccomp)"),
            Case::patch("an architecture", with("architectures", json!(["SCMP_ARCH_FOO"])))
                .fails("unknown variant `SCMP_ARCH_FOO`, expected one of * (config.json: /linux/seccomp/architectures/0)"),
            Case::patch("a flag", with("flags", json!(["SECCOMP_FILTER_FLAG_FOO"])))
                .fails("unknown variant `SECCOMP_FILTER_FLAG_FOO`, expected one of * (config.json: /linux/seccomp/flags/0)"),
            Case::patch("an operator", compare(0, "SCMP_CMP_FOO"))
                .fails("unknown variant `SCMP_CMP_FOO`, expected one of * (config.json: /linux/seccomp/syscalls/0/args/0/op)"),
            Case::patch("an argument", compare(7, "SCMP_CMP_EQ"))
                .fails("system calls only have up to 6 arguments (7 given) (config.json: /linux/seccomp/syscalls/0/args/0/index)"),
            Case::patch(
                "an errno",
                rule(json!({"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000})),
            )
            .fails("5000 is above 4095, the largest for SCMP_ACT_ERRNO (config.json: /linux/seccomp/syscalls/0/errnoRet)"),
        ],
    );
}

fn row_35_listeners(lab: &Lab) {
    let notify = |name: &str| json!({"names": [name], "action": "SCMP_ACT_NOTIFY"});
    let listen = |name: &str, path: &str| {
        seccomp(json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "syscalls": [notify(name)],
        }))
    };
    check(
        lab,
        &[
            Case::patch("no listener", rule(notify("mkdirat")))
                .fails("seccomp listenerPath is not set (config.json: /linux/seccomp/listenerPath)"),
            Case::patch("a listener that is missing", listen("mkdirat", "/proc/nope"))
                .fails("failed to connect with seccomp agent \"/proc/nope\": no such file or directory"),
            Case::patch("a listener that is a file", listen("mkdirat", "/etc/passwd"))
                .fails("failed to connect with seccomp agent \"/etc/passwd\": connection refused"),
            Case::patch("a relative listener", listen("mkdirat", "nope"))
                .fails("seccomp listenerPath \"nope\" must be absolute (config.json: /linux/seccomp/listenerPath)"),
            Case::patch("write", listen("write", "/proc/nope"))
                .fails("SCMP_ACT_NOTIFY cannot be used for the write syscall (config.json: /linux/seccomp/syscalls/0/names/0)"),
            Case::patch(
                "every call",
                seccomp(json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/proc/nope"})),
            )
            .fails("SCMP_ACT_NOTIFY cannot be the default action (config.json: /linux/seccomp/defaultAction)"),
        ],
    );
}

/// Neither `create` nor `start` nor `run` may hang: each has its deadline. Without
/// no_new_privs the filter is in force while the container is made; with it, only for the
/// program. What keeps every program from being executed is refused before. A tracer
/// might allow it.
fn row_35_nothing_is_allowed(lab: &Lab) {
    let actions = [
        ("SCMP_ACT_ERRNO", "illegal instruction"),
        ("SCMP_ACT_TRACE", "illegal instruction"),
        ("SCMP_ACT_TRAP", "bad system call"),
        ("SCMP_ACT_KILL", "bad system call"),
        ("SCMP_ACT_KILL_PROCESS", "bad system call"),
    ];
    for (action, signal) in actions {
        let mut bundle = lab.bundle(&["exit", "0"]);
        bundle.config["linux"]["seccomp"] = json!({ "defaultAction": action });
        if action == "SCMP_ACT_TRACE" {
            assert_eq!(lab.run(&bundle, "a", &[]).code, 132);
            lab.create(&bundle, "a", &[]).ok();
            lab.on("a", &["start"], &[]).ok();
            until("its end", || lab.status("a") == "stopped");
            lab.on("a", &["delete"], &[]).ok();
        } else {
            for privileges in [false, true] {
                bundle.config["process"]["noNewPrivileges"] = json!(privileges);
                for verb in ["create", "run"] {
                    let output = lab.begin(lab.start_of(verb, &bundle, "a", &[])).end();
                    let wanted = format!("orlop {verb} failed: {FORBIDDEN}");
                    assert_eq!(refused(&output, 1), wanted);
                }
            }
        }

        let rule = json!({ "names": ["execve"], "action": "SCMP_ACT_ALLOW" });
        bundle.config["linux"]["seccomp"]["syscalls"] = json!([rule]);
        bundle.config["process"]["noNewPrivileges"] = json!(false);
        for verb in ["create", "run"] {
            let output = lab.begin(lab.start_of(verb, &bundle, "a", &[])).end();
            assert_eq!(
                refused(&output, 1),
                format!(
                    "orlop {verb} failed: the init process died before it was ready: signal: \
                     {signal} (the seccomp profile may forbid what it still had to do)"
                )
            );
            lab.delete("a");
        }
    }
}
