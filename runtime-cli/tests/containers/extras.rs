//! What the command line has beyond runc's, and crun has too.

use serde_json::json;

use crate::harness::{Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] =
    tests![another_config_is_read, containers_are_chosen_by_a_pattern, a_wrong_pattern_is_refused];

fn another_config_is_read(lab: &Lab) {
    let mut bundle = lab.bundle(&["exit", "3"]);
    bundle.write();
    bundle.args(&["exit", "4"]);
    let other = lab.path("other.json");
    for path in [other.clone(), bundle.path.join("in-the-bundle.json")] {
        std::fs::write(path, bundle.config.to_string()).unwrap();
    }
    bundle.args(&["exit", "3"]);
    assert_eq!(lab.run(&bundle, "a", &[]).code, 3);
    for file in [other.to_str().unwrap(), "in-the-bundle.json"] {
        assert_eq!(lab.run(&bundle, "a", &["--config", file]).code, 4, "{file}");
    }
    // `exec` and all the others take it from there too.
    bundle.args(&["sleep"]);
    bundle.config["process"]["env"] = json!(["OF=the-other"]);
    std::fs::write(&other, bundle.config.to_string()).unwrap();
    bundle.config["process"]["env"] = json!(["OF=the-bundle"]);
    lab.create(&bundle, "a", &["-f", other.to_str().unwrap()]).ok();
    assert_eq!(lab.exec("a", &[], &["env"]).ok().lines().next(), Some("OF=the-other"));
    lab.delete("a");
    let said = lab.create(&bundle, "a", &["--config", "/no/such.json"]).fails();
    assert!(said.contains("opening \"/no/such.json\": no such file"), "{said}");
}

fn containers_are_chosen_by_a_pattern(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    for name in ["box-1", "box-2", "other"] {
        lab.run(&bundle, name, &["--detach"]).ok();
    }
    let pattern = format!("^{}-box-[0-9]$", lab.tag());
    // Each is told, and none keeps another.
    let out = lab.runtime(&["delete", "--regex", &pattern]);
    let warned = out.stderr.clone();
    let said = out.fails();
    assert!(said.contains("2 of 2 containers failed: container "), "{said}");
    let refused = |name| format!("cannot delete container {} that is not stopped", lab.id(name));
    assert!(said.contains(&refused("box-2")), "{said}");
    assert!(warned.contains(&refused("box-1")), "{warned}");
    lab.runtime(&["kill", "--regex", &pattern, "KILL"]).ok();
    for name in ["box-1", "box-2"] {
        until("its end", || lab.status(name) == "stopped");
    }
    assert_eq!(lab.status("other"), "running");
    lab.runtime(&["delete", "-r", &pattern]).ok();
    assert_eq!(lab.runtime(&["list", "-q"]).ok(), format!("{}\n", lab.id("other")));
    lab.runtime(&["delete", "-r", "no such thing"]).ok();
    lab.runtime(&["delete", "-f", "-r", lab.tag()]).ok();
    assert_eq!(lab.runtime(&["list", "-q"]).ok(), "");
}

fn a_wrong_pattern_is_refused(lab: &Lab) {
    for verb in ["kill", "delete"] {
        let said = lab.runtime(&[verb, "--regex", "a("]).fails();
        assert!(said.contains("the pattern \"a(\": "), "{said}");
    }
}
