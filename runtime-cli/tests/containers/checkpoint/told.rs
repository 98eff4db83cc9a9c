//! What CRIU is told, and what is done with what it says: by a program in its place.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::json;

use super::fake::FOLDER;
use crate::harness::{Bundle, Lab, Output, Test, tests, until};
use crate::lsm::{apparmor, selinux};
use crate::terminal::accept;

pub(crate) const TESTS: &[Test] = tests![
    criu_is_told_what_to_save,
    criu_is_told_what_to_bring_back,
    every_flag_of_a_checkpoint_reaches_criu,
    every_flag_of_a_restore_reaches_criu,
    a_restore_refuses_what_a_creation_refuses,
    names_that_criu_would_misread_are_refused,
    what_criu_has_mounted_is_looked_at,
    what_criu_says_is_told_in_one_line,
    a_container_must_run_to_be_saved,
    a_container_among_the_hosts_mounts_is_not_saved,
    hooks_run_at_a_restore,
    a_restore_can_be_ended,
    without_criu_nothing_is_touched,
    the_terminal_of_a_restored_container_is_handed_on,
];

/// A program in CRIU's place.
pub(crate) struct Fake<'a> {
    lab: &'a Lab,
}

impl<'a> Fake<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        let bin = lab.path("bin");
        fs::create_dir(&bin).unwrap();
        fs::create_dir(lab.path("fake")).unwrap();
        fs::copy(std::env::current_exe().unwrap(), bin.join("criu")).unwrap();
        Self { lab }
    }

    /// How it shall behave.
    pub(crate) fn tell(&self, name: &str, text: &str) {
        fs::write(self.lab.path("fake").join(name), text).unwrap();
    }

    /// A command of ours that finds it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.command(arguments);
        command.env("PATH", self.lab.path("bin")).env(FOLDER, self.lab.path("fake"));
        command.current_dir(self.lab.folder());
        command
    }

    pub(super) fn on(&self, verb: &[&str], name: &str) -> Output {
        let mut command = self.command(verb);
        command.arg(self.lab.id(name));
        self.lab.begin(command).end()
    }

    pub(super) fn restore(&self, bundle: &Bundle, flags: &[&str], name: &str) -> Output {
        bundle.write();
        let mut verb = vec!["restore", "--detach", "--bundle", bundle.path.to_str().unwrap()];
        verb.extend(flags);
        self.on(&verb, name)
    }

    /// What it was told since it was last asked, each field as `2.23.1=value`.
    pub(super) fn said(&self) -> Vec<String> {
        let path = self.lab.path("fake/said");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }
}

fn has(said: &[String], lines: &[&str]) {
    for line in lines {
        assert!(said.iter().any(|one| one == line), "{line} is not in {said:#?}");
    }
}

fn has_not(said: &[String], fields: &[&str]) {
    for field in fields {
        let start = format!("{field}=");
        assert!(!said.iter().any(|one| one.starts_with(&start)), "{field} is in {said:#?}");
    }
}

/// The pairs of two fields that stand one after the other.
pub(super) fn pairs(said: &[String], first: &str, second: &str) -> Vec<(String, String)> {
    let all = |field: &str| -> Vec<String> {
        let start = format!("{field}=");
        said.iter().filter_map(|line| line.strip_prefix(&start).map(str::to_owned)).collect()
    };
    all(first).into_iter().zip(all(second)).collect()
}

