//! The root file system of a bundle: what containerd wants mounted on it.

mod loops;
mod mapped;
mod options;

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::chdir;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionbio;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use self::mapped::mount_mapped;
use self::options::Options;
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

/// What is mounted, and where, for errors.
struct What<'a> {
    kind: &'a str,
    source: &'a str,
    on: String,
}

impl What<'_> {
    fn failed(&self, why: &dyn Display) -> Failure {
        let Self { kind, source, on } = self;
        let words = format!("mounting {kind} of {source:?} on {on}: {why}");
        Failure::new(Code::Internal, words)
    }

    fn errno(&self, errno: Errno) -> Failure {
        self.failed(&orlop::error::errno_text(errno as i32))
    }
}

fn mount_one(one: &Mount, rootfs: &Path) -> Result<(), Failure> {
    let Mount { kind, source, target, options } = one;
    let what = What { kind, source, on: format!("{rootfs:?}{target}") };
    if let Some(kind) = kind.strip_prefix("fuse.").or_else(|| kind.strip_prefix("fuse3.")) {
        return helped(&what, kind, one, rootfs);
    }
    let mut options =
        Options::parse(options).map_err(|words| Failure::new(Code::InvalidArgument, words))?;
    let place = || Place::of(rootfs, target).map_err(|errno| what.errno(errno));
    match options.ids.take() {
        Some(ids) => mount_mapped(&what, options, &ids, (rootfs, &place()?)),
        None => mount_at(&what, &mut options, place),
    }
}

/// Mounts where `place` is, which is looked for again once it is covered.
fn mount_at<P: AsRef<Path>>(
    what: &What<'_>,
    options: &mut Options,
    place: impl Fn() -> Result<P, Failure>,
) -> Result<(), Failure> {
    let data = std::mem::take(&mut options.data);
    let data = within_a_page(data).map_err(|errno| what.errno(errno))?.join(",");
    let data = Some(data.as_str()).filter(|data| !data.is_empty());
    let flags = options.flags;
    let bind = flags.contains(MsFlags::MS_BIND);
    let first = if bind { flags & (MsFlags::MS_BIND | MsFlags::MS_REC) } else { flags };
    let device = options
        .on_loop
        .map(|direct| loops::attach(what.source, flags.contains(MsFlags::MS_RDONLY), direct));
    let device = device.transpose().map_err(|error| what.failed(&error))?;
    let source = device.as_ref().map_or(what.source, |(_, path)| path);
    let done = mount(Some(source), place()?.as_ref(), Some(what.kind), first, data);
    done.map_err(|errno| what.errno(errno))?;
    if flags != first {
        // A bind takes no flags at first.
        let flags = flags.difference(MsFlags::MS_REC) | MsFlags::MS_REMOUNT;
        let remount = |flags| -> Result<_, Failure> {
            let none = None::<&str>;
            Ok(mount(none, place()?.as_ref(), none, flags, none))
        };
        let done = match remount(flags)? {
            // In a user namespace what the host has set stays (mount_namespaces(7)).
            Err(Errno::EPERM) => remount(flags | set(place()?.as_ref()))?,
            done => done,
        };
        done.map_err(|errno| what.errno(errno))?;
    }
    Ok(())
}

/// The flags of what is mounted there, as far as they can be locked.
fn set(place: &Path) -> MsFlags {
    let flags = statvfs(place).map_or(FsFlags::empty(), |found| found.flags());
    let pairs = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    pairs.into_iter().filter(|(one, _)| flags.contains(*one)).map(|(_, flag)| flag).collect()
}

/// Mounts by the program for file systems in user space.
fn helped(what: &What<'_>, kind: &str, one: &Mount, rootfs: &Path) -> Result<(), Failure> {
    if !matches!(one.target.as_str(), "" | "/") {
        return Err(what.failed(&"a file system in user space is mounted on the root alone"));
    }
    let program = if one.kind.starts_with("fuse3.") { "mount.fuse3" } else { "mount.fuse" };
    let mut command = Command::new(program);
    command.arg(&one.source).arg(rootfs);
    command.args(one.options.iter().flat_map(|option| ["-o", option])).args(["-t", kind]);
    let run = || -> std::io::Result<_> {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
        ioctl_fionbio(&reading, true)?;
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writing).spawn()?;
        // It has the writing end, too, and a daemon that it leaves behind never closes it.
        drop(command);
        let (pidfd, mut said) =
            (pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?, Vec::new());
        let mut reading = File::from(reading);
        loop {
            let mut fds =
                [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&reading, PollFlags::IN)];
            poll(&mut fds, None)?;
            let ended = !fds[0].revents().is_empty();
            // An error is that there is no more now.
            let all = reading.read_to_end(&mut said).is_ok();
            if ended || all {
                return Ok((child.wait()?, said));
            }
        }
    };
    let (status, said) =
        run().map_err(|error| what.failed(&format!("starting {program}: {error}")))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&said);
        return Err(what.failed(&format!("{program}: {status}: {}", said.trim())));
    }
    Ok(())
}

