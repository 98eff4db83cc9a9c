//! ttrpc's two ends: a client of a shim's calls, and the daemon that takes its events.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use prost::Message;

use super::frame::{self, REQUEST, RESPONSE};
use super::messages::events::{Event, ForwardRequest, TaskExit};
use super::messages::ttrpc::{Request, Response};

/// Nothing that is asked takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

fn write(socket: &mut UnixStream, stream: u32, kind: u8, message: &impl Message) -> io::Result<()> {
    socket.write_all(&frame::encode(stream, kind, &message.encode_to_vec()))
}

/// The next message, and its stream.
fn read(socket: &mut UnixStream) -> io::Result<(u32, Vec<u8>)> {
    let mut head = [0; 10];
    socket.read_exact(&mut head)?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let mut message = vec![0; word(0) as usize];
    socket.read_exact(&mut message)?;
    Ok((word(4), message))
}

/// A connection to a shim. Calls may overlap, as containerd's do.
#[derive(Debug)]
pub(super) struct Client {
    socket: UnixStream,
    next: u32,
    /// Answers that came before they were asked for.
    early: BTreeMap<u32, Vec<u8>>,
}

impl Client {
    /// `address` is what the shim has said of itself.
    pub(super) fn to(address: &str) -> Result<Self> {
        let path = address.strip_prefix("unix://").context("no unix socket")?;
        let socket = UnixStream::connect(path).with_context(|| format!("connecting to {path}"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, next: 1, early: BTreeMap::new() })
    }

    /// Asks; the number is what the answer will be known by.
    pub(super) fn send(&mut self, method: &str, message: &impl Message) -> Result<u32> {
        let request = Request {
            service: "containerd.task.v2.Task".to_owned(),
            method: method.to_owned(),
            payload: message.encode_to_vec(),
            timeout_nano: 0,
        };
        let stream = self.next;
        self.next += 2;
        write(&mut self.socket, stream, REQUEST, &request)?;
        Ok(stream)
    }

    /// The answer to what was asked with that number.
    pub(super) fn receive<M: Message + Default>(&mut self, wanted: u32) -> Result<M> {
        let message = loop {
            if let Some(message) = self.early.remove(&wanted) {
                break message;
            }
            let (stream, message) = read(&mut self.socket)?;
            self.early.insert(stream, message);
        };
        let response = Response::decode(&*message)?;
        if let Some(status) = response.status.filter(|status| status.code != 0) {
            bail!("{} (code {})", status.message, status.code);
        }
        Ok(M::decode(&*response.payload)?)
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask<M: Message + Default>(
        &mut self,
        method: &str,
        message: &impl Message,
    ) -> Result<M> {
        let stream = self.send(method, message).context(method.to_owned())?;
        self.receive(stream).context(method.to_owned())
    }
}

/// The socket for events, and what has come there.
#[derive(Debug)]
pub(super) struct Events {
    /// Where shims are told to send them.
    pub path: PathBuf,
    exits: Receiver<TaskExit>,
}

impl Events {
    /// Takes them from now on.
    pub(super) fn listen(directory: &Path) -> Result<Self> {
        let path = directory.join("events");
        let listener = UnixListener::bind(&path).context("listening for events")?;
        let (sender, exits) = channel();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || take(socket, &sender));
            }
        });
        Ok(Self { path, exits })
    }

    /// Waits for the event that tells the end of a container or of an exec of it.
    pub(super) fn exit(&self, container: &str, id: &str) -> Result<()> {
        let begin = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            let exit = self.exits.recv_timeout(left);
            let exit = exit.with_context(|| format!("no event tells that {id} has ended"))?;
            if exit.container_id == container && exit.id == id {
                return Ok(());
            }
        }
    }
}

/// Answers one shim's events until it has gone; ends are passed on.
fn take(mut socket: UnixStream, sender: &Sender<TaskExit>) -> Result<()> {
    loop {
        let (stream, message) = read(&mut socket)?;
        let request = Request::decode(&*message)?;
        ensure!(request.method == "Forward", "{} is not known here", request.method);
        write(&mut socket, stream, RESPONSE, &Response::default())?;
        let envelope = ForwardRequest::decode(&*request.payload)?.envelope.unwrap_or_default();
        if envelope.topic == TaskExit::TOPIC {
            sender.send(TaskExit::decode(&*envelope.event.unwrap_or_default().value)?)?;
        }
    }
}
