//! The root of a container that is in the runtime's own mount namespace and has mounts:
//! a clone of the bundle's root, attached in the container's folder.
//!
//! ```text
//! <root>/<id>/root            the base: an empty file system, unbindable
//! <root>/<id>/root/rootfs     the clone, with all that is mounted in it
//! ```
//! The folder may be on a shared mount, whose peers in other mount namespaces get
//! whatever is attached there: the base, which has nothing in it, and nothing else, since
//! it is private before anything is mounted on it. It goes with all that is below it.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::mount::{MntFlags, umount2};
use orlop_init::sys::{self, Errno, Fd, Sys, abi};
use serde::{Deserialize, Serialize};

use super::folder::Folder;
use super::undo::Undo;
use crate::error::{Error, Kind, Result};
use crate::launch::owned;
use crate::plan::Plan;

/// The directory of the base that the clone is on.
const ROOT: &std::ffi::CStr = c"rootfs";

/// The base, as the kernel tells it from all other mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RootMount {
    /// Number of its device, which no other file system has while it is there.
    device: u64,
    /// Inode of its root.
    inode: u64,
    /// Its own number (statx(2), `stx_mnt_id`). KERNEL(<6.8): another's when it is gone.
    mount: u64,
}

/// All of it, mounted nowhere yet. Nothing is left if it is dropped.
pub(super) struct Detached {
    base: OwnedFd,
    /// The bundle's root.
    source: OwnedFd,
    mount: RootMount,
}

impl Detached {
    /// What the plan asks for, if it does.
    pub(super) fn of(plan: &Plan) -> Result<Option<Self>> {
        let Some(path) = plan.mounted_root() else { return Ok(None) };
        let failed = |errno| Error::os(errno, "opening the root").at_path(path);
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(libc::EINVAL))?;
        let source = open_directory(&name).map_err(failed)?;
        let found = RootMount::of(source.as_fd())?;
        let host = open_directory(c"/").map_err(failed)?;
        let host = RootMount::of(host.as_fd())?;
        if (found.device, found.inode) == (host.device, host.inode) {
            let words = "the host's own root can't be one for mounts among the host's";
            return Err(Error::config("/root/path", words));
        }
        let doing = "making a place for the root";
        let base = new_base().map_err(|Errno(errno)| Error::os(errno, doing))?;
        let mount = RootMount::of(base.as_fd())?;
        Ok(Some(Self { base, source, mount }))
    }

    /// What it will be known by.
    pub(super) fn mount(&self) -> RootMount {
        self.mount.clone()
    }

    /// Attaches it in the container's folder; the root's descriptor. Its identity must
    /// be in the record by now.
    pub(super) fn attach(self, folder: &Folder, undo: &mut Undo) -> Result<OwnedFd> {
        let path = folder.make_root()?;
        undo.root(folder.clone(), self.mount.clone());
        let failed = |Errno(errno)| Error::os(errno, "mounting the root").at_path(&path);
        let base = self.base.as_raw_fd();
        let name = CString::new(path.as_os_str().as_bytes());
        let name = name.map_err(|_| failed(Errno(libc::EINVAL)))?;
        let place = open_directory(&name).map_err(|errno| failed(Errno(errno)))?;
        sys::move_mount(base, place.as_raw_fd()).map_err(failed)?;
        // A bind of all that the host has would have it in it else, and in itself.
        turn(base, abi::MS_UNBINDABLE, 0).map_err(failed)?;
        let flags = abi::OPEN_TREE_CLONE | abi::OPEN_TREE_CLOEXEC | abi::AT_RECURSIVE;
        let source = self.source.as_raw_fd();
        let root = owned(sys::open_tree(source, c"", flags | abi::AT_EMPTY_PATH))
            .map_err(|errno| failed(Errno(errno)))?;
        // No peer of the host's mounts, but what the host mounts in there is seen.
        turn(root.as_raw_fd(), abi::MS_SLAVE, abi::AT_RECURSIVE).map_err(failed)?;
        let place = owned(sys::openat(base, ROOT, abi::O_PATH | abi::O_CLOEXEC))
            .map_err(|errno| failed(Errno(errno)))?;
        sys::move_mount(root.as_raw_fd(), place.as_raw_fd()).map_err(failed)?;
        Ok(root)
    }
}

