//! Mounts by what they are, not by where: told to the launcher when they are made, known
//! by that when they are taken away, and taken back when something fails.

use core::ffi::CStr;

use crate::mount::clone_mount;
use crate::op::MOST_HELD;
use crate::path::{self, PathBuf};
use crate::plan::Bytes;
use crate::run::{Done, Fail, Stage, in_part};
use crate::sys::{self, Fd, NO_FD, Sys, abi};
use crate::wire::{MOUNT_ID, MountId, Part};

/// How many mounts on top of one of ours are taken away with it; more are somebody who
/// mounts faster than we unmount.
const MOST_COVERS: usize = 64;

/// Mounts that are taken back unless all goes well.
pub struct Made {
    mounts: [Fd; MOST_HELD],
    length: usize,
}

/// From here on what is mounted is kept in mind. A signal waits, since what it ends takes
/// nothing back.
pub fn take_back_later(stage: &mut Stage) -> Done {
    sys::block_signals();
    stage.made = Some(Made { mounts: [NO_FD; MOST_HELD], length: 0 });
    Ok(())
}

/// Notes a mount that is attached now.
pub fn attached(stage: &mut Stage, mount: Fd) -> Done {
    if let Some(made) = &mut stage.made {
        let Some(place) = made.mounts.get_mut(made.length) else {
            let _ = detach(stage.proc, mount);
            return Err(Fail::new(Part::Attach, abi::ENFILE));
        };
        *place = mount;
        made.length += 1;
    }
    // What does not say who it is, as another user's FUSE, works all the same.
    match identify(mount) {
        Ok(id) => stage.tell(&id),
        Err(_) => Ok(()),
    }
}

fn identify(fd: Fd) -> Sys<MountId> {
    Ok(MountId::of(&sys::fstat(fd)?))
}

/// Takes away what this process has mounted, the last one first.
#[cold]
pub fn take_back(stage: &Stage) {
    let Some(made) = &stage.made else { return };
    for mount in made.mounts.iter().take(made.length).rev() {
        // What is mounted on it by now goes with it, as all that is below it does.
        for _ in 0..MOST_COVERS {
            if detach(stage.proc, *mount).is_err() {
                break;
            }
            match clone_mount(*mount, abi::AT_RECURSIVE) {
                Ok(clone) => sys::close(clone),
                Err(_) => break, // it is mounted nowhere
            }
        }
    }
}

/// Unmounts what is open, or what is mounted on it.
#[inline(never)]
fn detach(proc: Fd, mount: Fd) -> Sys<()> {
    if sys::fstat(mount)?.kind() == abi::S_IFDIR {
        sys::fchdir(mount)?;
        return sys::umount(c".", abi::MNT_DETACH);
    }
    let mut path = PathBuf::new();
    path.push(b"self/fd/")?;
    path.push_number(mount.cast_unsigned())?;
    sys::fchdir(proc)?;
    sys::umount(path.as_c_str(), abi::MNT_DETACH)
}

/// Takes a mount away that the container may have under its hands meanwhile: what was
/// looked at is unmounted, by no name, if it is one that was made for the container. No
/// link is followed, which could lead to what keeps it from a part of its /proc.
pub fn unmount(stage: &mut Stage, at: &'static CStr, known: Bytes) -> Done {
    let place = path::open(stage.root, at, abi::O_PATH, abi::RESOLVE_NO_SYMLINKS)
        .map_err(in_part(Part::Resolve))?;
    if sys::fs_magic(place).map_err(in_part(Part::Verify))? == abi::PROC_SUPER_MAGIC {
        return Err(Fail::new(Part::InsideProc, abi::EPERM));
    }
    let stat = sys::fstat(place).map_err(in_part(Part::Verify))?;
    let root = sys::fstat(stage.root).map_err(in_part(Part::Verify))?;
    if stat.attributes & abi::STATX_ATTR_MOUNT_ROOT == 0 || stat.mount == root.mount {
        return Err(Fail::new(Part::Verify, abi::EINVAL));
    }
    let id = identify(place).map_err(in_part(Part::Verify))?;
    if !stage.plan.bytes(known).chunks_exact(MOUNT_ID).any(|one| *one == id.bytes()) {
        return Err(Fail::new(Part::Covered, abi::EPERM));
    }
    detach(stage.proc, place).map_err(in_part(Part::Drop))?;
    sys::close(place);
    sys::fchdir(stage.root).map_err(in_part(Part::Resolve))?;
    stage.tell(&id)
}
