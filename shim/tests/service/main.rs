//! The built shim as containerd sees it: started, asked by ttrpc, and telling events, with
//! real containers. Needs root.

mod advisories;
mod checkpoint;
mod client;
mod early;
#[path = "../../src/ttrpc/frame.rs"]
#[allow(dead_code)] // the shim's other half
mod frame;
mod helped;
mod hostile;
mod limits;
#[path = "../../src/messages/mod.rs"]
#[allow(dead_code)] // the same
mod messages;
mod order;
mod races;
mod signals;
mod terminals;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use client::{Client, PATIENCE, SHIM, World, address_of, end, until};
use frame::REQUEST;
use messages::bootstrap::{BootstrapParams, BootstrapResult};
use messages::events::TaskExit;
use messages::info::{FEATURES, RuntimeInfo};
use messages::options::{Options, RUNC};
use messages::task::{
    ConnectResponse, CreateTaskRequest, ExecProcessRequest, PidResponse, PidsResponse,
    ProcessDetails, ProcessRequest, StateResponse, StatsResponse, Status, WaitResponse,
};
use messages::{Any, Mount};
use order::{exec_of, share_pids};
use prost::Message;
use serde_json::{Value, json};

#[test]
fn a_task_is_created_started_and_deleted() {
    let Some(world) = World::new("a_task_is_created_started_and_deleted") else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let stdout = world.fifo("stdout");
    // Nobody reads yet, and nobody waits for that.
    let mut held = fs::File::options().read(true).write(true).open(&stdout).unwrap();
    let created: PidResponse =
        client.ask("Create", &CreateTaskRequest { stdout: stdout.clone(), ..world.creation("a") });
    let state: StateResponse = client.ask("State", &world.of("a"));
    assert_eq!((state.pid, state.status()), (created.pid, Status::Created));
    // The pipe is the owner's that was asked for; the runtime gives it to the user then.
    let owner = fs::metadata(format!("/proc/{}/fd/1", created.pid)).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (0, 1001));
    let mut waiter = Client::to(&format!("unix://{}", address.display()));
    let waited = waiter.send("Wait", &world.of("a"));
    let started: PidResponse = client.ask("Start", &world.of("a"));
    assert_eq!(started.pid, created.pid);
    let ended = WaitResponse::decode(&*waiter.receive(waited).unwrap()).unwrap();
    assert_eq!(ended.exit_status, 0);
    let mut text = [0; 64];
    let count = held.read(&mut text).unwrap();
    assert!(text[..count].starts_with(b"containerd-shim-orlop-v1 "));
    let state: StateResponse = client.ask("State", &world.of("a"));
    assert_eq!(state.status(), Status::Stopped);
    let _: messages::task::DeleteResponse = client.ask("Delete", &world.of("a"));
    let topics = world.topics(4);
    assert_eq!(topics, ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]);
    assert_eq!(client.refused("State", &world.of("a")).0, 5);
    end(&world, client, &address);
}

