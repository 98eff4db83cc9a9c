//! Containers with mounts that have no mount namespace of their own: what they mount is
//! among the host's mounts, harms none of them, and goes with the container.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::harness::{Bundle, Lab, Test, tests, until};
use crate::live_mounts::{MOST, with_usual_descriptors};
use crate::sweep::{Caller, Step, Victim, sweep_by};

pub(crate) const TESTS: &[Test] = tests![
    mounts_are_made_among_the_hosts,
    what_is_bound_is_never_taken_from_the_host,
    devices_that_are_bound_are_no_peers,
    a_root_may_be_a_mount_and_shared,
    a_root_may_be_behind_links,
    a_bind_of_all_the_host_has_no_container_in_it,
    what_a_failed_creation_has_mounted_is_gone,
    what_a_container_mounts_goes_with_it,
    hooks_see_the_mounts,
    the_hosts_own_root_is_refused,
    as_many_are_changed_later_as_can_be_held,
    a_deletion_elsewhere_takes_the_root_away_here,
    what_others_mount_there_goes_with_it,
    a_record_is_not_needed_to_take_the_root_away,
    a_chroot_is_refused,
    a_root_that_is_gone_is_not_entered,
    a_creation_among_the_hosts_mounts_is_killed,
    a_run_among_the_hosts_mounts_is_killed,
    a_deletion_among_the_hosts_mounts_is_killed,
    the_stage_among_the_hosts_mounts_is_killed,
];

const NONE: Option<&str> = None;

/// The mounts of this mount namespace, shared as systemd has them, and another one that
/// gets what is mounted here. What was there when it began is there at the end, in both.
struct World {
    peer: Peer,
    before: [Vec<String>; 2],
}

/// A copy of this mount namespace, held without a process in it.
struct Peer(File);

impl Peer {
    fn new() -> Self {
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "unchanged", "sleep", "1000"]);
        let mut holder = holder.stdin(Stdio::null()).spawn().unwrap();
        let own = fs::read_link("/proc/self/ns/mnt").unwrap();
        let theirs = format!("/proc/{}/ns/mnt", holder.id());
        until("the namespace", || fs::read_link(&theirs).unwrap() != own);
        let peer = Self(File::open(theirs).unwrap());
        holder.kill().and_then(|()| holder.wait()).unwrap();
        peer
    }

    /// One that goes on with a program in there.
    fn command(&self) -> Command {
        let namespace = format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd());
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={namespace}"));
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn mounts(&self) -> Vec<String> {
        self.run(&["cat", "/proc/self/mountinfo"]).lines().map(str::to_owned).collect()
    }
}

impl World {
    fn new() -> Self {
        mount(NONE, "/", NONE, MsFlags::MS_SHARED | MsFlags::MS_REC, NONE).unwrap();
        let mut world = Self { peer: Peer::new(), before: [const { Vec::new() }; 2] };
        world.before = world.tables();
        world
    }

    fn tables(&self) -> [Vec<String>; 2] {
        let here = fs::read_to_string("/proc/self/mountinfo").unwrap();
        [here.lines().map(str::to_owned).collect(), self.peer.mounts()]
    }

    /// What is mounted since it began: here, and in the other namespace.
    fn new_mounts(&self) -> [Vec<String>; 2] {
        let [mut here, mut there] = self.tables();
        here.retain(|line| !self.before[0].contains(line));
        there.retain(|line| !self.before[1].contains(line));
        [here, there]
    }

    /// All is as before, in both.
    fn is_as_before(&self) {
        assert_eq!(self.tables(), self.before);
    }

