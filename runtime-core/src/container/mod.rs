//! Containers: what an engine asks for, from create to delete.
//!
//! ```text
//! Store ── root/<id>/ ── state.json   what the container is (state.rs)
//!                        config.json  what it was made from, for exec
//!                        exec.fifo    a created container waits on it
//!                        root         its root, if that is among the host's mounts
//! ```
//! A record is written before the first kernel object exists, so that `delete`
//! finds all that must be undone, whenever the creator died. One lock per id.
//! Nothing here knows how a process is launched or a cgroup is written.

mod checkpoint;
mod create;
mod delete;
mod exec;
mod folder;
mod images;
mod kill;
mod labels;
mod live_mounts;
mod mounted;
mod notify;
mod pause;
mod pidfd;
mod restore;
mod root;
mod root_mount;
mod saver;
mod start;
mod state;
mod undo;
mod watch;

use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::Spec;

pub use checkpoint::CheckpointOptions;
pub use create::CreateOptions;
pub use exec::ExecOptions;
use folder::{Folder, Lock};
pub use images::{CgroupMode, CriuOptions, NetworkLock};
pub use notify::{Barrier, Notify};
pub use restore::RestoreOptions;
use state::{Phase, Record};
pub use state::{State, Status};
pub use watch::{Happening, Stats, Watch};

use crate::bundle::Bundle;
use crate::cgroup::Manager;
use crate::error::{Error, Kind, Result};
use crate::launch::connect;

/// The containers below one directory. Cheap to make, holds nothing open but what
/// interrupts it.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    interrupt: Option<Arc<OwnedFd>>,
}

/// One container of a store, as its record described it when it was opened.
#[derive(Debug)]
pub struct Container {
    store: Store,
    record: Record,
}

/// A process that has been started: a child of the caller, who must wait for it.
#[derive(Debug)]
pub struct Started {
    /// Its process id.
    pub pid: i32,
    /// Its pidfd (pidfd_open(2)): readable once the process has ended.
    pub pidfd: OwnedFd,
    /// What a person should know though it is no failure, one line each.
    pub warnings: Vec<String>,
    /// Where the container says that it is ready, if it was asked to and runs.
    pub notify: Option<Notify>,
}

/// Who takes the terminal of a process whose config asks for one.
#[derive(Debug, Default)]
pub enum Terminal {
    /// Nobody: the config must not ask for one.
    #[default]
    None,
    /// The listener of a unix socket at this path gets the master's descriptor.
    Socket(PathBuf),
    /// The other end of this connected unix socket gets it.
    Stream(OwnedFd),
    /// The same, for one that joins it to another terminal or to a stream: what the
    /// process writes arrives as it is, without a carriage return at the end of a line.
    Joined(OwnedFd),
}

impl Store {
    /// The containers below `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), interrupt: None }
    }

    /// The same containers, but what waits for a hook or for the init stage is given
    /// up when `interrupt` (a signalfd or an eventfd, say) becomes readable: the hook
    /// or the stage is killed, and the operation fails with [`Kind::Interrupted`] and
    /// takes back what it made. `interrupt` is read once for each time, so that the
    /// poststop hooks that follow have their chance.
    #[must_use]
    pub fn interrupted_by(self, interrupt: OwnedFd) -> Self {
        Self { interrupt: Some(Arc::new(interrupt)), ..self }
    }

    /// Opens a container.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none of that id, [`Kind::Internal`] when
    /// its record can't be read.
    pub fn open(&self, id: &str) -> Result<Container> {
        check_id(id)?;
        let record = self.folder(id).read()?;
        Ok(Container { store: self.clone(), record })
    }

    /// Every container; those whose record can't be read are errors in the list.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn list(&self) -> Result<Vec<Result<Status>>> {
        let status = |name: String| match self.open(&name) {
            Ok(container) => Some(container.status()),
            // Deleted since the directory was read.
            Err(error) if error.kind() == Kind::NotFound => None,
            Err(error) => Some(Err(error)),
        };
        Ok(self.ids()?.into_iter().filter_map(status).collect())
    }

    /// The ids that are taken, sorted; also those whose record can't be read.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io(&error, "listing").at_path(&self.root)),
        };
        let mut names: Vec<_> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| check_id(name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }

    fn folder(&self, id: &str) -> Folder {
        Folder::new(self.root.join(id), id)
    }

    fn interrupt(&self) -> Option<BorrowedFd<'_>> {
        self.interrupt.as_ref().map(|fd| fd.as_fd())
    }
}

impl Container {
    /// The same container, as one of [`Store::interrupted_by`].
    #[must_use]
    pub fn interrupted_by(self, interrupt: OwnedFd) -> Self {
        Self { store: self.store.interrupted_by(interrupt), ..self }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// What it is doing now.
    ///
    /// # Errors
    /// `/proc` or the cgroup can't be read.
    pub fn status(&self) -> Result<Status> {
        Ok(self.record.status(self.state()?))
    }

    /// The bundle's config as it was when the container was created.
    ///
    /// # Errors
    /// The copy can't be read; [`Kind::NotFound`] when the container was deleted
    /// meanwhile.
    pub fn spec(&self) -> Result<Spec> {
        self.kept_spec().or_else(|error| match error.kind() {
            // The record goes last: whoever is deleting it has the lock.
            Kind::NotFound => self.locked().and(Err(error)),
            _ => Err(error),
        })
    }

    /// The same for who may have the lock.
    fn kept_spec(&self) -> Result<Spec> {
        Ok(Bundle::parse(&self.folder().read_config()?)?.value)
    }

    /// Ids of all its processes, as the caller sees them.
    ///
    /// # Errors
    /// The cgroup can't be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        // What is in the cgroup of one that has ended may be another's.
        if self.is_over()? {
            return Ok(Vec::new());
        }
        match self.record.manager() {
            Manager::None => {
                let what = "the container has no cgroup that would tell its processes";
                Err(Error::new(Kind::Unsupported, what))
            }
            manager => manager.processes(),
        }
    }

