//! One command in the machine: its streams are ours, its exit status too, and a
//! signal to us ends it there.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, stdin, stdout};
use std::process::Child;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::ssh::{self, Ssh, User};
use super::{machine, qemu};
use crate::command;

/// What ssh says of itself, and what a command may say too.
const SSH_FAILED: i32 = 255;

/// What an interrupted command may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// QEMU lives a little longer than its connections.
const MOMENT: Duration = Duration::from_secs(1);

/// Runs a command; its exit status, or 128 and a signal's number.
///
/// # Errors
/// The machine goes away under it, or the connection does.
pub fn run(ssh: &Ssh, user: User, words: &[OsString]) -> Result<i32> {
    let mut signals = Signals::new()?;
    let tag = tag();
    let terminal = stdin().is_terminal() && stdout().is_terminal();
    let mut command = ssh.command(user, line(words, &tag));
    if terminal {
        // Before the place: what is behind it is the command.
        command = ssh.login(user);
        command.arg("--").arg(line(words, &tag));
    }
    let mut child = command.spawn().context("starting ssh")?;
    let code = loop {
        if let Some(status) = child.try_wait()? {
            break command::code(status);
        }
        if let Some(signal) = signals.next()? {
            end(ssh, &mut child, &tag);
            return Ok(128 + signal as i32);
        }
        thread::sleep(Duration::from_millis(10));
    };
    if code == SSH_FAILED && !ssh.connected(user) {
        let console = ssh.folder.join(qemu::CONSOLE);
        // QEMU knows: the connection can end by itself, and a command say 255 without it.
        let gone = command::until(MOMENT, || !machine::runs(&ssh.folder));
        ensure!(!gone, "the machine has gone; its console's log is {}", console.display());
        let ended = ssh.ask(&format!("test ! -e {tag}"), PATIENCE);
        if !ended.is_ok_and(|output| output.code == 0) {
            end(ssh, &mut child, &tag);
            bail!("the connection to the machine was lost; the command there was interrupted");
        }
    }
    Ok(code)
}

/// The shell's line: it leaves its pid, which is its process group's, and turns a
/// signal that ends the command into a status. An interrupt reaches both of them:
/// the shell outlives it to tell the status.
///
/// Behind `exec` every word is a program's or an argument, none is the shell's. What
/// the shell would say of the signal is not the command's, and goes nowhere.
fn line(words: &[OsString], tag: &str) -> OsString {
    let words: Vec<_> = words.iter().map(|word| ssh::quote(word)).collect();
    let mut line =
        OsString::from(format!("echo $$ >{tag}; trap : INT QUIT; {{ (exec 2>&3 3>&-; exec -- "));
    line.push(words.join(OsStr::new(" ")));
    line.push(format!("); }} 3>&2 2>/dev/null; status=$?; rm -f {tag}; exit $status"));
    line
}

fn tag() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("/tmp/.lab-{}-{}", std::process::id(), now.subsec_nanos())
}

/// Ends the command there, politely first.
fn end(ssh: &Ssh, child: &mut Child, tag: &str) {
    for signal in ["INT", "KILL"] {
        let line = format!("test ! -e {tag} || kill -{signal} -- -$(cat {tag})");
        let _ = ssh.ask(&line, PATIENCE);
        if command::wait(child, PATIENCE / 5).is_some() {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    let _ = ssh.ask(&format!("rm -f {tag}"), PATIENCE);
}

/// Signals that would end us, held back until we look.
struct Signals(SignalFd);

impl Signals {
    fn new() -> Result<Self> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        set.thread_block().context("blocking signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&set, flags).context("reading signals")?))
    }

    fn next(&mut self) -> Result<Option<Signal>> {
        let info = self.0.read_signal().context("reading signals")?;
        let number = info.map(|info| i32::try_from(info.ssi_signo)).transpose()?;
        Ok(number.map(Signal::try_from).transpose()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(words: &[&str], tag: &str) -> (i32, String) {
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        // As sshd starts it; who runs the tests in the background ignores these.
        let mut env = std::process::Command::new("env");
        env.args(["--default-signal=INT,QUIT", "bash", "-c"]).arg(line(&words, tag));
        let output = command::run(&mut env, "", PATIENCE).unwrap();
        (output.code, output.stdout + &output.stderr)
    }

    #[test]
    fn the_status_is_the_commands_and_nothing_is_said_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let tag = folder.path().join("tag").display().to_string();
        let silent = |code| (code, String::new());
        assert_eq!(shell(&["true"], &tag), silent(0));
        assert_eq!(shell(&["sh", "-c", "exit 7"], &tag), silent(7));
        assert_eq!(shell(&["sh", "-c", "kill -KILL $$"], &tag), silent(137));
        assert_eq!(shell(&["sh", "-c", "kill -TERM $$"], &tag), silent(143));
        let interrupt = "kill -INT $PPID $$; sleep 10";
        assert_eq!(shell(&["sh", "-c", interrupt], &tag), silent(130));
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        assert_eq!(shell(&["test", "-s", &tag], &tag), silent(0));
        // Both streams are the command's, and it has no others.
        let streams = "echo 1; echo 2 >&2; test ! -e /proc/self/fd/3";
        assert_eq!(shell(&["sh", "-c", streams], &tag), (0, "12".to_owned()));
    }

    #[test]
    fn no_word_is_the_shells() {
        let folder = tempfile::tempdir().unwrap();
        let tag = folder.path().join("tag").display().to_string();
        for words in
            [&["if"][..], &["exit", "7"], &["exec", "true"], &["A=1", "env"], &["-n"], &[""]]
        {
            let (code, said) = shell(words, &tag);
            assert_eq!(code, 127, "{words:?}");
            assert!(said.contains("not found"), "{said}");
        }
        assert_eq!(shell(&["/"], &tag).0, 126);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
