//! The root file system of a bundle: what containerd wants mounted on it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::chdir;

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
    let failed = |errno: Errno| {
        let text = orlop::error::errno_text(errno as i32);
        let words = format!("mounting {kind} of {source:?} on {rootfs:?}{target}: {text}");
        Failure::new(Code::Internal, words)
    };
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
            text => data.push(text.to_owned()),
        }
    }
    let at = Place::of(rootfs, target).map_err(failed)?;
    let data = within_a_page(data).map_err(failed)?.join(",");
    let text = Some(data.as_str()).filter(|data| !data.is_empty());
    let bind = flags.contains(MsFlags::MS_BIND);
    let first = if bind { flags & (MsFlags::MS_BIND | MsFlags::MS_REC) } else { flags };
    let done = mount(Some(source.as_str()), &at.path, Some(kind.as_str()), first, text);
    done.map_err(failed)?;
    if bind && flags.contains(MsFlags::MS_RDONLY) {
        // What is there now, and no longer what was.
        let at = Place::of(rootfs, target).map_err(failed)?;
        let flags = flags.difference(MsFlags::MS_REC) | MsFlags::MS_REMOUNT;
        mount(None::<&str>, &at.path, None::<&str>, flags, None::<&str>).map_err(failed)?;
    }
    Ok(())
}

/// A place below the root, which an image's links can't lead out of it.
struct Place {
    path: PathBuf,
    _held: OwnedFd,
}

impl Place {
    fn of(rootfs: &Path, target: &str) -> Result<Self, Errno> {
        let root = open(rootfs, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let inside = target.trim_start_matches('/');
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
        let inside = if inside.is_empty() { "." } else { inside };
        let held = openat2(&root, inside, how)?;
        let path = format!("/proc/self/fd/{}", held.as_raw_fd()).into();
        Ok(Self { path, _held: held })
    }
}

/// The kernel takes less than a page of options, and an overlay of many layers has more:
/// those are named from the folder that they have in common then, where this process goes.
/// It is one of its own (`step.rs`).
fn within_a_page(mut data: Vec<String>) -> Result<Vec<String>, Errno> {
    const PAGE: usize = 4096 - 512;
    let length: usize = data.iter().map(|option| option.len() + 1).sum();
    let lower = data.iter_mut().find(|option| option.starts_with("lowerdir="));
    let Some(lower) = lower.filter(|_| length >= PAGE) else { return Ok(data) };
    let layers: Vec<_> = lower["lowerdir=".len()..].split(':').map(Path::new).collect();
    let Some(common) = common(&layers) else { return Ok(data) };
    chdir(&common)?;
    let inside = |layer: &&Path| layer.strip_prefix(&common).unwrap_or(layer).to_path_buf();
    let inside: Vec<_> = layers.iter().map(inside).collect();
    let inside: Vec<_> = inside.iter().map(|layer| layer.to_string_lossy()).collect();
    *lower = format!("lowerdir={}", inside.join(":"));
    Ok(data)
}

/// The folder that has all layers, if there is one.
fn common(layers: &[&Path]) -> Option<PathBuf> {
    let first = layers.first().filter(|_| layers.iter().all(|layer| layer.is_absolute()))?;
    let has_all = |folder: &&Path| layers.iter().all(|layer| layer.starts_with(folder));
    first.parent()?.ancestors().find(has_all).map(Path::to_path_buf)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_layers_are_named_from_what_they_have_in_common() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("snapshots");
        std::fs::create_dir(&root).unwrap();
        let layers: Vec<_> = (0..200).map(|n| format!("{}/{n}/fs", root.display())).collect();
        let few = vec!["index=off".to_owned(), format!("lowerdir={}", layers[..2].join(":"))];
        assert_eq!(within_a_page(few.clone()).unwrap(), few);
        let many = vec![format!("lowerdir={}", layers.join(":")), "upperdir=/u".to_owned()];
        let before = std::env::current_dir().unwrap();
        let short = within_a_page(many).unwrap();
        assert_eq!(std::env::current_dir().unwrap(), root);
        std::env::set_current_dir(before).unwrap();
        assert!(short[0].starts_with("lowerdir=0/fs:1/fs:"), "{}", short[0]);
        assert_eq!(short[1], "upperdir=/u");
        assert_eq!(common(&[Path::new("/a/b"), Path::new("c")]), None);
        assert_eq!(common(&[Path::new("/a/b/c"), Path::new("/a/x")]), Some("/a".into()));
    }

    #[test]
    fn a_place_is_below_the_root_whatever_links_say() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::os::unix::fs::symlink("../../../../etc", root.join("link")).unwrap();
        for target in ["/etc", "etc/", "link", "/../etc"] {
            let place = Place::of(&root, target).unwrap();
            assert_eq!(std::fs::read_link(&place.path).unwrap(), root.join("etc"), "{target}");
        }
        assert_eq!(Place::of(&root, "").unwrap().path.read_link().unwrap(), root);
        assert_eq!(Place::of(&root, "none").err(), Some(Errno::ENOENT));
    }
}
