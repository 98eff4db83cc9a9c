//! The README keeps its word: its commands are run, its settings are read by the
//! programs they are for, its Rust is the example's.
//!
//! What is changed or left out here is in the two tables below; nothing else is.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::{TempDir, tempdir};

const ORLOP: &str = env!("CARGO_BIN_EXE_orlop");
const INSTALLED: &str = "/usr/local/bin/orlop";
const SHIM: &str = "io.containerd.orlop.v1";

/// What stands in for a command that would only build what is built already.
const INSTEAD: &[(&str, &str)] = &[
    ("cargo run --release -p orlop-cli -- try", "orlop try"),
    ("cargo install --path runtime-cli --root /usr/local", "true"),
    ("cargo install --path shim --root /usr/local", "true"),
    ("cargo run --release -p orlop --example embed box", "embed box"),
    ("cargo run --release -p orlop-cli --example pages -- share", "pages share && find share"),
];

/// What is not run here.
const SKIPPED: &[(&str, &str)] = &[
    ("cargo test", "it is what runs this"),
    ("cargo engines", "takes minutes and an engine"),
    ("cargo runtime-bench", "takes minutes"),
    ("cargo shim-bench", "takes minutes"),
    ("cargo lab", "takes minutes and a virtual machine"),
    ("cargo spec-tests", "takes minutes"),
    ("docker run", "needs an engine with our settings: cargo engines docker has one"),
    ("podman ", "needs Podman and an image"),
    ("cd runtime-core", "there is only fuzzing behind it"),
    ("RUSTC_BOOTSTRAP=1 cargo fuzz", "builds for minutes; the doors are tested in tests/fuzz.rs"),
];

/// A block of the README between fences.
struct Block {
    language: String,
    line: usize,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn blocks() -> Vec<Block> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (index, line) in readme.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            open = !open;
            if open {
                let (language, text) = (language.to_owned(), String::new());
                blocks.push(Block { language, line: index + 1, text });
            }
        } else if open {
            let block = blocks.last_mut().unwrap();
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    assert!(!open, "a fence is not closed");
    blocks
}

fn only(language: &str) -> Block {
    let mut found: Vec<_> = blocks().into_iter().filter(|b| b.language == language).collect();
    assert_eq!(found.len(), 1, "blocks of {language}");
    found.remove(0)
}

/// Where the commands are run: an empty folder, with our programs in the path and
/// a state of its own.
struct Room {
    directory: TempDir,
}

impl Room {
    fn new() -> Self {
        let directory = tempdir().unwrap();
        let bin = directory.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let state = directory.path().join("state");
        let wrapper = format!("#!/bin/sh\nexec {ORLOP} --root {} \"$@\"\n", state.display());
        let draft = directory.path().join("draft");
        fs::write(&draft, wrapper).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        // By a process of its own: a child that another test begins would have the file
        // open for writing for a moment, and nobody could execute it.
        let copied = Command::new("cp").arg("-p").args([&draft, &bin.join("orlop")]).status();
        assert!(copied.unwrap().success());
        fs::remove_file(draft).unwrap();
        for example in ["embed", "pages"] {
            let built = Path::new(ORLOP).with_file_name("examples").join(example);
            symlink(built, bin.join(example)).unwrap();
        }
        Self { directory }
    }

    fn command(&self, script: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.directory.path().join("bin");
        let mut command = Command::new("/bin/sh");
        command.args(["-e", "-c", script]).current_dir(self.directory.path());
        command.env("PATH", format!("{}:{path}", bin.display()));
        command
    }

    /// Runs a script at a terminal where somebody types `exit` at each prompt.
    fn run(&self, script: &str) -> String {
        let pty = openpty(None, None).unwrap();
        let stream = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = self.command(script);
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let child = command.process_group(0).spawn().unwrap();
        drop(command); // and with it our copies of the terminal
        let (output, code) = attend(child, pty);
        assert_eq!(code, Some(0), "{script}\n{output}");
        output
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for id in ["first", "second"] {
            let _ = self.command(&format!("orlop delete --force {id}")).status();
        }
        // The example's store, if nobody else uses it.
        let _ = fs::remove_dir("/run/embed-example");
    }
}

fn attend(mut child: Child, pty: OpenptyResult) -> (String, Option<i32>) {
    let OpenptyResult { master, slave } = pty;
    drop(slave);
    let deadline = Instant::now() + Duration::from_secs(40);
    let mut output = String::new();
    while Instant::now() < deadline {
        let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(500_u16)).unwrap();
        if fds[0].revents().is_none_or(|events| events.is_empty()) {
            continue;
        }
        let mut buffer = [0; 4096];
        // EIO: nobody has the other end any more.
        let Ok(length @ 1..) = nix::unistd::read(&master, &mut buffer) else {
            return (output, child.wait().unwrap().code());
        };
        output.push_str(&String::from_utf8_lossy(&buffer[..length]));
        if output.ends_with("# ") {
            File::from(master.try_clone().unwrap()).write_all(b"exit\n").unwrap();
        }
    }
    let group = Pid::from_raw(child.id().cast_signed());
    killpg(group, Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    (output, None)
}

/// What is printed in the place of running it, if it isn't run here.
fn skip(line: &str) -> Option<String> {
    let (_, why) = SKIPPED.iter().find(|(start, _)| line.starts_with(start))?;
    Some(format!("SKIP README.md {line:?}: {why}"))
}

