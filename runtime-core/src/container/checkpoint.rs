//! `checkpoint`: the processes of a container are saved by CRIU, and end.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use orlop_init::sys::{self, Errno};

use super::Container;
use super::images::{CriuOptions, Images};
use super::root::{self, Root};
use super::saver::Saver;
use super::state::State;
use crate::compile::{self, External, ExternalKind};
use crate::criu::{Asked, Criu, ExternalMount, Features, PageServer, names};
use crate::error::{Error, Kind, Place, Result};
use crate::host::HostFacts;
use crate::launch::{DYING, owned, wait_readable};

/// How to save.
#[derive(Debug, Default)]
pub struct CheckpointOptions {
    /// What CRIU is told at a restore too.
    pub criu: CriuOptions,
    /// The images of an earlier `pre_dump`, relative to those that are made now.
    pub parent_path: Option<PathBuf>,
    /// The container goes on.
    pub leave_running: bool,
    /// Save no connection that is being established.
    pub tcp_skip_in_flight: bool,
    /// Give files that were removed a name again where that is possible.
    pub link_remap: bool,
    /// The number of a descriptor that is closed, after a byte of zero, as soon as lazy
    /// pages can be fetched, or when they can't.
    pub status_fd: Option<i32>,
    /// Where lazy pages are fetched, or the server that takes the pages: its address
    /// and port.
    pub page_server: Option<(String, u16)>,
    /// Save the memory alone, and let the container go on.
    pub pre_dump: bool,
}

impl Container {
    /// Saves the container, which is deleted then unless it shall go on.
    ///
    /// # Errors
    /// [`Kind::WrongState`] when it is not running; [`Kind::Unsupported`] without CRIU
    /// or without the privileges of root; what CRIU says, with the errors of its log.
    pub fn checkpoint(&self, options: CheckpointOptions) -> Result<()> {
        let stays = options.leave_running || options.pre_dump;
        let (lock, container) = self.locked()?;
        let init = container.init()?;
        container.dump(options)?;
        if stays {
            return Ok(());
        }
        // CRIU has told it to end, and need not have waited.
        if let Some(init) = init {
            wait_readable(init.as_fd(), DYING)?;
        }
        container.end(lock, false)
    }

    fn dump(&self, mut options: CheckpointOptions) -> Result<()> {
        // COMPAT(runc): nobody looks at it but for lazy pages.
        let status = options.status_fd.filter(|_| options.criu.lazy_pages);
        let mut status = status.map(take_over).transpose()?;
        let was_frozen = self.has_processes()? == State::Paused;
        let host = HostFacts::probe()?;
        needs_root(&host)?;
        let images = Images::open(&options.criu, true)?;
        if let Some(parent) = &options.parent_path {
            check_parent(&options.criu.image_path, parent)?;
        }
        let criu = Criu::find()?;
        let features = Features {
            mem_track: options.pre_dump.then_some(true),
            lazy_pages: options.criu.lazy_pages.then_some(true),
        };
        if features != Features::default() {
            criu.must_have(features)?;
        }
        let spec = self.kept_spec()?;
        let mut wanted = images.options(&options.criu);
        wanted.root = Some(text(&self.record.rootfs)?.to_owned());
        wanted.pid = Some(self.record.pid);
        wanted.leave_running = Some(options.leave_running);
        wanted.tcp_skip_in_flight = Some(options.tcp_skip_in_flight);
        wanted.link_remap = Some(options.link_remap);
        wanted.config_file = config_file(&spec)?;
        wanted.external = external_namespaces(&spec)?;
        let manager = self.record.manager();
        wanted.freeze_cgroup = match manager.freezer_directory() {
            Some(directory) => Some(text(&directory)?.to_owned()),
            None => None,
        };
        wanted.page_server = options
            .page_server
            .take()
            .map(|(address, port)| PageServer { address: Some(address), port: Some(port.into()) });
        if let Some(parent) = &options.parent_path {
            wanted.parent_img = Some(text(parent)?.to_owned());
            wanted.track_mem = Some(true);
        }
        let externals = compile::externals(&spec, &host, &self.record.options(0, &self.folder()));
        let externals = externals.map_err(Error::all)?;
        // Memory has no mounts.
        if !options.pre_dump {
            wanted.external_mounts = self.mounts(&externals)?;
            images.write_descriptors(self.record.pid)?;
        }
        let mut answer = |asked: &Asked<'_>| {
            if asked.script == "status-ready"
                && let Some(fd) = status.take()
            {
                // Who wanted to know may have gone.
                let _ = nix::unistd::write(fd.as_fd(), &[0]);
            }
            Ok(())
        };
        let worker = criu.start_alone(self.store.interrupt.clone())?;
        // It may take for ever, and `delete --force` must end it.
        let mut known = self.record.clone();
        let saver = known.saver.insert(Saver::new(&worker, &manager)?).clone();
        self.folder().write(&known)?;
        let done = worker.dump(options.pre_dump, wanted, &images.log, &mut answer);
        saver.put_back();
        let done = done.inspect_err(|_| {
            // One that was killed has let nobody go.
            if !was_frozen && manager.is_frozen().is_ok_and(|frozen| frozen) {
                let _ = manager.thaw();
            }
        });
        // What the record says of a process that has ended does no harm.
        if let Err(error) = self.folder().write(&self.record) {
            log::warn!("{error}");
        }
        done
    }

    /// What it is doing, if there is something to be saved of it.
    fn has_processes(&self) -> Result<State> {
        match self.state()? {
            state @ (State::Running | State::Paused) => Ok(state),
            state => {
                // COMPAT(runc): its words.
                let words = format!("Container cannot be checkpointed in {state} state");
                Err(Error::new(Kind::WrongState, words))
            }
        }
    }

    /// Where the mounts from outside are now: CRIU knows them by that.
    fn mounts(&self, externals: &[External]) -> Result<Vec<ExternalMount>> {
        let root = Root::of(self.record.pid)?;
        if !self.record.is_alive()? {
            return Err(Error::new(Kind::WrongState, "container not running"));
        }
        let mut mounts = Vec::new();
        for external in externals {
            let failed = |error: Error| error.at(Place::Config(external.pointer.clone()));
            let Some(found) = root.find(&external.at)? else { continue };
            let (_, _, kind) = root::identity(&found)?;
            // A directory is masked by a file system that CRIU saves by itself.
            if external.kind == ExternalKind::Mask && kind == libc::S_IFDIR {
                continue;
            }
            let path = root::path_of(&found)?;
            let key = names::mount(text(&path)?).map_err(failed)?.to_owned();
            let value = names::mount(external.name()).map_err(failed)?.to_owned();
            mounts.push(ExternalMount { key, value });
        }
        Ok(mounts)
    }
}

