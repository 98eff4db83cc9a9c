//! Where the lab keeps what it makes: one folder, and nothing outside of it.
//!
//! ```text
//! images/NAME/      what boots, by its recipe's hash    images/NAME.partial/  what may be cut
//! machines/WHICH/   what runs, or ran last              logs/                 what tools said
//! accelerator       whether KVM boots kernels here      apt/                  lists of backports
//! ```

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::progress::Progress;
use super::recipe::Which;
use crate::command;

/// Longer than a build and a boot by somebody else.
const LIMIT: Duration = Duration::from_secs(45 * 60);

/// Nobody needs to know of a wait that is over before it is read.
const SHORT: Duration = Duration::from_secs(1);

/// The folder.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The one in cargo's target directory.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn open(target: &Path) -> Result<Self> {
        let cache = Self { root: target.join("lab") };
        for folder in [cache.images(), cache.root.join("logs"), cache.root.join("apt")] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        for which in Which::all() {
            fs::create_dir_all(cache.machine(which))?;
        }
        Ok(cache)
    }

    /// All images.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// One machine.
    #[must_use]
    pub fn machine(&self, which: Which) -> PathBuf {
        self.root.join("machines").join(which.name())
    }

    /// One log.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(name)
    }

    /// For apt's lists.
    #[must_use]
    pub fn apt(&self) -> PathBuf {
        self.root.join("apt")
    }

    /// The file with the verdict about KVM.
    #[must_use]
    pub fn accelerator(&self) -> PathBuf {
        self.root.join("accelerator")
    }
}

/// Takes the lock of a folder. It is free when the file is dropped, and with it
/// all its copies: who works on in the folder holds one.
///
/// # Errors
/// Somebody else has it for too long.
pub fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    if command::until(SHORT, || file.try_lock().is_ok()) {
        return Ok(file);
    }
    let mut progress = Progress::new("waiting for another call of the lab");
    while file.try_lock().is_err() {
        let waited = progress.elapsed();
        ensure!(waited < LIMIT, "somebody has held {} for {waited:.0?}", path.display());
        thread::sleep(Duration::from_millis(100));
        progress.tick(|| path.display().to_string());
    }
    progress.done();
    Ok(file)
}

/// Removes a file that may not be there.
///
/// # Errors
/// It stays.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_below_one_folder() {
        let target = tempfile::tempdir().unwrap();
        let cache = Cache::open(target.path()).unwrap();
        let root = target.path().join("lab");
        let machine = cache.machine(Which::all().next().unwrap());
        for path in [cache.images(), machine, cache.log("x"), cache.apt(), cache.accelerator()] {
            assert!(path.starts_with(&root), "{}", path.display());
        }
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_lock_is_held_until_all_its_copies_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        let copy = first.try_clone().unwrap();
        let other = File::options().write(true).open(folder.path().join("lock")).unwrap();
        drop(first);
        assert!(other.try_lock().is_err());
        drop(copy);
        assert!(other.try_lock().is_ok());
    }
}
