//! Seccomp: what a filter does to the process that it was made for.

use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::harness::{Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    an_error_is_answered,
    a_process_is_killed,
    an_agent_gets_the_listener,
    killing_everything_does_not_hang,
];

fn filter(action: &str, rules: &[(&[&str], Value)]) -> Value {
    let syscalls: Vec<_> = rules
        .iter()
        .map(|(names, rest)| {
            let mut rule = json!({ "names": names });
            rule.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            rule
        })
        .collect();
    json!({ "defaultAction": action, "syscalls": syscalls })
}

fn an_error_is_answered(lab: &Lab) {
    let mut bundle = lab.bundle(&["try", "mkdir", "sethostname", "chroot"]);
    bundle.mount("/tmp", "tmpfs", "tmpfs", &[]);
    bundle.config["linux"]["seccomp"] = filter(
        "SCMP_ACT_ALLOW",
        &[
            (&["mkdir", "mkdirat"], json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 95 })),
            (&["sethostname"], json!({ "action": "SCMP_ACT_ERRNO" })),
            (&["chroot"], json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 2 })),
        ],
    );
    let text = lab.run(&bundle, "a", &[]).ok();
    assert_eq!(text, "mkdir EOPNOTSUPP\nsethostname EPERM\nchroot ENOENT\n");
}

fn a_process_is_killed(lab: &Lab) {
    for (action, code) in [("SCMP_ACT_KILL_PROCESS", 128 + 31), ("SCMP_ACT_KILL", 128 + 31)] {
        let mut bundle = lab.bundle(&["try", "chroot"]);
        bundle.config["linux"]["seccomp"] =
            filter("SCMP_ACT_ALLOW", &[(&["chroot"], json!({ "action": action }))]);
        lab.run(&bundle, "a", &[]).ends(code);
    }
}

fn an_agent_gets_the_listener(lab: &Lab) {
    let socket = lab.path("agent");
    let agent = UnixListener::bind(&socket).unwrap();
    agent.set_nonblocking(true).unwrap();
    let mut bundle = lab.bundle(&["try", "mkdir"]);
    let mut seccomp = filter(
        "SCMP_ACT_ALLOW",
        &[(&["mkdir", "mkdirat"], json!({ "action": "SCMP_ACT_NOTIFY" }))],
    );
    seccomp["listenerPath"] = json!(socket);
    seccomp["listenerMetadata"] = json!("what the agent wants");
    bundle.config["linux"]["seccomp"] = seccomp;
    let running = lab.begin(lab.start_of("run", &bundle, "a", &[]));
    let mut listener = None;
    until("the listener", || {
        let Ok((stream, _)) = agent.accept() else { return false };
        stream.set_nonblocking(false).unwrap();
        listener =
            Some(orlop::launch::receive_terminal(std::os::fd::AsFd::as_fd(&stream)).unwrap());
        true
    });
    let fd = std::os::fd::AsRawFd::as_raw_fd(listener.as_ref().unwrap());
    let what = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    assert_eq!(what.to_str(), Some("anon_inode:seccomp notify"));
    // Without an agent the kernel answers (seccomp_unotify(2)).
    drop(listener);
    assert_eq!(running.end().ok(), "mkdir ENOSYS\n");
}

fn killing_everything_does_not_hang(lab: &Lab) {
    let mut bundle = lab.bundle(&["exit", "0"]);
    bundle.config["linux"]["seccomp"] = filter("SCMP_ACT_KILL_PROCESS", &[]);
    let output = lab.run(&bundle, "a", &[]);
    assert_ne!(output.code, 0, "{output:?}");
}
