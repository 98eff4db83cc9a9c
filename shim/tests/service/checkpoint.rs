//! Checkpoints and what comes out of them. Where CRIU does not work, what does not need it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use prost::Message;
use serde_json::{Value, json};

use crate::client::{Client, World, address_of, end, until};
use crate::messages::events::{TaskCheckpointed, TaskCreate};
use crate::messages::options::{CHECKPOINT, CheckpointOptions};
use crate::messages::task::{
    CheckpointTaskRequest, CloseIoRequest, ConnectResponse, CreateTaskRequest, DeleteResponse,
    ExecProcessRequest, KillRequest, PidResponse, ResizePtyRequest, StateResponse, Status,
    WaitResponse,
};
use crate::messages::{Any, Empty, Mount};

const INVALID: i32 = 3;
const NOT_FOUND: i32 = 5;
const WRONG_STATE: i32 = 9;

/// A world in which CRIU works.
fn with_criu(test: &str) -> Option<World> {
    let world = World::new(test)?;
    let mut check = Command::new("criu");
    check.arg("check").stdout(Stdio::null()).stderr(Stdio::null());
    if !check.status().is_ok_and(|status| status.success()) {
        println!("SKIP {test}: CRIU does not work here");
        return None;
    }
    Some(world)
}

fn checkpoint(world: &World, path: &str, options: &CheckpointOptions) -> CheckpointTaskRequest {
    let options = Any { type_url: CHECKPOINT.to_owned(), value: options.encode_to_vec() };
    CheckpointTaskRequest { id: world.id("a"), path: path.to_owned(), options: Some(options) }
}

/// Where the images of a test are.
fn images(world: &World, name: &str) -> String {
    world.path(name).to_str().unwrap().to_owned()
}

/// Reads what is said to it, and says at its end what it is and what it has heard.
const PROGRAM: &[&str] = &["/program", "-info"];

fn open(path: &str) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// What is written until these words come.
fn hear(from: &mut File, words: &str) -> String {
    let mut heard = String::new();
    until(words, || {
        let mut text = [0; 4096];
        let count = from.read(&mut text).unwrap();
        heard.push_str(&String::from_utf8_lossy(&text[..count]));
        heard.contains(words)
    });
    heard
}

/// Says something to a process that runs, which has read it then.
fn say(to: &mut File, what: &[u8], pid: u32) {
    let of = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let read = || {
        let io = of("io");
        let count = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
        count.parse::<usize>().unwrap()
    };
    until("the program", || of("cmdline").starts_with("/program"));
    let before = read();
    to.write_all(what).unwrap();
    until("the program's reading", || read() >= before + what.len());
}

fn status(client: &mut Client, world: &World) -> (Status, u32) {
    let state: StateResponse = client.ask("State", &world.of("a"));
    (state.status(), state.pid)
}

fn wait(client: &mut Client, world: &World) -> u32 {
    client.ask::<WaitResponse>("Wait", &world.of("a")).exit_status
}

fn delete(client: &mut Client, world: &World) {
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
}

fn start(client: &mut Client, world: &World) -> u32 {
    client.ask::<PidResponse>("Start", &world.of("a")).pid
}

#[test]
fn without_images_a_start_fails_and_the_task_can_be_deleted() {
    let test = "without_images_a_start_fails_and_the_task_can_be_deleted";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", PROGRAM);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let stdout = world.fifo("stdout");
    let _held = open(&stdout);
    let images = images(&world, "none");
    let creation = CreateTaskRequest { checkpoint: images.clone(), stdout, ..world.creation("a") };
    let relative = CreateTaskRequest { checkpoint: "none".into(), ..creation.clone() };
    assert_eq!(client.refused("Create", &relative).0, INVALID);
    let parent = CreateTaskRequest { parent_checkpoint: images.clone(), ..creation.clone() };
    let words = "a parent checkpoint is not supported";
    assert_eq!(client.refused("Create", &parent), (INVALID, words.into()));
    assert_eq!(client.ask::<PidResponse>("Create", &creation).pid, 0);
    assert_eq!(status(&mut client, &world), (Status::Created, 0));
    let exec = ExecProcessRequest {
        id: world.id("a"),
        exec_id: "one".into(),
        spec: Some(Any { type_url: String::new(), value: b"{}".to_vec() }),
        ..ExecProcessRequest::default()
    };
    assert_eq!(client.refused("Exec", &exec).0, WRONG_STATE);
    let mut waiter = Client::to(&format!("unix://{}", address.display()));
    let waited = waiter.send("Wait", &world.of("a"));
    let (_, error) = client.refused("Start", &world.of("a"));
    assert!(error.starts_with("OCI runtime restore failed: "), "{error}");
    assert!(error.ends_with(&format!("{images:?}: no such file or directory")), "{error}");
    let ended = WaitResponse::decode(&*waiter.receive(waited).unwrap()).unwrap();
    assert_eq!(ended.exit_status, 255);
    assert_eq!(status(&mut client, &world), (Status::Stopped, 0));
    assert_eq!(client.refused("Start", &world.of("a")).0, WRONG_STATE);
    delete(&mut client, &world);
    // It has never been started.
    assert_eq!(world.topics(2), ["/tasks/create", "/tasks/delete"]);
    end(&world, client, &address);
}

