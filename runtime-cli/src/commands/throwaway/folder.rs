//! The temporary folder of a throwaway container, and how the container ends with
//! the `try` that made it.
//!
//! ```text
//! $TMPDIR/orlop-try-XXXXXX/   locked by its `try`
//!     config.json, rootfs/    the bundle
//!     state/                  what the library keeps of the container
//! ```
//! The kernel takes the lock away however `try` ends. Who gets it then, and still
//! finds the folder, cleans up: a guard, which is a process that waits for just
//! that, or, where it was killed too, the next `try`. What is in the bundle is not
//! known here.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Result as IoResult, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use nix::unistd::geteuid;
use orlop::container::Store;
use orlop::{Error, Kind, Result};
use serde_json::Value;

use super::isolation::Identity;

/// Before six letters and digits.
const PREFIX: &str = "orlop-try-";

/// What is in a folder, and nothing else.
const CONFIG: &str = "config.json";
const ROOTFS: &str = "rootfs";
const STATE: &str = "state";

/// A folder whose container ends, and which is removed, when this is dropped.
pub(super) struct Folder {
    path: PathBuf,
    lock: Option<File>,
    guard: Option<Child>,
}

impl Folder {
    /// Makes one below `$TMPDIR`, with its guard, that `whom` can pass through.
    pub(super) fn new(whom: Identity) -> anyhow::Result<Self> {
        let above = std::env::temp_dir();
        let template = above.join(format!("{PREFIX}XXXXXX"));
        loop {
            let path = nix::unistd::mkdtemp(&template).map_err(|errno| {
                let doing = "making a temporary folder in";
                Error::os(errno as i32, doing).at_path(&above).hint("TMPDIR names another place")
            })?;
            let failed = |error| Error::io(&error, "locking").at_path(&path);
            let lock = File::open(&path).map_err(failed)?;
            lock.lock().map_err(failed)?;
            // Somebody else's clean-up may have been quicker than the lock.
            if is_at(&lock, &path) {
                let mut folder = Self { path, lock: Some(lock), guard: None };
                folder.guard = Some(start_guard(&folder.path).context("starting the guard")?);
                if whom.is_strange() {
                    folder.let_through()?;
                }
                return Ok(folder);
            }
        }
    }

    /// Lets another user through to the root, as far as it is ours to decide.
    fn let_through(&self) -> Result<()> {
        let failed = |error| Error::io(&error, "opening to the container").at_path(&self.path);
        fs::set_permissions(&self.path, Permissions::from_mode(0o711)).map_err(failed)?;
        let path = fs::canonicalize(&self.path).map_err(failed)?;
        let closed =
            |above: &&Path| fs::metadata(above).is_ok_and(|metadata| metadata.mode() & 0o001 == 0);
        path.ancestors().find(closed).map_or(Ok(()), |closed| {
            let what = "the container's user is let through no further than";
            Err(Error::new(Kind::Permission, what)
                .at_path(closed)
                .hint("TMPDIR names another place"))
        })
    }

    /// The folder's name, which is the container's too.
    pub(super) fn id(&self) -> &str {
        id(&self.path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Nobody's to read but the caller's: it has the command in it.
    pub(super) fn write_config(&self, config: &Value) -> Result<()> {
        let mut options = File::options();
        let path = self.path.join(CONFIG);
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(config.to_string().as_bytes()))
            .map_err(|error| Error::io(&error, "writing the bundle").at_path(&path))
    }

    pub(super) fn rootfs(&self) -> PathBuf {
        self.path.join(ROOTFS)
    }

    pub(super) fn store(&self) -> Store {
        store(&self.path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = clean_up(&self.path) {
            log::warn!("{error}");
        }
        // What the guard waits for. It may have been reaped as an orphan already.
        self.lock = None;
        let _ = self.guard.as_mut().map(Child::wait);
    }
}

/// Out of reach of what a terminal sends to the processes in its foreground.
fn start_guard(path: &Path) -> IoResult<Child> {
    Command::new("/proc/self/exe")
        .arg0(crate::compat::program())
        .args(["try", "--guard"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Waits for the end of the `try` that a folder belongs to, and cleans up if it did
/// not.
pub(super) fn guard(path: &Path) -> Result<()> {
    let failed = |error| Error::io(&error, "guarding").at_path(path);
    let folder = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result.map_err(failed)?,
    };
    folder.lock().map_err(failed)?;
    if is_at(&folder, path) { clean_up(path) } else { Ok(()) }
}

/// Cleans up after every `try` of this user that was killed, and its guard too.
pub(super) fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let path = entry.path();
        if !is_ours(&path) {
            continue;
        }
        let Ok(folder) = File::open(&path) else { continue };
        if folder.try_lock().is_ok()
            && is_at(&folder, &path)
            && let Err(error) = clean_up(&path)
        {
            log::warn!("what another try left: {error}");
        }
    }
}

/// Whether a folder was made here, by its name, and by its owner: others may write
/// to `/tmp` too, and what they write there we would believe.
fn is_ours(path: &Path) -> bool {
    let random = id(path).strip_prefix(PREFIX);
    random.is_some_and(|random| random.len() == 6)
        && fs::symlink_metadata(path)
            .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == geteuid().as_raw())
}

/// Whether an open folder is still what is found at its path.
fn is_at(folder: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let open = folder.metadata().map(identity);
    let found = fs::symlink_metadata(path).map(identity);
    open.is_ok_and(|open| found.is_ok_and(|found| open == found))
}

fn id(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

fn store(path: &Path) -> Store {
    Store::new(path.join(STATE))
}

/// Ends the container and removes the folder. What the container still has keeps
/// the folder, so that the next `try` finds both.
fn clean_up(path: &Path) -> Result<()> {
    store(path).delete_force(id(path))?;
    let removed = [
        fs::remove_file(path.join(CONFIG)),
        fs::remove_dir_all(path.join(ROOTFS)),
        fs::remove_dir_all(path.join(STATE)),
        // Not with all that is in it: only what was put there.
        fs::remove_dir(path),
    ];
    for result in removed {
        match result {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io(&error, "removing").at_path(path));
            }
            _ => {}
        }
    }
    Ok(())
}