/// The script of a block as it is run here; empty when nothing of it is.
fn script(block: &Block) -> String {
    let mut script = String::new();
    for line in block.text.lines() {
        if let Some(words) = skip(line) {
            println!("{words}");
            continue;
        }
        let instead = INSTEAD.iter().find(|(written, _)| *written == line);
        script.push_str(instead.map_or(line, |(_, run)| run));
        script.push('\n');
    }
    script
}

#[test]
fn every_command_runs() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIP every_command_runs: the README asks for root");
        return;
    }
    // The containers have names, which another run of this test would use too.
    let lock = File::create(std::env::temp_dir().join("orlop-readme.lock")).unwrap();
    lock.lock().unwrap();
    let room = Room::new();
    let mut outputs = String::new();
    let mut expected =
        vec!["pivot-root", "\"status\": \"created\"", "rootfs", "second", "example-", "orlop.8"];
    for block in blocks().iter().filter(|block| block.language == "sh") {
        let script = script(block);
        let missing = [("embed", "example-"), ("pages", "orlop.8")].iter().find(|(name, _)| {
            let calls = script.lines().any(|line| line.starts_with(&format!("{name} ")));
            calls && !room.directory.path().join("bin").join(name).exists()
        });
        if let Some((_, result)) = missing {
            println!("SKIP README.md:{}: the example is not built", block.line);
            expected.retain(|seen| seen != result);
        } else if !script.is_empty() {
            outputs.push_str(&room.run(&script));
        }
    }
    for seen in expected {
        assert!(outputs.contains(seen), "{seen:?} is not in {outputs}");
    }
}

#[test]
fn every_table_entry_is_still_needed() {
    let text: String = blocks().into_iter().map(|block| block.text).collect();
    for (line, _) in INSTEAD.iter().chain(SKIPPED) {
        assert!(text.lines().any(|written| written.starts_with(line)), "{line:?} is not there");
    }
    for block in blocks() {
        let known = ["sh", "json", "toml", "yaml", "rust"].contains(&block.language.as_str());
        assert!(known, "README.md:{}: nobody reads {:?}", block.line, block.language);
    }
}

/// What lands would fail by that, after all else has been run.
#[test]
fn what_is_skipped_stands_in_the_list() {
    let list = fs::read_to_string(root().join(".ci/skips")).unwrap();
    let listed =
        list.lines().filter(|line| line.starts_with("SKIP README.md \"")).map(String::from);
    let (listed, blocks) = (BTreeSet::from_iter(listed), blocks());
    let commands = blocks.iter().filter(|block| block.language == "sh");
    let skipped = commands.flat_map(|block| block.text.lines().filter_map(skip)).collect();
    let differ: Vec<_> = listed.symmetric_difference(&skipped).collect();
    assert!(differ.is_empty(), "in one of README.md and .ci/skips alone: {differ:#?}");
}

#[test]
fn what_is_skipped_exists() {
    let aliases = fs::read_to_string(root().join(".cargo/config.toml")).unwrap();
    for alias in ["engines", "runtime-bench", "shim-bench", "lab"] {
        assert!(aliases.contains(&format!("\n{alias} = ")), "no alias {alias}");
    }
    let targets = root().join("runtime-core/fuzz/fuzz_targets");
    for target in fs::read_dir(targets).unwrap() {
        let name = target.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        let text: String = blocks().into_iter().map(|block| block.text).collect();
        assert!(text.contains(&format!("cargo fuzz run {name} ")), "{name} is not told");
    }
}

#[test]
fn the_rust_is_the_examples() {
    let example = fs::read_to_string(root().join("runtime-core/examples/embed.rs")).unwrap();
    assert!(example.contains(&only("rust").text));
}

#[test]
fn dockers_settings_are_those_that_are_tested() {
    let block = only("json").text;
    let settings: serde_json::Value = serde_json::from_str(&block).unwrap();
    let runtimes = &settings["runtimes"];
    assert_eq!(runtimes["orlop"], json!({ "path": INSTALLED }));
    assert_eq!(runtimes["orlop-shim"], json!({ "runtimeType": SHIM }));
    // The keys that the checks with a real engine configure their daemon by.
    let daemon = fs::read_to_string(root().join("integration/src/docker/daemon.rs")).unwrap();
    for key in [r#"json!({ "path": runtime })"#, r#""runtimeType": kind"#, r#""ConfigPath": "#] {
        assert!(daemon.contains(key), "{key}");
    }
}

#[test]
fn containerd_reads_its_settings() {
    let text = only("toml").text;
    assert!(text.contains(&format!("BinaryName = \"{INSTALLED}\"")));
    // What Kubernetes calls the handler is the name of the section.
    let yaml = only("yaml").text;
    let handler = yaml.lines().find_map(|line| line.strip_prefix("handler: ")).unwrap();
    assert!(text.contains(&format!(".runtimes.{handler}]")));
    let directory = tempdir().unwrap();
    let path = directory.path().join("config.toml");
    fs::write(&path, &text).unwrap();
    let mut containerd = Command::new("containerd");
    let Ok(dump) = containerd.arg("--config").arg(&path).args(["config", "dump"]).output() else {
        println!("SKIP containerd_reads_its_settings: containerd is not installed");
        return;
    };
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let output = String::from_utf8_lossy(&dump.stdout);
    assert!(output.contains(&format!("BinaryName = \"{INSTALLED}\"")), "{output}");
}
