//! Messages of D-Bus as bytes: a call is written, an answer or signal read. PURE.
//!
//! The marshalling is zbus's; here is what a message consists of (D-Bus
//! specification, "Message Protocol"). Knows no socket and no method of systemd.

use serde::{Deserialize, Serialize};
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{BE, LE, to_bytes};
use zbus::{DynamicType, Signature, Type, Variant};

use crate::error::{Error, Kind, Result};

/// The part of a header that has a fixed size and tells how long the rest is.
pub(super) const PREFIX: usize = 16;

/// The longest message that there is (D-Bus specification, "Message Format").
const LONGEST: usize = 1 << 27;

/// None: a bus that has only just been started waits for systemd to come.
const FLAGS: u8 = 0;
const VERSION: u8 = 1;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// What a call is addressed to, or what a signal is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    pub(super) destination: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
    pub(super) member: &'static str,
    /// The types of the arguments.
    pub(super) arguments: &'static str,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The answer to a call.
    Return,
    /// The refusal of a call.
    Refusal,
    /// A signal.
    Signal,
    /// What needs no attention.
    Other,
}

impl What {
    fn of(kind: u8) -> Self {
        match kind {
            2 => Self::Return,
            3 => Self::Refusal,
            4 => Self::Signal,
            _ => Self::Other,
        }
    }
}

/// A message that came in.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) what: What,
    /// The serial of the call that it answers.
    pub(super) answers: u32,
    /// The refusal's name.
    pub(super) error: String,
    /// Who sent it: the bus says so, not he.
    pub(super) sender: String,
    path: String,
    interface: String,
    member: String,
    signature: String,
    bytes: Vec<u8>,
    body: usize,
}

#[derive(Serialize, Type)]
struct Head<'a> {
    endian: u8,
    kind: u8,
    flags: u8,
    version: u8,
    length: u32,
    serial: u32,
    fields: Vec<(u8, Text<'a>)>,
}

/// A variant with a string of one of the string types in it, among them the types
/// of several arguments: as a `Variant` those would be one structure.
#[derive(Serialize, Type)]
#[zbus(signature = "v")]
struct Text<'a> {
    signature: Signature,
    value: &'a str,
}

/// A header as it is read.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);

impl Method {
    /// The bytes of a call with the number `serial`.
    ///
    /// # Errors
    /// Arguments that D-Bus can't hold.
    pub(super) fn call<B>(&self, serial: u32, arguments: &B) -> Result<Vec<u8>>
    where
        B: Serialize + DynamicType,
    {
        let failed = |error: zbus::Error| {
            let what = format!("writing the arguments of {}: {error}", self.member);
            Error::new(Kind::InvalidConfig, what)
        };
        let body = if self.arguments.is_empty() {
            Vec::new()
        } else {
            to_bytes(Context::new(LE, 0), arguments).map_err(failed)?.to_vec()
        };
        let text = |signature, value| Text { signature, value };
        let mut fields = vec![
            (PATH, text(Signature::ObjectPath, self.path)),
            (INTERFACE, text(Signature::Str, self.interface)),
            (MEMBER, text(Signature::Str, self.member)),
            (DESTINATION, text(Signature::Str, self.destination)),
        ];
        if !self.arguments.is_empty() {
            fields.push((SIGNATURE, text(Signature::Signature, self.arguments)));
        }
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let head =
            Head { endian: b'l', kind: 1, flags: FLAGS, version: VERSION, length, serial, fields };
        let mut bytes = to_bytes(Context::new(LE, 0), &head).map_err(failed)?.to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }
}

impl Message {
    /// How long the message is that begins with these bytes; none when it is none.
    pub(super) fn length(prefix: &[u8; PREFIX]) -> Option<usize> {
        let [endian, _, _, version, a, b, c, d, _, _, _, _, e, f, g, h] = *prefix;
        let number = match endian {
            b'l' => u32::from_le_bytes,
            b'B' => u32::from_be_bytes,
            _ => return None,
        };
        let (body, fields) = (number([a, b, c, d]) as usize, number([e, f, g, h]) as usize);
        let head = PREFIX.checked_add(fields)?.checked_next_multiple_of(8)?;
        head.checked_add(body).filter(|length| version == VERSION && *length <= LONGEST)
    }

