//! The command line under test: every command has a deadline, and its output goes
//! to files, which a container that lives on may keep open.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bundle::Bundle;
use super::lab::Lab;
use super::output::Output;
use super::view::View;

/// No command of a test takes this long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(30);

/// The program.
pub(crate) const ORLOP: &str = env!("CARGO_BIN_EXE_orlop");

/// A command that runs, with the files that take what it prints.
pub(crate) struct Running {
    child: Child,
    command: String,
    files: [std::path::PathBuf; 2],
}

impl Lab {
    /// Runs the command line with the test's own state.
    pub(crate) fn runtime<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.begin(self.command(arguments)).end()
    }

    /// The same as a [`Command`], to be changed before it begins.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(ORLOP);
        command.arg("--root").arg(self.root());
        // As engines do, with every command; but for a test that says itself who it is.
        let chosen = |argument: &S| argument.as_ref() == "--cgroup-manager";
        if self.view == View::Systemd && !arguments.iter().any(chosen) {
            command.arg("--systemd-cgroup");
        }
        command.args(arguments);
        command
    }

    /// Starts a command.
    pub(crate) fn begin(&self, mut command: Command) -> Running {
        let folder = tempfile::tempdir_in(self.folder()).unwrap().keep();
        let files = [folder.join("stdout"), folder.join("stderr")];
        let [out, err] = [0, 1].map(|index| File::create(&files[index]).unwrap());
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().unwrap();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let command = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        Running { child, command, files }
    }

    /// `run`, in the foreground, to its end.
    pub(crate) fn run(&self, bundle: &Bundle, name: &str, flags: &[&str]) -> Output {
        self.begin(self.start_of("run", bundle, name, flags)).end()
    }

    /// `create`
    pub(crate) fn create(&self, bundle: &Bundle, name: &str, flags: &[&str]) -> Output {
        self.begin(self.start_of("create", bundle, name, flags)).end()
    }

    /// `run` or `create` of a bundle, as a command that has not begun.
    pub(crate) fn start_of(
        &self,
        verb: &str,
        bundle: &Bundle,
        name: &str,
        flags: &[&str],
    ) -> Command {
        bundle.write();
        let mut command = self.command(&[verb, "--bundle"]);
        command.arg(&bundle.path).args(flags).arg(self.id(name));
        command
    }

    /// A command on one container: `verb flags ID rest`.
    pub(crate) fn on(&self, name: &str, verb: &[&str], rest: &[&str]) -> Output {
        let mut command = self.command(verb);
        command.arg(self.id(name)).args(rest);
        self.begin(command).end()
    }

    /// The probe in a running container.
    pub(crate) fn exec(&self, name: &str, flags: &[&str], arguments: &[&str]) -> Output {
        let mut verb = vec!["exec"];
        verb.extend(flags);
        let mut rest = vec!["/bin/probe"];
        rest.extend(arguments);
        self.on(name, &verb, &rest)
    }

    /// `state` as a value.
    pub(crate) fn state(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.on(name, &["state"], &[]).ok()).unwrap()
    }

    /// The word for where a container stands.
    pub(crate) fn status(&self, name: &str) -> String {
        self.state(name)["status"].as_str().unwrap().to_owned()
    }

    /// `delete --force`, which must succeed.
    pub(crate) fn delete(&self, name: &str) {
        self.on(name, &["delete", "--force"], &[]).ok();
    }
}

impl Running {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has something open.
    pub(crate) fn has_open(&self, path: &Path) -> bool {
        self.opened().any(|opened| opened == path)
    }

    /// Whether it has let go of the stage, by whose socket it hears of the program's
    /// start. Before that, who interrupts it has stopped a start.
    pub(crate) fn is_past_the_start(&self) -> bool {
        !self.opened().any(|opened| opened.to_string_lossy().starts_with("socket:"))
    }

    fn opened(&self) -> impl Iterator<Item = std::path::PathBuf> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.child.id())).into_iter().flatten();
        entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::from_str(signal).unwrap()).unwrap();
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.files[0]).unwrap()
    }

    /// Waits for its end.
    pub(crate) fn end(self) -> Output {
        self.end_within(DEADLINE)
    }

    /// The same, for one that has a reason to take long.
    pub(crate) fn end_within(mut self, deadline: Duration) -> Output {
        let begun = Instant::now();
        let mut pause = Duration::from_micros(200);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > deadline {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                let [out, err] = self.files.map(|file| fs::read_to_string(file).unwrap());
                panic!("{} did not end within {deadline:?}: killed\n{out}{err}", self.command);
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        };
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        let [stdout, stderr] = self.files.map(|file| {
            let bytes = fs::read(file).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Output { command: self.command, code, stdout, stderr }
    }
}

/// Waits until `true`.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        sleep(Duration::from_millis(2));
    }
}
