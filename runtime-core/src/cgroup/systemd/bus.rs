//! A conversation on a bus: one socket, calls and their answers, one deadline.
//!
//! There is no thread and nothing waits longer than the deadline, whoever is at
//! the other end. What is called with which arguments is decided by others.
//!
//! All that opens a conversation (authentication, `Hello`, the match for a signal)
//! goes out in one piece and is not waited for, so that it costs no way there and
//! back: the answers come in the order of the questions.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, send, socket,
    sockopt,
};
use nix::unistd::read;
use serde::Serialize;
use zbus::DynamicType;

use super::address::Address;
use super::message::{Message, Method, PREFIX, What};
use crate::error::{Error, Kind, Result};

/// The bus itself as who is called.
const BUS: Method = Method {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
    arguments: "",
};

/// Without an identity in it: the other end asks the kernel who we are, which is
/// right in a user namespace too, where our own number is not the one it knows.
const AUTHENTICATION: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";

/// How long it is waited before a call is sent again.
const AGAIN: Duration = Duration::from_millis(10);

/// The longest text of an authentication that is read.
const LINES: usize = 1024;

/// A conversation.
#[derive(Debug)]
pub(super) struct Bus {
    socket: OwnedFd,
    address: Address,
    deadline: Instant,
    /// What is to go out with the next call.
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    authenticated: bool,
    serial: u32,
    /// Calls whose answer nobody waits for; one that is refused ends it all.
    silent: Vec<u32>,
    signals: VecDeque<Message>,
    interrupt: Option<Arc<OwnedFd>>,
    lost: bool,
}

/// The answer to a call.
#[derive(Debug)]
pub(super) enum Answer {
    /// It was carried out.
    Done(Message),
    /// It was refused.
    Refused(Refusal),
}

/// Why a call was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// `org.freedesktop.systemd1.UnitExists`
    pub(super) name: String,
    /// For a person.
    pub(super) text: String,
}

/// The number of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Serial(u32);

impl Bus {
    /// Connects; all of the conversation ends at the deadline.
    ///
    /// # Errors
    /// A bus that is not there, or takes nobody in.
    pub(super) fn open(address: Address, deadline: Instant) -> Result<Self> {
        let socket = connected(&address, deadline)?;
        let mut bus = Self {
            socket,
            address,
            deadline,
            outgoing: AUTHENTICATION.to_vec(),
            incoming: Vec::new(),
            authenticated: false,
            serial: 0,
            silent: Vec::new(),
            signals: VecDeque::new(),
            interrupt: None,
            lost: false,
        };
        let hello = bus.queue(&Method { member: "Hello", ..BUS }, &())?;
        bus.silent.push(hello.0);
        Ok(bus)
    }

    /// The same, given up when this becomes readable.
    pub(super) fn interrupted_by(self, interrupt: Option<Arc<OwnedFd>>) -> Self {
        Self { interrupt, ..self }
    }

