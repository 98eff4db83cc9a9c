//! Row 37: hooks that are missing, fail, take too long, or say too much.

use serde_json::{Value, json};

use super::case::{Case, check, refused, told};
use crate::harness::{Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![row_37_hooks, row_37_hooks_of_the_container];

fn hooks(kind: &str, hook: Value) -> Value {
    let mut patch = json!({"hooks": {}});
    patch["hooks"][kind] = Value::Array(vec![hook]);
    patch
}

fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

fn row_37_hooks(lab: &Lab) {
    let kind = "createRuntime";
    let mut slow = shell("exec sleep 60");
    slow["timeout"] = json!(1);
    let timeout = |seconds: i64| json!({"path": "/bin/true", "timeout": seconds});
    let loud = "i=0; while [ $i -lt 20 ]; do head -c 1048576 /dev/zero | tr '\\0' x >&2; i=$((i+1)); done; exit 1";
    check(
        lab,
        &[
            Case::patch("missing", hooks(kind, json!({"path": "/nope"})))
                .fails("error running createRuntime hook #0: starting \"/nope\" (config.json: /hooks/createRuntime/0): no such file or directory"),
            Case::patch("relative", hooks(kind, json!({"path": "true"})))
                .fails("hook path \"true\" must be absolute (config.json: /hooks/createRuntime/0/path)"),
            Case::patch("a directory", hooks(kind, json!({"path": "/etc"})))
                .fails("error running createRuntime hook #0: starting \"/etc\" (config.json: /hooks/createRuntime/0): permission denied"),
            Case::patch("fails", hooks(kind, shell("exit 1")))
                .fails("error running createRuntime hook #0: exit status 1 (config.json: /hooks/createRuntime/0)"),
            Case::patch("fails and says why", hooks(kind, shell("echo one; echo two >&2; exit 3")))
                .fails("error running createRuntime hook #0: exit status 3, output: \"one\\ntwo\" (config.json: /hooks/createRuntime/0)"),
            Case::patch("is killed", hooks(kind, shell("kill -9 $$")))
                .fails("error running createRuntime hook #0: signal: killed (config.json: /hooks/createRuntime/0)"),
            Case::patch("takes too long", hooks(kind, slow.clone()))
                .fails("error running createRuntime hook #0: hook ran past specified timeout of 1.0s (config.json: /hooks/createRuntime/0)"),
            Case::patch("no time", hooks(kind, timeout(0)))
                .fails("hook timeout 0 must be greater than zero (config.json: /hooks/createRuntime/0/timeout)"),
            Case::patch("less than no time", hooks(kind, timeout(-1)))
                .fails("hook timeout -1 must be greater than zero (config.json: /hooks/createRuntime/0/timeout)"),
            Case::patch("20 MB of output", hooks(kind, shell(loud)))
                .fails("error running createRuntime hook #0: exit status 1, output: \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" (config.json: /hooks/createRuntime/0)"),
            Case::patch("an environment without =", hooks(kind, json!({"path": "/bin/true", "env": ["A"]}))),
            Case::patch("prestart fails", hooks("prestart", shell("exit 2")))
                .fails("error running prestart hook #0: exit status 2 (config.json: /hooks/prestart/0)"),
            Case::patch("createContainer missing", hooks("createContainer", json!({"path": "/nope"})))
                .fails("error running createContainer hook #0: starting \"/nope\" (config.json: /hooks/createContainer/0): no such file or directory"),
            Case::patch("createContainer fails", hooks("createContainer", shell("echo why; exit 2")))
                .fails("error running createContainer hook #0: exit status 2, output: \"why\" (config.json: /hooks/createContainer/0)"),
            Case::patch("createContainer takes too long", hooks("createContainer", slow))
                .fails("error running createContainer hook #0: hook ran past its timeout (config.json: /hooks/createContainer/0)"),
            Case::patch("20 MB of createContainer", hooks("createContainer", shell(loud)))
                .fails("error running createContainer hook #0: exit status 1, output: \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" (config.json: /hooks/createContainer/0)"),
            Case::patch("poststart fails", hooks("poststart", shell("exit 2"))).at_run()
                .fails("error running poststart hook #0: exit status 2 (config.json: /hooks/poststart/0)"),
        ],
    );
}

fn row_37_hooks_of_the_container(lab: &Lab) {
    let probe = |arguments: &[&str]| json!({"path": "/bin/probe", "args": arguments});
    let mut slow = probe(&["probe", "sleep"]);
    slow["timeout"] = json!(1);
    check(
        lab,
        &[
            Case::patch("missing", hooks("startContainer", json!({"path": "/nope"}))).at_run()
                .fails("error running startContainer hook #0: starting \"/nope\" (config.json: /hooks/startContainer/0): no such file or directory"),
            Case::patch("fails", hooks("startContainer", probe(&["probe", "exit", "3"]))).at_run()
                .fails("error running startContainer hook #0: exit status 3 (config.json: /hooks/startContainer/0)"),
            Case::patch("takes too long", hooks("startContainer", slow)).at_run()
                .fails("error running startContainer hook #0: hook ran past its timeout (config.json: /hooks/startContainer/0)"),
        ],
    );
    // `start` tells the same.
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["hooks"] = json!({"startContainer": [probe(&["probe", "exit", "3"])]});
    lab.create(&bundle, "a", &[]).ok();
    let output = lab.on("a", &["start"], &[]);
    assert_eq!(
        refused(&output, 1),
        "error running startContainer hook #0: exit status 3 (config.json: /hooks/startContainer/0)"
    );
    lab.delete("a");
    // A poststop hook that fails is told, and the container is gone all the same.
    bundle.config["hooks"] = json!({"poststop": [shell("exit 3")]});
    lab.create(&bundle, "a", &[]).ok();
    let output = lab.on("a", &["delete", "--force"], &[]);
    assert_eq!(
        told(&output, "warning"),
        ["error running poststop hook #0: exit status 3 (config.json: /hooks/poststop/0)"]
    );
    output.ok();
    assert!(lab.on("a", &["state"], &[]).fails().contains("does not exist"));
}
