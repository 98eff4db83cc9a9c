//! Whole containers, saved and brought back by CRIU itself, where it works.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{Bundle, Lab, Test, tests, until};
use crate::net_devices::{Network, ip, is_whole};
use crate::terminal::accept;

pub(crate) const TESTS: &[Test] = tests![
    it_goes_away_and_comes_back,
    a_terminal_comes_back,
    mounts_come_back_as_they_were,
    memory_is_saved_before,
    memory_is_fetched_later,
    it_comes_back_into_the_network_that_is_there,
    a_network_device_is_not_moved_again,
    a_new_network_gets_its_devices_again,
    it_comes_back_into_another_cgroup,
    further_processes_come_back_too,
    ids_of_its_own_come_back,
    in_the_foreground_its_status_is_ours,
    a_link_that_was_changed_is_noticed,
];

/// Ends the test where CRIU does not work.
pub(crate) fn criu(lab: &Lab) {
    let output = Command::new("criu").arg("check").output();
    if !output.is_ok_and(|output| output.status.success()) {
        lab.skip("CRIU does not work here");
    }
}

/// Begins a command with these streams, and waits for its end.
fn with_streams(mut command: Command, streams: [Stdio; 3]) {
    let [input, output, error] = streams;
    let status = command.stdin(input).stdout(output).stderr(error).status().unwrap();
    assert!(status.success(), "{command:?}");
}

/// Both ends of a pipe whose other sides a container has.
struct Pipes {
    input: std::io::PipeWriter,
    output: BufReader<std::io::PipeReader>,
}

impl Pipes {
    fn start(command: Command) -> Self {
        let (theirs, input) = std::io::pipe().unwrap();
        let (output, ours) = std::io::pipe().unwrap();
        let error = ours.try_clone().unwrap();
        with_streams(command, [theirs.into(), ours.into(), error.into()]);
        Self { input, output: BufReader::new(output) }
    }

    /// Whether the process hears us, and we hear it.
    fn talk(&mut self, word: &str) {
        writeln!(self.input, "{word}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("heard {word}\n"));
    }
}

pub(crate) fn command_on(lab: &Lab, bundle: &Bundle, verb: &[&str], name: &str) -> Command {
    bundle.write();
    let mut command = lab.command(verb);
    command.arg("--bundle").arg(&bundle.path).arg(lab.id(name)).current_dir(lab.folder());
    command
}

/// Runs a command whose streams are those of no file outside the container: such a one
/// CRIU can't save.
pub(crate) fn quietly(command: Command) {
    let streams = [Stdio::null(), Stdio::null(), Stdio::null()];
    with_streams(command, streams);
}

/// Without it CRIU also makes the cgroups that the container has made in its own.
const IGNORE: [&str; 2] = ["--manage-cgroups-mode", "ignore"];

pub(crate) fn save(lab: &Lab, flags: &[&str], name: &str) {
    let mut command = lab.command(&["checkpoint"]);
    command.args(IGNORE).args(flags).arg(lab.id(name)).current_dir(lab.folder());
    lab.begin(command).end().ok();
}

pub(crate) const RUN: [&str; 2] = ["run", "--detach"];
pub(crate) const RESTORE: [&str; 4] = ["restore", "--detach", IGNORE[0], IGNORE[1]];

fn it_goes_away_and_comes_back(lab: &Lab) {
    criu(lab);
    let bundle = lab.bundle(&["hear"]);
    let mut pipes = Pipes::start(command_on(lab, &bundle, &RUN, "a"));
    pipes.talk("one");
    for word in ["two", "three"] {
        save(lab, &[], "a");
        assert_eq!(lab.on("a", &["state"], &[]).fails(), "container does not exist");
        pipes = Pipes::start(command_on(lab, &bundle, &RESTORE, "a"));
        assert_eq!(lab.status("a"), "running");
        pipes.talk(word);
        assert_eq!(lab.exec("a", &[], &["say", "hello"]).ok(), "hello\n");
    }
    save(lab, &["--leave-running"], "a");
    pipes.talk("four");
    lab.on("a", &["pause"], &[]).ok();
    save(lab, &["--leave-running"], "a");
    assert_eq!(lab.status("a"), "paused");
    lab.on("a", &["resume"], &[]).ok();
    pipes.talk("five");
    lab.delete("a");
}

fn a_terminal_comes_back(lab: &Lab) {
    criu(lab);
    let socket = lab.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut bundle = lab.bundle(&["hear"]);
    bundle.config["process"]["terminal"] = json!(true);
    let flags = ["--console-socket", socket.to_str().unwrap()];
    let begin = |verb: &[&str]| {
        let command = command_on(lab, &bundle, &[verb, &flags].concat(), "a");
        lab.begin(command).end().ok();
        File::from(accept(&listener))
    };
    let talk = |mut master: File, word: &str| {
        writeln!(master, "{word}").unwrap();
        let mut lines = BufReader::new(master).lines().map_while(Result::ok);
        assert!(lines.any(|line| line == format!("heard {word}")));
    };
    let master = begin(&RUN);
    talk(master.try_clone().unwrap(), "one");
    save(lab, &[], "a");
    drop(master);
    talk(begin(&RESTORE), "two");
    lab.delete("a");
}

pub(crate) fn mountinfo(lab: &Lab) -> Vec<String> {
    let text = lab.exec("a", &[], &["cat", "/proc/self/mountinfo"]).ok();
    let line = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        // Where, what of which file system, and how.
        format!("{} {} {}", fields[4], fields[3], fields[5])
    };
    let mut lines: Vec<_> = text.lines().map(line).collect();
    lines.sort();
    lines
}

