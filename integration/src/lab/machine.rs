//! One machine: started, found again, ended.
//!
//! QEMU holds a lock on the file with its pid as long as it lives. So whoever
//! comes later knows whether it runs, and that the pid is still its own.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::cache;
use super::image::Image;
use super::monitor::Monitor;
use super::packages;
use super::progress::{self, Progress};
use super::qemu::{self, Accelerator};
use super::recipe::Which;
use super::ssh::User;
use crate::command;

/// What QEMU may take to set everything up.
const START: Duration = Duration::from_secs(60);
/// What the machine may take to shut down by itself.
const SHUTDOWN: Duration = Duration::from_secs(30);
/// What QEMU may take to end when a signal tells it to.
const END: Duration = Duration::from_secs(10);

/// What was started, kept beside it.
const RECORD: &str = "machine.json";

/// A machine's place.
#[derive(Debug)]
pub struct Machine {
    /// Where its files are.
    pub folder: PathBuf,
    /// Which it is.
    pub which: Which,
}

/// One that runs.
#[derive(Debug)]
pub struct Running {
    /// QEMU's process.
    pub pid: Pid,
    /// The name of its image.
    pub image: String,
    /// Who executes its instructions.
    pub accelerator: Accelerator,
    /// For how long.
    pub uptime: Duration,
}

impl Machine {
    /// The machine that runs here.
    ///
    /// # Errors
    /// There is one that was not started by us.
    pub fn running(&self) -> Result<Option<Running>> {
        let Some(pid) = holder(&self.folder.join(qemu::PID)) else { return Ok(None) };
        let record = self.folder.join(RECORD);
        let text = fs::read(&record).with_context(|| format!("reading {}", record.display()))?;
        let value: Value = serde_json::from_slice(&text)?;
        let accelerator = Accelerator::named(value["accelerator"].as_str().unwrap_or_default());
        let (Some(image), Some(accelerator)) = (value["image"].as_str(), accelerator) else {
            bail!("{} is not a record of the lab's", record.display());
        };
        let started = fs::metadata(self.folder.join(qemu::PID))?.modified()?;
        let uptime = SystemTime::now().duration_since(started).unwrap_or_default();
        Ok(Some(Running { pid, image: image.to_owned(), accelerator, uptime }))
    }

    /// Starts one. The caller has the folder's lock, and knows that none runs.
    ///
    /// # Errors
    /// QEMU does not start; the error names the log.
    pub fn start(&self, image: &Image, accelerator: Accelerator) -> Result<()> {
        self.clear()?;
        symlink(&image.folder, self.folder.join(qemu::IMAGE))?;
        // Before there is a machine: whoever finds one finds its record too.
        let record = json!({ "image": image.name, "accelerator": accelerator.name() });
        let draft = self.folder.join("machine.draft");
        fs::write(&draft, record.to_string())?;
        fs::rename(draft, self.folder.join(RECORD))?;
        let log = self.folder.join(qemu::LOG);
        let (out, err) = progress::log(&log)?;
        let (program, version) = packages::qemu()?;
        ensure!(
            accelerator == Accelerator::Kvm || version >= qemu::EMULATES_SINCE,
            "QEMU {version} cannot emulate what current kernels need (cmpxchg16b): \
             version {} or newer is needed, and --install-packages installs one",
            qemu::EMULATES_SINCE
        );
        let mut command = Command::new(program);
        command.args(qemu::arguments(accelerator, self.which)).current_dir(&self.folder);
        // Where the disk's changes go.
        command.env("TMPDIR", &self.folder);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let mut child = command.spawn().context("starting QEMU")?;
        Progress::new("starting QEMU").wait(&mut child, START, &log)
    }

    /// Removes what one that ran here before has left.
    fn clear(&self) -> Result<()> {
        let mut left = [qemu::PID, qemu::MONITOR, qemu::LOG, qemu::CONSOLE, qemu::IMAGE]
            .map(str::to_owned)
            .to_vec();
        left.extend(User::ALL.map(User::socket));
        left.iter().try_for_each(|name| cache::remove(&self.folder.join(name)))
    }

    /// Ends it: by the power button, then by signals. False when none runs.
    ///
    /// # Errors
    /// It does not end even when killed.
    pub fn stop(&self) -> Result<bool> {
        if !runs(&self.folder) {
            return Ok(false);
        }
        let mut progress = Progress::new(&format!("ending {}", self.which));
        let pressed = Monitor::connect(&self.folder).and_then(|mut monitor| monitor.power_down());
        let console = self.folder.join(qemu::CONSOLE);
        let ended = pressed.is_ok()
            && command::until(SHUTDOWN, || {
                progress.tick(|| progress::last_line(&console));
                !runs(&self.folder)
            });
        if !ended {
            self.kill()?;
        }
        progress.done();
        Ok(true)
    }

    /// Ends it by signals.
    ///
    /// # Errors
    /// It does not end.
    pub fn kill(&self) -> Result<()> {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            // The lock's holder lives, so the pid is nobody else's.
            let Some(process) = holder(&self.folder.join(qemu::PID)) else { return Ok(()) };
            let _ = kill(process, signal);
            if command::until(END, || !runs(&self.folder)) {
                return Ok(());
            }
        }
        bail!("QEMU does not end; its log is {}", self.folder.join(qemu::LOG).display())
    }
}

/// Whether a machine runs in that folder.
#[must_use]
pub fn runs(folder: &Path) -> bool {
    holder(&folder.join(qemu::PID)).is_some()
}

/// The process that holds the lock of a file.
fn holder(path: &Path) -> Option<Pid> {
    let file = File::options().write(true).open(path).ok()?;
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    (lock.l_type != libc::F_UNLCK as libc::c_short).then(|| Pid::from_raw(lock.l_pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_nobody_holds_is_no_machine() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(qemu::PID);
        assert_eq!(holder(&path), None);
        // What a machine leaves that was killed, when its pid is somebody's again.
        fs::write(&path, std::process::id().to_string()).unwrap();
        assert_eq!(holder(&path), None);
        let machine =
            Machine { folder: folder.path().to_owned(), which: Which::all().next().unwrap() };
        assert!(machine.running().unwrap().is_none());
        assert!(!machine.stop().unwrap() && !runs(folder.path()));
    }

    #[test]
    fn nothing_of_the_last_machine_stays_but_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["lock", qemu::PID, qemu::CONSOLE, "ssh-root.sock", "ssh-lab.sock"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let machine =
            Machine { folder: folder.path().to_owned(), which: Which::all().next().unwrap() };
        machine.clear().unwrap();
        let left = fs::read_dir(folder.path()).unwrap();
        let names: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["lock"]);
    }

    #[test]
    fn a_held_pid_is_the_holders() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(qemu::PID);
        File::create(&path).unwrap();
        // A POSIX lock like QEMU's, by another process: our own would not be seen.
        let script = "import fcntl, sys, time\nf = open(sys.argv[1], 'w')\n\
                      fcntl.lockf(f, fcntl.LOCK_EX)\ntime.sleep(60)";
        let child = Command::new("python3").args(["-c", script]).arg(&path).spawn();
        let Ok(mut child) = child else {
            println!("SKIP a_held_pid_is_the_holders: there is no python3");
            return;
        };
        let found = command::until(Duration::from_secs(20), || holder(&path).is_some());
        let pid = holder(&path).map(Pid::as_raw);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
        assert_eq!(pid, Some(child.id().cast_signed()));
        assert_eq!(holder(&path), None);
    }
}
