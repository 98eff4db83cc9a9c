//! The order in which ends are told, whatever is slow.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost::Message;
use serde_json::{Value, json};

use crate::client::{Client, World, address_of, end, until};
use crate::messages::events::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskStart,
};
use crate::messages::task::{
    CreateTaskRequest, DeleteResponse, ExecProcessRequest, KillRequest, PidResponse, PidsResponse,
    ProcessRequest, StateResponse, Status, WaitResponse,
};
use crate::messages::{Any, Empty};
use crate::shell;
use crate::terminals::scripted;

/// How many tasks the test of the order has, unless `ORLOP_SHIM_TASKS` says so.
const TASKS: usize = 48;
/// At the same time.
const CLIENTS: usize = 4;

pub(crate) fn exec_of(world: &World, name: &str, exec: &str, stdin: &str) -> ExecProcessRequest {
    let process = json!({ "user": {}, "cwd": "/", "args": ["/program", "start"] });
    ExecProcessRequest {
        id: world.id(name),
        exec_id: exec.to_owned(),
        stdin: stdin.to_owned(),
        spec: Some(Any { type_url: String::new(), value: process.to_string().into() }),
        ..ExecProcessRequest::default()
    }
}

pub(crate) fn change(world: &World, name: &str, change: impl FnOnce(&mut Value)) {
    let path = world.path(name).join("config.json");
    let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

pub(crate) fn share_pids(config: &mut Value) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
}

#[test]
fn who_has_no_pids_of_his_own_ends_with_the_init() {
    let Some(world) = World::new("who_has_no_pids_of_his_own_ends_with_the_init") else { return };
    world.bundle("a", &["/program", "start"]);
    change(&world, "a", share_pids);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let stdin = world.fifo("stdin");
    let _hold = File::options().read(true).write(true).open(&stdin).unwrap();
    let creation = CreateTaskRequest { stdin: stdin.clone(), ..world.creation("a") };
    let _: PidResponse = client.ask("Create", &creation);
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let _: Empty = client.ask("Exec", &exec_of(&world, "a", "one", &stdin));
    let exec = ProcessRequest { exec_id: "one".to_owned(), ..world.of("a") };
    let _: PidResponse = client.ask("Start", &exec);
    let kill = KillRequest { id: world.id("a"), signal: 15, ..KillRequest::default() };
    let _: Empty = client.ask("Kill", &kill);
    let ended: WaitResponse = client.ask("Wait", &exec);
    assert_eq!(ended.exit_status, 137);
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 143);
    let events: Vec<_> = (0..6).map(|_| world.event()).collect();
    let told: Vec<_> = events.iter().map(|(topic, event)| told(topic, event).1).collect();
    let exits = [Told::Ended("one".to_owned(), 137), Told::Ended(String::new(), 143)];
    assert_eq!(told[4..], exits);
    let _: DeleteResponse = client.ask("Delete", &exec);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

/// Who waits is told of it when all others are, whenever he has begun to.
#[test]
fn the_end_of_the_init_is_told_to_nobody_before_an_exec_is_over() {
    let test = "the_end_of_the_init_is_told_to_nobody_before_an_exec_is_over";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", &["/program", "start"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let (stdin, go) = (world.fifo("stdin"), world.path("go"));
    let _held = File::options().read(true).write(true).open(&stdin).unwrap();
    let _: PidResponse = client.ask("Create", &CreateTaskRequest { stdin, ..world.creation("a") });
    let _: PidResponse = client.ask("Start", &world.of("a"));
    // It is being started until its logger is ready.
    let script = format!("until [ -e {} ]; do sleep 0.01; done", go.display());
    let stdout = shell("binary", &script);
    let exec = ExecProcessRequest { stdout, ..exec_of(&world, "a", "one", "") };
    let _: Empty = client.ask("Exec", &exec);
    let one = ProcessRequest { exec_id: "one".to_owned(), ..world.of("a") };
    let started = client.send("Start", &one);
    let kill = world.sigkill("a");
    let _: Empty = client.ask("Kill", &kill);
    until("its end", || {
        let state: StateResponse = client.ask("State", &world.of("a"));
        state.status() == Status::Stopped
    });
    let wait = client.send("Wait", &world.of("a"));
    let _: StateResponse = client.ask("State", &world.of("a"));
    assert!(client.early.is_empty(), "it was told too early");
    fs::write(&go, "").unwrap();
    let ended = WaitResponse::decode(&*client.receive(wait).unwrap()).unwrap();
    assert_eq!(ended.exit_status, 137);
    client.receive(started).unwrap_err();
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

/// Not only those of the shim's own process group, in which no container is.
#[test]
fn orphans_are_waited_for() {
    let Some(world) = World::new("orphans_are_waited_for") else { return };
    let script = "sh -c 'sleep 1000 & exec true'; exec sleep 1001";
    scripted(&world, script, false);
    change(&world, "a", share_pids);
    let mut client = world.serve("a");
    let address = address_of(&client);
    // A deletion of another task takes its time meanwhile.
    world.bundle("b", &["/program", "-v"]);
    let go = world.path("go");
    change(&world, "b", |config| {
        let script = format!("until [ -e {} ]; do sleep 0.01; done", go.display());
        let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
        config["hooks"]["poststop"] = hook;
    });
    let _: PidResponse = client.ask("Create", &world.creation("b"));
    let slow = client.send("Delete", &world.of("b"));
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let started: PidResponse = client.ask("Start", &world.of("a"));
    let mut orphan = None;
    until("the orphan", || {
        let found: PidsResponse = client.ask("Pids", &world.of("a"));
        let pids: Vec<_> = found.processes.iter().map(|process| process.pid).collect();
        let is_alone = pids.len() == 2 && parent_of(pids[0]) == parent_of(pids[1]);
        orphan = pids.into_iter().find(|pid| *pid != started.pid).filter(|_| is_alone);
        orphan.is_some()
    });
    let orphan = orphan.unwrap();
    kill(Pid::from_raw(orphan.cast_signed()), Signal::SIGKILL).unwrap();
    until("its end", || !Path::new(&format!("/proc/{orphan}")).exists());
    fs::write(&go, "").unwrap();
    client.receive(slow).unwrap();
    let kill = world.sigkill("a");
    let _: Empty = client.ask("Kill", &kill);
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 137);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

fn parent_of(pid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find(|line| line.starts_with("PPid:")).map(ToOwned::to_owned)
}

/// Numbers that look as if nobody had chosen them, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // Knuth's, of which the high bits are good.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }

    fn pause(&mut self) {
        if self.below(3) == 0 {
            thread::sleep(Duration::from_micros(self.below(4000)));
        }
    }
}