fn mounts_come_back_as_they_were(lab: &Lab) {
    criu(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    for name in ["one", "two", "three"] {
        fs::create_dir(lab.path(name)).unwrap();
    }
    fs::write(lab.path("one/word"), "word").unwrap();
    fs::create_dir_all(bundle.rootfs().join("real/conf")).unwrap();
    symlink("/real/conf", bundle.rootfs().join("conf")).unwrap();
    let source = |name: &str| lab.path(name).display().to_string();
    bundle.mount("/conf", "bind", &source("one"), &["bind", "ro"]);
    bundle.mount("/test", "bind", &source("two"), &["rw", "bind"]);
    bundle.mount("/test/for/nested", "bind", &source("three"), &["rw", "bind"]);
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["nosuid"]);
    quietly(command_on(lab, &bundle, &RUN, "a"));
    lab.exec("a", &[], &["write", "/tmp/note", "kept"]).ok();
    let before = mountinfo(lab);
    save(lab, &[], "a");
    // What the creation has made in them is made again.
    fs::remove_dir_all(lab.path("two/for")).unwrap();
    lab.begin(command_on(lab, &bundle, &RESTORE, "a")).end().ok();
    assert_eq!(mountinfo(lab), before);
    assert_eq!(lab.exec("a", &[], &["cat", "/conf/word", "/tmp/note"]).ok(), "wordkept");
    for (path, end) in [("/conf/x", "EROFS"), ("/x", "EROFS"), ("/test/x", "ok")] {
        let said = lab.exec("a", &[], &["write-each", "x", path]).ok();
        assert_eq!(said, format!("{path} {end}\n"));
    }
    lab.delete("a");
}

fn memory_is_saved_before(lab: &Lab) {
    criu(lab);
    let bundle = lab.bundle(&["hear"]);
    let mut pipes = Pipes::start(command_on(lab, &bundle, &RUN, "a"));
    pipes.talk("one");
    save(lab, &["--pre-dump", "--image-path", "parent"], "a");
    assert_eq!(lab.status("a"), "running");
    pipes.talk("two");
    save(lab, &["--parent-path", "../parent", "--image-path", "images"], "a");
    assert!(lab.path("images/parent").exists());
    let verb = [&RESTORE as &[_], &["--image-path", "images"]].concat();
    pipes = Pipes::start(command_on(lab, &bundle, &verb, "a"));
    pipes.talk("three");
    lab.delete("a");
}

