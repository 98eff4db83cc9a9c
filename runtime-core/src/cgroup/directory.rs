//! One cgroup directory: made, taken, its files read and written. Knows the file
//! system, no controller and no limit.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, fchownat, mkdir, read, write};

use crate::error::{Error, Kind, Result};

/// An open cgroup directory.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens a cgroup that exists.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(errno) => Err(refused(errno, "opening the cgroup", &path)),
        }
    }

    /// Opens a cgroup that may be gone.
    pub(super) fn find(path: PathBuf) -> Result<Option<Self>> {
        match Self::open(path) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            result => result.map(Some),
        }
    }

    pub(super) fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `value` into `file` with one system call, as cgroup files want it.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<(), Errno> {
        write_all(&self.open_for_writing(file)?, value)
    }

    /// Moves a process with all its threads in.
    pub(super) fn add(&self, pid: i32) -> Result<()> {
        let mut tries = 0;
        // A process that is being born can't be moved yet: EINVAL.
        while let Err(errno) = self.write("cgroup.procs", &pid.to_string()) {
            tries += 1;
            if errno != Errno::EINVAL || tries == 20 {
                return Err(refused(errno, "moving a process into the cgroup", &self.path));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Gives `file`, or itself for an empty name, to a user.
    pub(super) fn give(&self, file: &str, uid: u32) -> Result<(), Errno> {
        let flags = AtFlags::AT_EMPTY_PATH | AtFlags::AT_SYMLINK_NOFOLLOW;
        fchownat(&self.fd, file, Some(Uid::from_raw(uid)), None, flags)
    }

    pub(super) fn open_for_writing(&self, file: &str) -> Result<OwnedFd, Errno> {
        openat(&self.fd, file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
    }

    /// The text of `file`, a value of less than a page.
    pub(super) fn read(&self, file: &str) -> Result<String, Errno> {
        read_once(&self.open_for_reading(file)?)
    }

    pub(super) fn open_for_reading(&self, file: &str) -> Result<OwnedFd, Errno> {
        openat(&self.fd, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
    }

    /// The text of `file`, of any length.
    pub(super) fn read_all(&self, file: &str) -> Result<String, Errno> {
        read_text(&self.open_for_reading(file)?)
    }
}

/// Writes a whole value with one write(2).
pub(super) fn write_all(fd: &OwnedFd, value: &str) -> Result<(), Errno> {
    match write(fd, value.as_bytes()) {
        Ok(length) if length == value.len() => Ok(()),
        Ok(_) => Err(Errno::EIO),
        Err(errno) => Err(errno),
    }
}

/// The text of a file that holds a value of less than a page: the kernel gives
/// such a value whole, so the end needs no second call.
pub(super) fn read_value(path: &Path) -> Result<String, Errno> {
    read_once(&open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn read_once(fd: &OwnedFd) -> Result<String, Errno> {
    let mut buffer = [0; 4096];
    let length = read(fd, &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Reads from the current place to the end.
pub(super) fn read_text(fd: &OwnedFd) -> Result<String, Errno> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match read(fd, &mut buffer) {
            Ok(0) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The kernel's refusal of something done to a cgroup. What another user or a
/// read-only mount forbids is told apart: a caller without limits may go on
/// without a cgroup then.
pub(super) fn refused(errno: Errno, doing: &'static str, path: &Path) -> Error {
    Error::os(errno as i32, doing).at_path(path).of_kind(kind_of(errno))
}

fn not_made(errno: Errno, path: &Path) -> Error {
    let error = refused(errno, "making the cgroup", path);
    match errno {
        Errno::EAGAIN => error.hint("the cgroup.max.descendants or max.depth of one above it"),
        _ => error,
    }
}

/// [`Kind::Permission`], or [`Kind::Cgroup`].
pub(super) fn kind_of(errno: Errno) -> Kind {
    match errno {
        Errno::EACCES | Errno::EPERM | Errno::EROFS => Kind::Permission,
        _ => Kind::Cgroup,
    }
}

/// A cgroup that one creation has for itself, from before it looks whether
/// anybody is in there until its own process is. Held until it is dropped.
#[derive(Debug)]
pub struct Claim(Flock<OwnedFd>);

impl Claim {
    /// Takes the cgroup, or says that somebody else has it.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let failed = |errno| refused(errno, "opening the cgroup", path);
        let fd = open(path, flags, Mode::empty()).map_err(failed)?;
        Flock::lock(fd, FlockArg::LockExclusiveNonblock).map(Self).map_err(|(_, errno)| match errno
        {
            Errno::EWOULDBLOCK => {
                let text = "the cgroup is being taken by another container";
                Error::new(Kind::Cgroup, text).at_path(path)
            }
            errno => refused(errno, "locking the cgroup", path),
        })
    }

    /// Leaves a mark there, by which [`super::Manager::is_marked`] knows it later.
    pub fn mark(&self, mark: &str) {
        super::mark::set(&*self.0, mark);
    }

    /// The cgroup's directory.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Removes a cgroup if it is empty: whether it is gone.
pub(super) fn remove_empty(path: &Path) -> bool {
    match fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Directories made for one container, removed again unless [`Made::keep`] says
/// that all went well.
#[derive(Debug, Default)]
pub(super) struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a cgroup, and those above it that are missing below `mount`. Tells
    /// whether the cgroup itself is new.
    pub(super) fn make(&mut self, mount: &Path, path: &Path) -> Result<bool> {
        match self.one(path) {
            Err(Errno::ENOENT) => {}
            Ok(new) => return Ok(new),
            Err(errno) => return Err(not_made(errno, path)),
        }
        let between: Vec<&Path> = path.ancestors().take_while(|above| *above != mount).collect();
        let mut new = false;
        for above in between.into_iter().rev() {
            new = self.one(above).map_err(|errno| not_made(errno, above))?;
        }
        Ok(new)
    }

    fn one(&mut self, path: &Path) -> Result<bool, Errno> {
        match mkdir(path, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {
                self.0.push(path.to_path_buf());
                Ok(true)
            }
            Err(Errno::EEXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Claims one of them. When another creation has done so, it owns whatever
    /// was made for the same path, even by us: nothing is removed.
    pub(super) fn claim(&mut self, path: &Path) -> Result<Claim> {
        Claim::take(path).inspect_err(|_| self.0.clear())
    }

    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // Best effort: the failure that got us here is the one to tell.
            let _ = fs::remove_dir(path);
        }
    }
}
