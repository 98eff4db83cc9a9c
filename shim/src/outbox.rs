//! Events on their way to containerd: one after another, in the order in which they were
//! put there. One that fails is tried again before the next.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::messages::events::{Envelope, Event, ForwardRequest};
use crate::messages::ttrpc::{Request, Response};
use crate::messages::{Any, Timestamp};
use crate::ttrpc::Code;
use crate::ttrpc::connection::{Connection, Fate};
use crate::ttrpc::frame::{self, Frame};

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";

/// How long containerd may take for one.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often one is sent that is refused.
const TRIES: u32 = 5;

/// The most that wait for a daemon that is not there.
const MOST: usize = 2048;

pub(crate) struct Outbox {
    /// The socket of containerd; none: nobody wants to know.
    address: String,
    namespace: String,
    waiting: VecDeque<Vec<u8>>,
    connection: Option<Connection>,
    /// The stream of the call for the first one that waits.
    call: Option<u32>,
    stream: u32,
    failures: u32,
    /// How often the first one has been refused.
    refusals: u32,
    /// When to give up, or to try again.
    pub deadline: Option<Instant>,
}

impl Outbox {
    pub(crate) fn new(address: &str, namespace: &str) -> Self {
        Self {
            address: address.to_owned(),
            namespace: namespace.to_owned(),
            waiting: VecDeque::new(),
            connection: None,
            call: None,
            stream: 1,
            failures: 0,
            refusals: 0,
            deadline: None,
        }
    }

    pub(crate) fn put<E: Event>(&mut self, event: &E) {
        if self.address.is_empty() {
            return;
        }
        if self.waiting.len() == MOST {
            log::error!("nobody takes events: {:?} is lost", E::TOPIC);
            return;
        }
        let event = Any { type_url: E::NAME.to_owned(), value: event.encode_to_vec() };
        let envelope = Envelope {
            timestamp: Some(Timestamp::now()),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: Some(event),
        };
        self.waiting.push_back(ForwardRequest { envelope: Some(envelope) }.encode_to_vec());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// Takes the answers that have come.
    pub(crate) fn read(&mut self) {
        while self.read_some() {}
    }

    /// Whether there is more.
    fn read_some(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let fate = connection.read();
        while let Some(frame) = connection.next() {
            let Frame::Whole { stream, kind: frame::RESPONSE, message } = frame else { continue };
            if Some(stream) != self.call {
                continue; // too late
            }
            self.call = None;
            self.deadline = None;
            self.failures = 0;
            let response = Response::decode(&*message).unwrap_or_default();
            if let Some(status) = response.status.filter(|status| status.code != 0) {
                log::warn!("an event was refused: {}", status.message);
                self.refusals += 1;
                // A daemon that is about to end takes none; the next one will.
                if self.refusals < TRIES && status.code != Code::InvalidArgument as i32 {
                    let pause = Duration::from_secs(u64::from(self.refusals));
                    self.deadline = Some(Instant::now() + pause);
                    continue;
                }
            }
            self.refusals = 0;
            self.waiting.pop_front();
        }
        if fate == Fate::Closed {
            self.fail();
        }
        fate == Fate::More
    }

    /// Sends what is next. True: the connection is a new one.
    pub(crate) fn push(&mut self) -> bool {
        if let Some(connection) = &mut self.connection
            && connection.flush() == Fate::Closed
        {
            self.fail();
        }
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            match self.call {
                Some(_) => self.fail(),
                None => self.deadline = None,
            }
        }
        let Some(next) = self.waiting.front() else { return false };
        if self.call.is_some() || self.deadline.is_some() {
            return false;
        }
        let mut fresh = false;
        if self.connection.is_none() {
            let path = self.address.strip_prefix("unix://").unwrap_or(&self.address);
            match connect_now(path).and_then(Connection::new) {
                Ok(connection) => self.connection = Some(connection),
                Err(_) => {
                    self.fail();
                    return false;
                }
            }
            fresh = true;
        }
        let request = Request {
            service: SERVICE.to_owned(),
            method: "Forward".to_owned(),
            payload: next.clone(),
            timeout_nano: i64::try_from(PATIENCE.as_nanos()).unwrap_or(i64::MAX),
        };
        let bytes = frame::encode(self.stream, frame::REQUEST, &request.encode_to_vec());
        self.call = Some(self.stream);
        self.stream = self.stream.wrapping_add(2);
        self.deadline = Some(Instant::now() + PATIENCE);
        if let Some(connection) = &mut self.connection
            && connection.send(&bytes) == Fate::Closed
        {
            self.fail();
        }
        fresh
    }

    /// The first one is tried again, a little later each time.
    fn fail(&mut self) {
        self.connection = None;
        self.call = None;
        self.failures += 1;
        let pause = Duration::from_secs(u64::from(self.failures.min(5) - 1));
        self.deadline = (!self.waiting.is_empty()).then(|| Instant::now() + pause);
    }
}

/// An error where a daemon that stands still would have to be waited for.
fn connect_now(path: &str) -> std::io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}
