//! The root as a mount of the runtime's own mount namespace, for a container that has no
//! other and mounts things in it.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use orlop_init::sys::{self, Errno, abi};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::launch::owned;

/// Known before it is there for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RootMount {
    path: PathBuf,
    /// The kernel's number for it (statx(2), `stx_mnt_id`).
    id: u64,
}

/// A clone of the root that is mounted nowhere yet.
pub(super) struct Detached {
    tree: OwnedFd,
    place: File,
    mount: RootMount,
}

impl Detached {
    /// Nothing is left of it if it is dropped.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |Errno(errno)| Error::os(errno, "making the root a mount").at_path(path);
        let place = open(path)?;
        let flags = abi::OPEN_TREE_CLONE | abi::OPEN_TREE_CLOEXEC | abi::AT_RECURSIVE;
        let tree = sys::open_tree(place.as_raw_fd(), c"", flags | abi::AT_EMPTY_PATH);
        let tree = owned(tree).map_err(|errno| failed(Errno(errno)))?;
        let id = sys::fstat(tree.as_raw_fd()).map_err(failed)?.mount;
        Ok(Self { tree, place, mount: RootMount { path: path.to_owned(), id } })
    }

    pub(super) fn mount(&self) -> RootMount {
        self.mount.clone()
    }

    /// Mounts it over the root.
    pub(super) fn attach(&self) -> Result<()> {
        // Below a shared mount it became one itself: what is mounted in it would come up
        // wherever the host's mounts do.
        let attr = abi::MountAttr { propagation: abi::MS_PRIVATE, ..abi::MountAttr::default() };
        let flags = abi::AT_EMPTY_PATH | abi::AT_RECURSIVE;
        let tree = self.tree.as_raw_fd();
        sys::move_mount(tree, self.place.as_raw_fd())
            .and_then(|()| sys::mount_setattr(tree, c"", flags, &attr))
            .map_err(|Errno(errno)| {
                let error = Error::os(errno, "mounting the root over itself");
                error.at_path(&self.mount.path)
            })
    }
}

impl RootMount {
    /// Takes it away, with all that is mounted in it. One that is not there, or below
    /// another that somebody has mounted since, is left.
    pub(super) fn unmount(&self) -> Result<()> {
        let Ok(there) = open(&self.path) else { return Ok(()) };
        let doing = "unmounting the root";
        let found = sys::fstat(there.as_raw_fd())
            .map_err(|Errno(errno)| Error::os(errno, doing).at_path(&self.path))?;
        if found.mount != self.id {
            return Ok(());
        }
        umount2(&self.path, MntFlags::MNT_DETACH)
            .map_err(|errno| Error::os(errno as i32, doing).at_path(&self.path))
    }
}

fn open(path: &Path) -> Result<File> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let opened = File::options().read(true).custom_flags(flags).open(path);
    opened.map_err(|error| Error::io(&error, "opening the root").at_path(path))
}
