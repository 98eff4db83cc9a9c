//! A cgroup with all below it: who is in there, and its end.
//!
//! What is below may be the container's own making: any number, deeper than a path
//! can say, and more of it meanwhile. So it is walked by descriptor, one level at a
//! time, with two of them open at most, and every walk has an end.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::directory::{read_text, refused};
use crate::error::Result;

/// How long a cgroup that still holds dying processes is waited for.
const REMOVAL: Duration = Duration::from_secs(2);

/// When a walk is given up, and a removal that makes some progress again and again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where one stands in the tree.
struct Walk {
    here: OwnedFd,
    /// The names of those below that were not yet gone into.
    below: Vec<CString>,
    /// The way back: the name of each that was gone into, with what was left to be
    /// gone into beside it.
    above: Vec<(CString, Vec<CString>)>,
    end: Instant,
}

impl Walk {
    /// `None` when there is no such cgroup.
    fn begin(path: &Path, end: Instant) -> Result<Option<Self>, Errno> {
        match open(path, directory(), Mode::empty()) {
            Ok(here) => {
                let below = children(&here)?;
                Ok(Some(Self { here, below, above: Vec::new(), end }))
            }
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Goes into one of those below. One that has vanished is passed over.
    fn go_down(&mut self, name: CString) -> Result<bool, Errno> {
        if Instant::now() >= self.end {
            return Err(Errno::ETIME);
        }
        let there = match openat(&self.here, &*name, directory(), Mode::empty()) {
            Err(errno) if is_gone(errno) => return Ok(false),
            there => there?,
        };
        self.here = there;
        let below = children(&self.here)?;
        self.above.push((name, std::mem::replace(&mut self.below, below)));
        Ok(true)
    }

    /// Goes back to the one above: the name of where we were. No cgroup changes what
    /// it is below.
    fn go_up(&mut self) -> Result<Option<CString>, Errno> {
        let Some((name, below)) = self.above.pop() else { return Ok(None) };
        self.here = openat(&self.here, "..", directory(), Mode::empty())?;
        self.below = below;
        Ok(Some(name))
    }

    /// Goes to the next, those above before those below. False after the last.
    fn go_on(&mut self) -> Result<bool, Errno> {
        loop {
            if let Some(name) = self.below.pop() {
                if self.go_down(name)? {
                    return Ok(true);
                }
            } else if self.go_up()?.is_none() {
                return Ok(false);
            }
        }
    }
}

fn directory() -> OFlag {
    OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// Any cgroup but the first may vanish while it is looked at.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV)
}

/// The names of the cgroups right below; none below one that is gone.
fn children(cgroup: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let list = || {
        let mut names = Vec::new();
        for entry in Dir::openat(cgroup, ".", flags, Mode::empty())?.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type() == Some(Type::Directory) && name != c"." && name != c".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    };
    match list() {
        Err(errno) if is_gone(errno) => Ok(Vec::new()),
        result => result,
    }
}

/// Every process in the cgroup and below it, sorted, each once. A cgroup that
/// does not exist has none.
pub(super) fn processes(path: &Path) -> Result<Vec<i32>> {
    let (found, result) = known_processes(path);
    result.map(|()| found)
}

/// The same, or as many as can be told, and why not all.
pub(super) fn known_processes(path: &Path) -> (Vec<i32>, Result<()>) {
    let mut found = Vec::new();
    let result = collect(path, &mut found);
    found.sort_unstable();
    found.dedup();
    (found, result.map_err(|errno| refused(errno, "listing the processes of the cgroup", path)))
}

fn collect(path: &Path, found: &mut Vec<i32>) -> Result<(), Errno> {
    let Some(mut walk) = Walk::begin(path, Instant::now() + PATIENCE)? else { return Ok(()) };
    let mut result = Ok(());
    loop {
        let text = match read(&walk.here, c"cgroup.procs") {
            // A threaded cgroup (v2) has no list of processes.
            Err(Errno::EOPNOTSUPP) => read(&walk.here, c"cgroup.threads"),
            other => other,
        };
        match text {
            Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
            Err(errno) if is_gone(errno) => {}
            Err(errno) => result = result.and(Err(errno)),
        }
        if !walk.go_on()? {
            return result;
        }
    }
}

fn read(cgroup: &OwnedFd, file: &CStr) -> Result<String, Errno> {
    read_text(&openat(cgroup, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Whether a cgroup and those below it have no processes, if they get some time to
/// end.
pub(super) fn empties(path: &Path) -> Result<bool> {
    let deadline = Instant::now() + REMOVAL;
    let mut pause = Duration::from_micros(100);
    loop {
        let empty = processes(path)?.is_empty();
        if empty || Instant::now() >= deadline {
            return Ok(empty);
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Removes a cgroup and those below it. One that holds dying processes is tried
/// again for a while; a missing one is fine.
pub(super) fn remove(path: &Path) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut deadline = Instant::now() + REMOVAL;
    let mut pause = Duration::from_micros(100);
    let failed = |errno| refused(errno, "removing the cgroup", path);
    loop {
        let error = match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        match errno {
            Errno::ENOENT => return Ok(()),
            Errno::EINTR => {}
            errno if is_in_use(errno) => {}
            // A read-only mount refuses before it looks whether there is one.
            _ if !path.exists() => return Ok(()),
            _ => return Err(failed(errno)),
        }
        let removed = remove_below(path, end).map_err(failed)?;
        let now = Instant::now();
        if removed > 0 && now < end {
            // Waited for is only what does not go.
            deadline = now + REMOVAL;
            continue;
        }
        if now >= deadline {
            return Err(failed(errno));
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Removes what can be removed below a cgroup, and tells how many.
fn remove_below(path: &Path, end: Instant) -> Result<usize, Errno> {
    let Some(mut walk) = Walk::begin(path, end)? else { return Ok(0) };
    let mut removed = 0;
    loop {
        let (name, was_in) = match walk.below.pop() {
            Some(name) => (name, false),
            None => match walk.go_up()? {
                Some(name) => (name, true),
                None => return Ok(removed),
            },
        };
        match unlinkat(&walk.here, &*name, UnlinkatFlags::RemoveDir) {
            Ok(()) => removed += 1,
            Err(Errno::ENOENT) => {}
            Err(errno) if is_in_use(errno) => {
                if !was_in {
                    walk.go_down(name)?;
                }
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// Processes or cgroups are in there.
fn is_in_use(errno: Errno) -> bool {
    matches!(errno, Errno::EBUSY | Errno::ENOTEMPTY)
}
