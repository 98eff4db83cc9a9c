//! What happens at the same time, and what a process does with what it was given.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use prost::Message;
use serde_json::json;

use crate::client::{Client, PATIENCE, SHIM, World, address_of, end, is_running, until};
use crate::frame::{self, Decoder, Frame, RESPONSE};
use crate::limits::{allow, assert_rests, shim_of};
use crate::messages::Empty;
use crate::messages::events::ForwardRequest;
use crate::messages::task::{
    CreateTaskRequest, DeleteResponse, ExecProcessRequest, PidResponse, PidsResponse,
    ProcessRequest, StateResponse, Status, WaitResponse,
};
use crate::messages::ttrpc::{self, Request, Response};
use crate::order::{change, exec_of};
use crate::shell;
use crate::terminals::scripted;

const WRONG_STATE: i32 = 9;

fn exec(world: &World, name: &str) -> ProcessRequest {
    ProcessRequest { exec_id: name.to_owned(), ..world.of("a") }
}

/// A process has the reading end of its pipe, if it likes, and takes what the shim has seen.
#[test]
fn who_reads_what_he_has_written_stops_nobody() {
    let Some(world) = World::new("who_reads_what_he_has_written_stops_nobody") else { return };
    scripted(
        &world,
        "exec 3</proc/self/fd/1; cat <&3 >/dev/null & cat <&3 >/dev/null &
         i=0; while [ $i -lt 300 ]; do echo x; i=$((i+1)); sleep 0.001; done; : >/done
         exec sleep 1000",
        false,
    );
    let mut client = world.serve("a");
    let address = address_of(&client);
    let stdout = format!("file://{}", world.path("log").display());
    let _: PidResponse = client.ask("Create", &CreateTaskRequest { stdout, ..world.creation("a") });
    let _: PidResponse = client.ask("Start", &world.of("a"));
    until("all that is written", || world.path("a/rootfs/done").exists());
    let state: StateResponse = client.ask("State", &world.of("a"));
    assert_eq!(state.status(), Status::Running);
    let _: Empty = client.ask("Kill", &world.sigkill("a"));
    let _: WaitResponse = client.ask("Wait", &world.of("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

/// Who traces a process hears of its end first, and may let its parent wait.
#[test]
fn an_end_that_another_keeps_costs_nothing() {
    let Some(world) = World::new("an_end_that_another_keeps_costs_nothing") else { return };
    world.bundle("a", &["/program", "start"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let stdin = world.fifo("stdin");
    let _held = File::options().read(true).write(true).open(&stdin).unwrap();
    let _: PidResponse = client.ask("Create", &CreateTaskRequest { stdin, ..world.creation("a") });
    let started: PidResponse = client.ask("Start", &world.of("a"));
    let pid = Pid::from_raw(i32::try_from(started.pid).unwrap());
    ptrace::seize(pid, ptrace::Options::empty()).unwrap();
    let wait = client.send("Wait", &world.of("a"));
    let _: Empty = client.ask("Kill", &world.sigkill("a"));
    until("its end", || !is_running(started.pid));
    assert_rests(shim_of(&world, &mut client));
    waitpid(pid, None).unwrap();
    let ended = WaitResponse::decode(&*client.receive(wait).unwrap()).unwrap();
    assert_eq!(ended.exit_status, 137);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

/// A deletion of it waits for what it has written, and that of its container does not.
#[test]
fn the_deletion_of_an_exec_is_answered_when_its_container_goes() {
    let test = "the_deletion_of_an_exec_is_answered_when_its_container_goes";
    let Some(world) = World::new(test) else { return };
    scripted(&world, "exec sleep 1000", false);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let stdout = world.fifo("stdout");
    let _held = File::options().read(true).write(true).open(&stdout).unwrap();
    let process =
        json!({ "user": {}, "cwd": "/", "args": ["/bin/head", "-c", "100000", "/dev/zero"] });
    let mut request = ExecProcessRequest { stdout, ..exec_of(&world, "a", "one", "") };
    request.spec.as_mut().unwrap().value = process.to_string().into();
    let _: Empty = client.ask("Exec", &request);
    let one = exec(&world, "one");
    let _: PidResponse = client.ask("Start", &one);
    let ended: WaitResponse = client.ask("Wait", &one);
    assert_eq!(ended.exit_status, 0);
    let deleted = client.send("Delete", &one);
    let _: Empty = client.ask("Kill", &world.sigkill("a"));
    let _: WaitResponse = client.ask("Wait", &world.of("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    let deleted = DeleteResponse::decode(&*client.receive(deleted).unwrap()).unwrap();
    assert_eq!(deleted.exit_status, 0);
    end(&world, client, &address);
}

/// Its creation is told first.
#[test]
fn nothing_is_done_with_a_task_that_is_being_made() {
    let Some(world) = World::new("nothing_is_done_with_a_task_that_is_being_made") else { return };
    world.bundle("a", &["/program", "-v"]);
    let (go, began) = (world.path("go"), world.path("began"));
    let script =
        format!(": >{}; until [ -e {} ]; do sleep 0.01; done", began.display(), go.display());
    change(&world, "a", |config| {
        config["hooks"]["createRuntime"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    });
    let mut client = world.serve("a");
    let address = address_of(&client);
    let mut other = Client::to(&format!("unix://{}", address.display()));
    let created = client.send("Create", &world.creation("a"));
    until("the hook", || began.exists());
    assert_eq!(other.refused("Exec", &exec_of(&world, "a", "one", "")).0, WRONG_STATE);
    for method in ["Pause", "Resume", "Start", "Stats", "Delete"] {
        assert_eq!(other.refused(method, &world.of("a")).0, WRONG_STATE, "{method}");
    }
    fs::write(&go, "").unwrap();
    client.receive(created).unwrap();
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    assert_eq!(world.topics(3), ["/tasks/create", "/tasks/exit", "/tasks/delete"]);
    end(&world, client, &address);
}

/// What it is looked after by can't be had when it is there.
#[test]
fn nothing_is_left_of_an_exec_that_cannot_be_looked_after() {
    let test = "nothing_is_left_of_an_exec_that_cannot_be_looked_after";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", &["/program", "start"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let (stdin, go) = (world.fifo("stdin"), world.path("go"));
    let _held = File::options().read(true).write(true).open(&stdin).unwrap();
    let creation = CreateTaskRequest { stdin: stdin.clone(), ..world.creation("a") };
    let _: PidResponse = client.ask("Create", &creation);
    let init: PidResponse = client.ask("Start", &world.of("a"));
    // It is being started until its logger is ready.
    let script = format!("until [ -e {} ]; do sleep 0.01; done; exec 5>&-; cat <&3", go.display());
    let stdout = shell("binary", &script);
    let request = ExecProcessRequest { stdout, ..exec_of(&world, "a", "one", &stdin) };
    let _: Empty = client.ask("Exec", &request);
    let shim = shim_of(&world, &mut client);
    let started = client.send("Start", &exec(&world, "one"));
    let _: StateResponse = client.ask("State", &world.of("a"));
    allow(shim, 3);
    fs::write(&go, "").unwrap();
    client.receive(started).unwrap_err();
    allow(shim, 1024);
    until("its end", || {
        let found: PidsResponse = client.ask("Pids", &world.of("a"));
        found.processes.iter().all(|process| process.pid == init.pid)
    });
    let _: DeleteResponse = client.ask("Delete", &exec(&world, "one"));
    let _: Empty = client.ask("Kill", &world.sigkill("a"));
    let _: WaitResponse = client.ask("Wait", &world.of("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

/// It is there before the shim has what it is looked after by.
#[test]
fn a_step_does_nothing_before_it_is_looked_after() {
    let Some(world) = World::new("a_step_does_nothing_before_it_is_looked_after") else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let shim = shim_of(&world, &mut client);
    // For the lock of the bundle and what a step says, and for nothing else.
    let open = |fd: &u64| fs::symlink_metadata(format!("/proc/{shim}/fd/{fd}")).is_ok();
    allow(shim, (0..).filter(|fd| !open(fd)).nth(3).unwrap());
    let pid = Pid::from_raw(i32::try_from(shim).unwrap());
    ptrace::seize(pid, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(pid).unwrap();
    waitpid(pid, None).unwrap();
    let created = client.send("Create", &world.creation("a"));
    let children = || fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    while children().is_empty() {
        ptrace::syscall(pid, None).unwrap();
        waitpid(pid, None).unwrap();
    }
    // The shim stands still.
    let status = format!("/proc/{}/status", children().trim());
    let begun = || world.path("a/options.json").exists();
    until("its rest", || begun() || fs::read_to_string(&status).unwrap().contains("S (sleeping)"));
    assert!(!begun());
    ptrace::detach(pid, None).unwrap();
    client.receive(created).unwrap_err();
    assert!(!begun());
    allow(shim, 1024);
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

/// A daemon that is about to end refuses all that it is told.
#[test]
fn an_event_that_is_refused_is_told_again_before_the_next() {
    let test = "an_event_that_is_refused_is_told_again_before_the_next";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", &["/program", "-v"]);
    let path = world.path("daemon");
    fs::remove_file(&path).unwrap();
    let daemon = UnixListener::bind(&path).unwrap();
    let (sender, told) = channel();
    std::thread::spawn(move || {
        let (mut socket, _) = daemon.accept().unwrap();
        let (mut decoder, mut buffer) = (Decoder::default(), [0; 4096]);
        let mut code = 2;
        while let Ok(count @ 1..) = socket.read(&mut buffer) {
            decoder.push(&buffer[..count]);
            while let Some(Frame::Whole { stream, message, .. }) = decoder.next() {
                let request = Request::decode(&*message).unwrap();
                let envelope = ForwardRequest::decode(&*request.payload).unwrap().envelope;
                let _ = sender.send((envelope.unwrap().topic, code));
                let status = Some(ttrpc::Status { code, message: "not now".to_owned() });
                let response = Response { status, ..Response::default() }.encode_to_vec();
                socket.write_all(&frame::encode(stream, RESPONSE, &response)).unwrap();
                // What is wrong for good is told once.
                code = if code == 2 { 0 } else { 3 };
            }
        }
    });
    let mut client = world.serve("a");
    let address = address_of(&client);
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    let told: Vec<_> = (0..4).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    let wanted = [("create", 2), ("create", 0), ("exit", 3), ("delete", 3)];
    assert_eq!(told, wanted.map(|(topic, code)| (format!("/tasks/{topic}"), code)));
    end(&world, client, &address);
}

/// A bundle is not what it seems to be.
#[test]
fn a_start_waits_for_no_config() {
    let Some(world) = World::new("a_start_waits_for_no_config") else { return };
    fs::create_dir(world.path("a")).unwrap();
    world.fifo("a/config.json");
    let mut command = Command::new(SHIM);
    command.args(["-namespace", "test", "-address", "/daemon", "-id", "a", "start"]);
    command.current_dir(world.path("a")).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("config.json: it is no regular file"), "{said}");
}