    /// Whether the message that begins with these bytes answers a call of ours: a bus
    /// hands on nothing else as an answer. The others anybody may send.
    pub(super) fn is_answer(prefix: &[u8; PREFIX]) -> bool {
        matches!(What::of(prefix[1]), What::Return | What::Refusal)
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// What is no message.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, zbus::Error> {
        let endian = if bytes.first() == Some(&b'B') { BE } else { LE };
        let data = Data::new(&bytes[..], Context::new(endian, 0));
        let (header, length): (Header<'_>, _) = data.deserialize()?;
        let (_, kind, _, _, _, _, fields) = header;
        let text = |code| {
            let field = fields.iter().find(|(found, _)| *found == code);
            match field {
                Some((_, Variant::Str(text))) => text.as_str().to_owned(),
                Some((_, Variant::ObjectPath(path))) => path.as_str().to_owned(),
                Some((_, Variant::Signature(types))) => types.to_string_no_parens(),
                _ => String::new(),
            }
        };
        let answers = fields.iter().find_map(|(code, value)| match value {
            Variant::U32(serial) if *code == REPLY_SERIAL => Some(*serial),
            _ => None,
        });
        Ok(Self {
            what: What::of(kind),
            answers: answers.unwrap_or(0),
            error: text(ERROR_NAME),
            sender: text(SENDER),
            path: text(PATH),
            interface: text(INTERFACE),
            member: text(MEMBER),
            signature: text(SIGNATURE),
            body: length.next_multiple_of(8).min(bytes.len()),
            bytes,
        })
    }

    /// Whether it is that signal, with its arguments, of that sender.
    pub(super) fn is(&self, signal: &Method, sender: &str) -> bool {
        self.what == What::Signal
            && self.sender == sender
            && self.path == signal.path
            && self.interface == signal.interface
            && self.member == signal.member
            && self.signature == signal.arguments
    }

    /// The arguments.
    ///
    /// # Errors
    /// Arguments of other types.
    pub(super) fn arguments<T>(&self) -> Result<T, zbus::Error>
    where
        T: for<'de> Deserialize<'de> + Type,
    {
        let endian = if self.bytes.first() == Some(&b'B') { BE } else { LE };
        let data = Data::new(&self.bytes[self.body..], Context::new(endian, 0));
        data.deserialize().map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Method = Method {
        destination: "org.example",
        path: "/org/example",
        interface: "org.example.Things",
        member: "Put",
        arguments: "su",
    };

    fn prefix(bytes: &[u8]) -> [u8; PREFIX] {
        bytes[..PREFIX].try_into().unwrap()
    }

    // Byte by byte as the specification's "Message Format" has it.
    #[test]
    fn a_call_has_its_header_and_its_arguments() {
        let bytes = TEST.call(7, &("ab", 9_u32)).unwrap();
        let mut wanted = vec![b'l', 1, 0, 1, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        let field = |bytes: &mut Vec<u8>, code: u8, kind: u8, text: &str| {
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes.extend([code, 1, kind, 0]);
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.bytes().chain([0]));
        };
        field(&mut wanted, 1, b'o', "/org/example");
        field(&mut wanted, 2, b's', "org.example.Things");
        field(&mut wanted, 3, b's', "Put");
        field(&mut wanted, 6, b's', "org.example");
        wanted.resize(wanted.len().next_multiple_of(8), 0);
        wanted.extend([8, 1, b'g', 0, 2, b's', b'u', 0]);
        let fields = (wanted.len() - PREFIX) as u32;
        wanted[12..16].copy_from_slice(&fields.to_le_bytes());
        wanted.resize(wanted.len().next_multiple_of(8), 0);
        wanted.extend([2, 0, 0, 0, b'a', b'b', 0, 0, 9, 0, 0, 0]);
        assert_eq!(bytes, wanted);
        assert_eq!(Message::length(&prefix(&bytes)), Some(bytes.len()));
    }

    #[test]
    fn what_comes_in_is_read_in_both_byte_orders() {
        let little = [
            b'l', 2, 1, 1, 7, 0, 0, 0, 1, 0, 0, 0, 15, 0, 0, 0, 5, 1, b'u', 0, 4, 0, 0, 0, 8, 1,
            b'g', 0, 1, b's', 0, 0, 2, 0, 0, 0, b'o', b'k', 0,
        ];
        let big = [
            b'B', 2, 1, 1, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 15, 5, 1, b'u', 0, 0, 0, 0, 4, 8, 1,
            b'g', 0, 1, b's', 0, 0, 0, 0, 0, 2, b'o', b'k', 0,
        ];
        for bytes in [little, big] {
            assert_eq!(Message::length(&prefix(&bytes)), Some(bytes.len()));
            let message = Message::parse(bytes.to_vec()).unwrap();
            assert_eq!((message.what, message.answers), (What::Return, 4));
            assert_eq!(message.arguments::<(String,)>().unwrap().0, "ok");
            assert!(message.arguments::<(u64, u64)>().is_err());
        }
    }

    #[test]
    fn what_is_no_message_is_no_message() {
        let call = TEST.call(1, &("", 0_u32)).unwrap();
        let mut huge = prefix(&call);
        huge[7] = 0x7f;
        assert_eq!(Message::length(&huge), None);
        huge[0] = b'x';
        assert_eq!(Message::length(&huge), None);
        assert!(Message::parse(call[..PREFIX + 9].to_vec()).is_err());
    }
}