    /// Mounts of containers are below their roots and nobody's peers, and elsewhere there
    /// is nothing but an empty directory for each.
    fn holds(&self, lab: &Lab, containers: &[&str]) -> Vec<String> {
        let roots: Vec<_> = containers.iter().map(|name| root_of(lab, name)).collect();
        let [here, there] = self.new_mounts();
        assert!(here.len() > containers.len(), "{here:?}");
        for line in &here {
            let at = Path::new(point(line));
            assert!(roots.iter().any(|root| at.starts_with(root)), "{line}");
            assert!(!line.contains(" shared:"), "{line}");
        }
        let empty: Vec<_> = there.iter().map(|line| PathBuf::from(point(line))).collect();
        assert_eq!(empty, roots, "{there:?}");
        for root in roots {
            let seen = root.join("rootfs");
            assert_eq!(self.peer.run(&["ls", "-A", seen.to_str().unwrap()]), "");
        }
        here
    }
}

impl Drop for World {
    fn drop(&mut self) {
        mount(NONE, "/", NONE, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NONE).unwrap();
    }
}

fn point(line: &str) -> &str {
    line.split(' ').nth(4).unwrap()
}

/// Where the container's root is on the host.
fn root_of(lab: &Lab, name: &str) -> PathBuf {
    lab.root().join(lab.id(name)).join("root")
}

/// The usual mounts, in the runtime's own mount namespace.
fn bundle(lab: &Lab) -> Bundle {
    let mut bundle = lab.bundle(&["sleep"]);
    among_the_hosts(&mut bundle.config);
    bundle
}

fn among_the_hosts(config: &mut Value) {
    config["linux"]["maskedPaths"] = json!([]);
    config["linux"]["readonlyPaths"] = json!([]);
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| namespace["type"] != "mount");
}

fn mounts_are_made_among_the_hosts(lab: &Lab) {
    let mut bundle = bundle(lab);
    bundle.mount("/work", "cgroup", "cgroup", &["ro"]);
    bundle.namespace("ipc", None);
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    for cgroup_namespace in [false, true] {
        if cgroup_namespace {
            bundle.namespace("cgroup", None);
        }
        let world = World::new();
        let created = lab.create(&bundle, "a", &[]);
        let warning = "the container's mounts are among the host's until it is deleted";
        assert!(created.stderr.contains(warning), "{}", created.stderr);
        created.ok();
        lab.on("a", &["start"], &[]).ok();
        let mounts = world.holds(lab, &["a"]);
        for kind in ["proc", "tmpfs", "devpts", "mqueue", "sysfs", "cgroup"] {
            let kind = format!(" - {kind}");
            assert!(mounts.iter().any(|line| line.contains(&kind)), "{kind}: {mounts:?}");
        }
        let pid = &lab.state("a")["pid"];
        assert_eq!(fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap(), own);
        let written = lab.exec("a", &[], &["write-each", "x", "/etc/x", "/dev/shm/x"]).ok();
        assert_eq!(written, "/etc/x EROFS\n/dev/shm/x ok\n");
        assert!(root_of(lab, "a").join("rootfs/dev/shm/x").exists());
        assert!(!bundle.rootfs().join("dev/shm").exists());
        let seen = lab.exec("a", &[], &["cat", "/proc/self/mountinfo"]).ok();
        assert_eq!(seen.lines().count() + 1, mounts.len(), "{seen}"); // but for the base
        let one = json!({ "mounts": [{ "destination": "/tmp", "type": "tmpfs" }] });
        let file = lab.path("more.json");
        fs::write(&file, one.to_string()).unwrap();
        let refused = lab.on("a", &["mounts", "add"], &[file.to_str().unwrap()]).fails();
        assert!(refused.contains("the container has no mount namespace of its own"), "{refused}");
        lab.on("a", &["kill"], &["KILL"]).ok();
        until("its end", || lab.status("a") == "stopped");
        lab.on("a", &["delete"], &[]).ok();
        world.is_as_before();
        bundle.args(&["stat", "/dev/shm"]);
        assert_eq!(lab.run(&bundle, "b", &[]).ok(), "/dev/shm dir 1777 0:0\n");
        world.is_as_before();
        bundle.args(&["sleep"]);
    }
}