#[test]
fn a_task_that_was_not_restored_yet_can_be_killed() {
    let test = "a_task_that_was_not_restored_yet_can_be_killed";
    let Some(world) = World::new(test) else { return };
    let rootfs = world.bundle("a", PROGRAM).join("rootfs");
    let root = world.path("root");
    fs::rename(&rootfs, &root).unwrap();
    fs::create_dir(&rootfs).unwrap();
    let mount = Mount {
        kind: "bind".into(),
        source: root.to_str().unwrap().to_owned(),
        target: String::new(),
        options: vec!["rbind".into()],
    };
    let mut client = world.serve("a");
    let address = address_of(&client);
    let path = images(&world, "images");
    let creation =
        CreateTaskRequest { checkpoint: path.clone(), rootfs: vec![mount], ..world.creation("a") };
    let _: PidResponse = client.ask("Create", &creation);
    // What a client adds to the root before the start is in it.
    fs::write(rootfs.join("added"), "").unwrap();
    assert!(root.join("added").exists());
    let kill = |signal, all| KillRequest { id: world.id("a"), signal, all, exec_id: String::new() };
    assert_eq!(client.refused("Kill", &kill(1, false)).0, WRONG_STATE);
    let _: Empty = client.ask("Kill", &kill(9, true));
    assert_eq!(wait(&mut client, &world), 137);
    assert_eq!(status(&mut client, &world), (Status::Stopped, 0));
    assert_eq!(client.refused("Kill", &kill(9, false)).0, NOT_FOUND);
    assert_eq!(client.refused("Start", &world.of("a")).0, WRONG_STATE);
    delete(&mut client, &world);
    assert!(!rootfs.join("added").exists());
    let (topic, created) = world.event();
    let created = TaskCreate::decode(&*created.value).unwrap();
    assert_eq!((&*topic, created.checkpoint, created.pid), ("/tasks/create", path, 0));
    assert_eq!(world.topics(2), ["/tasks/exit", "/tasks/delete"]);
    end(&world, client, &address);
}

#[test]
fn a_checkpoint_that_cannot_be_made_is_refused() {
    let test = "a_checkpoint_that_cannot_be_made_is_refused";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", PROGRAM);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let path = images(&world, "images");
    let good = checkpoint(&world, &path, &CheckpointOptions::default());
    assert_eq!(client.refused("Checkpoint", &good).0, NOT_FOUND);
    let stdin = world.fifo("stdin");
    let hold = open(&stdin);
    let _: PidResponse = client.ask("Create", &CreateTaskRequest { stdin, ..world.creation("a") });
    assert_eq!(client.refused("Checkpoint", &good).0, WRONG_STATE);
    start(&mut client, &world);
    let mode = CheckpointOptions { cgroups_mode: "hard".into(), ..Default::default() };
    let words = "there is no cgroups mode \"hard\"";
    let refused = client.refused("Checkpoint", &checkpoint(&world, &path, &mode));
    assert_eq!(refused, (INVALID, words.into()));
    let relative = CheckpointTaskRequest { path: "images".into(), ..good.clone() };
    assert_eq!(client.refused("Checkpoint", &relative).0, INVALID);
    let other = Any { type_url: "other".into(), value: Vec::new() };
    let other = CheckpointTaskRequest { options: Some(other), ..good.clone() };
    assert_eq!(client.refused("Checkpoint", &other).0, INVALID);
    assert_eq!(status(&mut client, &world).0, Status::Running);
    assert!(!Path::new(&path).exists());
    drop(hold);
    let close = CloseIoRequest { id: world.id("a"), stdin: true, ..Default::default() };
    let _: Empty = client.ask("CloseIO", &close);
    assert_eq!(wait(&mut client, &world), 0);
    assert_eq!(client.refused("Checkpoint", &good).0, WRONG_STATE);
    delete(&mut client, &world);
    end(&world, client, &address);
}