fn memory_is_fetched_later(lab: &Lab) {
    criu(lab);
    let feature = Command::new("criu").args(["check", "--feature", "uffd-noncoop"]).status();
    if !feature.is_ok_and(|status| status.success()) {
        lab.skip("CRIU can't fetch memory later here");
    }
    const PORT: &str = "27277";
    let bundle = lab.bundle(&["hear"]);
    let mut pipes = Pipes::start(command_on(lab, &bundle, &RUN, "a"));
    pipes.talk("one");
    let (mut ready, theirs) = std::io::pipe().unwrap();
    // The descriptor is its standard output: a number that it has for sure.
    let mut command = lab.command(&["checkpoint", "--lazy-pages", "--status-fd", "1"]);
    let server = format!("0.0.0.0:{PORT}");
    command.args(["--page-server", &server, "--image-path", "images"]).args(IGNORE);
    command.arg(lab.id("a")).current_dir(lab.folder()).stdin(Stdio::null()).stdout(theirs);
    let mut saving = command.spawn().unwrap();
    drop(command);
    let mut byte = [1; 2];
    assert_eq!(std::io::Read::read(&mut ready, &mut byte).unwrap(), 1);
    assert_eq!(byte[0], 0);
    assert!(lab.path("images/inventory.img").exists());
    let mut daemon = Command::new("criu")
        .args(["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", PORT])
        .args(["-D", "images"])
        .current_dir(lab.folder())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let verb = [&RESTORE as &[_], &["--lazy-pages", "--image-path", "images"]].concat();
    let verb = [&verb[..], &["--work-path", "images"]].concat();
    pipes = Pipes::start(command_on(lab, &bundle, &verb, "b"));
    pipes.talk("two");
    assert!(saving.wait().unwrap().success());
    assert!(daemon.wait().unwrap().success());
    lab.delete("b");
}

fn it_comes_back_into_the_network_that_is_there(lab: &Lab) {
    criu(lab);
    lab.run(&lab.bundle(&["sleep"]), "other", &["--detach"]).ok();
    let network = format!("/proc/{}/ns/net", lab.state("other")["pid"]);
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.namespace("network", Some(&network));
    quietly(command_on(lab, &bundle, &RUN, "a"));
    save(lab, &[], "a");
    lab.begin(command_on(lab, &bundle, &RESTORE, "a")).end().ok();
    let found = fs::read_link(format!("/proc/{}/ns/net", lab.state("a")["pid"])).unwrap();
    assert_eq!(found, fs::read_link(&network).unwrap());
    lab.delete("a");
    lab.delete("other");
}

fn a_network_device_is_not_moved_again(lab: &Lab) {
    criu(lab);
    let (network, pod) = (Network::new(lab), Network::empty());
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["netDevices"] = json!({"spec0": {}});
    bundle.namespace("network", Some(&pod.path()));
    quietly(network.command(&command_on(lab, &bundle, &RUN, "a")));
    save(lab, &[], "a");
    lab.begin(network.command(&command_on(lab, &bundle, &RESTORE, "a"))).end().ok();
    assert_eq!(lab.status("a"), "running");
    is_whole(&pod.path(), "spec0");
    lab.delete("a");
}

const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

fn a_new_network_gets_its_devices_again(lab: &Lab) {
    criu(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["netDevices"] = json!({"spec0": {}});
    // A parameter of one that a hook makes, as networks' plugins do.
    let hook = "exec nsenter --net=/proc/$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')/ns/net \
                ip link add hook0 type veth peer name hook1";
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", hook], "env": [PATH]});
    bundle.config["hooks"] = json!({ "createRuntime": [hook] });
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.conf.hook0.proxy_arp": "1"});
    // A device of this kind ends with its namespace, and its peer's.
    let network = Network::new(lab);
    quietly(network.command(&command_on(lab, &bundle, &RUN, "a")));
    save(lab, &[], "a");
    let restore = command_on(lab, &bundle, &RESTORE, "a");
    let error = lab.begin(Network::empty().command(&restore)).end().fails();
    assert!(error.contains("(config.json: /linux/netDevices/spec0): no such device"), "{error}");
    let network = Network::new(lab);
    lab.begin(network.command(&restore)).end().ok();
    let inside = format!("/proc/{}/ns/net", lab.state("a")["pid"]);
    is_whole(&inside, "spec0");
    let loopback = ip(&inside, "link show lo");
    assert!(loopback.contains("<LOOPBACK,UP"), "{loopback}");
    let mut proxy = Command::new("nsenter");
    proxy.arg(format!("--net={inside}")).args(["cat", "/proc/sys/net/ipv4/conf/hook0/proxy_arp"]);
    assert_eq!(proxy.output().unwrap().stdout, b"1\n");
    lab.delete("a");
}

fn it_comes_back_into_another_cgroup(lab: &Lab) {
    criu(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.cgroup(lab, &lab.id("one"));
    bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 17 });
    quietly(command_on(lab, &bundle, &RUN, "a"));
    save(lab, &[], "a");
    bundle.cgroup(lab, &lab.id("two"));
    let pid_file = lab.path("pid");
    let verb = [&RESTORE as &[_], &["--pid-file", pid_file.to_str().unwrap()]].concat();
    lab.begin(command_on(lab, &bundle, &verb, "a")).end().ok();
    let pid = fs::read_to_string(pid_file).unwrap();
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(text.contains(&lab.id("two")) && !text.contains(&lab.id("one")), "{text}");
    let path = text.lines().last().unwrap().rsplit(':').next().unwrap();
    let limit = Path::new(crate::harness::CGROUPS).join(path.trim_start_matches('/'));
    assert_eq!(fs::read_to_string(limit.join("pids.max")).unwrap(), "17\n");
    lab.delete("a");
}