/// Those of the host that come along are still there afterwards.
fn what_is_bound_is_never_taken_from_the_host(lab: &Lab) {
    let world = World::new();
    for propagation in ["", "rshared", "shared", "rslave", "slave", "rprivate", "runbindable"] {
        for option in ["rbind", "rshared", "rprivate"] {
            let mut bundle = bundle(lab);
            bundle.config["root"]["readonly"] = json!(false);
            bundle.config["linux"]["rootfsPropagation"] = json!(propagation);
            for at in ["sys", "dev", "proc"] {
                let (at, source) = (format!("/tmp/{at}"), format!("/{at}"));
                bundle.mount(&at, "bind", &source, &["rbind", option]);
            }
            bundle.mount("/tmp/sys/fs/cgroup", "tmpfs", "tmpfs", &[]);
            bundle.mount("/tmp/dev/null", "bind", "/dev/zero", &["bind"]);
            lab.run(&bundle, "a", &["--detach"]).ok();
            let [here, there] = world.new_mounts();
            let root = root_of(lab, "a");
            assert!(here.iter().all(|line| Path::new(point(line)).starts_with(&root)), "{here:?}");
            assert_eq!(there.len(), 1, "{propagation} {option}: {there:?}");
            lab.delete("a");
            world.is_as_before();
        }
    }
}

/// Who may not make devices has the host's own, one by one.
fn devices_that_are_bound_are_no_peers(lab: &Lab) {
    let world = World::new();
    let bundle = bundle(lab);
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let runtime = lab.command(&["run", "--detach", "--bundle", path, &lab.id("a")]);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-mknod", "--inh-caps", "-mknod"]);
    command.arg(runtime.get_program()).args(runtime.get_args());
    command.envs(runtime.get_envs().filter_map(|(name, value)| Some((name, value?))));
    lab.begin(command).end().ok();
    let mounts = world.holds(lab, &["a"]);
    assert!(mounts.iter().any(|line| point(line).ends_with("rootfs/dev/null")), "{mounts:?}");
    lab.delete("a");
    world.is_as_before();
}