impl RootMount {
    fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        let found = sys::fstat(fd.as_raw_fd())
            .map_err(|Errno(errno)| Error::os(errno, "looking at a mount"))?;
        let device = libc::makedev(found.dev_major, found.dev_minor);
        Ok(Self { device, inode: found.inode, mount: found.mount })
    }

    /// The root of a container that was made, with what has been mounted over it since.
    pub(super) fn open(&self, folder: &Folder) -> Result<OwnedFd> {
        let path = folder.root();
        let failed = |errno| Error::os(errno, "opening the container's root").at_path(&path);
        let base = self.find(folder)?;
        let root = base.map(|base| {
            let flags = abi::O_PATH | abi::O_DIRECTORY | abi::O_NOFOLLOW | abi::O_CLOEXEC;
            let root = owned(sys::openat(base.as_raw_fd(), ROOT, flags)).map_err(failed)?;
            let mounted = RootMount::of(root.as_fd())?.mount != self.mount;
            Ok(mounted.then_some(root))
        });
        root.transpose()?.flatten().ok_or_else(|| {
            let words = "the container's root is not mounted in this mount namespace";
            Error::new(Kind::WrongState, words).at_path(&path)
        })
    }

    /// What is mounted in the folder, if that is the base.
    fn find(&self, folder: &Folder) -> Result<Option<OwnedFd>> {
        let path = folder.root();
        let failed = |errno| Error::os(errno, "looking for the root").at_path(&path);
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(libc::EINVAL))?;
        let found = match open_directory(&name) {
            Err(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => return Ok(None),
            found => found.map_err(failed)?,
        };
        Ok((Self::of(found.as_fd())? == *self).then_some(found))
    }

    /// Takes it away, with all that is mounted in it. What else is mounted in the folder
    /// is left, and keeps the folder from being removed.
    pub(super) fn unmount(&self, folder: &Folder) -> Result<()> {
        let path = folder.root();
        if let Some(base) = self.find(folder)? {
            let failed = |errno| Error::os(errno, "unmounting the root").at_path(&path);
            // Whoever has bound a tree of the host's in there, a hook or the container,
            // has peers of the host's mounts there: what is below would go on the host too.
            turn(base.as_raw_fd(), abi::MS_SLAVE, abi::AT_RECURSIVE)
                .map_err(|Errno(errno)| failed(errno))?;
            let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
            return umount2(&path, flags).map_err(|errno| failed(errno as i32));
        }
        // Not attached yet, or taken away by a deletion that was killed: then it is nowhere.
        if let Some(place) = self.elsewhere() {
            log::warn!(
                "the container's root is left, mounted at {place:?}: somebody has moved or \
                 covered it, or it is of another mount namespace"
            );
        }
        Ok(())
    }

    /// Where its file system is mounted in this mount namespace (proc(5), `mountinfo`).
    fn elsewhere(&self) -> Option<String> {
        let device = format!("{}:{}", libc::major(self.device), libc::minor(self.device));
        let table = fs::read_to_string("/proc/thread-self/mountinfo").ok()?;
        let mut found = table.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(2);
            (fields.next()? == device).then(|| fields.nth(1).map(str::to_owned))?
        });
        found.next()
    }
}

fn open_directory(path: &std::ffi::CStr) -> Result<OwnedFd, i32> {
    let flags = abi::O_PATH | abi::O_DIRECTORY | abi::O_CLOEXEC;
    owned(sys::openat(abi::AT_FDCWD, path, flags))
}

fn turn(tree: Fd, kind: u64, flags: u32) -> Sys<()> {
    let attr = abi::MountAttr { propagation: kind, ..abi::MountAttr::default() };
    sys::mount_setattr(tree, c"", abi::AT_EMPTY_PATH | flags, &attr)
}

/// A file system with one directory in it, which nobody can write to.
fn new_base() -> Sys<OwnedFd> {
    let fs = owned(sys::fsopen(c"tmpfs")).map_err(Errno)?;
    sys::fsconfig_string(fs.as_raw_fd(), c"source", c"orlop")?;
    sys::fsconfig_string(fs.as_raw_fd(), c"mode", c"700")?;
    sys::fsconfig_create(fs.as_raw_fd())?;
    let base = owned(sys::fsmount(fs.as_raw_fd(), 0)).map_err(Errno)?;
    sys::mkdirat(base.as_raw_fd(), ROOT, 0o700)?;
    let set = abi::MOUNT_ATTR_RDONLY
        | abi::MOUNT_ATTR_NOSUID
        | abi::MOUNT_ATTR_NODEV
        | abi::MOUNT_ATTR_NOEXEC;
    let attr = abi::MountAttr { set, ..abi::MountAttr::default() };
    sys::mount_setattr(base.as_raw_fd(), c"", abi::AT_EMPTY_PATH, &attr)?;
    Ok(base)
}