#[test]
fn a_task_goes_on_and_goes_away_and_comes_back() {
    let test = "a_task_goes_on_and_goes_away_and_comes_back";
    let Some(world) = with_criu(test) else { return };
    world.bundle("a", PROGRAM);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let (stdin, stdout) = (world.fifo("stdin"), world.fifo("stdout"));
    let (mut to, mut from) = (open(&stdin), open(&stdout));
    let creation = CreateTaskRequest { stdin, stdout, ..world.creation("a") };
    let first: PidResponse = client.ask("Create", &creation);
    start(&mut client, &world);
    let told = Any { type_url: "told before".to_owned(), value: Vec::new() };
    say(&mut to, &told.encode_to_vec(), first.pid);
    // As containerd's client does it.
    let _: Empty = client.ask("Pause", &world.of("a"));
    let going = CheckpointOptions { work_path: images(&world, "log"), ..Default::default() };
    let (one, two) = (images(&world, "one"), images(&world, "two"));
    let _: Empty = client.ask("Checkpoint", &checkpoint(&world, &one, &going));
    assert_eq!(status(&mut client, &world), (Status::Paused, first.pid));
    let _: Empty = client.ask("Resume", &world.of("a"));
    assert!(world.path("log/dump.log").exists() && world.path("one/pstree.img").exists());
    let mut waiter = Client::to(&format!("unix://{}", address.display()));
    let waited = waiter.send("Wait", &world.of("a"));
    let ending =
        CheckpointOptions { exit: true, image_path: two.clone(), ..CheckpointOptions::default() };
    let _: Empty = client.ask("Checkpoint", &checkpoint(&world, &one, &ending));
    let ended = WaitResponse::decode(&*waiter.receive(waited).unwrap()).unwrap();
    assert_eq!(ended.exit_status, 137);
    assert_eq!(status(&mut client, &world).0, Status::Stopped);
    delete(&mut client, &world);
    let events: Vec<_> = (0..8).map(|_| world.event()).collect();
    let topics = ["create", "start", "paused", "checkpointed", "resumed", "checkpointed", "exit"];
    let topics = topics.into_iter().chain(["delete"]).map(|name| format!("/tasks/{name}"));
    assert!(events.iter().map(|(topic, _)| topic.clone()).eq(topics), "{events:?}");
    let places = [3, 5].map(|at| TaskCheckpointed::decode(&*events[at].1.value).unwrap());
    assert_eq!(places.map(|event| event.checkpoint), [one, two.clone()]);

    let back = CreateTaskRequest { checkpoint: two, ..creation };
    assert_eq!(client.ask::<PidResponse>("Create", &back).pid, 0);
    let pid = start(&mut client, &world);
    assert_eq!(status(&mut client, &world), (Status::Running, pid));
    let shim: ConnectResponse = client.ask("Connect", &world.of("a"));
    let parent = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(parent.contains(&format!("\nPPid:\t{}\n", shim.shim_pid)), "{parent}");
    let told = Any { type_url: String::new(), value: b"told afterwards".to_vec() };
    say(&mut to, &told.encode_to_vec(), pid);
    drop(to);
    let close = CloseIoRequest { id: world.id("a"), stdin: true, ..Default::default() };
    let _: Empty = client.ask("CloseIO", &close);
    let heard = hear(&mut from, "ociVersionMax");
    assert!(heard.contains("told before") && heard.contains("told afterwards"), "{heard}");
    assert_eq!(wait(&mut client, &world), 0);
    delete(&mut client, &world);
    let topics = world.topics(4);
    assert_eq!(topics, ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]);
    end(&world, client, &address);
}