    /// Gives the rest of the conversation another deadline.
    pub(super) fn extend(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Whether who listens there counts processes as we do. Numbers of processes are
    /// told on the bus: in another pid namespace they are somebody else's.
    pub(super) fn counts_like_us(&self) -> bool {
        let Ok(peer) = getsockopt(&self.socket, sockopt::PeerCredentials) else { return false };
        // The kernel says 0 for one that we can't see; and of one that is further down
        // it tells the numbers of all namespaces on the way. One that has ended had a
        // number of ours.
        let status = fs::read_to_string(format!("/proc/{}/status", peer.pid()));
        let numbers = status.ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
            Some(line.split_whitespace().count())
        });
        peer.pid() > 0 && numbers.is_none_or(|count| count == 1)
    }

    /// Wants the signals of this rule (D-Bus specification, "Match Rules").
    ///
    /// # Errors
    /// None, but for a rule that D-Bus can't hold.
    pub(super) fn listen(&mut self, rule: &str) -> Result<()> {
        let method = Method { member: "AddMatch", arguments: "s", ..BUS };
        let serial = self.queue(&method, &(rule,))?;
        self.silent.push(serial.0);
        Ok(())
    }

    /// Sends a call.
    ///
    /// # Errors
    /// A bus that is gone or takes nothing in time.
    pub(super) fn send<B>(&mut self, method: &Method, arguments: &B) -> Result<Serial>
    where
        B: Serialize + DynamicType,
    {
        let serial = self.queue(method, arguments)?;
        self.flush()?;
        Ok(serial)
    }

    /// The answer to a call.
    ///
    /// # Errors
    /// A bus that is gone or does not answer in time.
    pub(super) fn answer(&mut self, serial: Serial) -> Result<Answer> {
        loop {
            let message = self.next()?;
            match message.what {
                What::Signal => self.signals.push_back(message),
                What::Return if message.answers == serial.0 => return Ok(Answer::Done(message)),
                What::Refusal if message.answers == serial.0 => {
                    return Ok(Answer::Refused(Refusal::of(&message)));
                }
                What::Refusal if self.silent.contains(&message.answers) => {
                    let why = Refusal::of(&message).text;
                    let what = format!("{} does not serve us: {why}", self.address);
                    return Err(Error::new(Kind::Cgroup, what));
                }
                What::Return | What::Refusal | What::Other => {}
            }
        }
    }

    /// Sends a call and waits for its answer. It is sent again when who was called
    /// went away instead, as systemd does when it executes itself anew: he may have
    /// carried it out.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub(super) fn call<B>(&mut self, method: &Method, arguments: &B) -> Result<Answer>
    where
        B: Serialize + DynamicType,
    {
        loop {
            let serial = self.send(method, arguments)?;
            match self.answer(serial)? {
                Answer::Refused(why) if why.is("NoReply") => self.lost = true,
                answer => return Ok(answer),
            }
            if Instant::now() >= self.deadline {
                return Err(late(&self.address));
            }
            sleep(AGAIN);
        }
    }

    /// Whether an answer was lost, and a call sent again.
    pub(super) fn has_lost(&self) -> bool {
        self.lost
    }

    /// The next signal of that name, if one comes within that time.
    ///
    /// # Errors
    /// A bus that is gone, or the conversation's deadline.
    pub(super) fn signal(&mut self, member: &str, within: Duration) -> Result<Option<Message>> {
        let until = (Instant::now() + within).min(self.deadline);
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None if self.has_message()? => self.next()?,
                None if self.wait_until(PollFlags::POLLIN, until)? => self.next()?,
                None if until == self.deadline => return Err(late(&self.address)),
                None => return Ok(None),
            };
            if message.what == What::Signal && message.member == member {
                return Ok(Some(message));
            }
        }
    }

    fn queue<B>(&mut self, method: &Method, arguments: &B) -> Result<Serial>
    where
        B: Serialize + DynamicType,
    {
        self.serial += 1;
        self.outgoing.extend(method.call(self.serial, arguments)?);
        Ok(Serial(self.serial))
    }

    /// Sends what is to go out, if anything is.
    ///
    /// # Errors
    /// A bus that is gone or takes nothing in time.
    pub(super) fn flush(&mut self) -> Result<()> {
        let mut sent = 0;
        while sent < self.outgoing.len() {
            let fd = self.socket.as_raw_fd();
            match send(fd, &self.outgoing[sent..], MsgFlags::MSG_NOSIGNAL) {
                Ok(length) => sent += length,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT)?,
                Err(errno) => return Err(self.failed(errno)),
            }
        }
        self.outgoing.clear();
        Ok(())
    }

    fn next(&mut self) -> Result<Message> {
        while !self.authenticated {
            self.authenticate()?;
        }
        loop {
            if let Some(length) = self.whole()? {
                let rest = self.incoming.split_off(length);
                return Message::parse(std::mem::replace(&mut self.incoming, rest));
            }
            self.receive()?;
        }
    }

    /// Whether a message has come that nobody has looked at.
    fn has_message(&self) -> Result<bool> {
        Ok(self.authenticated && self.whole()?.is_some())
    }

    /// The length of the next message, if all of it has come.
    fn whole(&self) -> Result<Option<usize>> {
        let Some(prefix) = self.incoming.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = Message::length(prefix).ok_or_else(|| {
            let what = format!("{} sent what is no message of D-Bus", self.address);
            Error::new(Kind::Internal, what)
        })?;
        Ok(Some(length).filter(|length| self.incoming.len() >= *length))
    }

    /// Reads one line of the authentication.
    fn authenticate(&mut self) -> Result<()> {
        let end = loop {
            match self.incoming.windows(2).position(|pair| pair == b"\r\n") {
                Some(end) => break end,
                None if self.incoming.len() > LINES => break self.incoming.len() - 2,
                None => self.receive()?,
            }
        };
        let line: Vec<u8> = self.incoming.drain(..end + 2).collect();
        match line.split(|byte| matches!(byte, b' ' | b'\r')).next() {
            Some(b"DATA") => Ok(()),
            Some(b"OK") => {
                self.authenticated = true;
                Ok(())
            }
            _ => {
                let what = format!("{} does not believe who we are", self.address);
                Err(Error::new(Kind::Permission, what))
            }
        }
    }

    fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match read(&self.socket, &mut buffer) {
                Ok(0) => {
                    let what = format!("{} closed the connection", self.address);
                    return Err(Error::new(Kind::Cgroup, what));
                }
                Ok(length) => {
                    self.incoming.extend_from_slice(&buffer[..length]);
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN)?,
                Err(errno) => return Err(self.failed(errno)),
            }
        }
    }

    fn wait(&self, flags: PollFlags) -> Result<()> {
        match self.wait_until(flags, self.deadline)? {
            true => Ok(()),
            false => Err(late(&self.address)),
        }
    }

    /// Whether it came to that before that moment.
    fn wait_until(&self, flags: PollFlags, until: Instant) -> Result<bool> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // Rounded up, so that the last round does not spin.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1))
                .unwrap_or(PollTimeout::from(u16::MAX));
            let mut polled = vec![PollFd::new(self.socket.as_fd(), flags)];
            polled
                .extend(self.interrupt.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
            match poll(&mut polled, timeout) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) if polled[0].any() == Some(true) => return Ok(true),
                Ok(_) => return Err(self.interrupted()),
                Err(errno) => return Err(self.failed(errno)),
            }
        }
    }

    /// What the caller said by that is read: the clean-up has waits of its own.
    fn interrupted(&self) -> Error {
        if let Some(fd) = &self.interrupt {
            let _ = read(fd, &mut [0; 128]);
        }
        let what = format!("waiting for {}: interrupted", self.address);
        Error::new(Kind::Interrupted, what)
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::os(errno as i32, format!("talking to {}", self.address)).of_kind(Kind::Cgroup)
    }
}

