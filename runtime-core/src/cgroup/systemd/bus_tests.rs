//! A bus that answers as a test wants it to, or does not.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use super::*;

const PING: Method = Method {
    destination: "org.example",
    path: "/org/example",
    interface: "org.example.Things",
    member: "Ping",
    arguments: "",
};

const UP: Method = Method { member: "Up", arguments: "s", ..PING };

/// What a test waits at most where nobody answers.
const SHORT: Duration = Duration::from_millis(200);
/// More than any of the others takes.
const LONG: Duration = Duration::from_secs(20);

const WELCOME: &[u8] = b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> (Self, UnixListener) {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("bus")).unwrap();
        (Self(folder), listener)
    }

    fn address(&self) -> Address {
        Address::at("the test's bus", &self.0.path().join("bus"))
    }

    fn open(&self, patience: Duration) -> Result<Bus> {
        Bus::open(self.address(), Instant::now() + patience)
    }
}

/// A message of that kind that answers `serial`, with a string in it.
fn message(kind: u8, serial: u32, text: &str) -> Vec<u8> {
    named(kind, serial, text, "org.freedesktop.systemd1.UnitExists")
}

/// The same, under this name if it is a refusal.
fn named(kind: u8, serial: u32, text: &str, name: &str) -> Vec<u8> {
    let mut fields = vec![5, 1, b'u', 0];
    fields.extend(serial.to_le_bytes());
    fields.extend([8, 1, b'g', 0, 1, b's', 0, 0]);
    fields.extend([4, 1, b's', 0]);
    fields.extend((name.len() as u32).to_le_bytes());
    fields.extend(name.bytes().chain([0]));
    whole(kind, &fields, text)
}

/// A message with these fields of its header, and a string in it.
fn whole(kind: u8, fields: &[u8], text: &str) -> Vec<u8> {
    let mut bytes = vec![b'l', kind, 1, 1];
    bytes.extend((text.len() as u32 + 5).to_le_bytes());
    bytes.extend([9, 0, 0, 0]);
    bytes.extend((fields.len() as u32).to_le_bytes());
    bytes.extend(fields);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.bytes().chain([0]));
    bytes
}

/// A signal of that sender, with a string in it.
fn signal(of: &Method, sender: &str, text: &str) -> Vec<u8> {
    let mut fields: Vec<u8> = Vec::new();
    for (code, kind, value) in [
        (1, b'o', of.path),
        (2, b's', of.interface),
        (3, b's', of.member),
        (7, b's', sender),
        (8, b'g', of.arguments),
    ] {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([code, 1, kind, 0]);
        match kind {
            b'g' => fields.push(value.len() as u8),
            _ => fields.extend((value.len() as u32).to_le_bytes()),
        }
        fields.extend(value.bytes().chain([0]));
    }
    whole(4, &fields, text)
}

/// Serves one client: what it sends is read, and these are the answers.
fn serve(listener: UnixListener, answers: Vec<Vec<u8>>) -> thread::JoinHandle<UnixStream> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).unwrap();
        for answer in answers {
            // In pieces, as a socket may give them.
            for piece in answer.chunks(if answer.len() < 9999 { 7 } else { 9999 }) {
                // The client may have heard enough.
                if stream.write_all(piece).is_err() {
                    return stream;
                }
            }
        }
        stream
    })
}

#[test]
fn a_call_is_answered() {
    let (place, listener) = Place::new();
    let answers = vec![
        WELCOME.to_vec(),
        message(2, 1, ":1.5"),
        signal(&UP, ":1.1", "too early"),
        message(2, 2, ""),
        message(3, 77, "an answer to somebody else"),
        message(2, 3, "the answer"),
        signal(&UP, ":1.1", "a signal"),
    ];
    let server = serve(listener, answers);
    let mut bus = place.open(LONG).unwrap();
    bus.listen("type='signal'").unwrap();
    match bus.call(&PING, &()).unwrap() {
        Answer::Done(message) => {
            assert_eq!(message.arguments::<(String,)>().unwrap().0, "the answer");
        }
        Answer::Refused(why) => panic!("{why:?}"),
    }
    let signal = bus.signal(&UP, ":1.1", bus.deadline).unwrap().unwrap();
    assert_eq!(bus.arguments::<(String,)>(&signal).unwrap().0, "a signal");
    let error = bus.arguments::<(u64, u64)>(&signal).unwrap_err().to_string();
    assert!(error.starts_with("a message of the test's bus at"), "{error}");
    drop(server.join().unwrap());
}

