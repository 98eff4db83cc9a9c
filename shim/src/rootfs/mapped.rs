//! A mount with owners of its own (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
//!
//! An overlay can't be one: its lower layers are. They need a place while it is mounted,
//! which is in a mount namespace that nobody else has and that ends with this: so nothing
//! of it is left, whenever this process ends.

use std::fs::{File, create_dir};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::chdir;
use orlop::launch::user_namespace;
use orlop_init::sys::{self, abi};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::options::{Ids, Options};
use super::{Place, What, mount_at};
use crate::ttrpc::Failure;

/// The way back.
struct Away(File);

impl Drop for Away {
    fn drop(&mut self) {
        if setns(&self.0, CloneFlags::CLONE_NEWNS).is_err() {
            // Where what comes next does not belong. The process is a step.
            std::process::abort();
        }
    }
}

/// Mounts on a place of the root. The working directory is `/` afterwards.
pub(super) fn mount_mapped(
    what: &What<'_>,
    mut options: Options,
    ids: &Ids,
    (rootfs, place): (&Path, &Place),
) -> Result<(), Failure> {
    let users = user_namespace(&ids.uid, &ids.gid)
        .map_err(|error| what.failed(&format!("making a user namespace: {error}")))?;
    let tree = {
        let _away = alone().map_err(|error| what.failed(&error))?;
        apart(what, &mut options, rootfs, users.as_fd())?
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", &place.held, "", flags).map_err(|error| what.failed(&error))
}

/// A mount namespace from which nothing gets out.
fn alone() -> std::io::Result<Away> {
    let away = Away(File::open("/proc/thread-self/ns/mnt")?);
    unshare(CloneFlags::CLONE_NEWNS)?;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?;
    Ok(away)
}

/// The mount, which is nowhere yet.
fn apart(
    what: &What<'_>,
    options: &mut Options,
    folder: &Path,
    users: BorrowedFd<'_>,
) -> Result<OwnedFd, Failure> {
    let prepared = || -> std::io::Result<()> {
        let none = None::<&str>;
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), none)?;
        chdir(folder)?;
        create_dir("at")
    };
    prepared().map_err(|error| what.failed(&error))?;
    let overlay = what.kind == "overlay";
    if overlay {
        let lower = options.data.iter_mut().find(|option| option.starts_with(LOWER));
        let lower = lower.ok_or_else(|| what.failed(&"an overlay without lowerdir"))?;
        *lower = layers(lower, users).map_err(|error| what.failed(&error))?;
    }
    mount_at(what, options, || Ok("at"))?;
    let recursive = options.flags.contains(MsFlags::MS_REC);
    let tree = copy("at", recursive).map_err(|error| what.failed(&error))?;
    if !overlay {
        map(tree.as_fd(), users, recursive).map_err(|error| what.failed(&error))?;
    }
    Ok(tree)
}

const LOWER: &str = "lowerdir=";

/// The lower layers with those owners, here by their numbers.
fn layers(lower: &str, users: BorrowedFd<'_>) -> std::io::Result<String> {
    let mut names = Vec::new();
    for (number, layer) in lower[LOWER.len()..].split(':').enumerate() {
        let (name, tree) = (number.to_string(), copy(layer, false)?);
        map(tree.as_fd(), users, false)?;
        create_dir(&name)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&tree, "", rustix::fs::CWD, &name, flags)?;
        names.push(name);
    }
    Ok(format!("{LOWER}{}", names.join(":")))
}

fn copy(path: &str, recursive: bool) -> std::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    Ok(open_tree(rustix::fs::CWD, path, flags)?)
}

fn map(tree: BorrowedFd<'_>, users: BorrowedFd<'_>, recursive: bool) -> std::io::Result<()> {
    let userns_fd = users.as_raw_fd().cast_unsigned().into();
    let attr =
        abi::MountAttr { set: abi::MOUNT_ATTR_IDMAP, userns_fd, ..abi::MountAttr::default() };
    let below = if recursive { abi::AT_RECURSIVE } else { 0 };
    sys::mount_setattr(tree.as_raw_fd(), c"", abi::AT_EMPTY_PATH | below, &attr)
        .map_err(|errno| std::io::Error::from_raw_os_error(errno.0))
}
