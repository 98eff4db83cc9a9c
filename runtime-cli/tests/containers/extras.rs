//! What the command line has beyond runc's, and crun has too.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Lab, Output, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    another_config_is_read,
    containers_are_chosen_by_a_pattern,
    a_wrong_pattern_is_refused,
    mounts_are_added_and_removed,
    mounts_that_fail_leave_none,
    what_keeps_proc_read_only_is_not_removed,
    mounts_of_nothing_are_refused,
];

fn another_config_is_read(lab: &Lab) {
    let mut bundle = lab.bundle(&["exit", "3"]);
    bundle.write();
    bundle.args(&["exit", "4"]);
    let other = lab.path("other.json");
    for path in [other.clone(), bundle.path.join("in-the-bundle.json")] {
        fs::write(path, bundle.config.to_string()).unwrap();
    }
    bundle.args(&["exit", "3"]);
    assert_eq!(lab.run(&bundle, "a", &[]).code, 3);
    for file in [other.to_str().unwrap(), "in-the-bundle.json"] {
        assert_eq!(lab.run(&bundle, "a", &["--config", file]).code, 4, "{file}");
    }
    // `exec` and all the others take it from there too.
    bundle.args(&["sleep"]);
    bundle.config["process"]["env"] = json!(["OF=the-other"]);
    fs::write(&other, bundle.config.to_string()).unwrap();
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
        let said = lab.runtime(&[verb, "--regex", ""]).fails();
        assert!(said.contains("the pattern is empty"), "{said}");
    }
}

/// `mounts ACTION` with this list.
pub(crate) fn mounts(lab: &Lab, action: &str, list: &Value) -> Output {
    let file = lab.path("mounts.json");
    fs::write(&file, json!({ "mounts": list }).to_string()).unwrap();
    lab.on("a", &["mounts", action], &[file.to_str().unwrap()])
}

fn bind(source: &Path, at: &str, options: &[&str]) -> Value {
    json!({ "destination": at, "type": "bind", "source": source, "options": options })
}

fn mounts_are_added_and_removed(lab: &Lab) {
    let (source, file) = (lab.path("source"), lab.path("file"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("inside"), "of the tree").unwrap();
    fs::write(&file, "of the file").unwrap();
    for user_namespace in [false, true] {
        let mut bundle = lab.bundle(&["sleep"]);
        bundle.config["root"]["readonly"] = json!(false);
        // What a container may do with its own root.
        symlink("/etc", bundle.rootfs().join("tmp/link")).unwrap();
        if user_namespace {
            bundle.user_namespace();
            // Its root may make nothing in a root that is not its own.
            fs::create_dir(bundle.rootfs().join("etc/new")).unwrap();
            fs::write(bundle.rootfs().join("etc/new/file"), "").unwrap();
            fs::create_dir(bundle.rootfs().join("tmp/fs")).unwrap();
        }
        lab.run(&bundle, "a", &["--detach"]).ok();
        let list = json!([
            bind(&source, "/work", &["bind", "ro"]),
            bind(&file, "/tmp/link/new/file", &["bind"]),
            { "destination": "/tmp/fs", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"] },
        ]);
        mounts(lab, "add", &list).ok();
        let seen = ["cat", "/work/inside", "/etc/new/file"];
        assert_eq!(lab.exec("a", &[], &seen).ok(), "of the treeof the file");
        let written = lab.exec("a", &[], &["write-each", "x", "/work/y", "/tmp/fs/y"]).ok();
        assert_eq!(written, "/work/y EROFS\n/tmp/fs/y ok\n");
        // Not by a link: the container could have one that leads to its /proc.
        let said = mounts(lab, "remove", &list).fails();
        assert!(said.contains("too many levels of symbolic links"), "{said}");
        let real = json!([{ "destination": "/work" }, { "destination": "/etc/new/file" }]);
        mounts(lab, "remove", &real).ok();
        let table = lab.exec("a", &[], &["cat", "/proc/1/mountinfo"]).ok();
        let left = |at: &str| table.lines().any(|line| line.split(' ').nth(4) == Some(at));
        assert!(!left("/work") && !left("/etc/new/file") && !left("/tmp/fs"), "{table}");
        let said = mounts(lab, "remove", &list).fails();
        assert!(said.starts_with("unmounting \"/tmp/fs\": "), "{said}");
        assert!(said.contains("(config.json: /mounts/2/destination): invalid argument"), "{said}");
        lab.delete("a");
    }
}

fn what_keeps_proc_read_only_is_not_removed(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/kcore"]);
    for (name, to) in [("sys", "/proc/sys"), ("kcore", "/proc/kcore"), ("proc", "/proc")] {
        symlink(to, bundle.rootfs().join("tmp").join(name)).unwrap();
    }
    lab.run(&bundle, "a", &["--detach"]).ok();
    let table = || lab.exec("a", &[], &["cat", "/proc/1/mountinfo"]).ok();
    let before = table();
    for at in ["/tmp/sys", "/tmp/kcore", "/tmp/proc", "/tmp/proc/sys", "/proc/sys", "/proc"] {
        mounts(lab, "remove", &json!([{ "destination": at }])).fails();
        assert_eq!(table(), before, "{at}");
    }
    lab.delete("a");
}

fn mounts_that_fail_leave_none(lab: &Lab) {
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let table = || lab.exec("a", &[], &["cat", "/proc/1/mountinfo"]).ok().lines().count();
    let before = table();
    let tmpfs = |at: &str, options: &[&str]| json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": options });
    for (list, words) in [
        (json!([tmpfs("/work", &[]), tmpfs("/tmp", &["no=such"])]), "(config.json: /mounts/1)"),
        (json!([tmpfs("/work", &[]), bind("/no/such".as_ref(), "/tmp", &["bind"])]), "/mounts/1"),
        (json!([tmpfs("/work", &[]), tmpfs("/", &[])]), "is the root itself"),
        (json!([tmpfs("/proc/x", &[])]), "is inside \"/proc\""),
    ] {
        let said = mounts(lab, "add", &list).fails();
        assert!(said.contains(words), "{said}");
        assert_eq!(table(), before, "{said}");
    }
    lab.delete("a");
}

fn mounts_of_nothing_are_refused(lab: &Lab) {
    let none = json!([]);
    assert!(mounts(lab, "add", &none).fails().contains("does not exist"));
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    mounts(lab, "add", &none).ok();
    let said = mounts(lab, "change", &none).fails();
    assert!(said.contains("neither add nor remove"), "{said}");
    let said = lab.on("a", &["mounts", "add"], &["/no/such.json"]).fails();
    assert!(said.contains("reading \"/no/such.json\": no such file"), "{said}");
    lab.on("a", &["pause"], &[]).ok();
    assert!(mounts(lab, "add", &none).fails().contains("paused"));
    lab.delete("a");
}
