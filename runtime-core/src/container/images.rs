//! The folder of a checkpoint: CRIU's images, its log, and what the standard streams
//! were.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::criu::{self, Options};
use crate::error::{Error, Kind, Result};

pub use crate::criu::{CgroupMode, NetworkLock};

/// COMPAT(runc): which of the standard streams were pipes of somebody outside.
const DESCRIPTORS: &str = "descriptors.json";

/// How much of that file is read: three names.
const DESCRIPTORS_MAX: u64 = 64 * 1024;

/// `CLONE_NEWNET`: what is in the namespace is never CRIU's to make again. COMPAT(runc);
/// but the loopback device, those that the host gave and the kernel's parameters are
/// the config's at a restore.
const EMPTY_NAMESPACES: u32 = orlop_init::sys::abi::CLONE_NEWNET;

/// What CRIU is told alike when it saves and when it restores.
#[derive(Debug, Default)]
pub struct CriuOptions {
    /// The folder of the images.
    pub image_path: PathBuf,
    /// The folder of CRIU's log and of what else it writes; that of the images if none.
    pub work_path: Option<PathBuf>,
    /// Save established TCP connections.
    pub tcp_established: bool,
    /// Close them.
    pub tcp_close: bool,
    /// Allow unix sockets whose other end is outside.
    pub ext_unix_sk: bool,
    /// Allow a terminal that comes from outside.
    pub shell_job: bool,
    /// Save file locks.
    pub file_locks: bool,
    /// Free the pages of earlier images that later ones have too.
    pub auto_dedup: bool,
    /// Leave memory where it is until it is needed.
    pub lazy_pages: bool,
    /// What becomes of the cgroups below the container's; CRIU's own way if none.
    pub cgroups: Option<CgroupMode>,
    /// How connections are held meanwhile; CRIU's own way if none.
    pub network_lock: Option<NetworkLock>,
}

/// The folders of one operation, open.
pub(super) struct Images {
    images: File,
    work: Option<File>,
    path: PathBuf,
    work_path: Option<PathBuf>,
    /// CRIU's log file.
    pub log: PathBuf,
    log_name: &'static str,
}

impl Images {
    /// Opens the folders, and makes that of the work where it is missing; that of the
    /// images too if this is a checkpoint.
    pub(super) fn open(options: &CriuOptions, saving: bool) -> Result<Self> {
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|error| Error::io(&error, "finding").at_path(path))
        };
        let path = absolute(&options.image_path)?;
        let work_path = options.work_path.as_ref().map(absolute).transpose()?;
        if saving {
            // Root of a user namespace goes through it when it restores; every image is
            // for its owner alone.
            make(&path, 0o711)?;
        }
        let images = folder(&path)?;
        let work = match &work_path {
            Some(work) => {
                make(work, 0o700)?;
                Some(folder(work)?)
            }
            None => None,
        };
        let log_name = if saving { "dump.log" } else { "restore.log" };
        let log = work_path.as_ref().unwrap_or(&path).join(log_name);
        Ok(Self { images, work, path, work_path, log, log_name })
    }

    /// Opens the folders once more, as process `pid` sees them: CRIU mounts in the one
    /// where it works, and may do so in its own mount namespace alone.
    pub(super) fn seen_by(&mut self, pid: i32, wanted: &mut Options) -> Result<()> {
        let root = format!("/proc/{pid}/root");
        let seen =
            |path: &Path| folder(&Path::new(&root).join(path.strip_prefix("/").unwrap_or(path)));
        self.images = seen(&self.path)?;
        self.work = self.work_path.as_deref().map(seen).transpose()?;
        self.give(wanted);
        Ok(())
    }

    /// CRIU finds them through /proc: it asks the socket who we are.
    fn give(&self, wanted: &mut Options) {
        wanted.images_dir_fd = self.images.as_raw_fd();
        wanted.work_dir_fd = self.work.as_ref().map(AsRawFd::as_raw_fd);
    }

    /// What both operations tell CRIU.
    pub(super) fn options(&self, options: &CriuOptions) -> Options {
        let mode = options.cgroups.unwrap_or(CgroupMode::Default);
        let mut wanted = Options {
            log_level: Some(4),
            log_file: Some(self.log_name.to_owned()),
            manage_cgroups: Some(true),
            manage_cgroups_mode: Some(mode as i32),
            notify_scripts: Some(true),
            shell_job: Some(options.shell_job),
            ext_unix_sk: Some(options.ext_unix_sk),
            tcp_established: Some(options.tcp_established),
            tcp_close: options.tcp_close.then_some(true),
            file_locks: Some(options.file_locks),
            empty_ns: Some(EMPTY_NAMESPACES),
            orphan_pts_master: Some(true),
            auto_dedup: Some(options.auto_dedup),
            lazy_pages: Some(options.lazy_pages),
            network_lock: options.network_lock.map(|lock| lock as i32),
            ..Options::default()
        };
        self.give(&mut wanted);
        wanted
    }

    /// Notes what the standard streams of process `pid` are.
    pub(super) fn write_descriptors(&self, pid: i32) -> Result<()> {
        let link = |fd: i32| {
            let name = fs::read_link(format!("/proc/{pid}/fd/{fd}"));
            name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let path = self.path.join(DESCRIPTORS);
        let text = serde_json::json!([link(0), link(1), link(2)]).to_string();
        // What was there is replaced, whatever it was: a link leads somewhere.
        let replaced = match unlinkat(&self.images, DESCRIPTORS, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
                self.descriptors(flags).and_then(|mut file| file.write_all(text.as_bytes()))
            }
            Err(errno) => Err(errno.into()),
        };
        replaced.map_err(|error| Error::io(&error, "writing").at_path(&path))
    }

    /// The file, itself: no link, and no FIFO that would be waited for.
    fn descriptors(&self, flags: OFlag) -> io::Result<File> {
        let flags =
            flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file =
            File::from(openat(&self.images, DESCRIPTORS, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no regular file"));
        }
        Ok(file)
    }

    /// The standard streams that were pipes: which of them, and its name then.
    pub(super) fn read_descriptors(&self) -> Result<Vec<(i32, String)>> {
        let path = self.path.join(DESCRIPTORS);
        let mut text = String::new();
        let read = self
            .descriptors(OFlag::O_RDONLY)
            .and_then(|file| file.take(DESCRIPTORS_MAX).read_to_string(&mut text));
        read.map_err(|error| Error::io(&error, "reading").at_path(&path))?;
        let wrong = |what: String| Error::new(Kind::InvalidConfig, what).at_path(&path);
        let names: Vec<String> = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("the standard streams can't be read: {error}:")))?;
        if names.len() > 3 {
            return Err(wrong(format!("there are {} standard streams in", names.len())));
        }
        let mut pipes = Vec::new();
        for (fd, name) in (0..).zip(&names) {
            let name = criu::names::pipe(name).map_err(|error| wrong(error.to_string()))?;
            pipes.extend(name.map(|name| (fd, name.to_owned())));
        }
        Ok(pipes)
    }
}

fn make(path: &Path, mode: u32) -> Result<()> {
    match DirBuilder::new().recursive(true).mode(mode).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Error::io(&error, "making").at_path(path))
        }
        _ => Ok(()),
    }
}

fn folder(path: &Path) -> Result<File> {
    let flags = libc::O_DIRECTORY;
    let opened = File::options().read(true).custom_flags(flags).open(path);
    opened.map_err(|error| Error::io(&error, "opening").at_path(path))
}