fn a_root_may_be_a_mount_and_shared(lab: &Lab) {
    let bundle = bundle(lab);
    let root = bundle.rootfs();
    mount(Some(&root), &root, NONE, MsFlags::MS_BIND, NONE).unwrap();
    mount(Some("tmpfs"), &root.join("work"), Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
    let world = World::new();
    for name in ["a", "b"] {
        lab.run(&bundle, name, &["--detach"]).ok();
    }
    world.holds(lab, &["a", "b"]);
    lab.exec("a", &[], &["write-each", "of a", "/dev/shm/x", "/work/x"]).ok();
    assert_eq!(lab.exec("b", &[], &["cat", "/work/x"]).ok(), "of a");
    assert_ne!(lab.exec("b", &[], &["cat", "/dev/shm/x"]).code, 0);
    lab.delete("a");
    world.holds(lab, &["b"]);
    assert_eq!(lab.exec("b", &[], &["stat", "/dev/shm"]).ok(), "/dev/shm dir 1777 0:0\n");
    lab.delete("b");
    world.is_as_before();
    drop(world);
    umount2(&root, MntFlags::MNT_DETACH).unwrap();
}

/// Links on the way, and in the image. Two bundles have one root by such.
fn a_root_may_be_behind_links(lab: &Lab) {
    let world = World::new();
    let first = bundle(lab);
    let root = first.rootfs();
    for (at, to) in [("tmp/up", "../../../../../.."), ("tmp/abs", "/work/deep")] {
        symlink(to, root.join(at)).unwrap();
    }
    let folders = ["one", "two"].map(|name| {
        let mut linked = bundle(lab);
        fs::rename(linked.rootfs(), linked.path.join("not")).unwrap();
        symlink(&root, linked.path.join("rootfs")).unwrap();
        linked.mount(&format!("/tmp/up/work/{name}"), "tmpfs", "tmpfs", &[]);
        linked.mount(&format!("/tmp/abs/{name}"), "tmpfs", "tmpfs", &[]);
        linked.config["root"]["readonly"] = json!(false);
        lab.run(&linked, name, &["--detach"]).ok();
        format!("/work/{name}")
    });
    world.holds(lab, &["one", "two"]);
    for (name, folder) in ["one", "two"].iter().zip(folders) {
        lab.exec(name, &[], &["write", &format!("{folder}/x"), name]).ok();
        assert_eq!(fs::read_dir(root.join(&folder[1..])).unwrap().count(), 0);
        assert!(root.join("work/deep").join(name).is_dir());
    }
    lab.delete("one");
    world.holds(lab, &["two"]);
    lab.delete("two");
    world.is_as_before();
}

fn a_bind_of_all_the_host_has_no_container_in_it(lab: &Lab) {
    let world = World::new();
    let mut bundle = bundle(lab);
    bundle.mount("/work", "bind", "/", &["rbind"]);
    let count = |name: &str| {
        lab.run(&bundle, name, &["--detach"]).ok();
        let root = root_of(lab, name);
        let [here, there] = world.new_mounts();
        let own = |line: &&String| Path::new(point(line)).starts_with(&root);
        let lines: Vec<_> = here.iter().filter(own).collect();
        let again = root.join("rootfs/work").join(root.strip_prefix("/").unwrap());
        assert!(lines.iter().all(|line| !Path::new(point(line)).starts_with(&again)));
        (lines.len(), there.len())
    };
    let (first, elsewhere) = count("a");
    assert_eq!(elsewhere, 1);
    // Its empty directory comes up in the first one's clone of the host, and no more.
    assert_eq!(count("b"), (first, 2));
    // Which is no reason for it to stay.
    lab.delete("b");
    assert_eq!(world.new_mounts()[1].len(), 1);
    lab.delete("a");
    world.is_as_before();
}

fn what_a_failed_creation_has_mounted_is_gone(lab: &Lab) {
    let world = World::new();
    let mut bundle = bundle(lab);
    bundle.mount("/tmp", "bind", "/no/such/source", &["rbind"]);
    let error = lab.run(&bundle, "a", &[]).fails();
    assert!(error.contains("/no/such/source") && error.contains("/mounts/"), "{error}");
    world.is_as_before();
    bundle.config["mounts"].as_array_mut().unwrap().pop();
    bundle.config["process"]["args"] = json!(["/no/such/program"]);
    lab.create(&bundle, "a", &[]).fails();
    world.is_as_before();
    bundle.args(&["sleep"]);
    bundle.hook("poststart", &["exit", "1"]);
    lab.run(&bundle, "a", &["--detach"]).fails();
    world.is_as_before();
    bundle.config["hooks"] = json!({});
    bundle.hook("createRuntime", &["exit", "1"]);
    lab.run(&bundle, "a", &["--detach"]).fails();
    world.is_as_before();
    assert_eq!(fs::read_dir(lab.root()).unwrap().count(), 0);
}

/// Also over its own root, and from where it shares its mounts with others.
fn what_a_container_mounts_goes_with_it(lab: &Lab) {
    let world = World::new();
    for kind in ["private", "shared"] {
        let mut bundle = bundle(lab);
        bundle.config["linux"]["rootfsPropagation"] = json!(kind);
        lab.run(&bundle, "a", &["--detach"]).ok();
        let pid = lab.state("a")["pid"].as_u64().unwrap();
        let inside = PathBuf::from(format!("/proc/{pid}/root"));
        let copy = Peer::new();
        // The host's own, as a hook may do it.
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some("/sys"), &inside.join("tmp"), NONE, flags, NONE).unwrap();
        for at in ["work", "dev/shm", "."] {
            mount(Some("x"), &inside.join(at), Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
        }
        lab.on("a", &["kill"], &["KILL"]).ok();
        until("its end", || lab.status("a") == "stopped");
        lab.on("a", &["delete"], &[]).ok();
        world.is_as_before();
        let left = copy.mounts();
        assert!(left.iter().all(|line| !line.contains(&lab.id("a"))), "{left:?}");
    }
}

fn hooks_see_the_mounts(lab: &Lab) {
    let world = World::new();
    let mut bundle = bundle(lab);
    let kinds =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let rootfs = root_of(lab, "a").join("rootfs");
    for kind in kinds {
        let shm = if kind == "startContainer" { "/dev/shm".into() } else { rootfs.join("dev/shm") };
        let file = shm.join(kind);
        match kind {
            "poststop" => bundle.hook(kind, &["exit", "0"]),
            _ => bundle.hook(kind, &["write", file.to_str().unwrap(), "seen"]),
        };
    }
    lab.create(&bundle, "a", &[]).ok();
    lab.on("a", &["start"], &[]).ok();
    let mut seen = kinds[..5].to_vec();
    seen.sort_unstable();
    assert_eq!(lab.exec("a", &[], &["ls", "/dev/shm"]).ok(), seen.join("\n") + "\n");
    lab.delete("a");
    world.is_as_before();
}

/// By whatever name.
fn the_hosts_own_root_is_refused(lab: &Lab) {
    let world = World::new();
    let mut bundle = bundle(lab);
    let link = lab.path("link");
    symlink("/", &link).unwrap();
    let text = "the host's own root can't be one for mounts among the host's \
                (config.json: /root/path)";
    for path in ["/", "/../.", link.to_str().unwrap()] {
        bundle.config["root"]["path"] = json!(path);
        assert!(lab.run(&bundle, "a", &[]).fails().ends_with(text));
    }
    let place = lab.path("place");
    fs::create_dir(&place).unwrap();
    mount(Some("/"), &place, NONE, MsFlags::MS_BIND, NONE).unwrap();
    bundle.config["root"]["path"] = json!(place);
    assert!(lab.run(&bundle, "a", &[]).fails().ends_with(text));
    umount2(&place, MntFlags::MNT_DETACH).unwrap();
    world.is_as_before();
}

/// With the descriptors that a process has by default.
fn as_many_are_changed_later_as_can_be_held(lab: &Lab) {
    let world = World::new();
    let mut bundle = bundle(lab);
    // Those that change nothing later.
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|one| ["/proc", "/dev"].contains(&one["destination"].as_str().unwrap()));
    bundle.mount("/work", "tmpfs", "tmpfs", &[]);
    for number in 0..MOST {
        bundle.mount(&format!("/work/{number}"), "tmpfs", "tmpfs", &["ro"]);
    }
    with_usual_descriptors(&lab.start_of("run", &bundle, "a", &["--detach"]), lab).ok();
    let mounts = world.holds(lab, &["a"]);
    let read_only = |line: &&String| {
        point(line).contains("/rootfs/work/") && line.split(' ').nth(5).unwrap().starts_with("ro")
    };
    assert_eq!(mounts.iter().filter(read_only).count(), MOST);
    lab.delete("a");
    world.is_as_before();
    bundle.mount("/work/more", "tmpfs", "tmpfs", &["ro"]);
    let run = lab.start_of("run", &bundle, "a", &["--detach"]);
    let error = with_usual_descriptors(&run, lab).fails();
    let text = format!("more than {MOST} mounts are covered or changed later");
    assert!(error.contains(&text), "{error}");
    world.is_as_before();
    assert_eq!(fs::read_dir(lab.root()).unwrap().count(), 0);
}