/// Anybody on a bus can send anybody a signal.
#[test]
fn a_signal_of_another_is_passed_over() {
    let mut unreadable = signal(&UP, ":1.1", "unreadable");
    unreadable[PREFIX] = 0xff;
    unreadable[PREFIX + 2] = b'%';
    assert!(Message::parse(unreadable.clone()).is_err());
    let answers = vec![
        WELCOME.to_vec(),
        signal(&UP, ":1.6", "another sender"),
        signal(&UP, "", "no sender"),
        signal(&Method { path: "/org/other", ..UP }, ":1.1", "another path"),
        signal(&Method { interface: "org.example.Other", ..UP }, ":1.1", "another interface"),
        signal(&Method { member: "Down", ..UP }, ":1.1", "another name"),
        signal(&Method { arguments: "ay", ..UP }, ":1.1", "other arguments"),
        signal(&UP, ":1.1", &"too long".repeat(MOST / 4)),
        unreadable,
        signal(&UP, ":1.1", "the signal"),
    ];
    let (place, listener) = Place::new();
    let server = serve(listener, answers);
    let mut bus = place.open(LONG).unwrap();
    bus.flush().unwrap();
    let signal = bus.signal(&UP, ":1.1", bus.deadline).unwrap().unwrap();
    assert_eq!(bus.arguments::<(String,)>(&signal).unwrap().0, "the signal");
    drop(server.join().unwrap());
}

#[test]
fn a_refusal_is_an_answer() {
    let (place, listener) = Place::new();
    let server = serve(listener, vec![WELCOME.to_vec(), message(3, 2, "it is there")]);
    let mut bus = place.open(LONG).unwrap();
    match bus.call(&PING, &()).unwrap() {
        Answer::Refused(why) => {
            assert!(why.is("UnitExists") && !why.is("Exists"));
            assert_eq!(why.text, "it is there");
        }
        Answer::Done(_) => panic!("not refused"),
    }
    drop(server.join().unwrap());
}

#[test]
fn a_refusal_says_something_and_not_too_much() {
    let (name, long) = ("org.example.No", "x".repeat(MOST / 2));
    for (text, name, wanted) in [
        (" ", name, name),
        ("", "", "it does not say why"),
        (&*long, name, &*format!("{}...", &long[..1024])),
    ] {
        let message = Message::parse(named(3, 2, text, name)).unwrap();
        assert_eq!(Refusal::of(&message).text, wanted);
    }
}

#[test]
fn a_call_whose_answer_is_lost_is_sent_again() {
    let (place, listener) = Place::new();
    let lost = |serial| named(3, serial, "gone", "org.freedesktop.DBus.Error.NoReply");
    let answers = vec![WELCOME.to_vec(), lost(2), lost(3), message(2, 4, "here")];
    let server = serve(listener, answers);
    let mut bus = place.open(LONG).unwrap();
    match bus.call(&PING, &()).unwrap() {
        Answer::Done(message) => {
            assert_eq!(message.arguments::<(String,)>().unwrap().0, "here");
        }
        Answer::Refused(why) => panic!("{why:?}"),
    }
    assert!(bus.has_lost());
    drop(server.join().unwrap());
}

