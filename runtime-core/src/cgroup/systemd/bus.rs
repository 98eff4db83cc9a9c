//! A conversation on a bus: one socket, calls and their answers, one deadline.
//!
//! There is no thread and nothing waits longer than the deadline, whoever is at
//! the other end: the clock and who interrupts are asked before each read. Nor is
//! more kept than one message, since anybody may send us what nobody asked for. What
//! is called with which arguments is decided by others.
//!
//! All that opens a conversation (authentication, `Hello`, the match for a signal)
//! goes out in one piece and is not waited for, so that it costs no way there and
//! back: the answers come in the order of the questions.

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
use serde::{Deserialize, Serialize};
use zbus::{DynamicType, Type};

use super::address::Address;
use super::message::{Message, Method, PREFIX, What};
use crate::error::{Error, Kind, Result, excerpt};

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

/// More bytes than any message has that is waited for here.
const MOST: usize = 1 << 20;

/// A conversation.
#[derive(Debug)]
pub(super) struct Bus {
    socket: OwnedFd,
    address: Address,
    deadline: Instant,
    /// What is to go out with the next call.
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// How much is still to come of a message that is too long to be kept.
    passing: usize,
    authenticated: bool,
    serial: u32,
    /// Calls whose answer nobody waits for; one that is refused ends it all.
    silent: Vec<u32>,
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
            passing: 0,
            authenticated: false,
            serial: 0,
            silent: Vec::new(),
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

    /// The answer to a call. Signals that come before it are passed over: what is told
    /// of a job comes after the answer that names it.
    ///
    /// # Errors
    /// A bus that is gone or does not answer in time.
    pub(super) fn answer(&mut self, serial: Serial) -> Result<Answer> {
        loop {
            let message = self.next(self.deadline)?.ok_or_else(|| late(&self.address))?;
            match message.what {
                What::Return if message.answers == serial.0 => return Ok(Answer::Done(message)),
                What::Refusal if message.answers == serial.0 => {
                    return Ok(Answer::Refused(Refusal::of(&message)));
                }
                What::Refusal if self.silent.contains(&message.answers) => {
                    let why = Refusal::of(&message).text;
                    let what = format!("{} does not serve us: {why}", self.address);
                    return Err(Error::new(Kind::Cgroup, what));
                }
                _ => {}
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

    /// The next such signal of that sender, if one comes before that moment. Anybody on
    /// the bus can send us one of that name.
    ///
    /// # Errors
    /// A bus that is gone, or the conversation's deadline.
    pub(super) fn signal(
        &mut self,
        signal: &Method,
        sender: &str,
        until: Instant,
    ) -> Result<Option<Message>> {
        loop {
            match self.next(until)? {
                Some(message) if message.is(signal, sender) => return Ok(Some(message)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// The arguments of a message.
    ///
    /// # Errors
    /// Arguments of other types.
    pub(super) fn arguments<T>(&self, message: &Message) -> Result<T>
    where
        T: for<'de> Deserialize<'de> + Type,
    {
        message.arguments().map_err(|error| self.unreadable(&error))
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
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT, self.deadline).map(drop)?,
                Err(errno) => return Err(self.failed(errno)),
            }
        }
        self.outgoing.clear();
        Ok(())
    }

    /// The next message that may be of use, if one comes before that moment.
    fn next(&mut self, until: Instant) -> Result<Option<Message>> {
        while !self.authenticated {
            self.authenticate()?;
        }
        loop {
            while let Some((length, answers)) = self.whole()? {
                let rest = self.incoming.split_off(length);
                match Message::parse(std::mem::replace(&mut self.incoming, rest)) {
                    Ok(message) => return Ok(Some(message)),
                    Err(error) if answers => return Err(self.unreadable(&error)),
                    Err(_) => {}
                }
            }
            if !self.receive(until)? {
                return Ok(None);
            }
        }
    }

    /// The length of the next message and whether it is an answer, if all of it has
    /// come. One that is too long is passed over.
    fn whole(&mut self) -> Result<Option<(usize, bool)>> {
        loop {
            let passed = self.passing.min(self.incoming.len());
            self.incoming.drain(..passed);
            self.passing -= passed;
            let Some(prefix) = self.incoming.first_chunk::<PREFIX>() else { return Ok(None) };
            let length =
                Message::length(prefix).ok_or_else(|| self.wrong("what is no message of D-Bus"))?;
            let answers = Message::is_answer(prefix);
            if length <= MOST {
                return Ok((self.incoming.len() >= length).then_some((length, answers)));
            }
            if answers {
                return Err(self.wrong("an answer that is too long"));
            }
            self.passing = length;
        }
    }

    /// Reads one line of the authentication.
    fn authenticate(&mut self) -> Result<()> {
        let end = loop {
            match self.incoming.windows(2).position(|pair| pair == b"\r\n") {
                Some(end) => break end,
                None if self.incoming.len() > LINES => break self.incoming.len() - 2,
                None => self.receive(self.deadline).map(drop)?,
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

    /// Whether something came before that moment.
    fn receive(&mut self, until: Instant) -> Result<bool> {
        let mut buffer = [0; 4096];
        while self.wait(PollFlags::POLLIN, until)? {
            match read(&self.socket, &mut buffer) {
                Ok(0) => {
                    let what = format!("{} closed the connection", self.address);
                    return Err(Error::new(Kind::Cgroup, what));
                }
                Ok(length) => {
                    self.incoming.extend_from_slice(&buffer[..length]);
                    return Ok(true);
                }
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(errno) => return Err(self.failed(errno)),
            }
        }
        Ok(false)
    }

    /// Whether it came to that before that moment. The deadline is an error.
    fn wait(&self, flags: PollFlags, until: Instant) -> Result<bool> {
        loop {
            let left = until.min(self.deadline).saturating_duration_since(Instant::now());
            if left.is_zero() && until < self.deadline {
                return Ok(false);
            }
            if left.is_zero() {
                return Err(late(&self.address));
            }
            // Rounded up, so that the last round does not spin.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1))
                .unwrap_or(PollTimeout::from(u16::MAX));
            let mut polled = vec![PollFd::new(self.socket.as_fd(), flags)];
            polled
                .extend(self.interrupt.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
            match poll(&mut polled, timeout) {
                Ok(0) | Err(Errno::EINTR) => {}
                // First: somebody who never stops sending must not keep it from us.
                Ok(_) if polled[1..].iter().any(|fd| fd.any() == Some(true)) => {
                    return Err(self.interrupted());
                }
                Ok(_) => return Ok(true),
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

    fn wrong(&self, what: &str) -> Error {
        Error::new(Kind::Internal, format!("{} sent {what}", self.address))
    }

    fn unreadable(&self, error: &zbus::Error) -> Error {
        let what = format!("a message of {} can't be read: {error}", self.address);
        Error::new(Kind::Internal, what)
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::os(errno as i32, format!("talking to {}", self.address)).of_kind(Kind::Cgroup)
    }
}

impl Refusal {
    fn of(message: &Message) -> Self {
        let name = message.error.clone();
        // The first argument is the text, by convention.
        let text = message.arguments::<(String,)>().map(|(text,)| text).unwrap_or_default();
        let said = [&*text, &*name, "it does not say why"];
        let said = said.into_iter().find(|text| !text.trim().is_empty()).unwrap_or_default();
        Self { text: excerpt(said).into_owned(), name }
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
