//! Things that a process has and that are not to be seen in files: `hold lock PATH`,
//! `hold unlinked PATH`, `hold connection`, `hold socket PATH`. `held NAME` writes what has
//! become of them to the log.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

#[derive(Debug)]
enum Held {
    /// A lock on the whole file (flock(2)).
    Lock(File, String),
    /// A file whose name is gone; it has another.
    Unlinked(File),
    /// Both ends of a connection.
    Connection(TcpStream, TcpStream),
    /// One end of a conversation with somebody outside.
    Socket(UnixDatagram),
}

static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

pub(super) fn hold(what: &str) -> Result<()> {
    let held = match what.split_once(' ').unwrap_or((what, "")) {
        ("lock", path) => {
            let file = File::create(path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Held::Lock(file, path.to_owned())
        }
        ("unlinked", path) => {
            let mut file = File::options().read(true).write(true).create_new(true).open(path)?;
            file.write_all(b"text")?;
            fs::hard_link(path, format!("{path}.other"))?;
            fs::remove_file(path)?;
            Held::Unlinked(file)
        }
        ("connection", "") => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let one = TcpStream::connect(listener.local_addr()?)?;
            Held::Connection(one, listener.accept()?.0)
        }
        ("socket", path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            Held::Socket(socket)
        }
        _ => return Err(Error::new(ErrorKind::InvalidInput, "no such thing to hold")),
    };
    HELD.lock().unwrap_or_else(PoisonError::into_inner).push(held);
    Ok(())
}

/// What has become of each.
pub(super) fn held() -> Value {
    let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter_mut()
        .map(|one| look(one).unwrap_or_else(|error| super::attempt::failure(&error)))
        .collect()
}

fn look(held: &mut Held) -> Result<Value> {
    Ok(match held {
        Held::Lock(file, path) => {
            let other = File::open(path)?;
            let same = file.metadata()?.ino() == other.metadata()?.ino();
            let refused = flock(&other, FlockOperation::NonBlockingLockShared).is_err();
            json!(if same && refused { "locked" } else { "free" })
        }
        Held::Unlinked(file) => {
            let mut text = String::new();
            file.seek(SeekFrom::Start(0))?;
            file.read_to_string(&mut text)?;
            json!(text)
        }
        Held::Connection(one, other) => {
            let mut word = [0; 4];
            one.write_all(b"word")?;
            other.read_exact(&mut word)?;
            json!(String::from_utf8_lossy(&word))
        }
        Held::Socket(socket) => json!(socket.send(b"word")?),
    })
}