#[test]
fn a_bus_that_takes_nobody_in_says_so() {
    let (place, listener) = Place::new();
    let server = serve(listener, vec![b"REJECTED EXTERNAL\r\n".to_vec()]);
    let error = place.open(LONG).unwrap().call(&PING, &()).unwrap_err();
    assert_eq!(error.kind(), Kind::Permission);
    drop(server.join().unwrap());
    // The first answer is the one to "Hello".
    let (place, listener) = Place::new();
    let server = serve(listener, vec![WELCOME.to_vec(), message(3, 1, "too many")]);
    let error = place.open(LONG).unwrap().call(&PING, &()).unwrap_err();
    assert!(error.to_string().ends_with("does not serve us: too many"), "{error}");
    drop(server.join().unwrap());
}

#[test]
fn what_is_no_message_ends_the_conversation() {
    for garbage in [vec![0; 64], b"x".repeat(5000), vec![b'l'; 64]] {
        let (place, listener) = Place::new();
        let server = serve(listener, vec![WELCOME.to_vec(), garbage]);
        let error = place.open(LONG).unwrap().call(&PING, &()).unwrap_err();
        assert_eq!(error.kind(), Kind::Internal, "{error}");
        drop(server.join().unwrap());
    }
    // Before it knows us.
    let (place, listener) = Place::new();
    let server = serve(listener, vec![b"x".repeat(5000)]);
    let error = place.open(LONG).unwrap().call(&PING, &()).unwrap_err();
    assert_eq!(error.kind(), Kind::Permission, "{error}");
    drop(server.join().unwrap());
}

#[test]
fn a_bus_that_goes_away_is_an_error() {
    for answers in [vec![], vec![WELCOME.to_vec()], vec![WELCOME[..9].to_vec()]] {
        let (place, listener) = Place::new();
        let server = serve(listener, answers);
        let mut bus = place.open(LONG).unwrap();
        let serial = bus.send(&PING, &()).unwrap();
        drop(server.join().unwrap());
        let error = bus.answer(serial).unwrap_err();
        assert_eq!(error.kind(), Kind::Cgroup, "{error}");
    }
}

#[test]
fn a_bus_that_does_not_answer_is_left_at_the_deadline() {
    let greeting = |more: &[u8]| vec![[WELCOME, more].concat()];
    let half = message(2, 2, "x")[..20].to_vec();
    let cases =
        [vec![], vec![b"DATA\r\n".to_vec()], greeting(b""), greeting(&half), greeting(b"l")];
    for answers in cases {
        let (place, listener) = Place::new();
        let server = serve(listener, answers);
        let begin = Instant::now();
        let error = place.open(SHORT).unwrap().call(&PING, &()).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
        assert!((SHORT..LONG).contains(&begin.elapsed()));
        drop(server.join().unwrap());
    }
    // One that answers, but never with what is waited for.
    let (place, listener) = Place::new();
    let server = serve(listener, vec![WELCOME.to_vec(), message(2, 2, "")]);
    let mut bus = place.open(LONG).unwrap();
    assert!(matches!(bus.call(&PING, &()), Ok(Answer::Done(_))));
    let soon = Instant::now() + Duration::from_millis(1);
    assert!(bus.signal(&UP, "", soon).unwrap().is_none());
    bus.extend(Instant::now() + SHORT);
    let error = bus.signal(&UP, "", Instant::now() + LONG).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    drop(server.join().unwrap());
}

/// Serves one client: answers its call, then sends this without end, as long as it is
/// there but for a good while at most.
fn flood(listener: UnixListener, piece: Vec<u8>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&[WELCOME, &message(2, 2, "")].concat()).unwrap();
        let piece = piece.repeat(1 + 100_000 / piece.len());
        let end = Instant::now() + LONG;
        while Instant::now() < end && stream.write_all(&piece).is_ok() {}
    })
}

