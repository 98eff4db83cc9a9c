//! Mounts of a running container: whose they are, and all or none of them.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use crate::extras::mounts;
use crate::harness::{Lab, Output, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    what_somebody_else_has_mounted_is_not_removed,
    a_mount_of_the_config_is_removed_by_whatever_name,
    what_hides_a_path_is_not_removed,
    a_mount_by_a_link_is_taken_back,
    cgroups_of_v1_are_mounted_all_or_none,
    what_cannot_be_kept_is_not_changed,
    as_many_are_added_as_can_be_held,
];

/// How many mounts the stage can hold.
pub(crate) const MOST: usize = 768;

/// A command to its end, with the descriptors that a process has by default.
pub(crate) fn with_usual_descriptors(runtime: &Command, lab: &Lab) -> Output {
    let mut command = Command::new("prlimit");
    command.arg("--nofile=1024:1024").arg(runtime.get_program()).args(runtime.get_args());
    command.envs(runtime.get_envs().filter_map(|(name, value)| Some((name, value?))));
    lab.begin(command).end()
}

fn table(lab: &Lab) -> String {
    lab.exec("a", &[], &["cat", "/proc/1/mountinfo"]).ok()
}

fn count(lab: &Lab, at: &str) -> usize {
    table(lab).lines().filter(|line| line.split(' ').nth(4) == Some(at)).count()
}

fn tmpfs(at: &str) -> Value {
    json!({ "destination": at, "type": "tmpfs", "source": "tmpfs" })
}

/// Does something in the container's mount namespace.
fn inside(lab: &Lab, act: impl FnOnce() + Send) {
    let namespace = File::open(format!("/proc/{}/ns/mnt", lab.state("a")["pid"])).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS).unwrap();
            setns(&namespace, CloneFlags::CLONE_NEWNS).unwrap();
            act();
        });
        thread.join().unwrap();
    });
}

