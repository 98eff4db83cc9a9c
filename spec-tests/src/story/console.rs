//! The terminal of a container: its master arrives over a socket, and what the
//! program prints is read from it.

use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::operations::PATIENCE;

/// One terminal.
#[derive(Debug)]
pub(crate) struct Console {
    listener: UnixListener,
    reader: Option<JoinHandle<()>>,
    text: Arc<Mutex<String>>,
}

impl Console {
    /// Where the socket is.
    pub(super) fn socket(folder: &Path) -> PathBuf {
        folder.join("console")
    }

    /// Makes the socket.
    pub(super) fn listen(socket: &Path) -> Result<Self> {
        Ok(Self { listener: listen(socket)?, reader: None, text: Arc::default() })
    }

    /// Takes the master, which must have been sent by now.
    pub(super) fn receive(&mut self) -> Result<()> {
        let stream = accept(&self.listener)?;
        let (_, fds) = receive(&stream)?;
        let [master] = <[OwnedFd; 1]>::try_from(fds).map_err(|fds| {
            anyhow::anyhow!("{} descriptors were sent as the terminal", fds.len())
        })?;
        let text = Arc::clone(&self.text);
        let reader = std::thread::spawn(move || {
            let (mut master, mut bytes) = (File::from(master), [0; 4096]);
            // The other end's last close is an error here.
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                let piece = String::from_utf8_lossy(&bytes[..count]).replace('\r', "");
                text.lock().unwrap_or_else(PoisonError::into_inner).push_str(&piece);
            }
        });
        self.reader = Some(reader);
        Ok(())
    }

    /// Waits until all is read of a container that has ended.
    pub(super) fn drain(&self) {
        let begun = Instant::now();
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished())
            && begun.elapsed() < PATIENCE
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What was printed so far.
    pub(super) fn printed(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A socket for somebody to connect to.
pub(super) fn listen(socket: &Path) -> Result<UnixListener> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).context("making a socket")?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Somebody who connects.
pub(super) fn accept(listener: &UnixListener) -> Result<UnixStream> {
    let begun = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(_) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(_) => bail!("nobody connected to the socket"),
        }
    }
}

/// One message: its bytes, and the descriptors that came with it.
pub(super) fn receive(stream: impl AsFd) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; 65536];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let count = recvmsg(stream, &mut slices, &mut rights, flags)?.bytes;
    let mut fds = Vec::new();
    for part in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = part {
            fds.extend(list);
        }
    }
    bytes.truncate(count);
    Ok((bytes, fds))
}
