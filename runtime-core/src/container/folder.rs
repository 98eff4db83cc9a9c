//! A container's folder: its files, and the lock.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{ErrorKind, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, major, minor};
use nix::unistd::{geteuid, mkfifo};
use serde::Deserialize;
use serde_json::Value;

use super::notify;
use super::root_mount;
use super::saver::Saver;
use super::state::Record;
use crate::cgroup;
use crate::error::{Error, Kind, Result};
use crate::resctrl::Class;

/// How long an operation waits for another one on the same container.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

const STATE: &str = "state.json";
const DRAFT: &str = ".state.json";
const CONFIG: &str = "config.json";
const CONFIG_DRAFT: &str = ".config.json";
/// COMPAT(runc): its name.
const START: &str = "exec.fifo";
const NOTIFY: &str = "notify";
const NOTIFY_SOCKET: &str = "notify.sock";
const CRIU_ROOT: &str = "criu-root";

/// `<root>/<id>`
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    id: String,
}

/// What of a record is enough to delete its container by force.
#[derive(Deserialize)]
pub(super) struct Remains {
    pub cgroup: cgroup::Record,
    #[serde(default)]
    pub intel_rdt: Option<Class>,
    #[serde(default)]
    pub saver: Option<Saver>,
}

/// A file of a container's as it shall be, with all its bytes on the file system, that
/// does not count before it is [committed](Self::commit). Dropped, it is removed.
pub(super) struct Draft {
    file: File,
    draft: PathBuf,
    path: PathBuf,
    doing: &'static str,
    committed: bool,
}

/// The lock on a container, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    /// What [`Folder::mark`] is.
    pub mark: String,
    _file: Flock<File>,
}