/// As by containerd's own shim.
#[test]
fn what_is_written_may_be_read_by_whom_it_is_for() {
    let Some(world) = World::new("what_is_written_may_be_read_by_whom_it_is_for") else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let stdout = format!("file://{}", world.path("logs/a/log").display());
    let _: PidResponse = client.ask("Create", &CreateTaskRequest { stdout, ..world.creation("a") });
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    let umask = u32::from_str_radix(umask.trim(), 8).unwrap();
    for (path, mode) in [
        ("a/options.json", 0o600),
        ("a/address", 0o644),
        ("logs", 0o755),
        ("logs/a", 0o755),
        ("logs/a/log", 0o644),
    ] {
        let found = fs::metadata(world.path(path)).unwrap().mode() & 0o7777;
        assert_eq!(found, mode & !umask, "{path}: {found:o}");
    }
    let _: messages::task::DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

#[test]
fn a_client_that_comes_late_misses_nothing() {
    let Some(world) = World::new("a_client_that_comes_late_misses_nothing") else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let (stdout, stderr) = (world.fifo("stdout"), world.fifo("stderr"));
    let request =
        CreateTaskRequest { stdout: stdout.clone(), stderr: stderr.clone(), ..world.creation("a") };
    let _: PidResponse = client.ask("Create", &request);
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 0);
    // Whoever opens a fifo that nobody will write to waits for ever.
    let (sender, texts) = mpsc::channel();
    for path in [stdout, stderr] {
        let sender = sender.clone();
        thread::spawn(move || sender.send(fs::read_to_string(path).unwrap()));
    }
    let mut read: Vec<_> =
        (0..2).map(|_| texts.recv_timeout(PATIENCE).expect("the end of a stream")).collect();
    read.sort();
    assert!(read[0].is_empty() && read[1].starts_with("containerd-shim-orlop-v1 "), "{read:?}");
    let _: messages::task::DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

#[test]
fn a_root_is_mounted_in_parts_and_nothing_of_it_stays() {
    let Some(world) = World::new("a_root_is_mounted_in_parts_and_nothing_of_it_stays") else {
        return;
    };
    let rootfs = world.bundle("a", &["/data/program", "-v"]).join("rootfs");
    let (image, data) = (world.path("image"), world.path("data"));
    fs::rename(&rootfs, &image).unwrap();
    fs::create_dir(&rootfs).unwrap();
    fs::create_dir_all(&data).unwrap();
    fs::create_dir(image.join("data")).unwrap();
    fs::rename(image.join("program"), data.join("program")).unwrap();
    let bind = |source: &Path, target: &str| Mount {
        kind: "bind".to_owned(),
        source: source.to_str().unwrap().to_owned(),
        target: target.to_owned(),
        options: if target.is_empty() {
            vec!["rbind".into()]
        } else {
            vec!["ro".into(), "bind".into()]
        },
    };
    let mut client = world.serve("a");
    let address = address_of(&client);
    let lost = vec![bind(&image, ""), bind(&data, "/none")];
    let mounted = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.contains(rootfs.to_str().unwrap())
    };
    let (_, error) =
        client.refused("Create", &CreateTaskRequest { rootfs: lost, ..world.creation("a") });
    assert!(error.ends_with("/none: no such file or directory") && !mounted(), "{error}");
    let parts = vec![bind(&image, ""), bind(&data, "/data")];
    let _: PidResponse =
        client.ask("Create", &CreateTaskRequest { rootfs: parts, ..world.creation("a") });
    assert!(fs::write(rootfs.join("data/file"), "").is_err() && mounted());
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 0);
    let _: messages::task::DeleteResponse = client.ask("Delete", &world.of("a"));
    assert!(!mounted());
    end(&world, client, &address);
}

#[test]
fn the_end_of_the_init_is_told_after_that_of_all_others() {
    let Some(world) = World::new("the_end_of_the_init_is_told_after_that_of_all_others") else {
        return;
    };
    // It waits for its standard input, which nobody closes.
    world.bundle("a", &["/program", "start"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let stdin = world.fifo("stdin");
    let hold = fs::File::options().read(true).write(true).open(&stdin).unwrap();
    let _: PidResponse =
        client.ask("Create", &CreateTaskRequest { stdin: stdin.clone(), ..world.creation("a") });
    let _: PidResponse = client.ask("Start", &world.of("a"));
    for name in ["one", "two"] {
        let process: Value = json!({ "user": {}, "cwd": "/", "args": ["/program", "start"] });
        let spec = Some(Any { type_url: String::new(), value: process.to_string().into() });
        let (id, exec_id) = (world.id("a"), name.to_owned());
        let exec = ExecProcessRequest {
            id,
            exec_id,
            stdin: stdin.clone(),
            spec,
            ..ExecProcessRequest::default()
        };
        let _: messages::Empty = client.ask("Exec", &exec);
        assert_eq!(client.refused("Exec", &exec).0, 6);
        let _: PidResponse =
            client.ask("Start", &ProcessRequest { exec_id: name.to_owned(), ..world.of("a") });
    }
    let found: PidsResponse = client.ask("Pids", &world.of("a"));
    let details = found.processes.iter().filter_map(|process| process.info.as_ref());
    let mut execs: Vec<_> = details
        .inspect(|any| assert_eq!(any.type_url, ProcessDetails::NAME))
        .map(|any| ProcessDetails::decode(&*any.value).unwrap().exec_id)
        .collect();
    execs.sort();
    assert_eq!((found.processes.len(), execs), (3, vec!["one".to_owned(), "two".to_owned()]));
    assert_eq!(client.refused("Delete", &world.of("a")).0, 9);
    let kill = world.sigkill("a");
    let _: messages::Empty = client.ask("Kill", &kill);
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 137);
    assert_eq!(client.refused("Kill", &kill), (5, "process already finished: not found".into()));
    let events: Vec<_> = (0..9).map(|_| world.event()).collect();
    let exits = events[6..].iter().map(|(_, any)| TaskExit::decode(&*any.value).unwrap());
    let exits: Vec<_> = exits.map(|exit| exit.id).collect();
    assert_eq!(exits.last(), Some(&world.id("a")), "{events:?}");
    for name in ["one", "two"] {
        let exec = ProcessRequest { exec_id: name.to_owned(), ..world.of("a") };
        let _: messages::task::DeleteResponse = client.ask("Delete", &exec);
    }
    let _: messages::task::DeleteResponse = client.ask("Delete", &world.of("a"));
    drop(hold);
    end(&world, client, &address);
}

/// What ended by the kernel for want of memory is told so before its end, and can be seen
/// afterwards.
#[test]
fn memory_that_has_run_out_is_told_before_the_end() {
    let test = "memory_that_has_run_out_is_told_before_the_end";
    let Some(world) = World::new(test) else { return };
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let memory = unified.is_ok_and(|all| all.split_whitespace().any(|one| one == "memory"));
    if !memory && !Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
        println!("SKIP {test}: there is no memory controller");
        return;
    }
    run_out_of_memory(&world, &format!("/{}", world.id("a")));
}