#[test]
fn a_terminal_comes_back_to_the_shim() {
    let Some(world) = with_criu("a_terminal_comes_back_to_the_shim") else { return };
    let config = world.bundle("a", PROGRAM).join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    spec["process"]["terminal"] = json!(true);
    fs::write(&config, spec.to_string()).unwrap();
    let mut client = world.serve("a");
    let address = address_of(&client);
    let (stdin, stdout) = (world.fifo("stdin"), world.fifo("stdout"));
    let (mut say, mut heard) = (open(&stdin), open(&stdout));
    let creation = CreateTaskRequest { stdin, stdout, terminal: true, ..world.creation("a") };
    let _: PidResponse = client.ask("Create", &creation);
    start(&mut client, &world);
    let path = images(&world, "images");
    let ending = CheckpointOptions { exit: true, terminal: true, ..CheckpointOptions::default() };
    let _: Empty = client.ask("Checkpoint", &checkpoint(&world, &path, &ending));
    assert_eq!(wait(&mut client, &world), 137);
    delete(&mut client, &world);
    let _: PidResponse = client.ask("Create", &CreateTaskRequest { checkpoint: path, ..creation });
    let pid = start(&mut client, &world);
    let size = ResizePtyRequest { id: world.id("a"), width: 91, height: 19, ..Default::default() };
    let _: Empty = client.ask("ResizePty", &size);
    let terminal = File::open(format!("/proc/{pid}/root/dev/pts/0")).unwrap();
    let found = rustix::termios::tcgetwinsize(&terminal).unwrap();
    assert_eq!((found.ws_col, found.ws_row), (91, 19));
    // The end of what is typed.
    say.write_all(b"\x04").unwrap();
    hear(&mut heard, "io.containerd.orlop.v1");
    assert_eq!(wait(&mut client, &world), 0);
    delete(&mut client, &world);
    end(&world, client, &address);
}

#[test]
fn what_criu_says_of_a_failure_can_be_found() {
    let test = "what_criu_says_of_a_failure_can_be_found";
    let Some(world) = with_criu(test) else { return };
    let bundle = world.bundle("a", PROGRAM);
    let program = bundle.join("rootfs/program");
    let mut client = world.serve("a");
    let address = address_of(&client);
    let stdin = world.fifo("stdin");
    let _hold = open(&stdin);
    let creation = CreateTaskRequest { stdin, ..world.creation("a") };
    let created: PidResponse = client.ask("Create", &creation);
    start(&mut client, &world);
    // CRIU saves no removed file that is as long as this.
    fs::rename(&program, world.path("program")).unwrap();
    fs::copy(world.path("program"), &program).unwrap();
    fs::remove_file(world.path("program")).unwrap();
    let path = images(&world, "images");
    let ending = CheckpointOptions { exit: true, ..CheckpointOptions::default() };
    let asked = checkpoint(&world, &path, &ending);
    let (_, error) = client.refused("Checkpoint", &asked);
    let log = bundle.join("work/criu/dump.log");
    assert!(error.starts_with("OCI runtime checkpoint failed: criu failed"), "{error}");
    assert!(error.ends_with(&format!("see {log:?}")) && log.exists(), "{error}");
    assert_eq!(status(&mut client, &world), (Status::Running, created.pid));
    let kill = world.sigkill("a");
    let _: Empty = client.ask("Kill", &kill);
    assert_eq!(wait(&mut client, &world), 137);
    delete(&mut client, &world);

    let _: PidResponse = client.ask("Create", &creation);
    start(&mut client, &world);
    let _: Empty = client.ask("Checkpoint", &asked);
    assert_eq!(wait(&mut client, &world), 137);
    delete(&mut client, &world);
    fs::remove_file(world.path("images/pstree.img")).unwrap();
    let _: PidResponse = client.ask("Create", &CreateTaskRequest { checkpoint: path, ..creation });
    let (_, error) = client.refused("Start", &world.of("a"));
    let log = bundle.join("work/criu/restore.log");
    assert!(error.starts_with("OCI runtime restore failed: criu "), "{error}");
    assert!(error.ends_with(&format!("see {log:?}")) && log.exists(), "{error}");
    delete(&mut client, &world);
    end(&world, client, &address);
}