/// What the daemon was told, in its order.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Created,
    Started,
    Added(String),
    ExecStarted(String),
    /// With the name of an exec, and the status.
    Ended(String, u32),
    Deleted(u32),
}

/// Whose event it is, and what it says.
fn told(topic: &str, event: &Any) -> (String, Told) {
    let bytes = &*event.value;
    match topic {
        "/tasks/create" => (TaskCreate::decode(bytes).unwrap().container_id, Told::Created),
        "/tasks/start" => (TaskStart::decode(bytes).unwrap().container_id, Told::Started),
        "/tasks/exec-added" => {
            let event = TaskExecAdded::decode(bytes).unwrap();
            (event.container_id, Told::Added(event.exec_id))
        }
        "/tasks/exec-started" => {
            let event = TaskExecStarted::decode(bytes).unwrap();
            (event.container_id, Told::ExecStarted(event.exec_id))
        }
        "/tasks/exit" => {
            let TaskExit { container_id, id, exit_status, .. } = TaskExit::decode(bytes).unwrap();
            let exec = if id == container_id { String::new() } else { id };
            (container_id, Told::Ended(exec, exit_status))
        }
        "/tasks/delete" => {
            let event = TaskDelete::decode(bytes).unwrap();
            (event.container_id, Told::Deleted(event.exit_status))
        }
        other => panic!("what is {other}?"),
    }
}

/// One life of a task: what its client saw of it.
struct Life {
    id: String,
    execs: Vec<(String, Option<u32>)>,
    status: u32,
}

fn live(world: &World, client: &mut Client, number: usize, stdin: &str) -> Life {
    let mut dice = Dice(number as u64 * 7919 + 1);
    let name = format!("t{number}");
    // It ends at once, or when it is told to.
    let quick = dice.below(2) == 0;
    world.bundle(&name, &["/program", if quick { "-v" } else { "start" }]);
    let slow = |dice: &mut Dice| {
        let time = format!("0.{:03}", dice.below(30));
        json!([{ "path": "/bin/sleep", "args": ["sleep", time] }])
    };
    change(world, &name, |config| {
        if dice.below(3) == 0 {
            share_pids(config);
        }
        // The step is done long after what it does has happened.
        for hook in ["createRuntime", "poststart", "poststop"] {
            if dice.below(3) == 0 {
                config["hooks"][hook] = slow(&mut dice);
            }
        }
    });
    let creation = CreateTaskRequest { stdin: stdin.to_owned(), ..world.creation(&name) };
    let _: PidResponse = client.ask("Create", &creation);
    dice.pause();
    let _: PidResponse = client.ask("Start", &world.of(&name));
    let mut execs = Vec::new();
    if !quick {
        for number in 0..dice.below(3) {
            let exec_id = format!("e{number}");
            dice.pause();
            let _: Empty = client.ask("Exec", &exec_of(world, &name, &exec_id, stdin));
            execs.push(exec_id);
        }
    }
    // All at once, and the init's end among them.
    let exec = |exec_id: &str| ProcessRequest { exec_id: exec_id.to_owned(), ..world.of(&name) };
    let starts: Vec<_> = execs.iter().map(|one| client.send("Start", &exec(one))).collect();
    if !quick {
        thread::sleep(Duration::from_millis(dice.below(60)));
        let kill = world.sigkill(&name);
        let killed = client.send("Kill", &kill);
        client.receive(killed).unwrap();
    }
    let started: Vec<_> = starts.into_iter().map(|start| client.receive(start)).collect();
    let mut ended = Vec::new();
    for (exec_id, start) in execs.into_iter().zip(started) {
        let status = start.is_ok().then(|| {
            let ended: WaitResponse = client.ask("Wait", &exec(&exec_id));
            ended.exit_status
        });
        let _: DeleteResponse = client.ask("Delete", &exec(&exec_id));
        ended.push((exec_id, status));
    }
    let status = client.ask::<WaitResponse>("Wait", &world.of(&name)).exit_status;
    assert_eq!(status, if quick { 0 } else { 137 });
    dice.pause();
    let deleted: DeleteResponse = client.ask("Delete", &world.of(&name));
    assert_eq!(deleted.exit_status, status);
    fs::remove_dir_all(world.path(&name)).unwrap();
    Life { id: world.id(&name), execs: ended, status }
}

