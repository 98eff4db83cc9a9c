//! A small client of the shim, and the daemon that it tells its events.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::geteuid;
use serde_json::json;

use crate::frame::{self, Decoder, Frame, REQUEST, RESPONSE};
use crate::messages::events::ForwardRequest;
use crate::messages::options::{Options, RUNC};
use crate::messages::task::{ConnectResponse, CreateTaskRequest, KillRequest, ProcessRequest};
use crate::messages::ttrpc::{Request, Response};
use crate::messages::{self, Any};

pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-orlop-v1");
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What waits for nobody takes less; the shim waits for 10 s for who may still read.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(9);

/// A folder, a daemon that takes events, and a shim that was started there.
pub(crate) struct World {
    pub folder: tempfile::TempDir,
    /// What a shim finds in its environment, besides ours.
    pub environment: Vec<(&'static str, String)>,
    events: Mutex<Receiver<(String, Any)>>,
}

/// A connection to the shim.
pub(crate) struct Client {
    pub socket: UnixStream,
    decoder: Decoder,
    stream: u32,
    /// Answers that came before those that were waited for.
    pub early: BTreeMap<u32, Response>,
}

impl World {
    /// None, and a word why, where it can't be tested.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Self::with(test, |_, _| true)
    }

    /// With a daemon that may refuse an event: it closes the connection then.
    pub(crate) fn with(
        test: &str,
        takes: impl FnMut(&str, &Any) -> bool + Send + 'static,
    ) -> Option<Self> {
        if !geteuid().is_root() {
            println!("SKIP {test}: needs root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("daemon")).unwrap();
        let (sender, events) = channel();
        thread::spawn(move || take_events(&listener, &sender, takes));
        Some(Self { folder, environment: Vec::new(), events: Mutex::new(events) })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn id(&self, name: &str) -> String {
        let folder = self.folder.path().file_name().unwrap().to_str().unwrap();
        format!("{}-{name}", folder.trim_start_matches('.'))
    }

    /// What ends the init of a task.
    pub(crate) fn sigkill(&self, name: &str) -> KillRequest {
        KillRequest { id: self.id(name), signal: 9, ..KillRequest::default() }
    }

    /// A bundle whose container runs the shim's own program, the one static one that is
    /// there for sure.
    pub(crate) fn bundle(&self, name: &str, args: &[&str]) -> PathBuf {
        let bundle = self.path(name);
        let rootfs = bundle.join("rootfs");
        for at in ["proc", "dev"] {
            fs::create_dir_all(rootfs.join(at)).unwrap();
        }
        // By a process of its own: a child that another thread begins would have the file
        // open for writing for a moment, and nobody could execute it.
        let copied = Command::new("cp").arg(SHIM).arg(rootfs.join("program")).status();
        assert!(copied.unwrap().success());
        let namespaces = ["pid", "mount", "uts"].map(|kind| json!({ "type": kind }));
        let config = json!({
            "ociVersion": "1.0.2",
            "root": { "path": "rootfs" },
            "process": { "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": args },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                // The folder may be where no device can be opened.
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["newinstance", "ptmxmode=0666"] },
            ],
            "linux": { "namespaces": namespaces, "cgroupsPath": format!("/{}", self.id(name)) },
        });
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        bundle
    }

    pub(crate) fn start(&self, name: &str, stdin: &[u8]) -> Vec<u8> {
        let output = self.try_start(name, stdin);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        output.stdout
    }

    pub(crate) fn try_start(&self, name: &str, stdin: &[u8]) -> std::process::Output {
        let id = self.id(name);
        let mut command = Command::new(SHIM);
        command.args(["-namespace", "test", "-address", "/daemon", "-id", &id, "start"]);
        command.current_dir(self.path(name)).env("TTRPC_ADDRESS", self.path("daemon"));
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        child.wait_with_output().unwrap()
    }

    /// A shim, as a daemon before 2.3 starts it.
    pub(crate) fn serve(&self, name: &str) -> Client {
        Client::to(&String::from_utf8(self.start(name, b"")).unwrap())
    }

    pub(crate) fn fifo(&self, name: &str) -> String {
        let path = self.path(name);
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn creation(&self, name: &str) -> CreateTaskRequest {
        let root = self.path("state").to_str().unwrap().to_owned();
        let options = Options { root, io_uid: 1000, io_gid: 1001, ..Options::default() };
        let options = options.encode_to_vec();
        CreateTaskRequest {
            id: self.id(name),
            bundle: self.path(name).to_str().unwrap().to_owned(),
            options: Some(Any { type_url: RUNC.to_owned(), value: options }),
            ..CreateTaskRequest::default()
        }
    }

    pub(crate) fn of(&self, name: &str) -> ProcessRequest {
        ProcessRequest { id: self.id(name), exec_id: String::new() }
    }

    /// The next event's topic and what it says.
    pub(crate) fn event(&self) -> (String, Any) {
        self.events.lock().unwrap().recv_timeout(PATIENCE).expect("an event")
    }

    /// What there is still, when the shim has ended.
    pub(crate) fn last_event(&self) -> Option<(String, Any)> {
        self.events.lock().unwrap().try_recv().ok()
    }

    pub(crate) fn topics(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event().0).collect()
    }
}

fn take_events(
    listener: &UnixListener,
    sender: &Sender<(String, Any)>,
    mut takes: impl FnMut(&str, &Any) -> bool,
) {
    'next: while let Ok((mut socket, _)) = listener.accept() {
        let (mut decoder, mut buffer) = (Decoder::default(), [0; 4096]);
        while let Ok(count) = socket.read(&mut buffer)
            && count > 0
        {
            decoder.push(&buffer[..count]);
            while let Some(Frame::Whole { stream, message, .. }) = decoder.next() {
                let request = Request::decode(&*message).unwrap();
                assert_eq!(request.service, "containerd.services.events.ttrpc.v1.Events");
                let envelope = ForwardRequest::decode(&*request.payload).unwrap().envelope;
                let envelope = envelope.unwrap();
                assert_eq!(envelope.namespace, "test");
                let event = envelope.event.unwrap();
                if !takes(&envelope.topic, &event) {
                    continue 'next;
                }
                let _ = sender.send((envelope.topic, event));
                let response = Response::default().encode_to_vec();
                let _ = socket.write_all(&frame::encode(stream, RESPONSE, &response));
            }
        }
    }
}

