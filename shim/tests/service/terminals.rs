//! Terminals: who closes one may open it again, and nobody waits for who keeps it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{AT_ONCE, Client, World, address_of, end, until};
use crate::limits::{assert_rests, shim_of};
use crate::messages::Empty;
use crate::messages::task::{
    CreateTaskRequest, DeleteResponse, ExecProcessRequest, PidResponse, ProcessRequest,
    ResizePtyRequest, WaitResponse,
};
use crate::order::{change, exec_of};

/// A bundle with the host's shell.
pub(crate) fn scripted(world: &World, script: &str, terminal: bool) {
    let rootfs = world.bundle("a", &["/bin/sh", "-c", script]).join("rootfs");
    for name in ["bin", "lib", "lib64"] {
        if Path::new("/").join(name).exists() {
            std::os::unix::fs::symlink(format!("usr/{name}"), rootfs.join(name)).unwrap();
        }
    }
    fs::create_dir(rootfs.join("usr")).unwrap();
    change(world, "a", |config| {
        config["process"]["terminal"] = Value::Bool(terminal);
        let usr = json!({ "destination": "/usr", "type": "bind", "source": "/usr",
                          "options": ["rbind", "ro"] });
        config["mounts"].as_array_mut().unwrap().push(usr);
    });
}

/// A task with that, whose output is this.
fn begin(world: &World, client: &mut Client) -> File {
    let stdout = world.fifo("stdout");
    let held = open(&stdout);
    let creation = CreateTaskRequest { stdout, terminal: true, ..world.creation("a") };
    let _: PidResponse = client.ask("Create", &creation);
    let _: PidResponse = client.ask("Start", &world.of("a"));
    held
}

fn open(path: &str) -> File {
    let now = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    File::options().read(true).write(true).custom_flags(now).open(path).unwrap()
}

fn hear(from: &mut File, words: &str) {
    let mut heard = String::new();
    until(words, || {
        let mut text = [0; 4096];
        let count = from.read(&mut text).unwrap_or(0);
        heard.push_str(&String::from_utf8_lossy(&text[..count]));
        heard.contains(words)
    });
}

/// As systemd does in a container.
#[test]
fn a_terminal_that_is_closed_and_opened_again_goes_on() {
    let Some(world) = World::new("a_terminal_that_is_closed_and_opened_again_goes_on") else {
        return;
    };
    scripted(
        &world,
        "echo one; exec <&- >&- 2>&-; : >/closed; until [ -e /go ]; do sleep 0.01; done
         exec >/dev/console; echo two; exec >&-; sleep 0.1;
         exec >/dev/console; i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; echo end",
        true,
    );
    let mut client = world.serve("a");
    let address = address_of(&client);
    let mut stdout = begin(&world, &mut client);
    for (width, height) in [(0, 0), (u32::MAX, 1)] {
        let id = world.id("a");
        let size = ResizePtyRequest { id, width, height, ..ResizePtyRequest::default() };
        let _: Empty = client.ask("ResizePty", &size);
    }
    hear(&mut stdout, "one");
    let rootfs = world.path("a/rootfs");
    until("its end of the terminal", || rootfs.join("closed").exists());
    let shim = shim_of(&world, &mut client);
    assert_rests(shim);
    fs::write(rootfs.join("go"), "").unwrap();
    hear(&mut stdout, "two");
    hear(&mut stdout, "2999\r\nend");
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 0);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

/// Writes lines until nobody takes more.
fn fill(to: &File) {
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(200) {
        match rustix::io::write(to, &[[b'x'; 60].as_slice(), b"\n"].concat().repeat(60)) {
            Ok(_) => last = Instant::now(),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[test]
fn what_nobody_reads_of_a_terminal_costs_nothing() {
    let test = "what_nobody_reads_of_a_terminal_costs_nothing";
    let Some(world) = World::new(test) else { return };
    let script = "stty -echo; echo go; sleep 0.5; head -c 500000 | wc -c; sleep 1; echo end";
    scripted(&world, script, true);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let (stdin, stdout) = (world.fifo("stdin"), world.fifo("stdout"));
    let (input, mut output) = (open(&stdin), open(&stdout));
    let creation = CreateTaskRequest { stdin, stdout, terminal: true, ..world.creation("a") };
    let _: PidResponse = client.ask("Create", &creation);
    let _: PidResponse = client.ask("Start", &world.of("a"));
    hear(&mut output, "go");
    fill(&input);
    until("what is read", || {
        fill(&input);
        let mut text = [0; 4096];
        let count = output.read(&mut text).unwrap_or(0);
        String::from_utf8_lossy(&text[..count]).contains("500000")
    });
    let ended: WaitResponse = client.ask("Wait", &world.of("a"));
    assert_eq!(ended.exit_status, 0);
    let shim = shim_of(&world, &mut client);
    assert_rests(shim);
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}

#[test]
fn a_terminal_ends_with_its_process_whoever_keeps_it() {
    let test = "a_terminal_ends_with_its_process_whoever_keeps_it";
    let Some(world) = World::new(test) else { return };
    scripted(&world, "exec sleep 1000", true);
    let mut client = world.serve("a");
    let address = address_of(&client);
    let _held = begin(&world, &mut client);
    // A client may come when all is over.
    for late in [false, true] {
        let name = if late { "two" } else { "one" };
        let stdout = world.fifo(name);
        let early = (!late).then(|| open(&stdout));
        let process = json!({ "user": {}, "cwd": "/", "args":
            ["/bin/sh", "-c", "trap '' HUP; while sleep 0.05; do echo more; done & echo said"] });
        let request = exec_of(&world, "a", name, "");
        let mut exec = ExecProcessRequest { stdout: stdout.clone(), terminal: true, ..request };
        exec.spec.as_mut().unwrap().value = process.to_string().into();
        let _: Empty = client.ask("Exec", &exec);
        let one = ProcessRequest { exec_id: name.to_owned(), ..world.of("a") };
        let _: PidResponse = client.ask("Start", &one);
        let ended: WaitResponse = client.ask("Wait", &one);
        assert_eq!(ended.exit_status, 0);
        let mut heard = early.unwrap_or_else(|| open(&stdout));
        // Nobody looks at what it writes by now.
        std::thread::sleep(Duration::from_millis(200));
        assert_rests(shim_of(&world, &mut client));
        let begun = Instant::now();
        let _: DeleteResponse = client.ask("Delete", &one);
        assert!(begun.elapsed() < AT_ONCE, "{name}: {:?}", begun.elapsed());
        hear(&mut heard, "said");
    }
    let kill = world.sigkill("a");
    let _: Empty = client.ask("Kill", &kill);
    let _: WaitResponse = client.ask("Wait", &world.of("a"));
    let _: DeleteResponse = client.ask("Delete", &world.of("a"));
    end(&world, client, &address);
}