/// Who is in another mount namespace has a mount of another number there.
fn a_deletion_elsewhere_takes_the_root_away_here(lab: &Lab) {
    let world = World::new();
    let bundle = bundle(lab);
    let elsewhere = |verb: &[&str], rest: &[&str]| {
        let runtime = lab.command(&[verb, &[&*lab.id("a")], rest].concat());
        let mut command = world.peer.command();
        command.arg(runtime.get_program()).args(runtime.get_args());
        lab.begin(command).end()
    };
    for unmounted in [false, true] {
        lab.run(&bundle, "a", &["--detach"]).ok();
        if unmounted {
            world.peer.run(&["umount", root_of(lab, "a").to_str().unwrap()]);
            assert_eq!(world.new_mounts()[1], [""; 0]);
        }
        let error = elsewhere(&["exec"], &["/bin/probe", "exit", "0"]).fails();
        assert!(error.contains("not mounted in this mount namespace"), "{error}");
        elsewhere(&["delete", "--force"], &[]).ok();
        world.is_as_before();
    }
}

/// As in every other mount namespace, and no peer of it is touched.
fn what_others_mount_there_goes_with_it(lab: &Lab) {
    let world = World::new();
    let mut bundle = bundle(lab);
    let root = root_of(lab, "a");
    lab.run(&bundle, "a", &["--detach"]).ok();
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some("/sys"), &root, NONE, flags, NONE).unwrap();
    lab.delete("a");
    world.is_as_before();
    let cover = ["mount", "--rbind", "/sys", root.to_str().unwrap()];
    let env = ["PATH=/usr/bin:/bin"];
    bundle.hook("createRuntime", &[]);
    bundle.config["hooks"]["createRuntime"][0] =
        json!({ "path": "/bin/mount", "args": cover, "env": env });
    bundle.hook("createRuntime", &["exit", "1"]);
    lab.create(&bundle, "a", &[]).fails();
    world.is_as_before();
}

