//! What runs out: descriptors, room for what nobody reads, and the patience of a daemon.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::client::{AT_ONCE, Client, World, address_of, end, is_running, until};
use crate::frame::{self, REQUEST};
use crate::messages::Empty;
use crate::messages::task::{
    ConnectResponse, CreateTaskRequest, DeleteResponse, PidResponse, StateResponse, WaitResponse,
};
use crate::messages::ttrpc::Request;
use crate::shell;
use crate::terminals::scripted;

const NOT_FOUND: i32 = 5;
const ALREADY_EXISTS: i32 = 6;

pub(crate) fn shim_of(world: &World, client: &mut Client) -> u32 {
    client.ask::<ConnectResponse>("Connect", &world.of("none")).shim_pid
}

/// How many descriptors it may have from now on; what it has stays.
pub(crate) fn allow(shim: u32, count: u64) {
    let pid = Pid::from_raw(i32::try_from(shim).unwrap());
    let limit = Rlimit { current: Some(count), maximum: Some(4096) };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

pub(crate) fn count(shim: u32) -> u64 {
    fs::read_dir(format!("/proc/{shim}/fd")).unwrap().count() as u64
}

/// What the process has used of the processor, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// It does next to nothing, for as long as that takes to be seen.
pub(crate) fn assert_rests(pid: u32) {
    let before = ticks(pid);
    std::thread::sleep(Duration::from_millis(300));
    let used = ticks(pid) - before;
    assert!(used < 10, "{used} ticks");
}

pub(crate) fn kilobytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Wherever they run out, the call fails and can be tried again.
#[test]
fn without_descriptors_calls_fail_and_nothing_is_left_of_them() {
    let test = "without_descriptors_calls_fail_and_nothing_is_left_of_them";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let shim = shim_of(&world, &mut client);
    let (stdin, stdout) = (world.fifo("stdin"), world.fifo("stdout"));
    let creation = CreateTaskRequest { stdin, stdout, ..world.creation("a") };
    // It talks with the daemon from its first event on.
    let _: PidResponse = client.ask("Create", &creation);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    assert_eq!(shim_of(&world, &mut client), shim);
    let (before, mut made) = (count(shim), 0);
    for more in 0.. {
        allow(shim, before + more);
        let stream = client.send("Create", &creation);
        let answer = client.receive(stream);
        allow(shim, 1024);
        let children = fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
        if answer.is_ok() {
            made += 1;
            // Its memory may not be watched, the first time.
            let _: DeleteResponse = client.ask("Delete", &world.of("a"));
            if made == 3 {
                break;
            }
        } else {
            until("what was taken back", || {
                fs::read_dir(world.path("state/test")).is_ok_and(|all| all.count() == 0)
                    || !world.path("state/test").exists()
            });
            assert!(children.split_whitespace().count() <= 1, "{children}");
        }
        assert!(more < 60, "{answer:?}");
    }
    // A deletion that could not begin.
    let _: PidResponse = client.ask("Create", &creation);
    allow(shim, 3);
    client.refused("Delete", &world.of("a"));
    allow(shim, 1024);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    assert_eq!(shim_of(&world, &mut client), shim);
    assert_eq!(count(shim), before);
    end(&world, client, &address);
}

/// What is written stays where it is, and its writer waits; nobody else does.
#[test]
fn a_logger_that_dies_or_reads_nothing_hinders_no_end() {
    let test = "a_logger_that_dies_or_reads_nothing_hinders_no_end";
    let Some(world) = World::new(test) else { return };
    scripted(&world, "exec yes", false);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let number = world.path("number");
    let shim = shim_of(&world, &mut client);
    let before = count(shim);
    for last in ["kill -9 $$", "exec sleep 1000"] {
        let script = format!("echo $$ >{}; exec 5>&-; {last}", number.display());
        let stdout = shell("binary", &script);
        let created: PidResponse =
            client.ask("Create", &CreateTaskRequest { stdout, ..world.creation("a") });
        let _: PidResponse = client.ask("Start", &world.of("a"));
        // It writes until its pipe is full.
        let io = format!("/proc/{}/io", created.pid);
        let written = || {
            let io = fs::read_to_string(&io).unwrap();
            io.lines()
                .find_map(|line| line.strip_prefix("wchar: "))
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        until("a full pipe", || written() >= 64 << 10);
        let kill = world.sigkill("a");
        let _: Empty = client.ask("Kill", &kill);
        let ended: WaitResponse = client.ask("Wait", &world.of("a"));
        assert_eq!(ended.exit_status, 137);
        let logger: u32 = fs::read_to_string(&number).unwrap().trim().parse().unwrap();
        if last != "kill -9 $$" {
            let logger = Pid::from_raw(logger.cast_signed()).unwrap();
            kill_process(logger, Signal::KILL).unwrap();
        }
        // A signal does not wait for it.
        until("the end of its logger", || !is_running(logger));
        let begun = Instant::now();
        let _: DeleteResponse = client.ask("Delete", &world.of("a"));
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        // Nothing is kept for a logger that has ended; the daemon is told of events. What the
        // deletion itself had goes behind its answer, and before the next one.
        assert_eq!(shim_of(&world, &mut client), shim);
        let now = count(shim);
        assert!(now <= before + 1, "{now} descriptors after {before}");
    }
    end(&world, client, &address);
}

/// A daemon's own limit is often low, and a pod has many streams.
#[test]
fn a_shim_has_all_descriptors_that_it_may_have_and_a_container_what_was_given() {
    let test = "a_shim_has_all_descriptors_that_it_may_have_and_a_container_what_was_given";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", &["/program", "start"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let shim = shim_of(&world, &mut client);
    let of = |pid: u32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let words: Vec<_> = line.split_whitespace().take(2).map(str::to_owned).collect();
        (words[0].clone(), words[1].clone())
    };
    let given = of(std::process::id());
    assert_eq!(of(shim), (given.1.clone(), given.1.clone()));
    // The logger is there as long as somebody writes.
    let seen = world.path("limit");
    let stdout = shell("binary", &format!("ulimit -n >{}; exec 5>&-; cat <&3", seen.display()));
    let created: PidResponse =
        client.ask("Create", &CreateTaskRequest { stdout, ..world.creation("a") });
    assert_eq!(of(created.pid), given);
    until("the logger", || fs::read_to_string(&seen).is_ok_and(|said| said.trim() == given.0));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

#[test]
fn connections_that_are_too_many_wait_and_cost_nothing() {
    let Some(world) = World::new("connections_that_are_too_many_wait_and_cost_nothing") else {
        return;
    };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let shim = shim_of(&world, &mut client);
    allow(shim, count(shim) + 20);
    let mut idle: Vec<_> = (0..100).map(|_| UnixStream::connect(&address).unwrap()).collect();
    assert_eq!(shim_of(&world, &mut client), shim);
    assert_rests(shim);
    let mut last = Client::to(&format!("unix://{}", address.display()));
    let stream = last.send("Connect", &world.of("none"));
    idle.clear();
    last.receive(stream).unwrap();
    end(&world, client, &address);
}

#[test]
fn who_reads_no_answers_gets_no_more() {
    let Some(world) = World::new("who_reads_no_answers_gets_no_more") else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let shim = shim_of(&world, &mut client);
    let mut deaf = UnixStream::connect(&address).unwrap();
    deaf.set_nonblocking(true).unwrap();
    let request =
        Request { service: "x".repeat(1000), method: "State".to_owned(), ..Request::default() };
    let frame = frame::encode(1, REQUEST, &request.encode_to_vec());
    let many = frame.repeat(1000);
    let before = kilobytes(shim);
    let (mut sent, mut refused) = (0, 0);
    // Whoever is answered meanwhile has seen the shim pass over it.
    while sent < 64 << 20 && refused < 10 {
        match deaf.write(&many[sent % frame.len()..]) {
            Ok(count) => (sent, refused) = (sent + count, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert_eq!(shim_of(&world, &mut client), shim);
                refused += 1;
            }
        }
    }
    // More than a socket holds of which nobody reads anything.
    let (mut unread, _end) = UnixStream::pair().unwrap();
    unread.set_nonblocking(true).unwrap();
    let mut held = 0;
    while let Ok(count) = unread.write(&many[held % frame.len()..]) {
        held += count;
    }
    assert!(sent > held, "{sent} bytes, of which {held} wait in the socket");
    let grown = kilobytes(shim).saturating_sub(before);
    assert!(grown < 4096, "{grown} kB of {} kB", sent >> 10);
    assert_eq!(shim_of(&world, &mut client), shim);
    let begun = Instant::now();
    // And it hinders no end.
    end(&world, client, &address);
    assert!(begun.elapsed() < AT_ONCE);
    drop(deaf);
}

#[test]
fn who_has_gone_waits_for_nothing() {
    let Some(world) = World::new("who_has_gone_waits_for_nothing") else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let shim = shim_of(&world, &mut client);
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let wait_and_go = |times: usize| {
        for _ in 0..times {
            let mut other = Client::to(&format!("unix://{}", address.display()));
            for _ in 0..1000 {
                other.send("Wait", &world.of("a"));
            }
            assert_eq!(shim_of(&world, &mut other), shim);
        }
        kilobytes(shim)
    };
    let before = wait_and_go(5);
    let grown = wait_and_go(50).saturating_sub(before);
    assert!(grown < 200, "{grown} kB");
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

/// The daemon stands still: nobody takes connections, and there is no room for more that
/// wait.
fn stand_still(world: &World) -> (OwnedFd, UnixStream) {
    let path = world.path("daemon");
    fs::remove_file(&path).unwrap();
    let daemon =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&daemon, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&daemon, 0).unwrap();
    (daemon, UnixStream::connect(&path).unwrap())
}

fn run(world: &World, client: &mut Client) {
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let _: StateResponse = client.ask("State", &world.of("a"));
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 0);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
}

#[test]
fn a_daemon_that_takes_no_connection_hinders_nobody() {
    let Some(world) = World::new("a_daemon_that_takes_no_connection_hinders_nobody") else {
        return;
    };
    world.bundle("a", &["/program", "-v"]);
    let standing = stand_still(&world);
    let mut client = world.serve("a");
    let address = address_of(&client);
    run(&world, &mut client);
    let shim = shim_of(&world, &mut client);
    let _: Empty = client.ask("Shutdown", &world.of("none"));
    // It has its events still, and another one is started in its place.
    let mut next = world.serve("a");
    assert_eq!(address_of(&next), address);
    assert_ne!(shim_of(&world, &mut next), shim);
    run(&world, &mut next);
    until("the end of the shim", || !is_running(shim));
    run(&world, &mut Client::to(&format!("unix://{}", address.display())));
    drop(standing);
    end(&world, next, &address);
}

/// What was made is there, and nothing to take it back with.
#[test]
fn what_cannot_be_taken_back_at_once_is_taken_back_later() {
    let test = "what_cannot_be_taken_back_at_once_is_taken_back_later";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let shim = shim_of(&world, &mut client);
    let go = world.path("go");
    // It is being created until its logger is ready.
    let script = format!("until [ -e {} ]; do sleep 0.01; done; exec 5>&-; cat <&3", go.display());
    let stdout = shell("binary", &script);
    let created = client.send("Create", &CreateTaskRequest { stdout, ..world.creation("a") });
    let _: StateResponse = client.ask("State", &world.of("a"));
    allow(shim, 3);
    fs::write(&go, "").unwrap();
    client.receive(created).unwrap_err();
    assert!(world.path("state/test").join(world.id("a")).exists());
    // Another one would lose what it makes.
    assert_eq!(client.refused("Create", &world.creation("a")).0, ALREADY_EXISTS);
    allow(shim, 1024);
    until("the end of the task", || {
        let asked = client.send("State", &world.of("a"));
        client.receive(asked).is_err_and(|(code, _)| code == NOT_FOUND)
    });
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}
