//! Advisories of other shims, as tests. SECURITY.md names them.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use rustix::thread::set_thread_uid;
use serde_json::json;

use crate::client::{AT_ONCE, Client, World, address_of, end, until};
use crate::limits::{count, kilobytes, shim_of};
use crate::messages::Empty;
use crate::messages::task::{
    CreateTaskRequest, DeleteResponse, ExecProcessRequest, PidResponse, ProcessRequest,
    StateResponse, WaitResponse,
};
use crate::order::{change, exec_of};
use crate::shell;
use crate::terminals::scripted;

/// As somebody who has no rights here, and no capabilities: those of one thread alone.
fn as_another<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            set_thread_uid(rustix::process::Uid::from_raw(65_533)).unwrap();
            work()
        });
        other.join().unwrap()
    })
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

// CVE-2020-15257: the socket had no path, and whoever shared the network could use it.
#[test]
fn nobody_else_reaches_the_socket() {
    let Some(world) = World::new("nobody_else_reaches_the_socket") else { return };
    world.bundle("a", &["/program", "start"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let stdin = world.fifo("stdin");
    let _held = File::options().read(true).write(true).open(&stdin).unwrap();
    let _: PidResponse = client.ask("Create", &CreateTaskRequest { stdin, ..world.creation("a") });
    let _: PidResponse = client.ask("Start", &world.of("a"));
    assert_eq!(mode(address.parent().unwrap()), 0o700);
    assert_eq!(mode(&address), 0o600);
    let refused = as_another(|| UnixStream::connect(&address).map(drop).unwrap_err());
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    // All that it has, by number, and their names: those without a path begin with "@".
    let shim = shim_of(&world, &mut client);
    let sockets: Vec<_> = fs::read_dir(format!("/proc/{shim}/fd"))
        .unwrap()
        .filter_map(|entry| Some(fs::read_link(entry.ok()?.path()).ok()?.display().to_string()))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    let mut names = Vec::new();
    for line in table.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let [.., number, name] = words[..]
            && sockets.iter().any(|socket| socket == number)
        {
            names.push(name.to_owned());
        }
    }
    names.dedup();
    assert_eq!(names, [address.display().to_string()]);
    let _: Empty = client.ask("Kill", &world.sigkill("a"));
    let _: WaitResponse = client.ask("Wait", &world.of("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

// CVE-2021-41103, CVE-2024-25621: folders of the state were open to everybody.
#[test]
fn nobody_else_gets_at_the_state() {
    let Some(world) = World::new("nobody_else_gets_at_the_state") else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let (root, record) = (world.path("state"), world.path("state/test").join(world.id("a")));
    assert_eq!((mode(&root), mode(root.join("test").as_path())), (0o700, 0o700));
    assert_eq!(mode(&record), 0o711);
    for entry in fs::read_dir(&record).unwrap().flatten() {
        let open = mode(&entry.path()) & 0o007;
        assert_eq!(open, 0, "{:?} {open:o}", entry.path());
    }
    // In a folder that all may go through.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(world.folder.path(), everybody).unwrap();
    let refused = as_another(|| {
        assert!(world.path("a/config.json").exists());
        fs::metadata(record.join("state.json")).unwrap_err()
    });
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

/// As many at once: each waits for what may still be written.
const EXECS: usize = 60;

/// An exec of a shell with this script, whose output is that.
fn with_shell(world: &World, name: &str, script: &str, stdout: &str) -> ExecProcessRequest {
    let process = json!({ "user": {}, "cwd": "/", "args": ["/bin/sh", "-c", script] });
    let stdout = stdout.to_owned();
    let mut request = ExecProcessRequest { stdout, ..exec_of(world, "a", name, "") };
    request.spec.as_mut().unwrap().value = process.to_string().into();
    request
}

/// Many of them from their beginning to their deletion, and the end of what they write.
fn execute(world: &World, client: &mut Client, kind: &str, script: &str) {
    let exec = |name: &str| ProcessRequest { exec_id: name.to_owned(), ..world.of("a") };
    let names: Vec<_> = (0..EXECS).map(|number| format!("{kind}{number}")).collect();
    let mut readers = Vec::new();
    for name in &names {
        let fifo = world.fifo(name);
        readers.push(open_now(&fifo));
        let _: Empty = client.ask("Exec", &with_shell(world, name, script, &fifo));
        let _: PidResponse = client.ask("Start", &exec(name));
        // Its end is told at once.
        let begun = Instant::now();
        let ended: WaitResponse = client.ask("Wait", &exec(name));
        assert_eq!(ended.exit_status, 0);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    }
    let deleted: Vec<_> = names.iter().map(|name| client.send("Delete", &exec(name))).collect();
    for stream in deleted {
        client.receive(stream).unwrap();
    }
    for mut reader in readers {
        let mut text = String::new();
        until("the end of what is read", || reader.read_to_string(&mut text).is_ok());
        assert_eq!(text, "x\n");
    }
}

fn open_now(fifo: &str) -> File {
    let now = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    File::options().read(true).custom_flags(now).open(fifo).unwrap()
}

// CVE-2022-31030, CVE-2026-53495: who held the output of an exec kept all of it for ever.
#[test]
fn who_keeps_the_output_of_an_exec_keeps_nothing_in_the_shim() {
    let test = "who_keeps_the_output_of_an_exec_keeps_nothing_in_the_shim";
    let Some(world) = World::new(test) else { return };
    scripted(&world, "exec sleep 1000", false);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let _: PidResponse = client.ask("Create", &world.creation("a"));
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let shim = shim_of(&world, &mut client);
    execute(&world, &mut client, "alone", "echo x");
    let before = (count(shim), kilobytes(shim));
    execute(&world, &mut client, "left", "sleep 1000 & echo x");
    let after = (count(shim), kilobytes(shim));
    assert_eq!(after.0, before.0);
    assert!(after.1 <= before.1 + 300, "{} kB after {}", after.1, before.1);
    let _: Empty = client.ask("Kill", &world.sigkill("a"));
    let _: WaitResponse = client.ask("Wait", &world.of("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

// CVE-2025-64329: who had attached and gone left something behind.
#[test]
fn who_attaches_and_goes_leaves_nothing() {
    let Some(world) = World::new("who_attaches_and_goes_leaves_nothing") else { return };
    scripted(&world, "while read word; do echo $word; done", false);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let (stdin, stdout) = (world.fifo("stdin"), world.fifo("stdout"));
    let _held = File::options().read(true).write(true).open(&stdin).unwrap();
    let creation = CreateTaskRequest { stdin, stdout: stdout.clone(), ..world.creation("a") };
    let _: PidResponse = client.ask("Create", &creation);
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let shim = shim_of(&world, &mut client);
    let path = format!("unix://{}", address.display());
    let mut attach = |times: usize| {
        for _ in 0..times {
            let reader = open_now(&stdout);
            let mut other = Client::to(&path);
            let _: StateResponse = other.ask("State", &world.of("a"));
            other.send("Wait", &world.of("a"));
            drop((reader, other));
        }
        // What has gone is seen before another's call.
        assert_eq!(shim_of(&world, &mut client), shim);
        (count(shim), kilobytes(shim))
    };
    let before = attach(20);
    let after = attach(500);
    assert!(after.0 <= before.0 + 1, "{} descriptors after {}", after.0, before.0);
    assert!(after.1 <= before.1 + 200, "{} kB after {}", after.1, before.1);
    let _: Empty = client.ask("Kill", &world.sigkill("a"));
    let _: WaitResponse = client.ask("Wait", &world.of("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

// CVE-2026-53488: a label of an image named a program of the host's.
#[test]
fn a_logger_is_named_by_the_request_alone() {
    let Some(world) = World::new("a_logger_is_named_by_the_request_alone") else { return };
    world.bundle("a", &["/program", "-v"]);
    let (begun, asked) = (world.path("begun"), world.path("asked"));
    let logger = shell("binary", &format!(": >{}; exec 5>&-; cat <&3", begun.display()));
    change(&world, "a", |config| {
        config["annotations"] = json!({
            "containerd.io/restart.loguri": logger,
            "containerd.io/restart.logpath": logger,
            "io.containerd.runc.v2.stdout": logger,
            "stdout": logger,
            "log-uri": logger,
        });
        config["process"]["env"] = json!([format!("LOG_URI={logger}"), format!("STDOUT={logger}")]);
    });
    let mut client = world.serve("a");
    let address = address_of(&client);
    let own = shell("binary", &format!(": >{}; exec 5>&-; cat <&3", asked.display()));
    for stdout in [String::new(), world.fifo("stdout"), own] {
        let _held = stdout
            .starts_with('/')
            .then(|| File::options().read(true).write(true).open(&stdout).unwrap());
        let creation = CreateTaskRequest { stdout, ..world.creation("a") };
        let _: PidResponse = client.ask("Create", &creation);
        let _: PidResponse = client.ask("Start", &world.of("a"));
        let _: WaitResponse = client.ask("Wait", &world.of("a"));
        let _: DeleteResponse = client.ask("Delete", &world.of("a"));
        assert!(!begun.exists());
    }
    assert!(asked.exists());
    end(&world, client, &address);
}