fn a_record_is_not_needed_to_take_the_root_away(lab: &Lab) {
    let world = World::new();
    let bundle = bundle(lab);
    for text in ["{", "null", ""] {
        lab.run(&bundle, "a", &["--detach"]).ok();
        fs::write(lab.root().join(lab.id("a")).join("state.json"), text).unwrap();
        lab.on("a", &["delete", "--force"], &[]).ok();
        world.is_as_before();
    }
}

/// Its root is no mount from which a deletion could turn all others private.
fn a_chroot_is_refused(lab: &Lab) {
    let bundle = bundle(lab);
    bundle.write();
    let root = lab.path("chroot");
    // The mount namespace goes with the mounts.
    let script = "mkdir $0; for i in /*; do [ -d $i ] && [ ! -L $i ] && mkdir -p $0$i && mount --rbind $i $0$i \
                  || cp -P $i $0; done; exec chroot $0 \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&root);
    let runtime = lab.command(&["run", "--bundle", bundle.path.to_str().unwrap(), &lab.id("a")]);
    command.arg(runtime.get_program()).args(runtime.get_args());
    let error = lab.begin(command).end().fails();
    let text =
        "orlop run failed: mounts among the host's can't be made in a chroot: \"/\" is no mount";
    assert_eq!(error, text);
}

fn a_root_that_is_gone_is_not_entered(lab: &Lab) {
    let world = World::new();
    let bundle = bundle(lab);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let words = "the container's root is not mounted in this mount namespace";
    umount2(&root_of(lab, "a").join("rootfs"), MntFlags::MNT_DETACH).unwrap();
    let error = lab.exec("a", &[], &["exit", "0"]).fails();
    assert!(error.contains(words), "{error}");
    umount2(&root_of(lab, "a"), MntFlags::MNT_DETACH).unwrap();
    let error = lab.exec("a", &[], &["exit", "0"]).fails();
    assert!(error.contains(words), "{error}");
    lab.delete("a");
    world.is_as_before();
}

fn swept(lab: &Lab, step: Step, victim: Victim) {
    let world = World::new();
    let caller = Caller { user: 0, runtime: &|arguments| lab.command(arguments) };
    sweep_by(lab, caller, bundle(lab), (step, victim));
    world.is_as_before();
}

fn a_creation_among_the_hosts_mounts_is_killed(lab: &Lab) {
    swept(lab, Step::Create, Victim::Parent);
}

fn a_run_among_the_hosts_mounts_is_killed(lab: &Lab) {
    swept(lab, Step::Run, Victim::Parent);
}

fn a_deletion_among_the_hosts_mounts_is_killed(lab: &Lab) {
    swept(lab, Step::Delete, Victim::Parent);
}

fn the_stage_among_the_hosts_mounts_is_killed(lab: &Lab) {
    swept(lab, Step::Run, Victim::Stage);
}