/// Neither the deadline nor who gives up waits for a bus that never stops sending, and
/// what it sends is not kept.
#[test]
fn a_bus_that_floods_us_is_left() {
    let long = "x".repeat(MOST * 2);
    for piece in [
        signal(&UP, ":1.6", "x"),
        signal(&UP, ":1.6", &long),
        message(2, 77, "x"),
        message(9, 0, &long),
    ] {
        let (place, listener) = Place::new();
        let server = flood(listener, piece.clone());
        let mut bus = place.open(LONG).unwrap();
        assert!(matches!(bus.call(&PING, &()), Ok(Answer::Done(_))));
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(bus.signal(&UP, ":1.1", soon).unwrap().is_none());
        bus.extend(Instant::now() + SHORT);
        assert_eq!(bus.call(&PING, &()).unwrap_err().kind(), Kind::Timeout);
        bus.extend(Instant::now() + SHORT);
        let error = bus.signal(&UP, ":1.1", Instant::now() + LONG).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
        assert!(bus.incoming.capacity() <= 2 * MOST, "{}", bus.incoming.capacity());
        bus.extend(Instant::now() + LONG);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut bus = bus.interrupted_by(Some(Arc::new(OwnedFd::from(reader))));
        writer.write_all(b"x").unwrap();
        assert_eq!(bus.call(&PING, &()).unwrap_err().kind(), Kind::Interrupted);
        drop(bus);
        server.join().unwrap();
    }
    // Before it has let us in.
    let (place, listener) = Place::new();
    let server = serve(listener, vec![b"DATA\r\n".repeat(1 << 20)]);
    assert_eq!(place.open(SHORT).unwrap().call(&PING, &()).unwrap_err().kind(), Kind::Timeout);
    drop(server.join().unwrap());
}

#[test]
fn an_answer_that_is_too_long_is_an_error() {
    let (place, listener) = Place::new();
    let server = serve(listener, vec![WELCOME.to_vec(), message(2, 2, &"x".repeat(MOST))]);
    let error = place.open(LONG).unwrap().call(&PING, &()).unwrap_err();
    assert!(error.to_string().ends_with("sent an answer that is too long"), "{error}");
    drop(server.join().unwrap());
}

#[test]
fn a_bus_that_lets_nobody_in_is_left_at_the_deadline() {
    let (place, listener) = Place::new();
    // So many that the kernel queues no more.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match place.open(SHORT) {
            Ok(bus) => waiting.push(bus),
            Err(error) => break error,
        }
        assert!(waiting.len() < 100, "the kernel queues for ever");
    };
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
}

#[test]
fn a_bus_that_is_not_there_is_an_error_at_once() {
    let (place, listener) = Place::new();
    drop(listener);
    let error = place.open(LONG).unwrap_err().to_string();
    assert!(error.starts_with("connecting to the test's bus at"), "{error}");
    assert!(error.contains("connection refused"), "{error}");
}

#[test]
fn a_wait_can_be_given_up() {
    let (place, listener) = Place::new();
    let server = serve(listener, Vec::new());
    let (reader, mut writer) = std::io::pipe().unwrap();
    let interrupt = Arc::new(OwnedFd::from(reader));
    let mut bus = place.open(LONG).unwrap().interrupted_by(Some(interrupt.clone()));
    writer.write_all(b"x").unwrap();
    assert_eq!(bus.call(&PING, &()).unwrap_err().kind(), Kind::Interrupted);
    // It was read, so that the next wait is one.
    let late = poll(&mut [PollFd::new(interrupt.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO);
    assert_eq!(late, Ok(0));
    drop(server.join().unwrap());
}

/// A client that takes nothing must not be waited for either.
#[test]
fn a_bus_that_reads_nothing_is_left_at_the_deadline() {
    let (place, listener) = Place::new();
    let server = thread::spawn(move || listener.accept().unwrap());
    let mut bus = place.open(SHORT).unwrap();
    let method = Method { arguments: "s", ..PING };
    let long = "x".repeat(900_000);
    assert_eq!(bus.send(&method, &(long,)).unwrap_err().kind(), Kind::Timeout);
    drop(server.join().unwrap());
}

#[test]
fn who_listens_here_counts_like_us() {
    let (place, _listener) = Place::new();
    assert!(place.open(LONG).unwrap().counts_like_us());
}