fn mount_tmpfs(at: &str, options: &str) {
    mount(Some("other"), at, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
}

fn what_somebody_else_has_mounted_is_not_removed(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.mount("/work", "tmpfs", "tmpfs", &[]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    mounts(lab, "add", &json!([tmpfs("/tmp")])).ok();
    let refused = |at: &str| {
        let before = table(lab);
        let said = mounts(lab, "remove", &json!([{ "destination": at }])).fails();
        assert!(said.contains("neither of the config nor of `mounts add`"), "{said}");
        assert!(said.contains("(config.json: /mounts/0/destination)"), "{said}");
        assert_eq!(table(lab), before);
    };
    for at in ["/work", "/tmp"] {
        // Over ours, then in its place, then without us.
        inside(lab, || mount_tmpfs(at, "size=4k"));
        refused(at);
        inside(lab, || umount2(at, MntFlags::empty()).unwrap());
        inside(lab, || {
            umount2(at, MntFlags::empty()).unwrap();
            mount_tmpfs(at, "size=4k");
        });
        refused(at);
    }
    lab.delete("a");
}

fn a_mount_of_the_config_is_removed_by_whatever_name(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    std::os::unix::fs::symlink("/work", bundle.rootfs().join("tmp/link")).unwrap();
    bundle.mount("/tmp/link", "tmpfs", "tmpfs", &[]);
    bundle.mount("/etc", "tmpfs", "tmpfs", &[]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    // Twice at one place, and both go.
    mounts(lab, "add", &json!([tmpfs("/work"), tmpfs("/work")])).ok();
    assert_eq!(count(lab, "/work"), 3);
    let list = json!([{ "destination": "/work" }, { "destination": "/work" }]);
    mounts(lab, "remove", &list).ok();
    assert_eq!(count(lab, "/work"), 1);
    // What comes after the one that fails is done, and known.
    let said =
        mounts(lab, "remove", &json!([{ "destination": "/bin" }, { "destination": "/work" }]));
    let said = said.fails();
    assert!(said.contains("(config.json: /mounts/0/destination)"), "{said}");
    assert_eq!((count(lab, "/work"), count(lab, "/etc")), (0, 1));
    let kept = lab.root().join(lab.id("a"));
    let config = fs::read_to_string(kept.join("config.json")).unwrap();
    assert!(!config.contains("/tmp/link") && config.contains("/etc"), "{config}");
    mounts(lab, "remove", &json!([{ "destination": "/etc" }])).ok();
    let again = mounts(lab, "remove", &json!([{ "destination": "/etc" }])).fails();
    assert!(again.ends_with("(nothing is mounted there)"), "{again}");
    assert_eq!(count(lab, "/etc"), 0);
    lab.delete("a");
}

fn what_hides_a_path_is_not_removed(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.mount("/work", "tmpfs", "tmpfs", &[]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/work"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/etc", "/proc/kcore"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let before = table(lab);
    for at in ["/work", "/etc", "/proc/kcore"] {
        mounts(lab, "remove", &json!([{ "destination": at }])).fails();
        assert_eq!(table(lab), before, "{at}");
    }
    lab.delete("a");
}

fn a_mount_by_a_link_is_taken_back(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    std::os::unix::fs::symlink("/work", bundle.rootfs().join("tmp/link")).unwrap();
    fs::write(bundle.rootfs().join("etc/file"), "").unwrap();
    let file = lab.path("file");
    fs::write(&file, "").unwrap();
    lab.run(&bundle, "a", &["--detach"]).ok();
    let before = table(lab);
    let of_file =
        json!({ "destination": "/etc/file", "type": "bind", "source": file, "options": ["bind"] });
    let list = json!([tmpfs("/tmp/link"), of_file, tmpfs("/etc/file")]);
    let said = mounts(lab, "add", &list).fails();
    assert!(said.contains("(config.json: /mounts/2)"), "{said}");
    assert_eq!(table(lab), before);
    lab.delete("a");
}

fn cgroups_of_v1_are_mounted_all_or_none(lab: &Lab) {
    if lab.view.is_v2() {
        lab.skip("needs cgroup v1");
    }
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.mount("/work", "tmpfs", "tmpfs", &[]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let before = table(lab);
    let list = |at: &str| json!([{ "destination": at, "type": "cgroup", "source": "cgroup" }]);
    mounts(lab, "add", &list("/work/cgroup")).ok();
    assert!(table(lab).lines().count() > before.lines().count() + 2);
    mounts(lab, "remove", &list("/work/cgroup")).ok();
    assert_eq!(table(lab), before);
    // Room for the path of what they are mounted on, but not of those with longer names.
    let most = 4095 - "/cpuset".len();
    let mut at = "/work".to_owned();
    while at.len() < most {
        let length = (most - at.len() - 1).min(200);
        at = format!("{at}/{}", "x".repeat(length));
        if most - at.len() == 1 {
            break;
        }
    }
    let said = mounts(lab, "add", &list(&at)).fails();
    assert!(said.contains("file name too long"), "{said}");
    assert_eq!(table(lab), before);
    lab.delete("a");
}

fn what_cannot_be_kept_is_not_changed(lab: &Lab) {
    fs::create_dir(lab.root()).unwrap();
    mount(Some("small"), &lab.root(), Some("tmpfs"), MsFlags::empty(), Some("size=128k")).unwrap();
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.mount("/work", "tmpfs", "tmpfs", &[]);
    for set in ["bounding", "permitted", "effective"] {
        bundle.config["process"]["capabilities"][set] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
    }
    bundle.config["process"]["capabilities"]["ambient"] = json!([]);
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["nosuid"]);
    let all = json!({ "allow": false, "access": "rwm" });
    bundle.config["linux"]["resources"] = json!({ "devices": [all] });
    lab.run(&bundle, "a", &["--detach"]).ok();
    let before = table(lab);
    let filler = lab.root().join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let (added, removed) = (json!([tmpfs("/etc")]), json!([{ "destination": "/work" }]));
    let rules = lab.path("resources.json");
    let kmsg = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" });
    fs::write(&rules, json!({ "devices": [all, kmsg] }).to_string()).unwrap();
    let update = || lab.on("a", &["update", "--resources", rules.to_str().unwrap()], &[]);
    let open = || {
        let text = lab.exec("a", &[], &["try", "mknod", "open-node"]).ok();
        text.contains("open-node ok")
    };
    for full in [true, false] {
        if full {
            for said in [mounts(lab, "add", &added), mounts(lab, "remove", &removed), update()] {
                let said = said.fails();
                assert!(said.contains("no space left on device"), "{said}");
            }
            assert_eq!((table(lab), open()), (before.clone(), false));
            fs::remove_file(&filler).unwrap();
            continue;
        }
        update().ok();
        assert!(open());
        mounts(lab, "add", &added).ok();
        mounts(lab, "remove", &removed).ok();
        assert_eq!((count(lab, "/etc"), count(lab, "/work")), (1, 0));
    }
    lab.delete("a");
    umount2(&lab.root(), MntFlags::MNT_DETACH).unwrap();
}

fn as_many_are_added_as_can_be_held(lab: &Lab) {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.mount("/work", "tmpfs", "tmpfs", &[]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let before = table(lab);
    let file = lab.path("many.json");
    let change = |action: &str, number: usize| {
        let list: Vec<_> = (0..number).map(|number| tmpfs(&format!("/work/{number}"))).collect();
        fs::write(&file, json!({ "mounts": list }).to_string()).unwrap();
        let words = ["mounts", action, &lab.id("a"), file.to_str().unwrap()];
        with_usual_descriptors(&lab.command(&words), lab)
    };
    let said = change("add", MOST + 1).fails();
    assert!(said.contains(&format!("(config.json: /mounts/{MOST})")), "{said}");
    assert_eq!(table(lab), before);
    change("add", MOST).ok();
    assert_eq!(table(lab).lines().count(), before.lines().count() + MOST);
    change("remove", MOST).ok();
    assert_eq!(table(lab), before);
    lab.delete("a");
}