/// The same of a scope, which is gone by the time that anybody asks.
#[test]
fn memory_that_has_run_out_is_told_of_a_scope_that_is_gone() {
    let test = "memory_that_has_run_out_is_told_of_a_scope_that_is_gone";
    let Some(world) = World::new(test) else { return };
    if !Path::new("/run/systemd/system").is_dir() {
        println!("SKIP {test}: systemd does not run here");
        return;
    }
    run_out_of_memory(&world, &format!(":shim:{}", world.id("a")));
}

fn run_out_of_memory(world: &World, cgroup: &str) {
    let config = world.bundle("a", &["/program", "start"]).join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    let v1 = Path::new("/sys/fs/cgroup/memory");
    let mut memory = json!({ "limit": 32 << 20 });
    // Of swap there may be more than it ever takes.
    if !v1.exists() || v1.join("memory.memsw.limit_in_bytes").exists() {
        memory["swap"] = memory["limit"].clone();
    }
    spec["linux"]["resources"]["memory"] = memory;
    spec["linux"]["cgroupsPath"] = cgroup.into();
    let scope = cgroup.starts_with(':');
    if scope {
        share_pids(&mut spec);
    }
    fs::write(&config, spec.to_string()).unwrap();
    let mut client = world.serve("a");
    let address = address_of(&client);
    let stdin = world.fifo("stdin");
    let _: PidResponse =
        client.ask("Create", &CreateTaskRequest { stdin: stdin.clone(), ..world.creation("a") });
    let _: PidResponse = client.ask("Start", &world.of("a"));
    // Another holds the scope until the end of the init is seen: systemd removes it at once.
    let _held = scope.then(|| {
        let stdin = world.fifo("another");
        let held = fs::File::options().read(true).write(true).open(&stdin).unwrap();
        let _: messages::Empty = client.ask("Exec", &exec_of(world, "a", "one", &stdin));
        let exec = ProcessRequest { exec_id: "one".to_owned(), ..world.of("a") };
        let _: PidResponse = client.ask("Start", &exec);
        assert_eq!(world.topics(4)[2..], ["/tasks/exec-added", "/tasks/exec-started"]);
        held
    });
    let (limit, kills, pids) = memory_of(&mut client, &world.of("a"));
    assert_eq!((limit, kills, pids), (32 << 20, 0, 1 + u64::from(scope)));
    // It keeps all that it reads.
    let mut stdin = fs::File::options().write(true).open(stdin).unwrap();
    let writer = thread::spawn(move || while stdin.write_all(&[0; 1 << 16]).is_ok() {});
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 137);
    if scope {
        let scope = format!("/sys/fs/cgroup/system.slice/shim-{}.scope", world.id("a"));
        until("the end of the scope", || !Path::new(&scope).exists());
    }
    assert!(memory_of(&mut client, &world.of("a")).1 > 0);
    let mut topics = if scope { Vec::new() } else { world.topics(2) };
    let ends = 1 + usize::from(scope);
    while topics.iter().filter(|topic| *topic == "/tasks/exit").count() < ends {
        topics.push(world.event().0);
    }
    topics.dedup();
    let wanted = ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit"];
    assert_eq!(topics, wanted[if scope { 2 } else { 0 }..]);
    if scope {
        let exec = ProcessRequest { exec_id: "one".to_owned(), ..world.of("a") };
        let _: messages::task::DeleteResponse = client.ask("Delete", &exec);
    }
    let _: messages::task::DeleteResponse = client.ask("Delete", &world.of("a"));
    writer.join().unwrap();
    assert_eq!(world.event().0, "/tasks/delete");
    assert_eq!(client.refused("Stats", &world.of("a")).0, 5);
    end(world, client, &address);
}