    fn folder(&self) -> Folder {
        self.store.folder(&self.record.id)
    }

    /// Waits for the lock. The container as it is then: while we waited it may have
    /// been deleted, and its id and cgroup may be another one's by now.
    fn locked(&self) -> Result<(Lock, Self)> {
        let lock = self.folder().lock()?;
        Ok((lock, self.now()?))
    }

    /// The same, and ends whatever operation has the lock by killing the init for
    /// which it works or waits, and CRIU, as often as there is one.
    fn locked_by_force(&self) -> Result<(Lock, Self)> {
        let lock = self.folder().lock_while(|| {
            // Who can't be killed keeps the lock, and that is told.
            let _ = self.now().and_then(|container| {
                if let Some(saver) = &container.record.saver {
                    saver.kill()?;
                }
                container.kill_init()
            });
        })?;
        Ok((lock, self.now()?))
    }

    /// As its record describes it now, if it is still this one that has the id.
    fn now(&self) -> Result<Self> {
        let folder = self.folder();
        let record = folder.read()?;
        if !record.is_of(&self.record) {
            return Err(folder.does_not_exist());
        }
        Ok(Self { store: self.store.clone(), record })
    }

    fn state(&self) -> Result<State> {
        let folder = self.folder();
        Ok(match self.record.phase {
            Phase::Creating if folder.is_locked() => State::Creating,
            // Its creator is gone.
            Phase::Creating => State::Stopped,
            Phase::Created if !self.record.is_alive()? => State::Stopped,
            Phase::Created if self.record.manager().is_frozen()? => State::Paused,
            Phase::Created if folder.waits_for_start() => State::Created,
            Phase::Created => State::Running,
        })
    }
}

impl Terminal {
    /// The connected socket, checked against what the config wants.
    fn connect(&self, wanted: bool) -> Result<Option<OwnedFd>> {
        // COMPAT(runc): the words of its own checks.
        match self {
            Self::None if wanted => Err(Error::new(
                Kind::InvalidConfig,
                "cannot allocate tty if runc will detach without setting console socket",
            )),
            Self::None => Ok(None),
            Self::Socket(_) | Self::Stream(_) | Self::Joined(_) if !wanted => Err(Error::new(
                Kind::InvalidConfig,
                "cannot use console socket if runc will not detach or allocate tty",
            )),
            Self::Stream(fd) | Self::Joined(fd) => fd
                .try_clone()
                .map(Some)
                .map_err(|error| Error::io(&error, "passing the console socket on")),
            Self::Socket(path) => connect(path, "connecting to the console socket").map(Some),
        }
    }
}

/// COMPAT(runc): its alphabet, and its words.
fn check_id(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    let wrong = |what| Err(Error::new(Kind::InvalidConfig, what));
    if id.is_empty() {
        return wrong("container id cannot be empty".to_owned());
    }
    if id == "." || id == ".." || !id.chars().all(allowed) {
        return wrong(format!("invalid container ID format: {id:?}"));
    }
    Ok(())
}

/// Whether a pid file can be put at `path`. It takes the place of what is there, and
/// without a device or a socket others may be lost.
fn check_pid_file(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() && !found.is_symlink() => {
            let words = "a pid file can't take the place of what is no regular file";
            Err(Error::new(Kind::InvalidConfig, words).at_path(path))
        }
        // What else is wrong is told when it is written.
        _ => Ok(()),
    }
}

/// Writes a pid file as engines expect it: complete or not at all, no newline.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let failed = |error: &std::io::Error| Error::io(error, "writing the pid file").at_path(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}"));
    // One that a killed creator left; and never through a link that somebody put
    // there to have another file overwritten.
    let _ = fs::remove_file(&draft);
    let mut file = fs::File::create_new(&draft).map_err(|error| failed(&error))?;
    let written = file.write_all(pid.to_string().as_bytes());
    written.and_then(|()| fs::rename(&draft, path)).map_err(|error| {
        let _ = fs::remove_file(&draft);
        failed(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Manager;

    /// A container without its config, and what a deletion still has to remove.
    fn half_deleted(root: &Path) -> (Container, Lock) {
        let store = Store::new(root);
        let bundle = Bundle {
            dir: root.to_owned(),
            spec: Spec::default(),
            raw: Vec::new(),
            warnings: Vec::new(),
        };
        let folder = store.folder("a");
        let lock = folder.make().expect("made");
        let record = Record::new("a", &bundle, root.to_owned(), Manager::None.record());
        folder.write(&record).expect("written");
        (store.open("a").expect("there"), lock)
    }

    #[test]
    fn the_config_of_a_container_that_is_being_deleted_is_that_of_none() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let (container, lock) = half_deleted(root.path());
        let error = std::thread::scope(|scope| {
            let reader = scope.spawn(|| container.spec().expect_err("no config"));
            std::thread::sleep(std::time::Duration::from_millis(50));
            container.folder().remove().expect("removed");
            drop(lock);
            reader.join().expect("no panic")
        });
        assert_eq!(error.to_string(), "container does not exist: \"a\"");
    }

    #[test]
    fn a_config_that_is_lost_is_told_as_that() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let (container, lock) = half_deleted(root.path());
        drop(lock);
        let error = container.spec().expect_err("no config").to_string();
        assert!(error.starts_with("reading the config "), "{error}");
    }
}
