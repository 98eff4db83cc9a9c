//! The leak oracle: the world after a test is the world before it.
//!
//! State folders, cgroups in every hierarchy, mounts, processes, descriptors of
//! this process, session keyrings, and units of systemd, a user's too. What ends by
//! itself gets a moment to do so.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use orlop_spec_tests::cgroups;

use super::lab::Lab;
use super::session::Session;
use super::view::{View, below};

/// How long processes that were told to end may take, and the kernel to clear up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The world at one moment.
pub(crate) struct Picture {
    /// One that is delegated is the test's own.
    cgroups: Vec<PathBuf>,
    mounts: BTreeSet<String>,
    fds: BTreeSet<String>,
}

impl Picture {
    /// Before the test, or in the midst of it.
    pub(crate) fn take(lab: &Lab) -> Self {
        Self { cgroups: cgroups::of(lab.tag()), mounts: mounts(), fds: fds() }
    }

    /// What is there that was not before, one line each.
    pub(crate) fn leaks(&self, lab: &Lab) -> Vec<String> {
        let begun = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            let leaks = self.now(lab);
            if leaks.is_empty() || begun.elapsed() > PATIENCE {
                return leaks;
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// The same without waiting for what is about to end.
    pub(crate) fn now(&self, lab: &Lab) -> Vec<String> {
        let mut leaks = Vec::new();
        let mut add = |kind: &str, found: Vec<String>| {
            leaks.extend(found.into_iter().map(|one| format!("{kind} {one}")));
        };
        add("state", state(&lab.root()));
        let new = cgroups::of(lab.tag()).into_iter().filter(|path| !self.cgroups.contains(path));
        add("a cgroup", new.map(|path| path.display().to_string()).collect());
        add("a mount", mounts().difference(&self.mounts).cloned().collect());
        add("(lost) a mount", self.mounts.difference(&mounts()).cloned().collect());
        add("a process", processes().into_iter().map(describe).collect());
        add("a descriptor", fds().difference(&self.fds).cloned().collect());
        add("a keyring", keyrings(lab.tag()));
        if lab.view == View::Systemd {
            add("a unit", units(lab.tag()));
        }
        leaks
    }

    /// Takes away what is left, so that the next test is not blamed for it.
    pub(crate) fn sweep(&self, lab: &Lab) {
        let begun = Instant::now();
        while !processes().is_empty() && begun.elapsed() < PATIENCE {
            for pid in processes() {
                let _ = kill(pid, Signal::SIGKILL);
            }
            cgroups::thaw(lab.tag());
            sleep(Duration::from_millis(5));
        }
        if lab.view == View::Systemd {
            let pattern = format!("*{}*", lab.tag());
            for arguments in [["stop", &pattern], ["reset-failed", &pattern]] {
                systemctl(&arguments);
                if let Some(session) = Session::find() {
                    session.systemctl(&arguments);
                }
            }
        }
        for path in cgroups::of(lab.tag()) {
            let _ = fs::remove_dir(path);
        }
        for mount in mounts().difference(&self.mounts) {
            if let Some(point) = mount.split(' ').nth(4) {
                let _ = umount2(point, MntFlags::MNT_DETACH);
            }
        }
    }
}

fn state(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// Lines of mountinfo: the namespace is ours alone.
fn mounts() -> BTreeSet<String> {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(ToOwned::to_owned).collect()
}

/// Everyone below the process that takes the orphans, but for us.
pub(crate) fn processes() -> Vec<Pid> {
    let mut found = below(getppid());
    found.retain(|pid| *pid != getpid());
    found
}

/// Units of one test that systemd knows, the machine's or a user's. A manager has what it
/// was told of one in a file for as long, and that is quicker to look at than he is to ask.
fn units(tag: &str) -> Vec<String> {
    let users = fs::read_dir("/run/user").into_iter().flatten().flatten();
    let managers = users.map(|user| user.path()).chain(["/run".into()]);
    let files = managers.flat_map(|run| fs::read_dir(run.join("systemd/transient")));
    let paths = files.flatten().flatten().map(|file| file.path().display().to_string());
    paths.filter(|path| path.contains(tag)).collect()
}

fn systemctl(arguments: &[&str]) {
    Command::new("systemctl").args(arguments).output().unwrap();
}

fn describe(pid: Pid) -> String {
    let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let words = read("cmdline").replace('\0', " ");
    let state = read("status").lines().find(|line| line.starts_with("State")).map(str::to_owned);
    format!("{pid} {} {}", words.trim_end(), state.unwrap_or_default())
}

fn fds() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = entries.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        // The directory that is being read.
        let own = fs::metadata("/proc/self/fd").ok()?.ino();
        let listing = fs::metadata(entry.path()).is_ok_and(|to| to.ino() == own);
        (!listing).then(|| format!("{} {}", entry.file_name().display(), target.display()))
    });
    open.collect()
}

fn keyrings(tag: &str) -> Vec<String> {
    let keys = fs::read_to_string("/proc/keys").unwrap_or_default();
    keys.lines().filter(|line| line.contains(tag)).map(ToOwned::to_owned).collect()
}
