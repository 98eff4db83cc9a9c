//! The way into the new root, and what becomes of it there.

use core::ffi::CStr;

use crate::mount::new_empty_directory;
use crate::run::{Done, Fail, Stage, in_part};
use crate::sys::{self, Errno, abi};
use crate::wire::Part;

/// pivot_root(2) with the old root stacked on the new one, then taken away. Its
/// mounts become slaves first, so that none of them is unmounted on the host.
pub fn pivot(stage: &Stage) -> Done {
    let old = sys::openat(abi::AT_FDCWD, c"/", abi::O_PATH | abi::O_DIRECTORY | abi::O_CLOEXEC)
        .map_err(in_part(Part::Open))?;
    sys::fchdir(stage.root).map_err(in_part(Part::Resolve))?;
    sys::pivot_root(c".", c".").map_err(in_part(Part::Whole))?;
    sys::fchdir(old).map_err(in_part(Part::Resolve))?;
    let slave = abi::MountAttr { propagation: abi::MS_SLAVE, ..abi::MountAttr::default() };
    sys::mount_setattr(old, c"", abi::AT_EMPTY_PATH | abi::AT_RECURSIVE, &slave)
        .map_err(in_part(Part::Propagate))?;
    sys::umount(c".", abi::MNT_DETACH).map_err(in_part(Part::Drop))?;
    sys::close(old);
    sys::chdir(c"/").map_err(in_part(Part::Resolve))
}

/// For a root that pivot_root(2) refuses, such as an initramfs: moves the new one
/// over it.
pub fn move_over(stage: &Stage, revealing: impl Iterator<Item = &'static CStr>) -> Done {
    // The old root stays below the new one. A procfs or sysfs in it that shows
    // everything would let the container mount another, without our masks.
    let slave = abi::MountAttr { propagation: abi::MS_SLAVE, ..abi::MountAttr::default() };
    sys::mount_setattr(abi::AT_FDCWD, c"/", 0, &slave).map_err(in_part(Part::Propagate))?;
    for path in revealing {
        // One may be mounted on another, as often as anybody has made a pid namespace.
        loop {
            // Else the host's would go too, where they still are its peers.
            match sys::mount_setattr(abi::AT_FDCWD, path, abi::AT_RECURSIVE, &slave) {
                Ok(()) => {}
                Err(Errno(abi::EINVAL | abi::ENOENT)) => break, // nothing is mounted there
                Err(errno) => return Err(Fail { errno, ..Fail::new(Part::Propagate, 0) }),
            }
            // Locked to what is below it: a mount of a more privileged namespace.
            if sys::umount(path, abi::MNT_DETACH).is_err() {
                hide_host_directory(path)?;
                break;
            }
        }
    }
    sys::fchdir(stage.root).map_err(in_part(Part::Resolve))?;
    let top = sys::openat(abi::AT_FDCWD, c"/", abi::O_PATH | abi::O_DIRECTORY | abi::O_CLOEXEC)
        .map_err(in_part(Part::Open))?;
    sys::move_mount(stage.root, top).map_err(in_part(Part::Attach))?;
    sys::close(top);
    sys::chroot(c".").map_err(in_part(Part::Whole))?;
    sys::chdir(c"/").map_err(in_part(Part::Resolve))
}

pub fn change(stage: &Stage) -> Done {
    sys::fchdir(stage.root).map_err(in_part(Part::Resolve))?;
    sys::chroot(c".").map_err(in_part(Part::Whole))?;
    sys::chdir(c"/").map_err(in_part(Part::Resolve))
}

fn hide_host_directory(path: &'static CStr) -> Done {
    let flags = abi::O_PATH | abi::O_DIRECTORY | abi::O_CLOEXEC;
    let place = sys::openat(abi::AT_FDCWD, path, flags).map_err(in_part(Part::Open))?;
    let cover = new_empty_directory(c"")?;
    sys::move_mount(cover, place).map_err(in_part(Part::Attach))?;
    sys::close(place);
    sys::close(cover);
    Ok(())
}

pub fn propagation(kind: u64, recursive: bool) -> Done {
    let attr = abi::MountAttr { propagation: kind, ..abi::MountAttr::default() };
    let flags = if recursive { abi::AT_RECURSIVE } else { 0 };
    sys::mount_setattr(abi::AT_FDCWD, c"/", flags, &attr).map_err(in_part(Part::Propagate))
}

pub fn read_only(stage: &Stage) -> Done {
    let attr = abi::MountAttr { set: abi::MOUNT_ATTR_RDONLY, ..abi::MountAttr::default() };
    sys::mount_setattr(stage.root, c"", abi::AT_EMPTY_PATH, &attr)
        .map_err(in_part(Part::SetAttributes))
}