/// A descriptor of the caller's, by its number.
///
/// COMPAT(runc): the words.
fn take_over(number: i32) -> Result<OwnedFd> {
    let words = || format!("invalid --status-fd argument {number}");
    let failed = |Errno(errno)| Error::os(errno, words());
    let flags = sys::fcntl(number, libc::F_GETFL as u32, 0).map_err(failed)?;
    if flags & libc::O_ACCMODE as u32 == libc::O_RDONLY as u32 {
        return Err(Error::new(Kind::InvalidConfig, format!("{}: not writable", words())));
    }
    let copy = sys::fcntl(number, libc::F_DUPFD_CLOEXEC as u32, 3);
    let copy = owned(copy.map(|fd| fd as i32)).map_err(|errno| failed(Errno(errno)))?;
    sys::close(number);
    Ok(copy)
}

/// CRIU needs the privileges of the machine's root; it is not asked what less it could
/// do.
pub(super) fn needs_root(host: &HostFacts) -> Result<()> {
    if host.rootless() {
        let words = "checkpoint and restore need root, outside of any user namespace";
        return Err(Error::new(Kind::Unsupported, words));
    }
    Ok(())
}

/// CRIU's own settings for this container.
pub(super) fn config_file(spec: &Spec) -> Result<Option<String>> {
    let Some(path) = compile::criu_config(spec) else { return Ok(None) };
    let checked = names::path(text(path)?, "its configuration file");
    let failed = |error: Error| error.at(Place::Config("/annotations/org.criu.config".to_owned()));
    checked.map(|path| Some(path.to_owned())).map_err(failed)
}

/// COMPAT(runc): both texts.
fn check_parent(images: &Path, parent: &Path) -> Result<()> {
    if parent.is_absolute() {
        return Err(Error::new(Kind::InvalidConfig, "--parent-path must be relative"));
    }
    let path = images.join(parent);
    let failed = |error| Error::io(&error, "invalid --parent-path:").at_path(&path);
    if !fs::metadata(&path).map_err(failed)?.is_dir() {
        return Err(Error::os(libc::ENOTDIR, "invalid --parent-path:").at_path(&path));
    }
    Ok(())
}

/// Which namespaces are not the container's own to save: `TYPE[INODE]:KEY`.
fn external_namespaces(spec: &Spec) -> Result<Vec<String>> {
    let mut external = Vec::new();
    for (kind, path) in joined(spec) {
        if let Some((name, key)) = inherited(kind) {
            let metadata = fs::metadata(path)
                .map_err(|error| Error::io(&error, "looking at a namespace").at_path(path))?;
            external.push(format!("{name}[{}]:{key}", metadata.ino()));
        }
    }
    Ok(external)
}

/// The namespaces that the container joins by a path.
pub(super) fn joined(spec: &Spec) -> impl Iterator<Item = (LinuxNamespaceType, &Path)> {
    let listed = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten();
    listed.filter_map(|namespace| Some((namespace.typ(), path_of(namespace)?)))
}

/// Where the namespace is, if it is not a new one.
pub(super) fn path_of(namespace: &LinuxNamespace) -> Option<&Path> {
    namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// CRIU's word for a kind of namespace that it is given from outside, and the key by
/// which it finds it again.
///
/// COMPAT(runc): the keys in its checkpoints.
pub(super) fn inherited(kind: LinuxNamespaceType) -> Option<(&'static str, &'static str)> {
    match kind {
        LinuxNamespaceType::Network => Some(("net", "extRootNetNS")),
        LinuxNamespaceType::Pid => Some(("pid", "extRootPidNS")),
        _ => None,
    }
}

/// CRIU's messages are UTF-8.
pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::new(Kind::Unsupported, "a path that is not UTF-8 can't be told to criu")
            .at_path(path)
    })
}
