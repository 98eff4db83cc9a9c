//! The root file system of a bundle: what containerd wants mounted on it.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::messages::Mount;
use crate::ttrpc::{Code, Failure};

/// Mounts all, or nothing.
pub(crate) fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<(), Failure> {
    for one in mounts {
        if let Err(failure) = mount_one(one, rootfs) {
            unmount(rootfs);
            return Err(failure);
        }
    }
    Ok(())
}

fn mount_one(one: &Mount, rootfs: &Path) -> Result<(), Failure> {
    let Mount { kind, source, target, options } = one;
    if !target.is_empty() {
        let words = format!("a mount of the root at {target:?} is not supported");
        return Err(Failure::new(Code::InvalidArgument, words));
    }
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for option in options {
        match option.as_str() {
            "bind" => flags |= MsFlags::MS_BIND,
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" => {}
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "loop" => return Err(unsupported(option)),
            text if text.starts_with("X-containerd.") => return Err(unsupported(option)),
            text if text.starts_with("uidmap=") || text.starts_with("gidmap=") => {
                return Err(unsupported(option));
            }
            text => data.push(text),
        }
    }
    let failed = |errno: nix::errno::Errno| {
        let text = orlop::error::errno_text(errno as i32);
        let words = format!("mounting {kind} of {source:?} on {rootfs:?}: {text}");
        Failure::new(Code::Internal, words)
    };
    let data = data.join(",");
    let text = Some(data.as_str()).filter(|data| !data.is_empty());
    let bind = flags.contains(MsFlags::MS_BIND);
    let first = if bind { flags & (MsFlags::MS_BIND | MsFlags::MS_REC) } else { flags };
    mount(Some(source.as_str()), rootfs, Some(kind.as_str()), first, text).map_err(failed)?;
    if bind && flags.contains(MsFlags::MS_RDONLY) {
        let flags = flags.difference(MsFlags::MS_REC) | MsFlags::MS_REMOUNT;
        mount(None::<&str>, rootfs, None::<&str>, flags, None::<&str>).map_err(failed)?;
    }
    Ok(())
}

fn unsupported(option: &str) -> Failure {
    let words = format!("the mount option {option:?} is not supported");
    Failure::new(Code::InvalidArgument, words)
}

/// Takes away whatever is mounted there.
pub(crate) fn unmount(rootfs: &Path) {
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    while umount2(rootfs, flags).is_ok() {}
}