/// What must have been told of it: each thing once, and these before those.
fn check(life: &Life, told: &[Told]) {
    let Life { id, execs, status } = life;
    let at = |what: Told| {
        let found: Vec<_> =
            told.iter().enumerate().filter(|(_, one)| **one == what).map(|(at, _)| at).collect();
        assert_eq!(found.len(), 1, "{id}: {what:?} in {told:?}");
        found[0]
    };
    let (created, started) = (at(Told::Created), at(Told::Started));
    let (ended, deleted) = (at(Told::Ended(String::new(), *status)), at(Told::Deleted(*status)));
    let mut count = 4;
    assert!(created < started && started < ended && ended < deleted, "{id}: {told:?}");
    for (exec, status) in execs {
        let added = at(Told::Added(exec.clone()));
        count += 1;
        assert!(started < added, "{id}: {told:?}");
        if let Some(status) = status {
            let begun = at(Told::ExecStarted(exec.clone()));
            let done = at(Told::Ended(exec.clone(), *status));
            count += 2;
            assert!(added < begun && begun < done && done < ended, "{id}: {told:?}");
        }
    }
    assert_eq!(told.len(), count, "{id}: {told:?}");
}

/// Hooks, clients and the daemon are slow at random, and the daemon's connection breaks.
#[test]
fn nothing_is_lost_told_twice_or_out_of_order() {
    let count = std::env::var("ORLOP_SHIM_TASKS").ok().and_then(|count| count.parse().ok());
    let count: usize = count.unwrap_or(TASKS);
    let (mut dice, mut asker) = (Dice(42), None::<Client>);
    let (address, to) = std::sync::mpsc::channel::<String>();
    let daemon = move |topic: &str, event: &Any| {
        dice.pause();
        if dice.below(50) == 0 {
            return false;
        }
        if topic == "/tasks/exit" {
            // As dockerd does, to which an end is none while the task says that it runs.
            let asker = asker.get_or_insert_with(|| Client::to(&to.recv().unwrap()));
            let TaskExit { container_id, id, exit_status, .. } =
                TaskExit::decode(&*event.value).unwrap();
            let exec_id = if id == container_id { String::new() } else { id };
            let request = ProcessRequest { id: container_id, exec_id };
            let stream = asker.send("State", &request);
            match asker.receive(stream) {
                Ok(state) => {
                    let state = StateResponse::decode(&*state).unwrap();
                    assert_eq!((state.status(), state.exit_status), (Status::Stopped, exit_status));
                }
                // It was deleted meanwhile.
                Err((code, words)) => assert_eq!(code, 5, "{words}"),
            }
        }
        true
    };
    let name = "nothing_is_lost_told_twice_or_out_of_order";
    let Some(world) = World::with(name, daemon) else { return };
    world.bundle("first", &["/program", "-v"]);
    let client = world.serve("first");
    let socket = address_of(&client);
    let path = format!("unix://{}", socket.display());
    address.send(path.clone()).unwrap();
    let stdin = world.fifo("stdin");
    let _hold = File::options().read(true).write(true).open(&stdin).unwrap();
    let lives = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for first in 0..CLIENTS {
            let (world, path, stdin, lives) = (&world, &path, &stdin, &lives);
            scope.spawn(move || {
                let mut client = Client::to(path);
                for number in (first..count).step_by(CLIENTS) {
                    let life = live(world, &mut client, number, stdin);
                    lives.lock().unwrap().push(life);
                }
            });
        }
    });
    let (mut all, mut deleted) = (BTreeMap::<String, Vec<Told>>::new(), 0);
    let mut keep = |(topic, event): (String, Any)| {
        let (id, what) = told(&topic, &event);
        all.entry(id).or_default().push(what);
    };
    // A shim that is told to end has some seconds for what is not told yet.
    while deleted < count {
        let event = world.event();
        deleted += usize::from(event.0 == "/tasks/delete");
        keep(event);
    }
    end(&world, client, &socket);
    while let Some(event) = world.last_event() {
        keep(event);
    }
    let lives = lives.into_inner().unwrap();
    assert_eq!((lives.len(), all.len()), (count, count));
    for life in lives {
        check(&life, &all[&life.id]);
    }
}
