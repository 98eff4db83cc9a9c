//! What is refused, and where it says so.

use orlop::compile::seccomp::{Machine, compile, compile_for};
use serde_json::{Value, json};

/// The errors of a profile, as a person reads them.
fn errors(profile: Value) -> Vec<String> {
    let seccomp = serde_json::from_value(profile).unwrap();
    let errors = compile(&seccomp, "/linux/seccomp").unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn all_that_is_wrong_is_told_with_its_place() {
    let good = json!({ "index": 5, "value": 1, "op": "SCMP_CMP_EQ" });
    let profile = json!({
        "defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1,
        "syscalls": [
            { "names": ["read", ""], "action": "SCMP_ACT_ALLOW" },
            { "names": ["dup"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1 },
            { "names": ["dup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096 },
            { "names": ["dup"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536, "args": [
                good, { "index": 7, "value": 1, "op": "SCMP_CMP_EQ" },
            ] },
            { "names": [], "action": "SCMP_ACT_ERRNO" },
        ],
        "listenerMetadata": "for nobody",
    });
    let at = "(config.json: /linux/seccomp";
    assert_eq!(
        errors(profile),
        [
            format!("SCMP_ACT_KILL does not take an errno {at}/defaultErrnoRet)"),
            format!("empty string is not a valid syscall {at}/syscalls/0/names/1)"),
            format!("SCMP_ACT_ALLOW does not take an errno {at}/syscalls/1/errnoRet)"),
            format!("4096 is above 4095, the largest for SCMP_ACT_ERRNO {at}/syscalls/2/errnoRet)"),
            format!(
                "65536 is above 65535, the largest for SCMP_ACT_TRACE {at}/syscalls/3/errnoRet)"
            ),
            format!(
                "system calls only have up to 6 arguments (7 given) {at}/syscalls/3/args/1/index)"
            ),
            format!("a rule needs the name of a system call {at}/syscalls/4/names)"),
            format!("seccomp listenerPath is not set {at}/listenerMetadata)"),
        ]
    );
}

#[test]
fn notify_needs_a_listener_and_leaves_the_start_alone() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_NOTIFY",
        "syscalls": [
            { "names": ["mkdir", "write"], "action": "SCMP_ACT_NOTIFY" },
            { "names": ["read"], "action": "SCMP_ACT_NOTIFY",
              "args": [{ "index": 0, "value": 9, "op": "SCMP_CMP_EQ" }] },
        ],
    });
    let at = "(config.json: /linux/seccomp";
    assert_eq!(
        errors(profile),
        [
            format!("SCMP_ACT_NOTIFY cannot be the default action {at}/defaultAction)"),
            format!(
                "SCMP_ACT_NOTIFY cannot be used for the write syscall {at}/syscalls/0/names/1)"
            ),
            format!("seccomp listenerPath is not set {at}/listenerPath)"),
        ]
    );
}

#[test]
fn a_profile_that_does_not_fit_is_refused() {
    // Each rule is a comparison and an answer of its own: thousands of instructions.
    let rules: Vec<_> = (0..1500)
        .map(|n| {
            json!({ "names": ["dup"], "action": "SCMP_ACT_ERRNO", "errnoRet": n + 2,
                "args": [{ "index": 0, "value": n, "op": "SCMP_CMP_EQ" }] })
        })
        .collect();
    let mut profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
    assert_eq!(
        errors(profile.clone()),
        ["the seccomp profile needs more than 4096 BPF instructions (config.json: /linux/seccomp)"]
    );
    profile["syscalls"].as_array_mut().unwrap().truncate(800);
    let seccomp = serde_json::from_value(profile).unwrap();
    assert!(compile_for(Machine::X86_64, &seccomp, "/linux/seccomp").is_ok());
}

#[test]
fn a_huge_profile_is_refused_in_time() {
    let rules: Vec<_> = (0..40_000)
        .map(|n| {
            json!({ "names": ["dup", "dup2"], "action": "SCMP_ACT_TRACE", "errnoRet": n,
                "args": [{ "index": 0, "value": n, "op": "SCMP_CMP_EQ" }] })
        })
        .collect();
    let start = std::time::Instant::now();
    let errors = errors(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules }));
    assert_eq!(errors.len(), 1);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}