impl Client {
    pub(crate) fn to(address: &str) -> Self {
        let socket = UnixStream::connect(address.strip_prefix("unix://").unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, decoder: Decoder::default(), stream: 1, early: BTreeMap::new() }
    }

    pub(crate) fn send(&mut self, method: &str, request: &impl Message) -> u32 {
        let request = Request {
            service: "containerd.task.v3.Task".to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec(),
            timeout_nano: 0,
        };
        let stream = self.stream;
        self.stream += 2;
        let bytes = frame::encode(stream, REQUEST, &request.encode_to_vec());
        self.socket.write_all(&bytes).unwrap();
        stream
    }

    pub(crate) fn receive(&mut self, wanted: u32) -> Result<Vec<u8>, (i32, String)> {
        loop {
            while let Some(Frame::Whole { stream, message, .. }) = self.decoder.next() {
                let response = Response::decode(&*message).unwrap();
                assert!(self.early.insert(stream, response).is_none(), "two answers");
            }
            if let Some(response) = self.early.remove(&wanted) {
                return match response.status.filter(|status| status.code != 0) {
                    Some(status) => Err((status.code, status.message)),
                    None => Ok(response.payload),
                };
            }
            let mut buffer = [0; 4096];
            let count = match self.socket.read(&mut buffer) {
                // With a deadline it is not begun again by itself (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                count => count.expect("an answer"),
            };
            assert_ne!(count, 0, "the shim has gone");
            self.decoder.push(&buffer[..count]);
        }
    }

    /// The shim has closed its end, by which containerd sees that it is gone.
    pub(crate) fn until_closed(mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                count => {
                    if count.expect("the end of the shim") == 0 {
                        break;
                    }
                }
            }
        }
    }

    pub(crate) fn ask<M: Message + Default>(&mut self, method: &str, request: &impl Message) -> M {
        let stream = self.send(method, request);
        let payload = self.receive(stream).unwrap_or_else(|error| panic!("{method}: {error:?}"));
        M::decode(&*payload).unwrap()
    }

    pub(crate) fn refused(&mut self, method: &str, request: &impl Message) -> (i32, String) {
        let stream = self.send(method, request);
        self.receive(stream).expect_err(method)
    }
}

pub(crate) fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < PATIENCE, "{what} does not come");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Ends the shim, and nothing is left of it and of its containers.
pub(crate) fn end(world: &World, mut client: Client, address: &Path) {
    let shim: ConnectResponse = client.ask("Connect", &world.of("none"));
    let _: messages::Empty = client.ask("Shutdown", &world.of("none"));
    assert!(!address.exists(), "its socket is left");
    until("the end of the shim", || !is_running(shim.shim_pid));
    let left: Vec<_> = fs::read_dir(world.path("state/test")).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A process that nobody has waited for yet has ended all the same. Before that it has let
/// go of all that it had, and those that are to end with it have been told.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) fn address_of(client: &Client) -> PathBuf {
    client.socket.peer_addr().unwrap().as_pathname().unwrap().to_owned()
}