fn further_processes_come_back_too(lab: &Lab) {
    criu(lab);
    let bundle = lab.bundle(&["sleep"]);
    quietly(command_on(lab, &bundle, &RUN, "a"));
    // One that is the init's child: CRIU saves no other.
    let mut command = lab.command(&["exec"]);
    command.arg(lab.id("a")).args(["/bin/probe", "leave", "quietly"]);
    quietly(command);
    save(lab, &[], "a");
    lab.begin(command_on(lab, &bundle, &RESTORE, "a")).end().ok();
    let pids: Vec<i32> =
        serde_json::from_str(&lab.on("a", &["ps", "--format", "json"], &[]).ok()).unwrap();
    assert_eq!(pids.len(), 2);
    lab.delete("a");
}

fn ids_of_its_own_come_back(lab: &Lab) {
    criu(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.user_namespace();
    // CRIU does not mount cgroups in such a namespace.
    bundle.without_namespace("cgroup");
    quietly(command_on(lab, &bundle, &RUN, "a"));
    let before = mountinfo(lab);
    save(lab, &[], "a");
    lab.begin(command_on(lab, &bundle, &RESTORE, "a")).end().ok();
    assert_eq!(mountinfo(lab), before);
    let map = lab.exec("a", &[], &["cat", "/proc/self/uid_map"]).ok();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "1000"]);
    lab.delete("a");
}

/// CRIU mounts cgroup v2 without options, which takes those of the machine's away: the
/// leak oracle looks at them too.
fn in_the_foreground_its_status_is_ours(lab: &Lab) {
    criu(lab);
    let bundle = lab.bundle(&["until", "/proc/1/root/work/go", "/dev/shm/runs"]);
    quietly(command_on(lab, &bundle, &RUN, "a"));
    save(lab, &[], "a");
    let verb = ["restore", IGNORE[0], IGNORE[1]];
    let running = lab.begin(command_on(lab, &bundle, &verb, "a"));
    until("it to run", || lab.root().join(lab.id("a")).exists() && lab.status("a") == "running");
    fs::write(bundle.rootfs().join("work/go"), "").unwrap();
    running.end().ok();
    assert_eq!(lab.on("a", &["state"], &[]).fails(), "container does not exist");
}

/// Whoever has the root elsewhere changes where a mount would go.
fn a_link_that_was_changed_is_noticed(lab: &Lab) {
    criu(lab);
    let mut bundle = lab.bundle(&["sleep"]);
    for name in ["secret", "open"] {
        fs::create_dir(lab.path(name)).unwrap();
    }
    let rootfs = bundle.rootfs();
    fs::create_dir_all(rootfs.join("real")).unwrap();
    fs::create_dir_all(rootfs.join("other")).unwrap();
    symlink("/real", rootfs.join("conf")).unwrap();
    bundle.mount("/conf", "bind", lab.path("secret").to_str().unwrap(), &["bind", "ro"]);
    bundle.mount("/open", "bind", lab.path("open").to_str().unwrap(), &["bind"]);
    quietly(command_on(lab, &bundle, &RUN, "a"));
    save(lab, &[], "a");
    fs::remove_file(rootfs.join("conf")).unwrap();
    symlink("/open", rootfs.join("conf")).unwrap();
    let message = lab.begin(command_on(lab, &bundle, &RESTORE, "a")).end().fails();
    assert!(message.contains("criu has mounted something else at \"/conf\""), "{message}");
}
