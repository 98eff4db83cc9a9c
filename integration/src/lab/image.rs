//! The images: made once for each recipe, whole or not there.
//!
//! An image is made in a folder of another name, which is renamed when all is in
//! it. The tools that make it hold the lock too: whoever comes while they still
//! work for a call that was killed waits for them.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::Uid;

use super::cache::{self, Cache};
use super::packages;
use super::progress::{self, Progress};
use super::recipe::Recipe;
use crate::command;

const PARTIAL: &str = "partial";

/// For packages that come from far away.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// For a root file system that was left half-way.
const REMOVE: Duration = Duration::from_secs(300);

/// One that is whole.
#[derive(Debug)]
pub struct Image {
    /// Its folder: `disk.ext4`, `kernel`, `initrd`, `key`, `known_hosts` and more.
    pub folder: PathBuf,
    /// Its name, which is the recipe's.
    pub name: String,
}

impl Image {
    /// What its kernel calls itself.
    #[must_use]
    pub fn release(&self) -> String {
        fs::read_to_string(self.folder.join("release")).unwrap_or_default().trim().to_owned()
    }

    /// What it takes of the disk, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|data| data.blocks() * 512).sum()
    }
}

/// All that are there.
#[must_use]
pub fn all(cache: &Cache) -> Vec<Image> {
    let entries = fs::read_dir(cache.images()).into_iter().flatten().flatten();
    let mut images: Vec<_> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| Image {
            folder: entry.path(),
            name: entry.file_name().to_string_lossy().into_owned(),
        })
        .filter(|image| !image.name.ends_with(PARTIAL))
        .collect();
    images.sort_by(|a, b| a.name.cmp(&b.name));
    images
}

/// The recipe's, made if it is not there. A new one takes the place of older ones
/// with the same kernel.
///
/// # Errors
/// It cannot be made; the error names the log.
pub fn ensure(cache: &Cache, recipe: &Recipe) -> Result<Image> {
    let name = recipe.name();
    let image = Image { folder: cache.images().join(&name), name };
    if image.folder.is_dir() {
        return Ok(image);
    }
    let lock = cache::lock(&cache.images())?;
    if image.folder.is_dir() {
        return Ok(image);
    }
    for entry in fs::read_dir(cache.images())?.flatten() {
        if entry.path().extension().is_some_and(|end| end == PARTIAL) {
            remove(&entry.path())?;
        }
    }
    let partial = image.folder.with_extension(PARTIAL);
    fs::create_dir(&partial)?;
    build(cache, recipe, &partial, &lock)?;
    fs::rename(&partial, &image.folder).context("keeping the image")?;
    let kernel = format!("{}-", recipe.kernel);
    for old in all(cache) {
        if old.name.starts_with(&kernel) && old.name != image.name {
            // A machine that runs on it has its files open.
            remove(&old.folder)?;
        }
    }
    Ok(image)
}

fn build(cache: &Cache, recipe: &Recipe, folder: &Path, lock: &File) -> Result<()> {
    fs::write(folder.join("recipe"), recipe.text())?;
    let log = cache.log(&format!("image-{}.log", recipe.kernel));
    let (out, err) = progress::log(&log)?;
    let mut progress = Progress::new(&format!("making the image {}", recipe.name()));
    let root = Uid::effective().is_root();

    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", "key"]);
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap.args(recipe.bootstrap(if root { "root" } else { "unshare" }, &packages::mirror()?));
    // We make a smaller one, with nothing but what a virtual machine needs.
    bootstrap.env("INITRD", "No");
    if root {
        bootstrap.env("TMPDIR", folder);
    }
    let mut disk = as_root("sh");
    disk.args(recipe.disk());

    for step in [&mut keygen, &mut bootstrap, &mut disk] {
        let program = step.get_program().to_string_lossy().into_owned();
        step.current_dir(folder).stdin(Stdio::from(lock.try_clone()?));
        step.stdout(out.try_clone()?).stderr(err.try_clone()?);
        let mut child = step.spawn().with_context(|| format!("starting {program}"))?;
        progress.wait(&mut child, LIMIT, &log)?;
    }
    progress.done();
    Ok(())
}

/// A program that root file systems are made with: it runs as root, at least of a
/// user namespace with all ids that we may use.
fn as_root(program: &str) -> Command {
    if Uid::effective().is_root() {
        return Command::new(program);
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-auto", "--map-root-user", "--", program]);
    unshare
}

/// Removes a folder of ours, unless something is mounted in it.
fn remove(folder: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let inside = format!("{}/", folder.display());
    let mounted = mounts
        .lines()
        .any(|line| line.split(' ').nth(4).is_some_and(|point| point.starts_with(&inside)));
    ensure!(!mounted, "something is mounted in {}: unmount it first", folder.display());
    let mut rm = as_root("rm");
    rm.args(["--recursive", "--force", "--one-file-system", "--"]).arg(folder);
    command::run(&mut rm, "", REMOVE)?.success().map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::recipe::Kernel;
    use super::*;

    #[test]
    fn a_cut_image_is_not_taken_for_whole() {
        let target = tempfile::tempdir().unwrap();
        let cache = Cache::open(target.path()).unwrap();
        let name = Recipe { kernel: Kernel::Trixie }.name();
        fs::create_dir(cache.images().join(format!("{name}.{PARTIAL}"))).unwrap();
        assert!(all(&cache).is_empty());
        fs::create_dir(cache.images().join(&name)).unwrap();
        let found: Vec<_> = all(&cache).into_iter().map(|image| image.name).collect();
        assert_eq!(found, [name]);
    }
}
