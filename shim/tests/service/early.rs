//! What is asked for too early: of a task that is being made, or was never started.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{AT_ONCE, Client, SHIM, World, address_of, end, is_running, until};
use crate::limits::{count, shim_of};
use crate::messages::task::{
    CloseIoRequest, ConnectResponse, CreateTaskRequest, DeleteResponse, ExecProcessRequest,
    PidResponse, ProcessRequest, UpdateTaskRequest, WaitResponse,
};
use crate::messages::{Empty, Mount};
use crate::order::{change, exec_of};
use crate::shell;

const NOT_FOUND: i32 = 5;
const WRONG_STATE: i32 = 9;

/// It ends by its deletion, which everybody hears of and nobody waits for.
#[test]
fn a_task_that_was_not_started_is_deleted_at_once_and_its_end_is_told() {
    let test = "a_task_that_was_not_started_is_deleted_at_once_and_its_end_is_told";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", &["/program", "start"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let (stdin, stdout) = (world.fifo("stdin"), world.fifo("stdout"));
    let creation = CreateTaskRequest { stdin, stdout, ..world.creation("a") };
    let _: PidResponse = client.ask("Create", &creation);
    let _: Empty = client.ask("Exec", &exec_of(&world, "a", "one", ""));
    let one = ProcessRequest { exec_id: "one".to_owned(), ..world.of("a") };
    let mut waiter = Client::to(&format!("unix://{}", address.display()));
    let (init, exec) = (waiter.send("Wait", &world.of("a")), waiter.send("Wait", &one));
    let begun = Instant::now();
    let deleted: DeleteResponse = client.ask("Delete", &world.of("a"));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(deleted.exit_status, 137);
    let ended = WaitResponse::decode(&*waiter.receive(init).unwrap()).unwrap();
    assert_eq!(ended.exit_status, 137);
    // It has never been there.
    assert_eq!(waiter.receive(exec).unwrap_err().0, NOT_FOUND);
    let topics = world.topics(4);
    assert_eq!(topics, ["/tasks/create", "/tasks/exec-added", "/tasks/exit", "/tasks/delete"]);
    end(&world, client, &address);
}

#[test]
fn what_is_being_made_is_not_deleted() {
    let Some(world) = World::new("what_is_being_made_is_not_deleted") else { return };
    world.bundle("a", &["/program", "-v"]);
    let go = world.path("go");
    let script = format!("until [ -e {} ]; do sleep 0.01; done", go.display());
    change(&world, "a", |config| {
        let hook = serde_json::json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
        config["hooks"]["createRuntime"] = hook.clone();
        config["hooks"]["poststart"] = hook;
    });
    let mut client = world.serve("a");
    let address = address_of(&client);
    let mut other = Client::to(&format!("unix://{}", address.display()));
    for method in ["Create", "Start"] {
        let begun = match method {
            "Create" => client.send(method, &world.creation("a")),
            _ => client.send(method, &world.of("a")),
        };
        until("the step", || {
            let connect: ConnectResponse = other.ask("Connect", &world.of("a"));
            method == "Create" || {
                let wait = other.send("State", &world.of("a"));
                let state = other.receive(wait).unwrap();
                let state = crate::messages::task::StateResponse::decode(&*state).unwrap();
                connect.task_pid != 0 && state.status != 1
            }
        });
        assert_eq!(other.refused("Delete", &world.of("a")).0, WRONG_STATE);
        if method == "Create" {
            let update = UpdateTaskRequest { id: world.id("a"), ..UpdateTaskRequest::default() };
            assert_eq!(other.refused("Pids", &world.of("a")).0, WRONG_STATE);
            assert_eq!(other.refused("Update", &update).0, WRONG_STATE);
        }
        fs::write(&go, "").unwrap();
        client.receive(begun).unwrap();
        fs::remove_file(&go).unwrap();
    }
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 0);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

