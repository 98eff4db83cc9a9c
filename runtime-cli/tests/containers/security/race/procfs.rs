//! Mounts over /proc that come and go, where the runtime writes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::gettid;
use serde_json::json;

use super::{against, for_a_while, rest};
use crate::harness::{Bundle, Lab, Output, Test, tests};

pub(crate) const TESTS: &[Test] =
    tests![a_shared_root_whose_proc_is_covered, mounts_that_are_shared_whose_proc_is_covered];

const PARAMETER: &str = "kernel/shmmni";

/// What would take what is meant for the kernel.
struct Decoy(PathBuf);

impl Decoy {
    fn new(lab: &Lab) -> Self {
        let decoy = Self(lab.path("decoy"));
        for process in ["self", "thread-self", "1"] {
            fs::create_dir_all(decoy.0.join(process).join("attr")).unwrap();
        }
        fs::create_dir_all(decoy.0.join("sys/kernel")).unwrap();
        decoy.files().for_each(|file| fs::write(file, "decoy\n").unwrap());
        decoy
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let names = ["sys/kernel/shmmni", "self/attr/exec", "thread-self/attr/exec", "1/attr/exec"];
        names.map(|name| self.0.join(name)).into_iter()
    }

    fn check(&self) {
        for file in self.files() {
            assert_eq!(fs::read_to_string(&file).unwrap(), "decoy\n", "{file:?}");
        }
    }
}

fn bind(source: &Path, at: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), at, None::<&str>, flags, None::<&str>)
}

fn change(at: &Path, flags: MsFlags) {
    mount(None::<&str>, at, None::<&str>, flags, None::<&str>).unwrap();
}

/// What the kernel has, whatever is mounted where the container is.
fn parameter_of(pid: &str) -> String {
    let namespace = File::open(format!("/proc/{pid}/ns/ipc")).unwrap();
    let reader = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWIPC).unwrap();
        fs::read_to_string(Path::new("/proc/sys").join(PARAMETER)).unwrap()
    });
    reader.join().unwrap()
}

fn create(lab: &Lab, bundle: &Bundle) -> Output {
    lab.create(bundle, "a", &["--pid-file", lab.path("pid").to_str().unwrap()])
}

/// A created container has what it was to have, and a process comes in or does not.
fn check(lab: &Lab, decoy: &Decoy) {
    let pid = fs::read_to_string(lab.path("pid")).unwrap();
    assert_eq!(parameter_of(&pid), "123\n");
    let exec = lab.exec("a", &[], &["say", "well"]);
    if exec.code == 0 {
        assert_eq!(exec.stdout, "well\n");
    } else {
        exec.fails();
    }
    decoy.check();
}

// CVE-2025-52881, CVE-2025-62596: what a neighbour mounts on a root that is shared
// reaches a container that is being made.
fn a_shared_root_whose_proc_is_covered(lab: &Lab) {
    let decoy = Decoy::new(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["sysctl"] = json!({"kernel.shmmni": "123"});
    bundle.config["linux"]["rootfsPropagation"] = json!("slave");
    let root = bundle.rootfs();
    // A procfs, as far as one asks what it is, with a decoy for what is written.
    let shadow = lab.path("shadow");
    fs::create_dir(&shadow).unwrap();
    for name in ["sys/kernel", "self/attr"] {
        fs::create_dir_all(root.join("proc").join(name)).unwrap();
    }
    mount(Some("proc"), &shadow, Some("proc"), MsFlags::empty(), None::<&str>).unwrap();
    bind(&decoy.0.join("sys"), &shadow.join("sys")).unwrap();
    bind(&root, &root).unwrap();
    change(&root, MsFlags::MS_SHARED);
    let covers = [
        (decoy.0.clone(), "proc"),
        (shadow.clone(), "proc"),
        (decoy.0.join("sys"), "proc/sys"),
        (decoy.0.join("self/attr"), "proc/self/attr"),
    ];
    for (source, at) in &covers {
        bind(source, &root.join(at)).unwrap();
        create(lab, &bundle).ok();
        let pid = fs::read_to_string(lab.path("pid")).unwrap();
        let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        assert!(table.contains("/decoy"), "it never comes in: {table}");
        check(lab, &decoy);
        lab.delete("a");
        umount2(&root.join(at), MntFlags::MNT_DETACH).unwrap();
    }
    let mut turn = 0;
    let cover = || {
        let (source, at) = &covers[turn as usize % covers.len()];
        turn += 1;
        bind(source, &root.join(at)).unwrap();
        rest(turn);
        umount2(&root.join(at), MntFlags::MNT_DETACH).unwrap();
    };
    against(cover, || for_a_while(lab, |_| create(lab, &bundle), |_| check(lab, &decoy)));
    decoy.check();
    umount2(&root, MntFlags::MNT_DETACH).unwrap();
    umount2(&shadow, MntFlags::MNT_DETACH).unwrap();
}

/// Nothing is mounted in a mount namespace that is others' too.
fn joining(lab: &Lab, namespace: &str) -> Bundle {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.namespace("mount", Some(namespace));
    bundle.config["mounts"] = json!([]);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.config["linux"]["sysctl"] = json!({"kernel.shmmni": "123"});
    bundle
}

// The same by a process of the mount namespace that a container joins, and its `exec`.
fn mounts_that_are_shared_whose_proc_is_covered(lab: &Lab) {
    let decoy = Decoy::new(lab);
    let covers = [
        (decoy.0.clone(), "/proc"),
        (decoy.0.join("sys"), "/proc/sys"),
        (decoy.0.join("sys/kernel"), "/proc/sys/kernel"),
    ];
    let mut turn = 0;
    let (sender, receiver) = mpsc::channel();
    let cover = || {
        if turn == 0 {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            change(Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            sender.send(format!("/proc/{}/task/{}/ns/mnt", std::process::id(), gettid())).unwrap();
        }
        let (source, at) = &covers[turn as usize % covers.len()];
        turn += 1;
        bind(source, Path::new(at)).unwrap();
        rest(turn);
        umount2(Path::new(at), MntFlags::MNT_DETACH).unwrap();
    };
    against(cover, || {
        let bundle = joining(lab, &receiver.recv().unwrap());
        for_a_while(lab, |_| create(lab, &bundle), |_| check(lab, &decoy));
    });
    decoy.check();
}
