//! What the steps do: calls of the library, in a process of their own.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;
use orlop::bundle::Bundle;
use orlop::cgroup::Driver;
use orlop::container::{
    CheckpointOptions, Container, CreateOptions, ExecOptions, RestoreOptions, Store, Terminal,
};
use orlop::{Error, Kind};

use crate::logger::Wait;
use crate::messages::Mount;
use crate::messages::options::Options;
use crate::rootfs;
use crate::shim::Ends;
use crate::step::Made;
use crate::ttrpc::{Code, Failure};

/// Where runc under containerd keeps its containers, and whoever looks for them.
const ROOT: &str = "/run/containerd/runc";

/// The folder of the containers of a namespace.
pub(crate) fn root_of(options: &Options, namespace: &str) -> PathBuf {
    let root = if options.root.is_empty() { ROOT } else { &options.root };
    Path::new(root).join(namespace)
}

/// A cgroup that is written as a unit is systemd's, whatever is said: dockerd, where
/// systemd makes its cgroups, cannot tell a runtime of another name.
fn driver(options: &Options, bundle: &Bundle) -> Driver {
    let linux = bundle.spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_ref());
    let unit = path.is_some_and(|path| is_unit(&path.to_string_lossy()));
    if options.systemd_cgroup || unit { Driver::Systemd } else { Driver::ByPath }
}

/// `slice:prefix:name`
fn is_unit(path: &str) -> bool {
    let parts: Vec<_> = path.split(':').collect();
    let is_slice = |slice: &str| slice.is_empty() || slice.ends_with(".slice");
    !path.contains('/') && parts.len() == 3 && is_slice(parts[0])
}

pub(crate) fn failed(error: &Error) -> Failure {
    let code = match error.kind() {
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::WrongState => Code::FailedPrecondition,
        Kind::InvalidConfig => Code::InvalidArgument,
        Kind::Unsupported => Code::Unimplemented,
        _ => Code::Unknown,
    };
    Failure::new(code, error.to_string())
}

fn because(what: &str, error: &Error) -> Failure {
    let Failure { code, message } = failed(error);
    // COMPAT(containerd): it takes "unimplemented" for a shim of an older protocol.
    let code = if code == Code::Unimplemented { Code::Unknown } else { code };
    Failure::new(code, format!("{what}: {message}"))
}

/// The streams of the process become those of this one, which it inherits.
fn take_streams(ends: &Ends) -> Result<(), Failure> {
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
    for (number, end) in (0..).zip(ends) {
        let end = end.as_ref().map_or(null.as_fd(), AsFd::as_fd);
        let duplicated = match number {
            0 => rustix::stdio::dup2_stdin(end),
            1 => rustix::stdio::dup2_stdout(end),
            _ => rustix::stdio::dup2_stderr(end),
        };
        duplicated.map_err(|error| crate::shim::failed(&error.into()))?;
    }
    Ok(())
}

fn terminal(socket: Option<&OwnedFd>) -> orlop::Result<Terminal> {
    let Some(socket) = socket else { return Ok(Terminal::None) };
    let copy = socket.try_clone();
    copy.map(Terminal::Stream)
        .map_err(|error| Error::io(&error, "passing the terminal's socket on"))
}

pub(crate) struct Creation<'a> {
    pub id: String,
    pub bundle: PathBuf,
    pub root: PathBuf,
    pub options: Options,
    pub ends: &'a Ends,
    pub console: Option<&'a OwnedFd>,
    pub wait: Option<&'a Wait>,
}

/// For `delete`, which comes when there is no shim any more.
fn keep(options: &Options, bundle: &Path) -> Result<(), Failure> {
    let text = serde_json::to_vec(options).unwrap_or_default();
    let path = bundle.join("options.json");
    let mut file = File::options();
    // With user namespaces a container's root may look into its bundle.
    file.write(true).create(true).truncate(true).mode(0o600);
    file.open(&path).and_then(|mut file| file.write_all(&text)).map_err(|error| {
        let Failure { code, message } = crate::shim::failed(&error);
        Failure::new(code, format!("writing {path:?}: {message}"))
    })
}

/// The root, of a container that is restored later.
pub(crate) fn mount(options: &Options, mounts: &[Mount], bundle: &Path) -> Result<Made, Failure> {
    keep(options, bundle)?;
    rootfs::mount_all(mounts, &bundle.join("rootfs")).map(|()| Made::default())
}