/// The limit, what was ended for want of memory, and the processes.
fn memory_of(client: &mut Client, task: &ProcessRequest) -> (u64, u64, u64) {
    let any = client.ask::<StatsResponse>("Stats", task).stats.unwrap();
    if any.type_url == "io.containerd.cgroups.v2.Metrics" {
        let found = messages::metrics_v2::Metrics::decode(&*any.value).unwrap();
        let limit = found.memory.unwrap().usage_limit;
        return (limit, found.memory_events.unwrap().oom_kill, found.pids.unwrap().current);
    }
    assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
    let found = messages::metrics_v1::Metrics::decode(&*any.value).unwrap();
    let limit = found.memory.unwrap().usage.unwrap().limit;
    (limit, found.memory_oom_control.unwrap().oom_kill, found.pids.unwrap().current)
}

/// The address of a shell that reads what is written from 3, what is written of errors
/// from 4, and has 5 to say that it is ready.
pub(crate) fn shell(scheme: &str, script: &str) -> String {
    let script: String = script.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("{scheme}:///bin/sh?-c={script}")
}

#[test]
fn a_logger_is_given_what_is_written_and_nobody_else_waits_for_it() {
    let test = "a_logger_is_given_what_is_written_and_nobody_else_waits_for_it";
    let Some(world) = World::new(test) else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let folder = world.folder.path().display();
    let script = format!(
        "cd {folder}; until [ -e go ]; do sleep 0.01; done; printf x >&5; exec 5>&-;
         echo $CONTAINER_ID $CONTAINER_NAMESPACE >log; sleep 0.2; cat <&3 >>log; echo end >>log"
    );
    let stdout = shell("binary-v2", &script);
    let created = client.send("Create", &CreateTaskRequest { stdout, ..world.creation("a") });
    let mut other = Client::to(&format!("unix://{}", address.display()));
    let _: ConnectResponse = other.ask("Connect", &world.of("a"));
    fs::write(world.path("go"), "").unwrap();
    client.receive(created).unwrap();
    let _: PidResponse = client.ask("Start", &world.of("a"));
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 0);
    let _: messages::task::DeleteResponse = client.ask("Delete", &world.of("a"));
    // All of it is there by now.
    let log = fs::read_to_string(world.path("log")).unwrap();
    assert!(log.starts_with(&format!("{} test\ncontainerd-shim", world.id("a"))), "{log}");
    assert!(log.ends_with("\nend\n"), "{log}");
    end(&world, client, &address);
}