/// A place below the root, which an image's links can't lead out of it.
struct Place {
    path: PathBuf,
    held: OwnedFd,
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
        Ok(Self { path, held })
    }
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        &self.path
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

/// Takes away whatever is mounted there.
pub(crate) fn unmount(rootfs: &Path) {
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    while umount2(rootfs, flags).is_ok() {}
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn many_layers_are_named_from_what_they_have_in_common() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("snapshots");
        fs::create_dir(&root).unwrap();
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
        fs::create_dir_all(root.join("etc")).unwrap();
        std::os::unix::fs::symlink("../../../../etc", root.join("link")).unwrap();
        for target in ["/etc", "etc/", "link", "/../etc"] {
            let place = Place::of(&root, target).unwrap();
            assert_eq!(fs::read_link(&place.path).unwrap(), root.join("etc"), "{target}");
        }
        assert_eq!(Place::of(&root, "").unwrap().path.read_link().unwrap(), root);
        assert_eq!(Place::of(&root, "none").err(), Some(Errno::ENOENT));
    }

    /// Runs where mounts are nobody else's; as root.
    fn apart(test: &str, body: impl FnOnce(&Path) + Send) {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIP {test}: needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let inside = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), none).unwrap();
            for name in ["rootfs", "a", "b", "upper", "work"] {
                fs::create_dir(folder.path().join(name)).unwrap();
            }
            body(folder.path());
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap());
    }

    fn one(kind: &str, source: &Path, options: &[String]) -> Mount {
        let source = source.to_str().unwrap().to_owned();
        let options = options.to_vec();
        Mount { kind: kind.to_owned(), source, target: String::new(), options }
    }

    /// The options of what is mounted there, and how many mounts there are.
    fn seen(at: &Path) -> (String, usize) {
        let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let of = |line: &str| {
            let mut fields = line.split(' ').skip(4);
            (fields.next() == at.to_str()).then(|| fields.next().unwrap().to_owned())
        };
        (text.lines().rev().find_map(of).unwrap_or_default(), text.lines().count())
    }

    #[test]
    fn a_bind_has_its_flags() {
        apart("rootfs::a_bind_has_its_flags", |folder| {
            let rootfs = folder.join("rootfs");
            let options = ["rbind", "ro", "nodev", "noexec"].map(str::to_owned);
            mount_all(&[one("bind", &folder.join("a"), &options)], &rootfs).unwrap();
            assert!(seen(&rootfs).0.starts_with("ro,nodev,noexec"), "{}", seen(&rootfs).0);
            unmount(&rootfs);
            assert_eq!(seen(&rootfs).0, "");
        });
    }

    /// `ORLOP_BELOW` is the folder, for this test in a user namespace.
    #[test]
    fn a_bind_keeps_the_flags_that_are_locked() {
        let name = "rootfs::tests::a_bind_keeps_the_flags_that_are_locked";
        if let Some(folder) = std::env::var_os("ORLOP_BELOW") {
            let folder = Path::new(&folder);
            let options = ["rbind", "ro"].map(str::to_owned);
            let rootfs = folder.join("rootfs");
            mount_all(&[one("bind", &folder.join("a"), &options)], &rootfs).unwrap();
            assert!(seen(&rootfs).0.starts_with("ro,nosuid,nodev"), "{}", seen(&rootfs).0);
            return;
        }
        apart("rootfs::a_bind_keeps_the_flags_that_are_locked", |folder| {
            let (none, flags) = (None::<&str>, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
            mount(none, folder, none, flags | MsFlags::MS_REMOUNT, none).unwrap();
            let mut below = Command::new("unshare");
            below.args(["--user", "--map-root-user", "--mount"]);
            below.arg(std::env::current_exe().unwrap()).args([name, "--exact"]);
            let output = below.env("ORLOP_BELOW", folder).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        });
    }

    #[test]
    fn a_file_is_mounted_by_a_loop_device() {
        apart("rootfs::a_file_is_mounted_by_a_loop_device", |folder| {
            let (rootfs, image) = (folder.join("rootfs"), folder.join("image"));
            File::create(&image).unwrap().set_len(4 << 20).unwrap();
            let said = Command::new("mkfs.ext4").arg("-q").arg(&image).status();
            if !said.is_ok_and(|status| status.success()) {
                println!("SKIP rootfs::a_file_is_mounted_by_a_loop_device: needs mkfs.ext4");
                return;
            }
            let backing = || {
                let devices = fs::read_dir("/sys/block").unwrap().flatten();
                let file = |device: fs::DirEntry| {
                    fs::read_to_string(device.path().join("loop/backing_file")).ok()
                };
                devices.filter_map(file).any(|file| Path::new(file.trim()) == image)
            };
            for options in [&["loop"][..], &["loop", "ro"]] {
                let options: Vec<_> = options.iter().map(|&one| one.to_owned()).collect();
                mount_all(&[one("ext4", &image, &options)], &rootfs).unwrap();
                assert!(rootfs.join("lost+found").is_dir() && backing());
                let written = fs::write(rootfs.join("file"), "");
                assert_eq!(written.is_ok(), options.len() == 1);
                unmount(&rootfs);
                // The kernel lets it go when the last work on it has ended.
                let begun = std::time::Instant::now();
                while backing() {
                    assert!(begun.elapsed().as_secs() < 10, "the device stays");
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            }
            let failure =
                mount_all(&[one("ext4", &folder.join("none"), &["loop".into()])], &rootfs);
            let said = failure.unwrap_err().message;
            assert!(said.contains("none\" on") && said.contains("No such file"), "{said}");
        });
    }

    #[test]
    fn ids_are_mapped() {
        apart("rootfs::ids_are_mapped", |folder| {
            let (rootfs, a, b) = (folder.join("rootfs"), folder.join("a"), folder.join("b"));
            fs::write(a.join("one"), "").unwrap();
            fs::write(b.join("two"), "").unwrap();
            nix::unistd::chown(&b.join("two"), Some(1.into()), Some(2.into())).unwrap();
            let ids = ["uidmap=0:5000:10", "gidmap=0:6000:1,1:7000:9"].map(str::to_owned);
            let owner = |name: &str| {
                let found = fs::metadata(rootfs.join(name)).unwrap();
                (found.uid(), found.gid())
            };
            let before = seen(&rootfs).1;

            let mut options = ids.to_vec();
            options.extend(["bind".to_owned(), "ro".to_owned()]);
            mount_all(&[one("bind", &b, &options)], &rootfs).unwrap();
            assert_eq!(owner("two"), (5001, 7001));
            assert!(seen(&rootfs).0.starts_with("ro,"), "{}", seen(&rootfs).0);
            assert_eq!(seen(&rootfs).1, before + 1, "mounts are left");
            unmount(&rootfs);

            let mut options = ids.to_vec();
            options.push(format!("lowerdir={}:{}", a.display(), b.display()));
            for name in ["upper", "work"] {
                options.push(format!("{name}dir={}", folder.join(name).display()));
            }
            mount_all(&[one("overlay", Path::new("overlay"), &options)], &rootfs).unwrap();
            assert_eq!((owner("one"), owner("two")), ((5000, 6000), (5001, 7001)));
            fs::write(rootfs.join("three"), "").unwrap();
            assert_eq!(owner("three"), (0, 0), "what is written is not mapped");
            assert_eq!(seen(&rootfs).1, before + 1, "mounts are left");
            unmount(&rootfs);

            // What fails leaves nothing, and this is where it was.
            let here = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
            options[2] = format!("lowerdir={}", folder.join("none").display());
            let failure = mount_all(&[one("overlay", Path::new("overlay"), &options)], &rootfs);
            assert!(failure.unwrap_err().message.contains("No such file"));
            assert_eq!(fs::read_link("/proc/thread-self/ns/mnt").unwrap(), here);
            assert_eq!(seen(&rootfs), (String::new(), before));
        });
    }
}
