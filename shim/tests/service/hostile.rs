//! What is said wrongly, and what is missing: an error on that call, and all else goes on.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use nix::mount::{MsFlags, mount};
use prost::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::client::{Client, World, address_of, end, until};
use crate::frame::{self, REQUEST};
use crate::messages::options::{GENERIC, RUNC};
use crate::messages::task::{
    CreateTaskRequest, DeleteResponse, ExecProcessRequest, PidResponse, ProcessRequest,
    StateResponse, Status, UpdateTaskRequest, WaitResponse,
};
use crate::messages::{Any, Empty};
use crate::terminals::scripted;

#[test]
fn a_bundle_that_vanishes_hinders_no_end() {
    let Some(world) = World::new("a_bundle_that_vanishes_hinders_no_end") else { return };
    world.bundle("a", &["/program", "start"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let stdin = world.fifo("stdin");
    let _hold = File::options().read(true).write(true).open(&stdin).unwrap();
    let creation = CreateTaskRequest { stdin, ..world.creation("a") };
    let _: PidResponse = client.ask("Create", &creation);
    let _: PidResponse = client.ask("Start", &world.of("a"));
    fs::remove_dir_all(world.path("a")).unwrap();
    let process = json!({ "user": {}, "cwd": "/", "args": ["/program", "-v"] });
    let exec = ExecProcessRequest {
        id: world.id("a"),
        exec_id: "one".to_owned(),
        spec: Some(Any { type_url: String::new(), value: process.to_string().into() }),
        ..ExecProcessRequest::default()
    };
    let _: Empty = client.ask("Exec", &exec);
    let one = ProcessRequest { exec_id: "one".to_owned(), ..world.of("a") };
    let (_, words) = client.refused("Start", &one);
    assert!(words.contains("no such file or directory"), "{words}");
    let _: DeleteResponse = client.ask("Delete", &one);
    let state: StateResponse = client.ask("State", &world.of("a"));
    assert_eq!(state.status(), Status::Running);
    let kill = world.sigkill("a");
    let _: Empty = client.ask("Kill", &kill);
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 137);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    // And one that was never there.
    let (_, words) = client.refused("Create", &world.creation("none"));
    assert!(words.ends_with("none/options.json\": no such file or directory"), "{words}");
    end(&world, client, &address);
}

#[test]
fn a_full_disk_for_what_is_written_stops_nobody() {
    let Some(world) = World::new("a_full_disk_for_what_is_written_stops_nobody") else { return };
    let logs = world.path("logs");
    fs::create_dir(&logs).unwrap();
    let size = Some("size=4k");
    mount(Some("tmpfs"), &logs, Some("tmpfs"), MsFlags::empty(), size).unwrap();
    // What it says twice is longer.
    world.bundle("a", &["/program", "-info"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let log = logs.join("log");
    for _ in 0..2 {
        let stdout = format!("file://{}", log.display());
        let _: PidResponse =
            client.ask("Create", &CreateTaskRequest { stdout, ..world.creation("a") });
        let _: PidResponse = client.ask("Start", &world.of("a"));
        let ended: WaitResponse = client.ask("Wait", &world.of("a"));
        assert_eq!(ended.exit_status, 0);
        let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    }
    assert_eq!(fs::metadata(&log).unwrap().len(), 4096);
    end(&world, client, &address);
    nix::mount::umount(&logs).unwrap();
}

/// A pipe that somebody reads, by its path.
fn is_full(pipe: &str) -> bool {
    let now = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let to = File::options().write(true).custom_flags(now).open(pipe).unwrap();
    let polled = &mut [PollFd::new(&to, PollFlags::OUT)];
    poll(polled, Some(&Timespec::default())).unwrap() == 0
}

#[test]
fn an_output_that_nobody_takes_stops_nobody() {
    let Some(world) = World::new("an_output_that_nobody_takes_stops_nobody") else { return };
    scripted(&world, "head -c 200000 /dev/zero; echo one; echo two >&2", false);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let fifo = world.fifo("fifo");
    let stdout = format!("file://{fifo}");
    let created: PidResponse =
        client.ask("Create", &CreateTaskRequest { stdout, ..world.creation("a") });
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let mut reader = File::open(&fifo).unwrap();
    // What the container writes to, too.
    let written = format!("/proc/{}/fd/1", created.pid);
    until("two pipes that are full", || is_full(&fifo) && is_full(&written));
    let state: StateResponse = client.ask("State", &world.of("a"));
    assert_eq!(state.status(), Status::Running);
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    assert!(text.len() == 200_004 && text.ends_with(b"one\n"), "{}", text.len());
    let _: WaitResponse = client.ask("Wait", &world.of("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    // A file by its path alone: what is there stays.
    let path = world.path("file");
    fs::write(&path, "before\n").unwrap();
    let name = path.to_str().unwrap().to_owned();
    let (stdout, stderr) = (name.clone(), name);
    let creation = CreateTaskRequest { stdout, stderr, ..world.creation("a") };
    let _: PidResponse = client.ask("Create", &creation);
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let _: WaitResponse = client.ask("Wait", &world.of("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    let text = fs::read(&path).unwrap();
    assert!(text.starts_with(b"before\n") && text.len() == 200_015, "{}", text.len());
    end(&world, client, &address);
}

#[test]
fn options_of_another_kind_are_refused() {
    let Some(world) = World::new("options_of_another_kind_are_refused") else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let any = |type_url: &str, value: &[u8]| {
        Some(Any { type_url: type_url.to_owned(), value: value.to_vec() })
    };
    // Field 3 of length 9, which does not follow.
    let broken = b"\x1a\x09x";
    let toml = b"\x1a\x0bno = [ toml";
    for options in [any("some.thing/Else", b""), any(RUNC, broken), any(GENERIC, toml)] {
        let request = CreateTaskRequest { options, ..world.creation("a") };
        let (code, words) = client.refused("Create", &request);
        assert_eq!(code, 3, "{words}");
        assert_eq!(client.refused("State", &world.of("a")).0, 5);
    }
    // The shim's own folder is that of another.
    for bundle in ["", "."] {
        let request = CreateTaskRequest { bundle: bundle.to_owned(), ..world.creation("b") };
        assert_eq!(client.refused("Create", &request).0, 3);
        assert!(!world.path("a/options.json").exists());
    }
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    for resources in [any("x", b"no json"), any("x", b"[1]")] {
        let request = UpdateTaskRequest { id: world.id("a"), resources };
        assert_eq!(client.refused("Update", &request).0, 3);
    }
    for process in [&b"no json"[..], b"[]", b"{\"args\": 5}"] {
        let exec = ExecProcessRequest {
            id: world.id("a"),
            exec_id: "one".to_owned(),
            spec: any("x", process),
            ..ExecProcessRequest::default()
        };
        assert_eq!(client.refused("Exec", &exec).0, 3, "{}", String::from_utf8_lossy(process));
    }
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 0);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

#[test]
fn noise_is_its_own_connections_alone() {
    let Some(world) = World::new("noise_is_its_own_connections_alone") else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let path = format!("unix://{}", address.display());
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let request = frame::encode(1, REQUEST, &world.of("a").encode_to_vec());
    let mut open = Vec::new();
    let mut state = 1_u64;
    for round in 0..200_usize {
        let mut bytes: Vec<u8> = match round % 4 {
            // Cut off, with a length that never comes, and another's bits.
            0 => request[..round % request.len()].to_vec(),
            1 => [&0x00ff_fff0_u32.to_be_bytes()[..], &[0; 6]].concat(),
            2 => request.clone(),
            _ => vec![0; 4096],
        };
        for byte in bytes.iter_mut().skip(4).filter(|_| round % 4 > 1) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte ^= (state >> 56) as u8;
        }
        let mut noisy = Client::to(&path);
        // It may be closed at once.
        let _ = noisy.socket.write_all(&bytes);
        if round % 2 == 0 {
            open.push(noisy);
        }
        let found: StateResponse = client.ask("State", &world.of("a"));
        assert_eq!(found.status(), Status::Created);
    }
    // What is written to who does not read.
    for noisy in &mut open {
        noisy.socket.set_nonblocking(true).unwrap();
        while noisy.socket.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
    }
    drop(open);
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 0);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}