#[test]
fn a_logger_that_is_none_is_told() {
    let Some(world) = World::new("a_logger_that_is_none_is_told") else { return };
    world.bundle("a", &["/program", "-v"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    for (stdout, wanted) in [
        ("binary:///no/such", "the logger \"/no/such\": no such file or directory"),
        ("binary-v2:///bin/true", "the logger \"/bin/true\": it has ended before it was ready"),
        ("tcp://a", "\"tcp://a\": streams of the kind \"tcp\" are not supported"),
    ] {
        let stdout = stdout.to_owned();
        let request = CreateTaskRequest { stdout, ..world.creation("a") };
        assert_eq!(client.refused("Create", &request).1, wanted);
        assert_eq!(client.refused("State", &world.of("a")).0, 5);
    }
    end(&world, client, &address);
}

#[test]
fn what_fails_is_told_and_nothing_is_left_of_it() {
    let Some(world) = World::new("what_fails_is_told_and_nothing_is_left_of_it") else { return };
    world.bundle("a", &["/no/such/program"]);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let (_, error) = client.refused("Create", &world.creation("a"));
    assert!(error.starts_with("OCI runtime create failed: "), "{error}");
    assert!(error.contains("no such file or directory"), "{error}");
    assert_eq!(client.refused("Start", &world.of("a")).0, 5);
    assert_eq!(client.refused("NoSuchMethod", &world.of("a")).0, 12);
    // A frame that is no request, and one that is too long.
    client.socket.write_all(&frame::encode(99, REQUEST, b"\xff\xff\xff")).unwrap();
    assert_eq!(client.receive(99).unwrap_err().0, 3);
    let long = vec![0; frame::LONGEST + 1];
    client.socket.write_all(&frame::encode(101, REQUEST, &long)).unwrap();
    assert_eq!(client.receive(101).unwrap_err().0, 8);
    end(&world, client, &address);
}

#[test]
fn a_shim_has_its_cgroup_from_the_start() {
    let Some(world) = World::new("a_shim_has_its_cgroup_from_the_start") else { return };
    world.bundle("a", &["/program", "-v"]);
    let table = "/sys/fs/cgroup/pids";
    let hierarchy = if Path::new(table).is_dir() { table } else { "/sys/fs/cgroup" };
    let shim_cgroup = format!("/{}", world.id("cgroup"));
    let options = Options { shim_cgroup: shim_cgroup.clone(), ..Options::default() };
    let any = Any { type_url: RUNC.to_owned(), value: options.encode_to_vec() };
    let refused = world.try_start("a", &any.encode_to_vec());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains(&format!("there is no cgroup {shim_cgroup:?} for the shim")), "{said}");
    assert!(!refused.status.success() && refused.stdout.is_empty());
    let cgroup = PathBuf::from(format!("{hierarchy}{shim_cgroup}"));
    fs::create_dir(&cgroup).unwrap();
    let mut client =
        Client::to(&String::from_utf8(world.start("a", &any.encode_to_vec())).unwrap());
    let address = address_of(&client);
    let shim: ConnectResponse = client.ask("Connect", &world.of("none"));
    let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    assert_eq!(processes, format!("{}\n", shim.shim_pid));
    end(&world, client, &address);
    until("the end of the cgroup", || fs::remove_dir(&cgroup).is_ok());
}

#[test]
fn what_the_runtime_can_do_is_told_before_there_is_a_task() {
    let output = Command::new(SHIM).arg("-info").stdin(Stdio::null()).output().unwrap();
    let info = RuntimeInfo::decode(&*output.stdout).unwrap();
    assert_eq!((&*info.name, info.options), ("io.containerd.orlop.v1", None));
    let features = info.features.unwrap();
    assert_eq!(features.type_url, FEATURES);
    let features: Value = serde_json::from_slice(&features.value).unwrap();
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
}

#[test]
fn daemons_of_all_ages_are_answered_in_their_own_words() {
    let Some(world) = World::new("daemons_of_all_ages_are_answered_in_their_own_words") else {
        return;
    };
    world.bundle("a", &["/program", "-v"]);
    let old = String::from_utf8(world.start("a", b"")).unwrap();
    // All that tells one before 1.7 where the shim is when it comes back.
    assert_eq!(fs::read_to_string(world.path("a/address")).unwrap(), old);
    let options = Any { type_url: RUNC.to_owned(), value: Options::default().encode_to_vec() };
    // There is a shim now, which is the one that is told.
    assert_eq!(world.start("a", &options.encode_to_vec()), old.as_bytes());
    let params = BootstrapParams {
        instance_id: world.id("a"),
        namespace: "test".to_owned(),
        ..BootstrapParams::default()
    };
    let result = BootstrapResult::decode(&*world.start("a", &params.encode_to_vec())).unwrap();
    assert_eq!((result.version, &*result.address, &*result.protocol), (3, &*old, "ttrpc"));
    let client = Client::to(&old);
    let address = address_of(&client);
    end(&world, client, &address);
}

#[test]
fn the_socket_of_a_killed_shim_goes_with_its_task() {
    let Some(world) = World::new("the_socket_of_a_killed_shim_goes_with_its_task") else { return };
    let bundle = world.bundle("a", &["/program", "-v"]);
    let delete = || {
        let mut command = Command::new(SHIM);
        command.args(["-namespace", "test", "-address", "/daemon", "-id", &world.id("a")]);
        command.arg("-bundle").arg(&bundle).arg("delete").current_dir(&bundle);
        let output = command.output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    };
    let mut client = world.serve("a");
    let address = address_of(&client);
    let shim: ConnectResponse = client.ask("Connect", &world.of("none"));
    // It lives, and may have other tasks.
    delete();
    assert!(address.exists());
    let pid = rustix::process::Pid::from_raw(i32::try_from(shim.shim_pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("the end of the shim", || std::os::unix::net::UnixStream::connect(&address).is_err());
    assert!(address.exists());
    delete();
    assert!(!address.exists());
}
