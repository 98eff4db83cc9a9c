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
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;

use nix::errno::Errno as NixErrno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};
use orlop_init::sys::{self, Errno, Fd, Sys, abi};

use super::folder::Folder;
use crate::error::{Error, Kind, Result};
use crate::host::ROOT_SOURCE;
use crate::launch::owned;
use crate::plan::Plan;

/// Where the base is, in the container's folder.
pub(super) const PLACE: &str = "root";

/// The directory of the base that the clone is on.
const ROOT: &std::ffi::CStr = c"rootfs";

/// All of it, mounted nowhere yet. Nothing is left if it is dropped.
pub(super) struct Detached {
    base: OwnedFd,
    /// The bundle's root.
    source: OwnedFd,
}

impl Detached {
    /// What the plan asks for, if it does.
    pub(super) fn of(plan: &Plan) -> Result<Option<Self>> {
        let Some(path) = plan.mounted_root() else { return Ok(None) };
        let failed = |errno| Error::os(errno, "opening the root").at_path(path);
        let source = open_directory(path, 0).map_err(failed)?;
        let host = open_directory(Path::new("/"), 0).map_err(failed)?;
        let look = |fd: &OwnedFd| sys::fstat(fd.as_raw_fd()).map_err(|Errno(e)| failed(e));
        let (root, host) = (look(&source)?, look(&host)?);
        if (root.dev_major, root.dev_minor, root.inode)
            == (host.dev_major, host.dev_minor, host.inode)
        {
            let words = "the host's own root can't be one for mounts among the host's";
            return Err(Error::config("/root/path", words));
        }
        // Its deletion turns all mounts private where nobody else sees it, from there on.
        if host.attributes & abi::STATX_ATTR_MOUNT_ROOT == 0 {
            let words = "mounts among the host's can't be made in a chroot: \"/\" is no mount";
            return Err(Error::new(Kind::Unsupported, words));
        }
        let doing = "making a place for the root";
        let base = new_base().map_err(|Errno(errno)| Error::os(errno, doing))?;
        Ok(Some(Self { base, source }))
    }

    /// Attaches it in the container's folder; the root's descriptor.
    pub(super) fn attach(self, folder: &Folder) -> Result<OwnedFd> {
        let path = folder.make_root()?;
        let failed = |Errno(errno)| Error::os(errno, "mounting the root").at_path(&path);
        let base = self.base.as_raw_fd();
        let place = open_directory(&path, 0).map_err(|errno| failed(Errno(errno)))?;
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

/// The root of a container that was made, with what has been mounted over it since.
pub(super) fn open(folder: &Folder) -> Result<OwnedFd> {
    let path = folder.root();
    let failed = |errno| Error::os(errno, "opening the container's root").at_path(&path);
    let elsewhere = || {
        let words = "the container's root is not mounted in this mount namespace";
        Error::new(Kind::WrongState, words).at_path(&path)
    };
    let missing = |errno| if errno == libc::ENOENT { elsewhere() } else { failed(errno) };
    let base = open_directory(&path, abi::O_NOFOLLOW).map_err(missing)?;
    let flags = abi::O_PATH | abi::O_DIRECTORY | abi::O_NOFOLLOW | abi::O_CLOEXEC;
    let root = owned(sys::openat(base.as_raw_fd(), ROOT, flags)).map_err(missing)?;
    let mount = |fd: &OwnedFd| sys::fstat(fd.as_raw_fd()).map(|found| found.mount);
    // Else it is the base's own directory.
    match (mount(&base), mount(&root)) {
        (Ok(base), Ok(root)) if base == root => Err(elsewhere()),
        (Err(Errno(errno)), _) | (_, Err(Errno(errno))) => Err(failed(errno)),
        _ => Ok(root),
    }
}

/// Takes it away with all that is mounted in it, here and in every mount namespace that
/// has got the base. None is fine.
///
/// The kernel unmounts what is on a directory that is removed, wherever that is, and tells
/// no peer of it: what is bound in there may be a peer of the host's own mounts. It
/// refuses only where the remover sees a mount there himself.
pub(super) fn remove(folder: &Path) -> Result<()> {
    let path = folder.join(PLACE);
    let failed = |error| Error::io(&error, "removing the container's root").at_path(&path);
    match fs::remove_dir(&path) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => return Ok(()),
    }
    let removed = thread::scope(|scope| {
        let blind = thread::Builder::new().spawn_scoped(scope, || remove_unseen(folder));
        blind.map(|blind| blind.join().unwrap_or(Err(NixErrno::EIO.into())))
    });
    removed.and_then(|removed| removed).map_err(failed)
}

/// In a mount namespace of the thread's own, in which the folder is all that there is.
fn remove_unseen(folder: &Path) -> std::io::Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NONE)?;
    // Alone that does where there is no other way to it, by a bind of the host's.
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    while umount2(&folder.join(PLACE), flags).is_ok() {}
    mount(Some(folder), folder, NONE, MsFlags::MS_BIND, NONE)?;
    chdir(folder)?;
    match pivot_root(".", ".") {
        Ok(()) => umount2(".", MntFlags::MNT_DETACH)?,
        // An initramfs, which nothing can take the place of.
        Err(NixErrno::EINVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    fs::remove_dir(PLACE)
}

fn open_directory(path: &Path, flags: u32) -> Result<OwnedFd, i32> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| libc::EINVAL)?;
    let flags = flags | abi::O_PATH | abi::O_DIRECTORY | abi::O_CLOEXEC;
    owned(sys::openat(abi::AT_FDCWD, &name, flags))
}

fn turn(tree: Fd, kind: u64, flags: u32) -> Sys<()> {
    let attr = abi::MountAttr { propagation: kind, ..abi::MountAttr::default() };
    sys::mount_setattr(tree, c"", abi::AT_EMPTY_PATH | flags, &attr)
}

/// A file system with one directory in it, which nobody can write to.
fn new_base() -> Sys<OwnedFd> {
    let fs = owned(sys::fsopen(c"tmpfs")).map_err(Errno)?;
    sys::fsconfig_string(fs.as_raw_fd(), c"source", ROOT_SOURCE)?;
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
