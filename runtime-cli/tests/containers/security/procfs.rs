//! /proc and /sys that are not the kernel's, and what is written there.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::harness::{Bundle, Lab, Test, View, tests};

pub(crate) const TESTS: &[Test] = tests![
    proc_and_sys_are_no_links,
    nothing_covers_proc,
    a_link_leads_nothing_into_proc,
    parameters_are_written_to_the_kernel,
    names_lead_nowhere_else,
];

// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: the image's /proc
// was a link into a volume that two containers shared.
fn proc_and_sys_are_no_links(lab: &Lab) {
    for name in ["proc", "sys"] {
        for to in ["/work", "work", "/nope", "../../../../tmp", name] {
            let bundle = lab.bundle(&["exit", "0"]);
            fs::remove_dir(bundle.rootfs().join(name)).unwrap();
            symlink(to, bundle.rootfs().join(name)).unwrap();
            let said = lab.run(&bundle, "a", &[]).fails();
            assert!(said.contains(&format!("on \"/{name}\"")), "{to}: {said}");
            lab.delete("a");
            assert!(fs::read_dir(bundle.rootfs().join("work")).unwrap().next().is_none());
        }
    }
}

// CVE-2019-16884, CVE-2025-52881: a volume over /proc took the place of the files
// that the runtime writes.
fn nothing_covers_proc(lab: &Lab) {
    let decoy = lab.path("decoy");
    fs::create_dir_all(decoy.join("kernel")).unwrap();
    fs::write(decoy.join("kernel/shmmni"), "decoy\n").unwrap();
    let source = decoy.to_str().unwrap();
    for at in
        ["/proc", "/proc/self", "/proc/sys", "/proc/self/attr", "/proc/1/attr", "/proc/sys/kernel"]
    {
        for kind in ["tmpfs", "bind"] {
            let mut bundle = lab.bundle(&["exit", "0"]);
            bundle.config["linux"]["sysctl"] = json!({"kernel.shmmni": "123"});
            bundle.mount(at, kind, source, if kind == "bind" { &["bind"] } else { &[] });
            let said = lab.run(&bundle, "a", &[]).fails();
            let words = match (at, kind) {
                ("/proc", "tmpfs") => "only a procfs may be mounted on \"/proc\"".to_owned(),
                ("/proc", _) => "cannot be mounted because it is not of type proc".to_owned(),
                _ => format!("the mount point {at:?} is inside \"/proc\""),
            };
            assert!(said.contains(&words), "{at} {kind}: {said}");
            lab.delete("a");
        }
    }
    assert_eq!(fs::read_to_string(decoy.join("kernel/shmmni")).unwrap(), "decoy\n");
}

fn a_link_leads_nothing_into_proc(lab: &Lab) {
    for to in ["/proc/sys/kernel", "/proc/self/attr", "/proc/1", "../proc/sys", "/proc"] {
        let mut bundle = lab.bundle(&["exit", "0"]);
        symlink(to, bundle.rootfs().join("work/link")).unwrap();
        bundle.mount("/work/link", "tmpfs", "tmpfs", &[]);
        let said = lab.run(&bundle, "a", &[]).fails();
        assert!(said.contains("\"/work/link\""), "{to}: {said}");
        lab.delete("a");
    }
}

fn shmmni(bundle: &mut Bundle) {
    bundle.config["linux"]["sysctl"] = json!({"kernel.shmmni": "123"});
}

fn parameters_are_written_to_the_kernel(lab: &Lab) {
    let mut bundle = lab.bundle(&["cat", "/proc/sys/kernel/shmmni"]);
    shmmni(&mut bundle);
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "123\n");

    // Nor is the image's /proc written to where none is mounted.
    let mut bundle = lab.bundle(&["cat", "/proc/sys/kernel/shmmni"]);
    shmmni(&mut bundle);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/proc");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    fs::create_dir_all(bundle.rootfs().join("proc/sys/kernel")).unwrap();
    fs::write(bundle.rootfs().join("proc/sys/kernel/shmmni"), "decoy\n").unwrap();
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "decoy\n");
}

// GHSA-5g49-rx9x-qfc6 and CRI-O's CVE-2022-0811: a name became a path, a value two
// parameters.
fn names_lead_nowhere_else(lab: &Lab) {
    let pages = |size: &str| json!([{"pageSize": size, "limit": 1}]);
    let no_size = "is not a number with KB, MB or GB";
    let no_name = if lab.view.is_v2() { "must be a file name" } else { "on cgroup v1" };
    for (field, value, words) in [
        ("hugepageLimits", pages("../../x"), no_size),
        ("hugepageLimits", pages("2MB/../../x"), no_size),
        ("hugepageLimits", pages(""), no_size),
        ("unified", json!({"../cgroup.procs": "1"}), no_name),
        ("unified", json!({"a/b.max": "1"}), no_name),
        ("unified", json!({"..": "1"}), ""),
    ] {
        let mut bundle = lab.bundle(&["exit", "0"]);
        bundle.config["linux"]["resources"][field] = value.clone();
        let said = lab.run(&bundle, "a", &[]).fails();
        let well = said.contains(&format!("/linux/resources/{field}")) && said.contains(words);
        assert!(well, "{value}: {said}");
    }
    for key in ["net/../kernel/shmmni", "net.../kernel.shmmni", "../kernel/shmmni", "net.ipv4/../x"]
    {
        let mut bundle = lab.bundle(&["exit", "0"]);
        bundle.config["linux"]["sysctl"] = json!({key: "123"});
        let said = lab.run(&bundle, "a", &[]).fails();
        assert!(said.contains("/linux/sysctl/"), "{key}: {said}");
    }
    if lab.view == View::Systemd {
        return; // a unit's name has no path in it
    }
    // One that begins above the hierarchy is at its top.
    let mut bundle = lab.bundle(&["sleep"]);
    let path = format!("/../../../..{}/../{}", lab.folder().display(), lab.id("a"));
    bundle.config["linux"]["cgroupsPath"] = json!(path);
    lab.create(&bundle, "a", &[]).ok();
    let own = fs::read_to_string(format!("/proc/{}/cgroup", lab.state("a")["pid"])).unwrap();
    let parent = lab.folder().parent().unwrap().display().to_string();
    assert!(own.lines().any(|line| line.ends_with(&format!(":{parent}/{}", lab.id("a")))), "{own}");
    assert!(!own.contains(".."), "{own}");
    assert!(!lab.folder().parent().unwrap().join(lab.id("a")).exists());
    lab.delete("a");
    for group in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        // Made on the way; nobody else's, and empty.
        let _ = fs::remove_dir(format!("{group}{parent}"));
    }
}
