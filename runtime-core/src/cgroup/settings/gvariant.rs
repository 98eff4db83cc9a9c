//! GVariant's text form, as far as systemd has types for it: text becomes a value.
//!
//! Of the form that GLib documents ("GVariant Text Format"): booleans, numbers,
//! strings, byte strings, arrays, tuples, values in angle brackets, and a type in
//! front of a value, as a keyword or after "@". Dictionaries and maybes are not.

use std::str::FromStr;

use zbus::{ObjectPath, Signature, Structure, Variant};

use super::systemd::list;

/// How deep values may be in one another; D-Bus itself allows 64.
const DEEPEST: usize = 32;

type Result<T> = std::result::Result<T, String>;

/// Reads a value.
pub(super) fn parse(text: &str) -> Result<Variant<'static>> {
    let mut reader = Reader { rest: text, depth: 0 };
    let value = reader.value(None)?;
    reader.skip();
    if reader.rest.is_empty() { Ok(value) } else { Err(format!("{:?} is too much", reader.rest)) }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes this character if it is the next.
    fn takes(&mut self, c: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes characters as long as they fit.
    fn word(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A value, of type `wanted` if that is known.
    fn value(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("it is too deep".to_owned());
        }
        self.skip();
        let value = match self.rest.chars().next() {
            None => Err("a value is missing".to_owned()),
            Some('[') => self.array(wanted),
            Some('(') => self.tuple(wanted),
            Some('<') => self.variant(),
            Some('@') => self.typed(),
            Some(quote @ ('"' | '\'')) => {
                let text = self.string(quote)?;
                as_string(text, wanted.unwrap_or(&Signature::Str))
            }
            Some('{') => Err("dictionaries are not read here".to_owned()),
            Some(c) if c.is_ascii_alphabetic() => self.keyword(wanted),
            Some(_) => self.number(wanted),
        };
        self.depth -= 1;
        value
    }

    fn array(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        self.takes('[');
        let mut element = match wanted {
            Some(Signature::Array(child)) => Some(child.signature().clone()),
            Some(other) => return Err(format!("an array is no {other:?}")),
            None => None,
        };
        let mut values = Vec::new();
        while !self.takes(']') {
            if !values.is_empty() && !self.takes(',') {
                return Err("an array lacks a comma or its end".to_owned());
            }
            let value = self.value(element.as_ref())?;
            // All are of the first one's type.
            let kind = value.value_signature().clone();
            if element.get_or_insert_with(|| kind.clone()) != &kind {
                return Err("an array has values of several types".to_owned());
            }
            values.push(value);
        }
        match element {
            Some(element) => Ok(list(&element, values)),
            None => Err("an empty array needs its type in front: @as []".to_owned()),
        }
    }

    fn tuple(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        self.takes('(');
        let kinds: Option<Vec<Signature>> = match wanted {
            Some(Signature::Structure(fields)) => Some(fields.iter().cloned().collect()),
            Some(other) => return Err(format!("a tuple is no {other:?}")),
            None => None,
        };
        let mut builder = Structure::builder();
        let mut count = 0;
        while !self.takes(')') {
            if count > 0 && !self.takes(',') {
                return Err("a tuple lacks a comma or its end".to_owned());
            }
            if count == 1 && self.takes(')') {
                break; // (1,)
            }
            let kind = match &kinds {
                Some(kinds) => Some(kinds.get(count).ok_or("a tuple has too many values")?),
                None => None,
            };
            builder = builder.append_field(self.value(kind)?);
            count += 1;
        }
        if kinds.is_some_and(|kinds| kinds.len() != count) {
            return Err("a tuple has too few values".to_owned());
        }
        builder.build().map(Variant::Structure).map_err(|_| "an empty tuple".to_owned())
    }

    fn variant(&mut self) -> Result<Variant<'static>> {
        self.takes('<');
        let value = self.value(None)?;
        if !self.takes('>') {
            return Err("\"<\" without \">\"".to_owned());
        }
        Ok(Variant::Variant(Box::new(value)))
    }

    /// `@as []`
    fn typed(&mut self) -> Result<Variant<'static>> {
        self.takes('@');
        let text = self.word(|c| !c.is_whitespace());
        let kind = Signature::from_str(text).map_err(|_| format!("{text:?} is no type"))?;
        self.checked(&kind)
    }

    /// A value of exactly this type.
    fn checked(&mut self, kind: &Signature) -> Result<Variant<'static>> {
        let value = self.value(Some(kind))?;
        if value.value_signature() == kind {
            Ok(value)
        } else {
            Err(format!("a value is not of the type {kind:?}"))
        }
    }

    fn keyword(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        let before = self.rest;
        let word = self.word(|c| c.is_ascii_alphanumeric());
        let kind = match word {
            "true" | "false" => return Ok(Variant::Bool(word == "true")),
            "b" if self.rest.starts_with(['"', '\'']) => return self.bytes(),
            "inf" | "nan" => {
                self.rest = before;
                return self.number(wanted);
            }
            "boolean" => Signature::Bool,
            "byte" => Signature::U8,
            "int16" => Signature::I16,
            "uint16" => Signature::U16,
            "int32" => Signature::I32,
            "uint32" => Signature::U32,
            "int64" => Signature::I64,
            "uint64" => Signature::U64,
            "double" => Signature::F64,
            "string" => Signature::Str,
            "objectpath" => Signature::ObjectPath,
            "signature" => Signature::Signature,
            word => return Err(format!("{word:?} is neither a value nor a type")),
        };
        self.checked(&kind)
    }

    /// A string of bytes, whose end is a NUL.
    fn bytes(&mut self) -> Result<Variant<'static>> {
        let quote = self.rest.chars().next().unwrap_or('\'');
        let text = self.string(quote)?;
        let bytes = text.bytes().chain([0]).map(Variant::U8);
        Ok(list(&Signature::U8, bytes))
    }

    fn string(&mut self, quote: char) -> Result<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok(text);
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some('a') => text.push('\x07'),
                    Some('b') => text.push('\x08'),
                    Some('f') => text.push('\x0c'),
                    Some('v') => text.push('\x0b'),
                    Some('\n') => {}
                    Some(kind @ ('u' | 'U')) => {
                        let length = if kind == 'u' { 4 } else { 8 };
                        let digits: String = chars.by_ref().take(length).map(|(_, c)| c).collect();
                        let number = u32::from_str_radix(&digits, 16).ok();
                        let c = number.and_then(char::from_u32).filter(|c| *c != '\0');
                        text.push(c.ok_or_else(|| format!("{digits:?} is no character"))?);
                    }
                    Some(c) => text.push(c),
                    None => break,
                },
                '\0' => return Err("a string has a NUL in it".to_owned()),
                c => text.push(c),
            }
        }
        Err("a string has no end".to_owned())
    }

    fn number(&mut self, wanted: Option<&Signature>) -> Result<Variant<'static>> {
        let word = self.word(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let wrong = || format!("{word:?} is not a number that fits");
        let double = || word.parse().map(Variant::F64).map_err(|_| wrong());
        let whole = whole(word);
        let kind = match (wanted, whole) {
            (Some(kind), _) => kind,
            (None, Some(_)) => &Signature::I32,
            (None, None) if word.contains(['.', 'e', 'E', 'n']) => return double(),
            (None, None) => return Err(wrong()),
        };
        if *kind == Signature::F64 {
            return double();
        }
        let whole = whole.ok_or_else(wrong)?;
        let value = match kind {
            Signature::U8 => whole.try_into().map(Variant::U8),
            Signature::I16 => whole.try_into().map(Variant::I16),
            Signature::U16 => whole.try_into().map(Variant::U16),
            Signature::I32 => whole.try_into().map(Variant::I32),
            Signature::U32 => whole.try_into().map(Variant::U32),
            Signature::I64 => whole.try_into().map(Variant::I64),
            Signature::U64 => whole.try_into().map(Variant::U64),
            other => return Err(format!("{word:?} is no {other:?}")),
        };
        value.map_err(|_| wrong())
    }
}