impl Folder {
    pub(super) fn new(path: PathBuf, id: &str) -> Self {
        Self { path, id: id.to_owned() }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Makes the folder, and the root above it, and takes the lock.
    pub(super) fn make(&self) -> Result<Lock> {
        let doing = "making the state directory";
        if let Some(root) = self.path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
            made.map_err(|error| Error::io(&error, doing).at_path(root))?;
        }
        match DirBuilder::new().mode(0o711).create(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(self.already_exists());
            }
            Err(error) => return Err(Error::io(&error, doing).at_path(&self.path)),
        }
        match self.lock() {
            // Another creation's, if ours was removed and made again meanwhile.
            Ok(_) if self.path.join(STATE).exists() => Err(self.already_exists()),
            // By a forced deletion, which has told that there is nothing any more.
            Err(error) if error.kind() == Kind::NotFound => {
                let words = "the container was deleted while it was being created";
                Err(Error::new(Kind::NotFound, words))
            }
            lock => lock.inspect_err(|_| drop(fs::remove_dir(&self.path))),
        }
    }

    /// COMPAT(runc): its words.
    fn already_exists(&self) -> Error {
        let words = "container with given ID already exists";
        Error::new(Kind::AlreadyExists, words).at_path(&self.path)
    }

    /// Waits for the lock on the folder that is there when it is had.
    pub(super) fn lock(&self) -> Result<Lock> {
        self.lock_while(|| {})
    }

    /// Waits for the lock and does something every time that another one has it.
    pub(super) fn lock_while(&self, mut taken: impl FnMut()) -> Result<Lock> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        let mut pause = Duration::from_millis(1);
        let mut file = self.open()?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => {
                    let mark = self.mark_of(locked.metadata())?;
                    if self.mark().is_ok_and(|found| found == mark) {
                        return Ok(Lock { mark, _file: locked });
                    }
                    // Whose lock that was is deleted, and the id may be another's.
                    file = self.open()?;
                }
                Err((back, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                    file = back;
                    taken();
                    sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
                    let words = "another operation on the container did not end";
                    let error = Error::new(Kind::Timeout, words).at_path(&self.path);
                    return Err(match holder(&file) {
                        Some(pid) => error.hint(format!("it is the process {pid}")),
                        None => error,
                    });
                }
                Err((_, errno)) => {
                    return Err(Error::os(errno as i32, "locking").at_path(&self.path));
                }
            }
        }
    }

    /// What no other folder of any store is called while this one is there: the
    /// container's cgroup is marked with it.
    pub(super) fn mark(&self) -> Result<String> {
        self.mark_of(fs::metadata(&self.path))
    }

    fn mark_of(&self, metadata: std::io::Result<Metadata>) -> Result<String> {
        match metadata {
            Ok(found) => Ok(format!("{:x}:{}", found.dev(), found.ino())),
            Err(error) if gone(&error) => Err(self.does_not_exist()),
            Err(error) => Err(Error::io(&error, "looking at").at_path(&self.path)),
        }
    }

    /// Whether somebody holds the lock now.
    pub(super) fn is_locked(&self) -> bool {
        self.open().is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
    }

    fn open(&self) -> Result<File> {
        self.check()?;
        File::open(&self.path).map_err(|error| match gone(&error) {
            true => self.does_not_exist(),
            false => Error::io(&error, "opening the state directory").at_path(&self.path),
        })
    }

    /// Refuses what somebody else has put there who may write to the root: what is in
    /// it tells what is killed and removed.
    fn check(&self) -> Result<()> {
        let failed =
            |words: &'static str| Err(Error::new(Kind::Permission, words).at_path(&self.path));
        let found = match fs::symlink_metadata(&self.path) {
            Ok(found) => found,
            Err(error) if gone(&error) => return Err(self.does_not_exist()),
            Err(error) => return Err(Error::io(&error, "looking at").at_path(&self.path)),
        };
        if !found.is_dir() {
            return failed("what should be the state directory is none");
        }
        let known = |owner: u32| owner == found.uid();
        let root = || self.path.parent().and_then(|root| fs::metadata(root).ok());
        if known(geteuid().as_raw()) || root().is_some_and(|root| known(root.uid())) {
            return Ok(());
        }
        failed("the state directory belongs neither to the caller nor to the root's owner")
    }

    /// COMPAT(runc): engines look for "container does not exist".
    pub(super) fn does_not_exist(&self) -> Error {
        Error::new(Kind::NotFound, format!("container does not exist: {:?}", self.id))
    }

    pub(super) fn read(&self) -> Result<Record> {
        self.check()?;
        let path = self.path.join(STATE);
        let text = fs::read_to_string(&path).map_err(|error| match gone(&error) {
            true => self.does_not_exist(),
            false => Error::io(&error, "reading the container's state").at_path(&path),
        })?;
        Record::parse(&text).map_err(|error| error.at_path(&path))
    }

    /// The same of a record that can't be read otherwise: a later version wrote it.
    pub(super) fn read_remains(&self) -> Option<Remains> {
        let text = fs::read_to_string(self.path.join(STATE)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Replaces the record, at once and whole.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        self.draft(record)?.commit()
    }

    /// The record as it shall be.
    pub(super) fn draft(&self, record: &Record) -> Result<Draft> {
        let (draft, path) = (self.path.join(DRAFT), self.path.join(STATE));
        Draft::new(draft, path, "writing the container's state", &record.bytes()?)
    }

    pub(super) fn write_config(&self, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(CONFIG);
        put(&path, bytes).map_err(|error| Error::io(&error, "keeping the config").at_path(&path))
    }

    /// What was kept, as it shall be.
    pub(super) fn draft_config(&self, config: &Value) -> Result<Draft> {
        let (draft, path) = (self.path.join(CONFIG_DRAFT), self.path.join(CONFIG));
        Draft::new(draft, path, "keeping the config", config.to_string().as_bytes())
    }

    /// What was kept, to be changed.
    pub(super) fn config_value(&self) -> Result<Value> {
        let broken = |error: &dyn fmt::Display| {
            Error::new(Kind::Internal, format!("changing the config: {error}"))
        };
        let text = String::from_utf8(self.read_config()?).map_err(|error| broken(&error))?;
        serde_json::from_str(&text).map_err(|error| broken(&error))
    }

    pub(super) fn read_config(&self) -> Result<Vec<u8>> {
        let path = self.path.join(CONFIG);
        fs::read(&path).map_err(|error| Error::io(&error, "reading the config").at_path(&path))
    }

    /// Makes the start FIFO. Opened for reading and writing: the open does not wait,
    /// the stage blocks in read(2) until somebody writes, and says there what follows.
    pub(super) fn make_start(&self) -> Result<OwnedFd> {
        let path = self.path.join(START);
        let failed = |errno: i32| Error::os(errno, "making a FIFO").at_path(&path);
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| failed(errno as i32))?;
        let opened = File::options().read(true).write(true).open(&path);
        opened.map(OwnedFd::from).map_err(|error| Error::io(&error, "opening").at_path(&path))
    }

    /// Makes the directory that the container shall see the notify socket in.
    pub(super) fn make_notify(&self) -> Result<()> {
        let path = self.path.join(NOTIFY);
        let made = DirBuilder::new().mode(0o755).create(&path);
        made.map_err(|error| Error::io(&error, "making").at_path(&path))
    }

    /// Makes the notify socket.
    pub(super) fn bind_notify(&self) -> Result<OwnedFd> {
        notify::bind(&self.path.join(NOTIFY), NOTIFY_SOCKET)
    }

    /// Its path, absolute: a store's root may be relative.
    pub(super) fn notify_socket(&self) -> PathBuf {
        let path = self.path.join(NOTIFY).join(NOTIFY_SOCKET);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Whether the container has been created and not started.
    pub(super) fn waits_for_start(&self) -> bool {
        self.path.join(START).exists()
    }

    /// Opens the writing end of the start FIFO; `None`: nobody reads there.
    pub(super) fn open_start(&self) -> Result<Option<File>> {
        let path = self.path.join(START);
        match File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            Err(error) => Err(Error::io(&error, "opening the start FIFO").at_path(&path)),
        }
    }

    /// Opens the reading end, for what the stage says.
    pub(super) fn open_report(&self) -> Result<File> {
        let path = self.path.join(START);
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        opened.map_err(|error| Error::io(&error, "opening the start FIFO").at_path(&path))
    }

    /// From here on the container counts as started.
    pub(super) fn remove_start(&self) -> Result<()> {
        let path = self.path.join(START);
        fs::remove_file(&path).map_err(|error| Error::io(&error, "removing").at_path(&path))
    }

    /// Makes a directory for CRIU to mount the root on, where nobody else sees it. Its
    /// path without links.
    pub(super) fn make_criu_root(&self) -> Result<PathBuf> {
        let path = self.path.join(CRIU_ROOT);
        let made = DirBuilder::new().mode(0o700).create(&path).and_then(|()| path.canonicalize());
        made.map_err(|error| Error::io(&error, "making a place for the root").at_path(&path))
    }

    /// Where the root is mounted, if it is in the runtime's own mount namespace.
    pub(super) fn root(&self) -> PathBuf {
        self.path.join(root_mount::PLACE)
    }

    /// Makes the directory for that.
    pub(super) fn make_root(&self) -> Result<PathBuf> {
        let path = self.root();
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Error::io(&error, "making a place for the root").at_path(&path))?;
        Ok(path)
    }

    /// Takes that away with all that is mounted there. A missing one is fine.
    pub(super) fn remove_root(&self) -> Result<()> {
        root_mount::remove(&self.path)
    }

    /// Removes the folder with all that is in it. A missing one is fine.
    pub(super) fn remove(&self) -> Result<()> {
        for name in [CONFIG, STATE] {
            match fs::remove_file(self.path.join(name)) {
                Err(error) if !gone(&error) => return Err(self.cannot_remove(&error)),
                _ => {}
            }
        }
        match fs::remove_dir(&self.path) {
            // A FIFO that nobody has started, a draft, the notify socket, a root, or what
            // this version did not put there.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
                self.remove_root()?;
                // Empty, since nothing is mounted there but where CRIU was. Were it
                // not, it would be somebody's root.
                match fs::remove_dir(self.path.join(CRIU_ROOT)) {
                    Err(error) if !gone(&error) => return Err(self.cannot_remove(&error)),
                    _ => {}
                }
                fs::remove_dir_all(&self.path).map_err(|error| self.cannot_remove(&error))
            }
            Err(error) if !gone(&error) => Err(self.cannot_remove(&error)),
            _ => Ok(()),
        }
    }

    fn cannot_remove(&self, error: &std::io::Error) -> Error {
        Error::io(error, "removing the state directory").at_path(&self.path)
    }
}

