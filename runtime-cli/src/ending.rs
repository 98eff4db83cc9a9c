//! How a container in the foreground ends when its runtime is asked to.
//!
//! The kernel drops a signal for the first process of a pid namespace that has no
//! handler for it, so that passing it on is not enough. Decides what is passed on,
//! and when the process is killed; whom a signal reaches first is not known here.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use orlop::container::Started;
use orlop_init::sys::signal::is_ignored;

/// How long a process may take that handles the signal.
const GRACE: Duration = Duration::from_secs(2);

const ASKING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// Whether the end was asked for, and by when it comes.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    asked: Option<Signal>,
    deadline: Option<Instant>,
}

impl Ending {
    /// Whether a signal asks for the end. The others say whatever sender and
    /// program mean by them.
    pub(crate) fn is_asked_by(signal: Signal) -> bool {
        ASKING.contains(&signal)
    }

    /// The signals that ask for the end, but for those that whoever started us wants
    /// ignored.
    pub(crate) fn asking() -> SigSet {
        ASKING.into_iter().filter(|signal| !is_ignored(*signal as i32)).collect()
    }

    /// Passes the signal on to a process that handles it; kills any other, as the
    /// signal would have. Who asks twice means it.
    pub(crate) fn ask(&mut self, started: &Started, signal: Signal) {
        // By who started us: nohup(1), or a shell that runs us in the background.
        if is_ignored(signal as i32) {
            return;
        }
        let again = self.asked.is_some();
        self.asked.get_or_insert(signal);
        if !again && handles(started.pid, signal) {
            self.deadline = Some(Instant::now() + GRACE);
            // It may have ended meanwhile.
            let _ = started.signal(signal as i32);
        } else {
            kill(started);
        }
    }

    /// How long there is nothing to do here.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Kills a process that has had its time.
    pub(crate) fn insist(&mut self, started: &Started) {
        if self.patience() == Some(Duration::ZERO) {
            self.deadline = None;
            kill(started);
        }
    }

    /// The signal that the process was ended by, `last` being the one it felt.
    pub(crate) fn cause(&self, last: i32) -> i32 {
        let asked = self.asked.filter(|_| last == Signal::SIGKILL as i32);
        asked.map_or(last, |signal| signal as i32)
    }
}

fn kill(started: &Started) {
    let _ = started.signal(Signal::SIGKILL as i32);
}

/// Whether a process has a handler for it (proc_pid_status(5)). One that can't be read
/// has ended.
fn handles(pid: i32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let bits = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    bits >> (signal as i32 - 1) & 1 == 1
}
