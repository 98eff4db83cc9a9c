//! Signals: which arrive, and what is told of who ended by one.

use std::fs::File;

use orlop::container::Store;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, World, address_of, end, is_running, until};
use crate::messages::Empty;
use crate::messages::task::{
    ConnectResponse, CreateTaskRequest, DeleteResponse, KillRequest, PidResponse, StateResponse,
    Status, WaitResponse,
};
use crate::order::{change, exec_of, share_pids};

const INVALID: i32 = 3;
const NOT_FOUND: i32 = 5;

fn kill(world: &World, signal: u32, all: bool) -> KillRequest {
    KillRequest { id: world.id("a"), signal, all, exec_id: String::new() }
}

/// A task that waits for its input.
fn waiting(world: &World, client: &mut Client) -> (File, u32) {
    let stdin = world.fifo("stdin");
    let held = File::options().read(true).write(true).open(&stdin).unwrap();
    let _: PidResponse = client.ask("Create", &CreateTaskRequest { stdin, ..world.creation("a") });
    let started: PidResponse = client.ask("Start", &world.of("a"));
    (held, started.pid)
}

/// systemd in a container ends by SIGRTMIN+3.
#[test]
fn signals_without_a_name_arrive_and_are_told() {
    let Some(world) = World::new("signals_without_a_name_arrive_and_are_told") else { return };
    world.bundle("a", &["/program", "start"]);
    change(&world, "a", share_pids);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let (held, _) = waiting(&world, &mut client);
    for (signal, all) in [(65, false), (65, true), (u32::MAX, true)] {
        let (code, words) = client.refused("Kill", &kill(&world, signal, all));
        assert_eq!((code, words), (INVALID, format!("there is no signal {signal}")));
    }
    // Whether it is there.
    let _: Empty = client.ask("Kill", &kill(&world, 0, false));
    let _: Empty = client.ask("Kill", &kill(&world, 37, false));
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 128 + 37);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    drop(held);
    end(&world, client, &address);
}

/// v1's freezer lets nobody die.
#[test]
fn what_is_paused_can_be_killed() {
    let Some(world) = World::new("what_is_paused_can_be_killed") else { return };
    world.bundle("a", &["/program", "start"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let (held, _) = waiting(&world, &mut client);
    let _: Empty = client.ask("Exec", &exec_of(&world, "a", "one", ""));
    // Somebody else has it, and this waits.
    let folder = File::open(world.path("state/test").join(world.id("a"))).unwrap();
    flock(&folder, FlockOperation::LockExclusive).unwrap();
    let paused = client.send("Pause", &world.of("a"));
    let state: StateResponse = client.ask("State", &world.of("a"));
    assert_eq!(state.status(), Status::Pausing);
    drop(folder);
    client.receive(paused).unwrap();
    let state: StateResponse = client.ask("State", &world.of("a"));
    assert_eq!(state.status(), Status::Paused);
    // Nothing is started in there meanwhile, and nobody waits for that.
    let one = crate::messages::task::ProcessRequest { exec_id: "one".into(), ..world.of("a") };
    let (_, words) = client.refused("Start", &one);
    assert!(words.contains("paused"), "{words}");
    let _: Empty = client.ask("Kill", &world.sigkill("a"));
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 137);
    assert_eq!(client.refused("Kill", &world.sigkill("a")).0, NOT_FOUND);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    drop(held);
    end(&world, client, &address);
}

/// By the command line, say: the shim is not told.
#[test]
fn what_another_has_paused_can_be_killed() {
    let Some(world) = World::new("what_another_has_paused_can_be_killed") else { return };
    world.bundle("a", &["/program", "start"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let (held, _) = waiting(&world, &mut client);
    Store::new(world.path("state/test")).open(&world.id("a")).unwrap().pause().unwrap();
    let _: Empty = client.ask("Kill", &world.sigkill("a"));
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 137);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    drop(held);
    end(&world, client, &address);
}

/// Who is curious must not end it: daemons dump their stacks by SIGUSR1.
#[test]
fn a_signal_to_the_shim_ends_it_when_it_shall() {
    let Some(world) = World::new("a_signal_to_the_shim_ends_it_when_it_shall") else { return };
    world.bundle("a", &["/program", "-v"]);
    let log = world.fifo("a/log");
    let mut log = File::options().read(true).write(true).open(log).unwrap();
    let mut client = world.serve("a");
    let address = address_of(&client);
    let shim: ConnectResponse = client.ask("Connect", &world.of("none"));
    let pid = Pid::from_raw(i32::try_from(shim.shim_pid).unwrap()).unwrap();
    for signal in [Signal::USR1, Signal::HUP] {
        kill_process(pid, signal).unwrap();
    }
    let _: ConnectResponse = client.ask("Connect", &world.of("none"));
    let mut line = [0; 200];
    let count = std::io::Read::read(&mut log, &mut line).unwrap();
    let line = String::from_utf8_lossy(&line[..count]).into_owned();
    assert!(line.contains("0 tasks") && line.contains("1 connections"), "{line}");
    kill_process(pid, Signal::TERM).unwrap();
    until("the end of the shim", || !is_running(shim.shim_pid));
    assert!(!address.exists(), "its socket is left");
}