/// A whole number, in the bases of C.
fn whole(word: &str) -> Option<i128> {
    let (sign, digits) = match word.as_bytes().first()? {
        b'-' => (-1, &word[1..]),
        b'+' => (1, &word[1..]),
        _ => (1, word),
    };
    let (base, digits) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        None => (10, digits),
    };
    let valid = digits.chars().all(|c| c.is_digit(base));
    i128::from_str_radix(digits, base).ok().filter(|_| valid).map(|number| sign * number)
}

fn as_string(text: String, kind: &Signature) -> Result<Variant<'static>> {
    match kind {
        Signature::Str => Ok(Variant::Str(text.into())),
        Signature::ObjectPath => ObjectPath::try_from(text)
            .map(Variant::ObjectPath)
            .map_err(|_| "a string is no object path".to_owned()),
        Signature::Signature => Signature::from_str(&text)
            .map(Variant::Signature)
            .map_err(|_| format!("{text:?} is no signature")),
        other => Err(format!("a string is no {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> String {
        parse(text).unwrap_or_else(|why| panic!("{text}: {why}")).value_signature().to_string()
    }

    #[test]
    fn plain_values() {
        let table = [
            ("true", Variant::Bool(true)),
            (" false ", Variant::Bool(false)),
            ("5", Variant::I32(5)),
            ("-5", Variant::I32(-5)),
            ("0x1F", Variant::I32(31)),
            ("010", Variant::I32(8)),
            ("5.5", Variant::F64(5.5)),
            ("1e3", Variant::F64(1000.0)),
            ("'a b'", Variant::Str("a b".into())),
            ("\"it's\"", Variant::Str("it's".into())),
            (r"'\u00e9\n\'\\'", Variant::Str("é\n'\\".into())),
            ("byte 255", Variant::U8(255)),
            ("int16 -1", Variant::I16(-1)),
            ("uint16 1", Variant::U16(1)),
            ("uint32 1", Variant::U32(1)),
            ("int64 -1", Variant::I64(-1)),
            ("uint64 18446744073709551615", Variant::U64(u64::MAX)),
            ("double 3", Variant::F64(3.0)),
            ("@t 7", Variant::U64(7)),
            ("string 'x'", Variant::Str("x".into())),
        ];
        for (text, value) in table {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn values_in_values() {
        assert_eq!(parse("['a', 'b']"), Ok(Variant::new(vec!["a", "b"])));
        assert_eq!(parse("[uint64 1, 2]"), Ok(Variant::new(vec![1_u64, 2])));
        assert_eq!(parse("('a', uint64 2)"), Ok(Variant::new(("a", 2_u64))));
        assert_eq!(parse("b'ab'"), Ok(Variant::new(vec![97_u8, 98, 0])));
        assert_eq!(parse("<5>"), Ok(Variant::Variant(Box::new(Variant::I32(5)))));
        assert_eq!(kind("@as []"), "as");
        assert_eq!(kind("@a(st) [('/dev/sda', 5)]"), "a(st)");
        assert_eq!(kind("[('/dev/null', 'rw')]"), "a(ss)");
        assert_eq!(kind("[(2, [byte 10, 0, 0, 1], uint32 8)]"), "a(iayu)");
        assert_eq!(kind("('a',)"), "(s)");
    }

    #[test]
    fn what_is_no_value() {
        for text in [
            "",
            "x",
            "inactive-or-failed",
            "'a",
            "\"",
            "[",
            "[1, 'a']",
            "[]",
            "[1 2]",
            "(",
            "()",
            "5 6",
            "byte 256",
            "uint64 -1",
            "uint32",
            "uint64 'x'",
            "@as 5",
            "@q",
            "@a{s} []",
            "{'a': 1}",
            "3000000000",
            "0x",
            "09",
            "--5",
            "+-5",
            "<5",
            "'\0'",
            r"'\u0000'",
            "@(st) ('a')",
            "@(s) ('a', 'b')",
            "boolean 1",
            "nothing",
            "just 5",
            "1.2.3",
        ] {
            assert!(parse(text).is_err(), "{text:?} is {:?}", parse(text));
        }
        assert!(parse(&"[".repeat(10_000)).is_err());
        assert!(parse(&"<".repeat(10_000)).is_err());
    }
}