impl Refusal {
    fn of(message: &Message) -> Self {
        let name = message.error.clone();
        // The first argument is the text, by convention.
        let text = message.arguments::<(String,)>().map(|(text,)| text);
        Self { text: text.unwrap_or_else(|_| name.clone()), name }
    }

    /// Whether its name ends in this one.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.rsplit('.').next() == Some(name)
    }
}

/// A socket that never blocks.
fn connected(address: &Address, deadline: Instant) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let mut result = Errno::ENOENT;
    for place in address.sockets()? {
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)
            .map_err(|errno| Error::os(errno as i32, "making a socket"))?;
        match reach(&socket, &place, deadline) {
            Ok(()) => return Ok(socket),
            Err(Errno::ETIMEDOUT) => return Err(late(address)),
            Err(errno) => result = errno,
        }
    }
    let hint = "is systemd running here, and its D-Bus?";
    let doing = format!("connecting to {address}");
    Err(Error::os(result as i32, doing).of_kind(Kind::Cgroup).hint(hint))
}

fn reach(socket: &OwnedFd, place: &UnixAddr, deadline: Instant) -> Result<(), Errno> {
    let mut pause = Duration::from_millis(1);
    loop {
        match connect(socket.as_raw_fd(), place) {
            Ok(()) => return Ok(()),
            // So many are waiting to be let in that the kernel takes no more.
            Err(Errno::EAGAIN) if Instant::now() < deadline => sleep(pause),
            Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn late(address: &Address) -> Error {
    Error::new(Kind::Timeout, format!("{address} did not answer in time"))
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
