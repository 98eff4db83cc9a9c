//! The place in a document at which its parser stopped, as a JSON pointer.
//!
//! Serde's errors know a line and a column. This walks the text up to there and
//! remembers the way; it decides nothing about what is right.

use super::{escape, shape};

/// Most steps of a pointer: who reads deeper is told of the value around it.
const LONGEST: usize = 128;

/// The way to the value that was begun last.
#[derive(Debug, Default)]
pub(super) struct Place {
    open: Vec<Container>,
    next: Next,
}

#[derive(Debug)]
enum Container {
    /// The key of the value that was begun last or is next; none before the first.
    Object(Option<String>),
    /// The index of such an element.
    Array(usize),
}

/// What the innermost container has to do with the value that was begun last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It is that value: none was begun in it since it or a comma.
    #[default]
    Anything,
    /// The same, and the next must be a value.
    Value,
    /// That value is in it.
    End,
}

impl Place {
    /// Walks over a beginning of a document that was sound so far.
    pub(super) fn walk(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            at = match byte {
                b'{' => self.enter(Container::Object(None), at),
                b'[' => self.enter(Container::Array(0), at),
                b'}' | b']' => self.leave(at),
                b'"' => self.string(bytes, at),
                b',' => self.comma(at),
                b':' => {
                    self.next = Next::Value;
                    at + 1
                }
                b' ' | b'\t' | b'\r' | b'\n' => at + 1,
                _ => self.scalar(bytes, at),
            };
        }
    }

    /// The pointer, where `rest` is what the parser did not take: it may have
    /// seen what kind of value begins there, and stopped for that.
    pub(super) fn into_pointer(self, rest: &[u8]) -> String {
        let closes = matches!(rest.trim_ascii_start().first(), Some(b']' | b'}' | b','));
        let inside = match self.next {
            Next::Anything => false,
            Next::Value => !closes,
            Next::End => true,
        };
        let steps = self.open.len() - usize::from(!inside && !self.open.is_empty());
        let steps = self.open.iter().take(steps.min(LONGEST)).map(|container| match container {
            Container::Object(Some(key)) => format!("/{}", escape(key)),
            Container::Object(None) => String::new(),
            Container::Array(index) => format!("/{index}"),
        });
        steps.collect()
    }

    fn enter(&mut self, container: Container, at: usize) -> usize {
        let array = matches!(container, Container::Array(_));
        self.next = if array { Next::Value } else { Next::Anything };
        self.open.push(container);
        at + 1
    }

    fn leave(&mut self, at: usize) -> usize {
        self.open.pop();
        self.next = Next::End;
        at + 1
    }

    fn comma(&mut self, at: usize) -> usize {
        match self.open.last_mut() {
            Some(Container::Array(index)) => {
                *index += 1;
                self.next = Next::Value;
            }
            Some(Container::Object(key)) => {
                *key = None;
                self.next = Next::Anything;
            }
            None => {}
        }
        at + 1
    }

    fn string(&mut self, bytes: &[u8], at: usize) -> usize {
        let end = shape::string_end(bytes, at);
        if let Some(Container::Object(key)) = self.open.last_mut()
            && key.is_none()
        {
            let text = String::from_utf8_lossy(&bytes[at..end]);
            *key = Some(serde_json::from_str(&text).unwrap_or_default());
        } else {
            self.next = Next::End;
        }
        end
    }

    fn scalar(&mut self, bytes: &[u8], at: usize) -> usize {
        self.next = Next::End;
        let rest = bytes.get(at..).unwrap_or_default();
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
        at + rest.iter().position(ends).unwrap_or(rest.len()).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(beginning: &str, rest: &str) -> String {
        let mut place = Place::default();
        place.walk(beginning.as_bytes());
        place.into_pointer(rest.as_bytes())
    }

    #[test]
    fn the_value_begun_last_is_the_place() {
        for (beginning, wanted) in [
            ("", ""),
            ("{", ""),
            (r#"{"a":1"#, "/a"),
            (r#"{"a": "x\"y", "b/c": [1, {"d": tru"#, "/b~1c/1/d"),
            (r#"{"a": [1, 2], "b": {"c": 3}"#, "/b"),
            (r#"{"a": {"b": 1}, "#, ""),
            (r#"{"a": {"b": 1, "b""#, "/a"),
            (r#"{"a": [[], [1, -2.5e3"#, "/a/1/1"),
            (r#"{"\u0061": "x"#, "/a"),
        ] {
            assert_eq!(pointer(beginning, ""), wanted, "{beginning}");
        }
    }

    #[test]
    fn a_value_that_was_only_looked_at_is_the_place_too() {
        for (beginning, rest, wanted) in [
            (r#"{"a":"#, "[1]}", "/a"),
            (r#"{"a": {"b": "#, "", "/a/b"),
            (r#"{"a": ["#, " {}]}", "/a/0"),
            (r#"{"a": ["#, "]}", "/a"),
            (r#"{"a": [1,"#, "]}", "/a"),
            (r#"{"a": {"b":"#, "}}", "/a"),
            ("[", "x", "/0"),
            (r#"{"a": [1,"#, r#""x"]}"#, "/a/1"),
            (r#"{"a": 1"#, "}", "/a"),
        ] {
            assert_eq!(pointer(beginning, rest), wanted, "{beginning}");
        }
    }

    #[test]
    fn a_deep_document_does_not_take_for_ever() {
        let begun = std::time::Instant::now();
        let deep = pointer(&r#"{"a":"#.repeat(1_000_000), "");
        assert_eq!(deep, "/a".repeat(LONGEST));
        let each = r#"{"a":[{"b":1}],"c":"#.repeat(200_000);
        assert_eq!(pointer(&each, ""), "/c".repeat(LONGEST));
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}