impl Draft {
    fn new(draft: PathBuf, path: PathBuf, doing: &'static str, bytes: &[u8]) -> Result<Self> {
        let opened = open_to_write(&draft);
        let file = opened.map_err(|error| Error::io(&error, doing).at_path(&path))?;
        let mut draft = Self { file, draft, path, doing, committed: false };
        draft.fill(bytes)?;
        Ok(draft)
    }

    /// Other bytes in it. As many as there were, or fewer, find their room.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        let mut written = self.file.rewind().and_then(|()| self.file.write_all(bytes));
        written = written.and_then(|()| self.file.set_len(length));
        written.map_err(|error| Error::io(&error, self.doing).at_path(&self.path))
    }

    /// Takes the place of what there was, at once and whole.
    pub(super) fn commit(mut self) -> Result<()> {
        let renamed = fs::rename(&self.draft, &self.path);
        renamed.map_err(|error| Error::io(&error, self.doing).at_path(&self.path))?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_file(&self.draft);
        }
    }
}

/// Who took the lock on a file, as far as /proc/locks (proc(5)) tells us, if that is
/// still there: a child may have it after it.
fn holder(file: &File) -> Option<i32> {
    let metadata = file.metadata().ok()?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    let wanted = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks
        .lines()
        .find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, "FLOCK", _, _, pid, file, ..] if file == wanted => pid.parse().ok(),
            _ => None,
        })
        .filter(|pid: &i32| Path::new(&format!("/proc/{pid}")).exists())
}