/// What is asked for is the same for a container that is restored.
fn create_options(
    options: &Options,
    bundle: &Bundle,
    console: Option<&OwnedFd>,
) -> orlop::Result<CreateOptions> {
    Ok(CreateOptions {
        cgroups: driver(options, bundle),
        terminal: terminal(console)?,
        no_pivot: options.no_pivot_root,
        no_new_keyring: options.no_new_keyring,
        ..CreateOptions::default()
    })
}

/// What the shim has to know of a container.
fn made(container: &Container, bundle: &Bundle, pid: i32) -> Made {
    let linux = bundle.spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let own_pids = namespaces.iter().any(|namespace| {
        let path = namespace.path().as_ref();
        namespace.typ() == LinuxNamespaceType::Pid
            && path.is_none_or(|path| path.as_os_str().is_empty())
    });
    // What is written here has just been written to the container's record.
    let cgroups = serde_json::to_vec(&container.cgroups().record()).unwrap_or_default();
    Made { pid, cgroups, own_pids }
}

pub(crate) fn create(creation: Creation<'_>, mounts: &[Mount]) -> Result<Made, Failure> {
    let Creation { id, bundle, root, options, ends, console, wait } = creation;
    keep(&options, &bundle)?;
    wait.map_or(Ok(()), Wait::wait)?;
    take_streams(ends)?;
    let rootfs = bundle.join("rootfs");
    rootfs::mount_all(mounts, &rootfs)?;
    let create = || {
        let bundle = Bundle::open(&bundle)?;
        let create = create_options(&options, &bundle, console)?;
        let (container, started) = Store::new(root).create(&id, &bundle, &create)?;
        Ok(made(&container, &bundle, started.pid))
    };
    create().map_err(|error| {
        rootfs::unmount(&rootfs);
        because("OCI runtime create failed", &error)
    })
}

pub(crate) fn restore(creation: Creation<'_>, how: &RestoreOptions) -> Result<Made, Failure> {
    let Creation { id, bundle, root, options, ends, console, wait } = creation;
    wait.map_or(Ok(()), Wait::wait)?;
    take_streams(ends)?;
    let restore = || {
        let bundle = Bundle::open(&bundle)?;
        let create = create_options(&options, &bundle, console)?;
        let (container, started) = Store::new(root).restore(&id, &bundle, &create, how)?;
        Ok(made(&container, &bundle, started.pid))
    };
    restore().map_err(|error| because("OCI runtime restore failed", &error))
}

pub(crate) fn checkpoint(root: &Path, id: &str, how: CheckpointOptions) -> Result<Made, Failure> {
    let saved = Store::new(root).open(id).and_then(|container| container.checkpoint(how));
    saved
        .map(|()| Made::default())
        .map_err(|error| because("OCI runtime checkpoint failed", &error))
}

pub(crate) fn start(root: &Path, id: &str) -> Result<Made, Failure> {
    let started = Store::new(root).open(id).and_then(|container| container.start());
    started.map(|()| Made::default()).map_err(|error| because("OCI runtime start failed", &error))
}

pub(crate) fn exec(
    root: &Path,
    id: &str,
    process: &[u8],
    ends: &Ends,
    console: Option<&OwnedFd>,
) -> Result<Made, Failure> {
    take_streams(ends)?;
    let exec = || {
        let process = Bundle::parse_process(process)?.value;
        let options =
            ExecOptions { process, terminal: terminal(console)?, ..ExecOptions::default() };
        let pid = Store::new(root).open(id)?.exec(&options)?.pid;
        Ok(Made { pid, ..Made::default() })
    };
    exec().map_err(|error| because("OCI runtime exec failed", &error))
}

pub(crate) fn delete(root: &Path, id: &str, bundle: &Path) -> Result<Made, Failure> {
    let deleted = Store::new(root).delete_force(id);
    deleted.map_err(|error| failed(&error))?;
    rootfs::unmount(&bundle.join("rootfs"));
    Ok(Made::default())
}

/// What is done to a container that runs.
pub(crate) fn change(
    root: &Path,
    id: &str,
    change: impl FnOnce(&Container) -> orlop::Result<()>,
) -> Result<Made, Failure> {
    let changed = Store::new(root).open(id).and_then(|container| change(&container));
    changed.map(|()| Made::default()).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_told_from_a_path() {
        for unit in ["system.slice:docker:0a", ":docker:0a", "a-b.slice::x"] {
            assert!(is_unit(unit), "{unit}");
        }
        for path in ["/system.slice:docker:0a", "/a/b", "a:b", "a:b:c", "a.slice:b:c:d", ""] {
            assert!(!is_unit(path), "{path}");
        }
    }
}