fn criu_is_told_what_to_save(lab: &Lab) {
    let fake = Fake::new(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    fs::create_dir_all(bundle.rootfs().join("real/conf")).unwrap();
    symlink("/real/conf", bundle.rootfs().join("conf")).unwrap();
    bundle.mount("/conf", "bind", "/", &["bind", "ro"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let pid = lab.state("a")["pid"].to_string();
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    fake.on(&["checkpoint", "--leave-running"], "a").ok();
    let said = fake.said();
    let rootfs = format!("2.13={}", bundle.rootfs().display());
    has(&said, &["1=1", &format!("2.2={pid}"), &rootfs, "2.3=1", "2.9=4", "2.10=dump.log"]);
    // Of what was not asked for it is told so, and the network is never saved.
    let plain = ["2.4=0", "2.5=0", "2.7=0", "2.8=0", "2.16=0", "2.18=0", "2.46=0", "2.48=0"];
    has(&said, &plain);
    has(&said, &["2.12=1", "2.24=1", "2.34=6", "2.38=1073741824", "2.50=1"]);
    has(&said, &["2.51=/etc/criu/runc.conf"]);
    has_not(&said, &["2.11.1", "2.14", "2.15", "2.17", "2.37", "2.52", "2.53", "2.64"]);
    let freezer = said.iter().find_map(|line| line.strip_prefix("2.44=")).unwrap();
    let name = cgroup.lines().last().unwrap().rsplit('/').next().unwrap();
    assert!(freezer.ends_with(name), "{freezer} {cgroup}");
    // A mount's key is where it is, its name where it was asked for.
    let mounts = pairs(&said, "2.23.1", "2.23.2");
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    for (key, value) in [
        ("/real/conf", "/conf"),
        ("/proc/keys", "/dev/null"),
        ("/dev/null", "/dev/null"),
        ("/dev/tty", "/dev/tty"),
    ] {
        assert!(mounts.contains(&pair(key, value)), "{key} {value}: {mounts:?}");
    }
    // A directory is covered by a file system, which CRIU saves.
    assert!(mounts.iter().all(|(key, _)| key != "/sys/firmware"), "{mounts:?}");
    let descriptors = fs::read_to_string(lab.path("checkpoint/descriptors.json")).unwrap();
    let descriptors: Vec<String> = serde_json::from_str(&descriptors).unwrap();
    assert_eq!(descriptors[0], "/dev/null");
    assert_eq!(descriptors.len(), 3);
    assert_eq!(lab.status("a"), "running");
    // Without that flag it is gone. A link that was put there meanwhile is replaced.
    let (file, precious) = (lab.path("checkpoint/descriptors.json"), lab.path("precious"));
    fs::write(&precious, "as it was").unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&precious, &file).unwrap();
    fake.on(&["checkpoint"], "a").ok();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "as it was");
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
    has(&fake.said(), &["2.3=0"]);
    assert_eq!(lab.on("a", &["state"], &[]).fails(), "container does not exist");
}

fn criu_is_told_what_to_bring_back(lab: &Lab) {
    let fake = Fake::new(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    fs::create_dir(lab.path("source")).unwrap();
    bundle.mount("/made/here", "bind", lab.path("source").to_str().unwrap(), &["bind", "ro"]);
    bundle.cgroup(lab, &lab.id("group"));
    fs::create_dir(lab.path("checkpoint")).unwrap();
    let streams = json!(["pipe:[11]", "/dev/null", "pipe:[12]"]).to_string();
    fs::write(lab.path("checkpoint/descriptors.json"), streams).unwrap();
    let pid_file = lab.path("pid");
    fake.restore(&bundle, &["--pid-file", pid_file.to_str().unwrap()], "a").ok();
    let said = fake.said();
    has(&said, &["1=2", "2.6=1", "2.9=4", "2.10=restore.log", "2.12=1", "2.24=1", "2.26=1"]);
    has(&said, &["2.34=6", "2.38=1073741824", "2.50=1", "2.51=/etc/criu/runc.conf"]);
    has_not(&said, &["2.2", "2.17", "2.39.1", "2.53", "2.63"]);
    let root = format!("2.13={}/criu-root", lab.root().join(lab.id("a")).display());
    has(&said, &[&root]);
    let mounts = pairs(&said, "2.23.1", "2.23.2");
    let source = lab.path("source").display().to_string();
    assert!(mounts.contains(&("/made/here".into(), source)), "{mounts:?}");
    assert!(mounts.contains(&("/dev/null".into(), "/dev/null".into())), "{mounts:?}");
    // The place was made in the root, and nothing is mounted there for others.
    assert_eq!(fs::read_dir(bundle.rootfs().join("made/here")).unwrap().count(), 0);
    let pipes = pairs(&said, "2.27.1", "2.27.2");
    assert_eq!(pipes, [("pipe:[11]".into(), "0".into()), ("pipe:[12]".into(), "2".into())]);
    // It is in the container's cgroup, and told so.
    let paths = pairs(&said, "2.25.1", "2.25.2");
    assert!(paths.iter().any(|(_, path)| path.contains(&lab.id("group"))), "{paths:?}");
    let cgroup = said.iter().find(|line| line.starts_with("cgroup=")).unwrap();
    assert!(cgroup.contains(&lab.id("group")), "{cgroup}");
    // Nothing is open in it but its streams, the socket, and what it opens itself.
    let open: Vec<_> = said.iter().filter(|line| line.starts_with("fd ")).collect();
    assert!(open.len() <= 5 && open[3].starts_with("fd 3=socket:"), "{open:?}");
    assert_eq!(lab.status("a"), "running");
    assert_eq!(fs::read_to_string(pid_file).unwrap(), lab.state("a")["pid"].to_string());
    assert!(!lab.root().join(lab.id("a")).join("criu-root").exists());
    let again = fake.restore(&bundle, &[], "a").fails();
    assert!(again.starts_with("container with given ID already exists"), "{again}");
    let taken = fake.restore(&bundle, &[], "b").fails();
    assert!(taken.starts_with("container's cgroup is not empty"), "{taken}");
    lab.delete("a");
}

fn every_flag_of_a_checkpoint_reaches_criu(lab: &Lab) {
    let fake = Fake::new(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["annotations"] = json!({ "org.criu.config": "/etc/own.conf" });
    lab.run(&bundle, "a", &["--detach"]).ok();
    fs::create_dir_all(lab.path("parent")).unwrap();
    for (flags, lines) in [
        (&["--tcp-established"] as &[_], &["2.5=1"] as &[_]),
        (&["--tcp-skip-in-flight"], &["2.46=1"]),
        (&["--tcp-close"], &["2.52=1"]),
        (&["--link-remap"], &["2.18=1"]),
        (&["--ext-unix-sk"], &["2.4=1"]),
        (&["--shell-job"], &["2.7=1"]),
        (&["--file-locks"], &["2.8=1"]),
        (&["--auto-dedup"], &["2.16=1"]),
        (&["--lazy-pages"], &["1=9", "5.2=1", "1=1", "2.48=1"]),
        (&["--page-server", "[::1]:27277"], &["2.11.1=::1", "2.11.2=27277"]),
        (&["--empty-ns", "network"], &["2.38=1073741824"]),
        (&["--manage-cgroups-mode", "soft"], &["2.34=3"]),
        (&["--manage-cgroups-mode", "full"], &["2.34=4"]),
        (&["--manage-cgroups-mode", "strict"], &["2.34=5"]),
        (&["--manage-cgroups-mode", "ignore"], &["2.34=0"]),
        (&["--network-lock", "nftables"], &["2.64=2"]),
        (&["--network-lock", "skip"], &["2.64=3"]),
        (&["--pre-dump"], &["1=9", "5.1=1", "1=4", "2.51=/etc/own.conf"]),
        (&["--parent-path", "../parent"], &["2.14=../parent", "2.15=1"]),
    ] {
        fake.on(&[&["checkpoint", "--leave-running"], flags].concat(), "a").ok();
        has(&fake.said(), lines);
    }
    fake.on(&["checkpoint", "--leave-running", "--work-path", "work"], "a").ok();
    assert!(fake.said().iter().any(|line| line.starts_with("2.17=")));
    for (flags, words) in [
        (&["--parent-path", "/x"] as &[_], "--parent-path must be relative"),
        (&["--parent-path", "none"], "invalid --parent-path: "),
        (&["--page-server", "x"], "Use --page-server ADDRESS:PORT to specify page server"),
        (&["--empty-ns", "uts"], "namespace \"uts\" is not supported"),
        (&["--lazy-pages", "--status-fd", "77"], "invalid --status-fd argument 77: "),
        (&["--lazy-pages", "--status-fd", "0"], "invalid --status-fd argument 0"),
    ] {
        let mut command = fake.command(&[&["checkpoint"], flags].concat());
        command.arg(lab.id("a"));
        let message = lab.begin(command).end().fails();
        if !flags.ends_with(&["0"]) {
            assert!(message.starts_with(words), "{message}");
        }
    }
    fake.tell("lacks", "");
    for (flag, word) in [("--lazy-pages", "LazyPages"), ("--pre-dump", "MemTrack")] {
        let message = fake.on(&["checkpoint", flag], "a").fails();
        assert_eq!(message, format!("criu is missing features: [{word}]"));
    }
    fake.tell("version", "3 15 0");
    let message = fake.on(&["checkpoint"], "a").fails();
    assert!(message.starts_with("CRIU version 31500 must be 31600 or higher"), "{message}");
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
}

/// Folder of images as a checkpoint leaves it, without any.
pub(super) fn images(lab: &Lab) {
    fs::create_dir_all(lab.path("checkpoint")).unwrap();
    fs::write(lab.path("checkpoint/descriptors.json"), "[]").unwrap();
}

fn every_flag_of_a_restore_reaches_criu(lab: &Lab) {
    let fake = Fake::new(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.namespace("network", Some("/proc/self/ns/net"));
    bundle.namespace("uts", Some("/proc/self/ns/uts"));
    bundle.config.as_object_mut().unwrap().remove("hostname");
    bundle.config["annotations"] = json!({ "org.criu.config": "" });
    images(lab);
    for (flags, lines) in [
        (&[] as &[_], &["2.27.1=extRootNetNS", "2.27.2=4", "2.39.1=uts"] as &[_]),
        (&["--tcp-established"], &["2.5=1"]),
        (&["--tcp-close"], &["2.52=1"]),
        (&["--ext-unix-sk"], &["2.4=1"]),
        (&["--shell-job"], &["2.7=1"]),
        (&["--file-locks"], &["2.8=1"]),
        (&["--auto-dedup"], &["2.16=1"]),
        (&["--lazy-pages"], &["2.48=1"]),
        (&["--empty-ns", "network"], &["2.38=1073741824"]),
        (&["--manage-cgroups-mode", "ignore"], &["2.34=0"]),
        (&["--network-lock", "iptables"], &["2.64=1"]),
        (&["--no-pivot", "--no-subreaper"], &["1=2"]),
    ] {
        fake.restore(&bundle, flags, "a").ok();
        let said = fake.said();
        has(&said, lines);
        has_not(&said, &["2.51"]);
        lab.delete("a");
    }
    for (on, flags, words, line) in [
        (
            apparmor(),
            ["--lsm-profile", "apparmor:a b"],
            "the profile \"apparmor:a b\" needs AppArmor, which is off here",
            "2.53=apparmor:a b",
        ),
        (
            selinux(),
            ["--lsm-profile", "selinux:a:b:c"],
            "the profile \"selinux:a:b:c\" needs SELinux, which is off here",
            "2.53=selinux:a:b:c",
        ),
        (
            selinux(),
            ["--lsm-mount-context", "a:b:c,d"],
            "the label \"a:b:c,d\" of mounts needs SELinux, which is off here",
            "2.63=a:b:c,d",
        ),
    ] {
        let output = fake.restore(&bundle, &flags, "a");
        if on {
            output.ok();
            has(&fake.said(), &[line]);
            lab.delete("a");
        } else {
            assert_eq!(output.fails(), words);
        }
    }
    for (flags, words) in [
        (&["--lsm-profile", "x"], "\"x\" is no profile of the form"),
        (&["--lsm-mount-context", "a\"b"], "\"a\\\"b\" is no label for mounts"),
        (&["--image-path", "nowhere"], "opening "),
    ] {
        let message = fake.restore(&bundle, flags, "a").fails();
        assert!(message.starts_with(words), "{message}");
    }
}

fn a_restore_refuses_what_a_creation_refuses(lab: &Lab) {
    let fake = Fake::new(lab);
    images(lab);
    for (pointer, value, words) in [
        ("/process/cwd", json!("relative"), "(config.json: /process/cwd)"),
        ("/process/user", json!({ "uid": 4_294_967_295_u32, "gid": 0 }), "/process/user"),
        ("/mounts/0/options", json!(["idmap"]), "(config.json: /mounts/0/options)"),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_X" }), "/linux/seccomp"),
        ("/linux/cgroupsPath", json!("/.."), "/linux/cgroupsPath"),
        ("/root/path", json!("nowhere"), "invalid rootfs"),
        // What CRIU begins with for them.
        (
            "/linux/memoryPolicy",
            json!({ "mode": "MPOL_BIND", "nodes": "63" }),
            "/linux/memoryPolicy",
        ),
    ] {
        let mut bundle = lab.bundle(&["sleep"]);
        let (above, name) = pointer.rsplit_once('/').unwrap();
        bundle.config.pointer_mut(above).unwrap()[name] = value;
        let message = fake.restore(&bundle, &[], "a").fails();
        assert!(message.contains(words), "{pointer}: {message}");
        assert_eq!(fake.said(), [""; 0]);
    }
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["process"]["terminal"] = json!(true);
    let message = fake.restore(&bundle, &[], "a").fails();
    assert!(message.contains("without setting console socket"), "{message}");
}

/// CVE-2026-119101, CVE-2026-115520: `mnt[KEY]:NAME`.
fn names_that_criu_would_misread_are_refused(lab: &Lab) {
    let fake = Fake::new(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    // What the image has made of the place, and what the config says.
    fs::create_dir_all(bundle.rootfs().join("x]:/etc")).unwrap();
    symlink("/x]:/etc", bundle.rootfs().join("conf")).unwrap();
    fs::create_dir(lab.path("source")).unwrap();
    let source = lab.path("source").display().to_string();
    bundle.mount("/conf", "bind", &source, &["bind"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let message = fake.on(&["checkpoint"], "a").fails();
    let last = bundle.config["mounts"].as_array().unwrap().len() - 1;
    let pointer = format!("(config.json: /mounts/{last})");
    assert!(message.starts_with("\"/x]:/etc\" can't be told to criu"), "{message}");
    assert!(message.ends_with(&pointer), "{message}");
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
    images(lab);
    for (at, from) in [("/y]:/etc", &*source), ("/y", "/x]:y"), ("/y\n", &source)] {
        bundle.config["mounts"][last]["destination"] = json!(at);
        bundle.config["mounts"][last]["source"] = json!(from);
        let message = fake.restore(&bundle, &[], "a").fails();
        assert!(message.contains("can't be told to criu") && message.ends_with(&pointer));
    }
    bundle.config["mounts"][last]["destination"] = json!("/y");
    bundle.config["mounts"][last]["source"] = json!(source);
    bundle.config["annotations"] = json!({ "org.criu.config": "relative" });
    let message = fake.restore(&bundle, &[], "a").fails();
    assert!(message.contains("/annotations/org.criu.config"), "{message}");
    bundle.config["annotations"] = json!({});
    for text in ["[\"pipe:[1]]:x\"]", "[\"\", \"\", \"\", \"pipe:[1]\"]", "{}"] {
        fs::write(lab.path("checkpoint/descriptors.json"), text).unwrap();
        let message = fake.restore(&bundle, &[], "a").fails();
        assert!(message.contains("descriptors.json"), "{message}");
    }
    // What is no file of its own: a FIFO, for whose writer a reader waits, and a link.
    let file = lab.path("checkpoint/descriptors.json");
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let message = fake.restore(&bundle, &[], "a").fails();
    assert!(message.contains("no regular file"), "{message}");
    fs::remove_file(&file).unwrap();
    symlink("/etc/passwd", &file).unwrap();
    let message = fake.restore(&bundle, &[], "a").fails();
    assert!(message.contains("descriptors.json"), "{message}");
    fs::remove_file(&file).unwrap();
    // Two that it could not tell apart.
    bundle.mount("/dev/null", "bind", &source, &["bind"]);
    fs::write(lab.path("checkpoint/descriptors.json"), "[]").unwrap();
    let message = fake.restore(&bundle, &[], "a").fails();
    assert!(message.contains("can't be told apart in a checkpoint"), "{message}");
    assert_eq!(fake.said(), [""; 0]);
}

/// CVE-2026-119101: what is mounted afterwards is what the config says.
fn what_criu_has_mounted_is_looked_at(lab: &Lab) {
    let fake = Fake::new(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    fs::create_dir(lab.path("source")).unwrap();
    bundle.mount("/data", "bind", lab.path("source").to_str().unwrap(), &["bind", "ro"]);
    images(lab);
    fake.restore(&bundle, &[], "a").ok();
    lab.delete("a");
    for (behaviour, what, words) in [
        ("mounts nothing", "", "criu has mounted something else at \"/data\""),
        ("mounts for writing", "/data", "criu has mounted what can be written at \"/data\""),
        ("has a root for writing", "", "criu has left the root so that it can be written"),
    ] {
        fake.tell(behaviour, what);
        let message = fake.restore(&bundle, &[], "a").fails();
        assert!(message.starts_with(words), "{message}");
        fs::remove_file(lab.path("fake").join(behaviour)).unwrap();
    }
}

fn what_criu_says_is_told_in_one_line(lab: &Lab) {
    let fake = Fake::new(lab);
    let bundle = lab.bundle(&["sleep"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    fake.tell("refuses", "(00.1) Error (criu/x.c:1): cannot\n(00.2) Error: Dumping FAILED.\n");
    let message = fake.on(&["checkpoint"], "a").fails();
    let log = lab.path("checkpoint/dump.log");
    let words = "criu failed: type DUMP errno 22: Error (criu/x.c:1): cannot, see";
    assert_eq!(message, format!("{words} {log:?}"));
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
    let message = fake.restore(&bundle, &["--work-path", "work"], "a").fails();
    let log = lab.path("work/restore.log");
    let words = "criu failed: type RESTORE errno 22: Error (criu/x.c:1): cannot, see";
    assert_eq!(message, format!("{words} {log:?}"));
}

fn a_container_must_run_to_be_saved(lab: &Lab) {
    let fake = Fake::new(lab);
    let bundle = lab.bundle(&["sleep"]);
    assert_eq!(fake.on(&["checkpoint"], "a").fails(), "container does not exist");
    lab.create(&bundle, "a", &[]).ok();
    let message = fake.on(&["checkpoint"], "a").fails();
    assert_eq!(message, "Container cannot be checkpointed in created state");
    lab.on("a", &["start"], &[]).ok();
    lab.on("a", &["kill"], &["KILL"]).ok();
    until("its end", || lab.status("a") == "stopped");
    let message = fake.on(&["checkpoint"], "a").fails();
    assert_eq!(message, "Container cannot be checkpointed in stopped state");
    assert!(!lab.path("checkpoint").exists());
    lab.delete("a");
}

fn a_container_among_the_hosts_mounts_is_not_saved(lab: &Lab) {
    let fake = Fake::new(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.without_namespace("mount");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let words = "CRIU takes no mounts of a container without a mount namespace of its own \
                 (config.json: /linux/namespaces)";
    assert_eq!(fake.on(&["checkpoint"], "a").fails(), words);
    assert_eq!(fake.on(&["checkpoint", "--pre-dump"], "a").fails(), words);
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
    images(lab);
    assert_eq!(fake.restore(&bundle, &[], "a").fails(), words);
    // It was asked what it can do, for the second one.
    assert_eq!(fake.said(), ["1=9", "5.1=1"]);
}

fn hooks_run_at_a_restore(lab: &Lab) {
    let fake = Fake::new(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    for kind in kinds {
        let file = lab.path(kind);
        bundle.hook(kind, &["keep", file.to_str().unwrap()]);
    }
    images(lab);
    fake.restore(&bundle, &[], "a").ok();
    let pid = lab.state("a")["pid"].clone();
    for (kind, runs) in kinds.into_iter().zip([true, true, false, false, false]) {
        assert_eq!(lab.path(kind).exists(), runs, "{kind}");
    }
    let text = fs::read_to_string(lab.path("createRuntime")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&state["pid"], &state["status"]), (&pid, &json!("creating")));
    lab.delete("a");
    assert!(lab.path("poststop").exists());
    bundle.hook("createRuntime", &["exit", "3"]);
    let message = fake.restore(&bundle, &[], "a").fails();
    assert!(message.starts_with("error running createRuntime hook #1: "), "{message}");
}

/// While a hook takes for ever: by a deletion, by a signal, and by the end of our own.
fn a_restore_can_be_ended(lab: &Lab) {
    let fake = Fake::new(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    let (go, runs) = (lab.path("go"), lab.path("runs"));
    bundle.hook("createRuntime", &["until", go.to_str().unwrap(), runs.to_str().unwrap()]);
    images(lab);
    bundle.write();
    let begin = || {
        let mut command = fake.command(&["restore", "--bundle", bundle.path.to_str().unwrap()]);
        command.arg(lab.id("a"));
        let running = lab.begin(command);
        until("the hook", || runs.exists());
        fs::remove_file(&runs).unwrap();
        running
    };
    let running = begin();
    lab.delete("a");
    let message = running.end().fails();
    assert!(
        message.ends_with(
            "the container's process died meanwhile (config.json: /hooks/createRuntime/0)"
        ),
        "{message}"
    );
    let running = begin();
    running.signal("SIGTERM");
    let message = running.end().fails();
    assert!(message.contains("interrupted"), "{message}");
    let running = begin();
    running.signal("SIGKILL");
    assert_eq!(running.end().code, 128 + 9);
    // Not ours to end, and it has lost whoever waited for it.
    fs::write(&go, "").unwrap();
    lab.delete("a");
}

fn without_criu_nothing_is_touched(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let mut command = lab.command(&["checkpoint"]);
    command.env("PATH", lab.folder()).current_dir(lab.folder()).arg(lab.id("a"));
    let message = lab.begin(command).end().fails();
    assert_eq!(message, "the program \"criu\" is not found in $PATH");
    assert_eq!(lab.status("a"), "running");
    lab.delete("a");
}

fn the_terminal_of_a_restored_container_is_handed_on(lab: &Lab) {
    let fake = Fake::new(lab);
    let socket = lab.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["process"]["terminal"] = json!(true);
    images(lab);
    fake.tell("has a terminal", "");
    fake.restore(&bundle, &["--console-socket", socket.to_str().unwrap()], "a").ok();
    has(&fake.said(), &["fd 0=/dev/null", "fd 1=/dev/null", "fd 2=/dev/null"]);
    drop(accept(&listener));
    lab.delete("a");
}