/// The second one's answer would be of a task that has the name by then.
#[test]
fn what_is_being_deleted_is_not_deleted_again() {
    let Some(world) = World::new("what_is_being_deleted_is_not_deleted_again") else { return };
    world.bundle("a", &["/program", "start"]);
    let go = world.path("go");
    let script = format!("until [ -e {} ]; do sleep 0.01; done", go.display());
    change(&world, "a", |config| {
        config["hooks"]["poststop"] =
            serde_json::json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    });
    let mut client = world.serve("a");
    let address = address_of(&client);
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let deleted = client.send("Delete", &world.of("a"));
    // Its deletion has ended it.
    assert_eq!(world.topics(2), ["/tasks/create", "/tasks/exit"]);
    assert_eq!(client.refused("Delete", &world.of("a")).0, WRONG_STATE);
    fs::write(&go, "").unwrap();
    client.receive(deleted).unwrap();
    assert_eq!(world.topics(1), ["/tasks/delete"]);
    end(&world, client, &address);
}

/// A client takes the end of a process of this name for that of the task.
#[test]
fn an_exec_has_another_name_than_its_container() {
    let Some(world) = World::new("an_exec_has_another_name_than_its_container") else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let request = exec_of(&world, "a", &world.id("a"), "");
    let words = format!("id {}: already exists", world.id("a"));
    assert_eq!(client.refused("Exec", &request), (6, words));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

#[test]
fn an_exec_without_its_streams_is_started_when_they_are_there() {
    let test = "an_exec_without_its_streams_is_started_when_they_are_there";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", &["/program", "start"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let stdin = world.fifo("stdin");
    let _held = File::options().read(true).write(true).open(&stdin).unwrap();
    let _: PidResponse = client.ask("Create", &CreateTaskRequest { stdin, ..world.creation("a") });
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let late = world.path("late");
    let stdout = world.path("later").to_str().unwrap().to_owned();
    let exec = exec_of(&world, "a", "one", late.to_str().unwrap());
    let _: Empty = client.ask("Exec", &ExecProcessRequest { stdout, ..exec });
    let one = ProcessRequest { exec_id: "one".to_owned(), ..world.of("a") };
    let shim = shim_of(&world, &mut client);
    let before = count(shim);
    let (_, words) = client.refused("Start", &one);
    assert!(words.ends_with("late\": no such file or directory"), "{words}");
    let writes = File::options().read(true).write(true).open(world.fifo("late")).unwrap();
    for _ in 0..3 {
        let (_, words) = client.refused("Start", &one);
        assert!(words.ends_with("later\": no such file or directory"), "{words}");
        assert_eq!(count(shim), before);
    }
    drop(writes);
    let _reads = File::options().read(true).write(true).open(world.fifo("later")).unwrap();
    let _: PidResponse = client.ask("Start", &one);
    let close = CloseIoRequest { id: world.id("a"), stdin: true, exec_id: "one".into() };
    let _: Empty = client.ask("CloseIO", &close);
    let _: WaitResponse = client.ask("Wait", &one);
    let begun = Instant::now();
    let _: DeleteResponse = client.ask("Delete", &one);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    let kill = world.sigkill("a");
    let _: Empty = client.ask("Kill", &kill);
    let _: WaitResponse = client.ask("Wait", &world.of("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

fn delete(world: &World) {
    let mut command = Command::new(SHIM);
    command.args(["-namespace", "test", "-address", "/daemon", "-id", &world.id("a"), "-bundle"]);
    command.arg(world.path("a")).arg("delete").current_dir(world.path("a"));
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// Whatever is not yet made by then is not made afterwards.
#[test]
fn a_shim_that_is_killed_takes_what_it_is_making_with_it() {
    let test = "a_shim_that_is_killed_takes_what_it_is_making_with_it";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let shim: ConnectResponse = client.ask("Connect", &world.of("none"));
    let (go, seen) = (world.path("go"), world.path("seen"));
    let script = format!(
        "trap '' PIPE; until [ -e {} ]; do sleep 0.01; done; printf x >&5; cat <&3; : >{}",
        go.display(),
        seen.display(),
    );
    let stdout = shell("binary-v2", &script);
    let options = world.path("a/options.json");
    client.send("Create", &CreateTaskRequest { stdout, ..world.creation("a") });
    until("the creation", || options.exists());
    let children = format!("/proc/{0}/task/{0}/children", shim.shim_pid);
    let steps = || fs::read_to_string(&children).unwrap().split_whitespace().count();
    until("logger and step", || steps() == 2);
    kill_process(pid(shim.shim_pid), Signal::KILL).unwrap();
    until("the end of the shim", || !is_running(shim.shim_pid));
    delete(&world);
    fs::write(&go, "").unwrap();
    // Nobody has the other end of what it reads from any more.
    until("the logger's end", || seen.exists());
    assert!(!world.path("state/test").join(world.id("a")).exists());
}

/// A step may live a moment longer than the socket of its shim.
#[test]
fn a_deletion_waits_for_the_steps_of_its_task() {
    let Some(world) = World::new("a_deletion_waits_for_the_steps_of_its_task") else { return };
    world.bundle("a", &["/program", "start"]);
    let (began, go) = (world.path("began"), world.path("go"));
    let script =
        format!(": >{}; until [ -e {} ]; do sleep 0.01; done", began.display(), go.display());
    change(&world, "a", |config| {
        config["hooks"]["createRuntime"] =
            serde_json::json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    });
    let bundle = File::open(world.path("a")).unwrap();
    let alone = || flock(&bundle, FlockOperation::NonBlockingLockExclusive);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let created = client.send("Create", &world.creation("a"));
    until("the hook", || began.exists());
    assert_eq!(alone(), Err(Errno::WOULDBLOCK));
    fs::write(&go, "").unwrap();
    client.receive(created).unwrap();
    // Neither the shim nor the container has it.
    until("the end of the step", || alone().is_ok());
    let (_, words) = client.refused("Start", &world.of("a"));
    assert_eq!(words, format!("{:?} is being deleted", world.path("a")));
    flock(&bundle, FlockOperation::LockShared).unwrap();
    let record = world.path("state/test").join(world.id("a"));
    std::thread::scope(|scope| {
        let deletion = scope.spawn(|| delete(&world));
        let process = || {
            fs::read_dir("/proc").unwrap().flatten().any(|entry| {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                line.ends_with(b"delete\0")
                    && fs::read_link(entry.path().join("cwd"))
                        .is_ok_and(|cwd| cwd == world.path("a"))
            })
        };
        until("the deletion", process);
        std::thread::sleep(Duration::from_millis(100));
        assert!(record.exists() && !deletion.is_finished());
        flock(&bundle, FlockOperation::Unlock).unwrap();
    });
    assert!(!record.exists());
    let _: WaitResponse = client.ask("Wait", &world.of("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

/// The same of a step that is killed.
#[test]
fn nothing_is_left_of_a_creation_whose_process_is_killed() {
    let test = "nothing_is_left_of_a_creation_whose_process_is_killed";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", &["/program", "-v"]);
    let (began, go, back) = (world.path("began"), world.path("go"), world.path("back"));
    let hook =
        format!(": >{}; until [ -e {} ]; do sleep 0.01; done", began.display(), go.display());
    change(&world, "a", |config| {
        for (kind, script) in
            [("createRuntime", hook), ("poststop", format!("sleep 0.3; : >{}", back.display()))]
        {
            config["hooks"][kind] =
                serde_json::json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
        }
    });
    let mut client = world.serve("a");
    let address = address_of(&client);
    let shim: ConnectResponse = client.ask("Connect", &world.of("none"));
    let stdout = world.fifo("stdout");
    let _held = File::options().read(true).write(true).open(&stdout).unwrap();
    let created = client.send("Create", &CreateTaskRequest { stdout, ..world.creation("a") });
    until("the hook", || began.exists());
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", shim.shim_pid));
    let step: u32 = children.unwrap().trim().parse().unwrap();
    kill_process(pid(step), Signal::KILL).unwrap();
    fs::write(&go, "").unwrap();
    let (_, words) = client.receive(created).unwrap_err();
    assert_eq!(words, "the process that did it was killed");
    // Whoever makes it again has nothing to fear from the end of this one.
    assert!(back.exists() && !world.path("state/test").join(world.id("a")).exists());
    change(&world, "a", |config| drop(config.as_object_mut().unwrap().remove("hooks")));
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

/// A task whose root is mounted, to be ended at any moment.
fn mounted(world: &World) -> CreateTaskRequest {
    let rootfs = world.bundle("a", &["/program", "start"]).join("rootfs");
    let image = world.path("image");
    fs::rename(&rootfs, &image).unwrap();
    fs::create_dir(&rootfs).unwrap();
    let mount = Mount {
        kind: "bind".into(),
        source: image.to_str().unwrap().to_owned(),
        target: String::new(),
        options: vec!["rbind".into()],
    };
    CreateTaskRequest { rootfs: vec![mount], stdin: world.fifo("stdin"), ..world.creation("a") }
}

/// How often, unless `ORLOP_SHIM_KILLS` says so.
fn rounds() -> u32 {
    let rounds = std::env::var("ORLOP_SHIM_KILLS").ok().and_then(|count| count.parse().ok());
    rounds.unwrap_or(16)
}

/// A call on its way, and another moment of it each round.
fn under_way(world: &World, client: &mut Client, creation: &CreateTaskRequest, round: u32) -> u32 {
    let mut call = client.send("Create", creation);
    for method in ["Start", "Delete"].into_iter().take((round % 4).saturating_sub(1) as usize) {
        client.receive(call).unwrap();
        if method == "Delete" {
            let kill = world.sigkill("a");
            let _: Empty = client.ask("Kill", &kill);
            let _: WaitResponse = client.ask("Wait", &world.of("a"));
        }
        call = client.send(method, &world.of("a"));
    }
    std::thread::sleep(Duration::from_micros(u64::from(round) * 16_000 / u64::from(rounds())));
    call
}

fn left(world: &World) -> Option<String> {
    let rootfs = world.path("a/rootfs");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    if table.contains(rootfs.to_str().unwrap()) {
        return Some("a mount".to_owned());
    }
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let cgroups = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
    let record = world.path("state/test").join(world.id("a"));
    let mut all = cgroups.map(|hierarchy| hierarchy.join(world.id("a"))).chain([record]);
    all.find(|path| path.exists()).map(|path| path.display().to_string())
}

/// Whenever that is: `delete` finds all that there is, and nothing comes afterwards.
#[test]
fn nothing_is_left_of_a_shim_that_is_killed_at_any_moment() {
    let test = "nothing_is_left_of_a_shim_that_is_killed_at_any_moment";
    let Some(world) = World::new(test) else { return };
    let creation = mounted(&world);
    let _held = File::options().read(true).write(true).open(&creation.stdin).unwrap();
    for round in 0..rounds() {
        let mut client = world.serve("a");
        let address = address_of(&client);
        let shim: ConnectResponse = client.ask("Connect", &world.of("none"));
        under_way(&world, &mut client, &creation, round);
        kill_process(pid(shim.shim_pid), Signal::KILL).unwrap();
        client.until_closed();
        delete(&world);
        assert_eq!(left(&world), None, "{round}");
        assert!(!address.exists(), "{round}: a socket is left");
    }
}

/// Whenever that is, the task is not there, or can be deleted.
#[test]
fn nothing_is_left_of_steps_that_are_killed_at_any_moment() {
    let test = "nothing_is_left_of_steps_that_are_killed_at_any_moment";
    let Some(world) = World::new(test) else { return };
    let creation = mounted(&world);
    let _held = File::options().read(true).write(true).open(&creation.stdin).unwrap();
    let mut client = world.serve("a");
    let address = address_of(&client);
    let shim: ConnectResponse = client.ask("Connect", &world.of("none"));
    for round in 0..rounds() {
        let call = under_way(&world, &mut client, &creation, round);
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", shim.shim_pid));
        for child in children.unwrap().split_whitespace() {
            // It may have ended.
            let _ = kill_process(pid(child.parse().unwrap()), Signal::KILL);
        }
        let answer = client.receive(call);
        let state = client.send("State", &world.of("a"));
        if client.receive(state).is_ok() {
            let delete = client.send("Delete", &world.of("a"));
            let deleted = client.receive(delete);
            if deleted.as_ref().is_err_and(|(_, words)| words.contains("running")) {
                let _: WaitResponse = client.ask("Wait", &world.of("a"));
                let _: DeleteResponse = client.ask("Delete", &world.of("a"));
            } else {
                deleted.unwrap();
            }
        }
        until(&format!("{round}: the end of what it has made ({answer:?})"), || {
            left(&world).is_none()
        });
    }
    end(&world, client, &address);
}
