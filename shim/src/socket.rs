//! The socket of a server, in a folder with those of all others: who binds or removes one
//! holds the folder's lock, so that nobody removes what another has just bound.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::options;

/// Where a bundle says what its server listens at: containerd before 1.7 reads it when it
/// comes back, and finds the server by that alone.
const ADDRESS: &str = "address";

/// The same since 1.7, written by containerd itself.
const BOOTSTRAP: &str = "bootstrap.json";

/// How long a server that was killed may take from the end of its connections, by which
/// containerd sees that, to the end of its socket.
const CLOSING: Duration = Duration::from_millis(500);

/// The socket; none if somebody listens there already.
pub(crate) fn bind(path: &Path) -> Result<Option<UnixListener>> {
    let folder = path.parent().context("a socket at the root")?;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("making {folder:?}"))?;
    let _lock = lock(folder)?;
    if path.symlink_metadata().is_ok() {
        if is_served(path)? {
            return Ok(None);
        }
        take_away(path)?;
    }
    let listener = UnixListener::bind(path);
    let listener = listener.with_context(|| format!("listening at {path:?}"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(Some(listener))
}

/// Writes down in the bundle, the working directory, where its server is.
pub(crate) fn tell(address: &str) -> Result<()> {
    // All of it is there, or nothing.
    let partial = format!(".{ADDRESS}");
    let written = fs::write(&partial, address).and_then(|()| fs::rename(&partial, ADDRESS));
    written.context("writing the server's address")
}

/// Removes the socket of a bundle whose server was killed. One that lives serves others.
pub(crate) fn remove_dead(bundle: &Path) -> Result<()> {
    let Some(path) = told(bundle) else { return Ok(()) };
    let folder = path.parent().context("a socket at the root")?;
    let _lock = lock(folder)?;
    let begun = Instant::now();
    while path.symlink_metadata().is_ok() {
        if !is_served(&path)? {
            return take_away(&path);
        }
        if begun.elapsed() > CLOSING {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A shim that ends takes its own away, and holds no lock for that: it waits for nobody.
fn take_away(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.with_context(|| format!("removing {path:?}")),
    }
}

fn told(bundle: &Path) -> Option<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Bootstrap {
        address: String,
    }
    let read = |name| options::read(&bundle.join(name), options::LONGEST).ok();
    let bootstrap = read(BOOTSTRAP);
    let bootstrap = bootstrap.and_then(|text| serde_json::from_str::<Bootstrap>(&text).ok());
    let address = bootstrap.map(|bootstrap| bootstrap.address);
    let address = address.or_else(|| read(ADDRESS))?;
    address.strip_prefix("unix://").map(PathBuf::from)
}

fn lock(folder: &Path) -> Result<File> {
    let file = File::open(folder).with_context(|| format!("opening {folder:?}"))?;
    flock(&file, FlockOperation::LockExclusive).with_context(|| format!("locking {folder:?}"))?;
    Ok(file)
}

/// Whether somebody listens, even if he has no time to take it.
fn is_served(path: &Path) -> Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno).with_context(|| format!("connecting to {path:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that another test is about to start may have the socket for a moment more.
    fn until_refused(path: &Path) {
        let begun = Instant::now();
        while is_served(path).unwrap() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is served still");
            sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_nobody_listens_at_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("folder/socket");
        let listener = bind(&path).unwrap().unwrap();
        assert!(bind(&path).unwrap().is_none());
        remove_dead(folder.path()).unwrap();
        for (name, text) in [
            (ADDRESS, format!("unix://{}", path.display())),
            (BOOTSTRAP, format!(r#"{{"version":2,"address":"unix://{}"}}"#, path.display())),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
            remove_dead(folder.path()).unwrap();
            assert!(path.exists());
        }
        drop(listener);
        until_refused(&path);
        let again = bind(&path).unwrap().unwrap();
        drop(again);
        until_refused(&path);
        remove_dead(folder.path()).unwrap();
        assert!(!path.exists());
        take_away(&path).unwrap();
        remove_dead(folder.path()).unwrap();
    }
}