/// Whether there is nothing of that name. One that is too long is nobody's.
fn gone(error: &std::io::Error) -> bool {
    use ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}

fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    open_to_write(path)?.write_all(bytes)
}

fn open_to_write(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lock of a folder that is replaced while somebody waits for it.
    fn locked_after(replace: impl FnOnce(&Folder)) -> Result<(Folder, Lock)> {
        let root = tempfile::tempdir().expect("a temporary folder").keep();
        let folder = Folder::new(root.join("a"), "a");
        let mut before = Some((folder.make().expect("made"), replace));
        let result = folder.lock_while(|| {
            if let Some((lock, replace)) = before.take() {
                fs::rename(&folder.path, root.join("deleted")).expect("renamed");
                replace(&folder);
                drop(lock);
            }
        });
        let held = result.as_ref().is_ok_and(|lock| folder.mark().expect("a folder") == lock.mark);
        assert_eq!(held, result.is_ok(), "a lock on what is not there");
        fs::remove_dir_all(&root).expect("removed");
        result.map(|lock| (folder, lock))
    }

    #[test]
    fn the_lock_is_that_of_the_folder_that_is_there() {
        locked_after(|folder| drop(folder.make().expect("made again"))).expect("locked");
        let Err(error) = locked_after(|_| {}) else { panic!("nothing is there") };
        assert_eq!(error.kind(), Kind::NotFound);
    }

    #[test]
    fn who_has_the_lock_is_known() {
        // Not every file system tells /proc and stat(2) the same number.
        let root = tempfile::tempdir_in("/dev/shm").expect("a tmpfs");
        let folder = Folder::new(root.path().join("a"), "a");
        let lock = folder.make().expect("made");
        let other = folder.open().expect("there");
        assert_eq!(holder(&other), Some(std::process::id().cast_signed()));
        drop(lock);
        assert_eq!(holder(&other), None);
    }

    #[test]
    fn a_folder_that_another_creation_has_is_not_made() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::new(root.path().join("a"), "a");
        drop(folder.make().expect("made"));
        assert_eq!(folder.make().unwrap_err().kind(), Kind::AlreadyExists);
    }
}
