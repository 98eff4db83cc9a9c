//! The place in a document at which its parser stopped, as a JSON pointer.
//!
//! Serde's errors know a line and a column. This walks the text up to there and
//! remembers the way; it decides nothing about what is right.

use super::escape;

/// The way to the value that was begun last.
#[derive(Debug, Default)]
pub(super) struct Place {
    open: Vec<Container>,
    last: String,
    /// A value must come next.
    expecting: bool,
}

#[derive(Debug)]
enum Container {
    /// The key whose value is next; none before the first.
    Object(Option<String>),
    /// The index of the element that is next.
    Array(usize),
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
                b',' => self.next(at),
                b':' => {
                    self.expecting = true;
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
        let next = rest.trim_ascii_start().first();
        if self.expecting && !matches!(next, Some(b']' | b'}' | b',')) {
            return self.here();
        }
        self.last
    }

    /// The pointer of the value that begins now.
    fn here(&self) -> String {
        let steps = self.open.iter().map(|container| match container {
            Container::Object(Some(key)) => format!("/{}", escape(key)),
            Container::Object(None) => String::new(),
            Container::Array(index) => format!("/{index}"),
        });
        steps.collect()
    }

    fn enter(&mut self, container: Container, at: usize) -> usize {
        self.last = self.here();
        self.expecting = matches!(container, Container::Array(_));
        self.open.push(container);
        at + 1
    }

    fn leave(&mut self, at: usize) -> usize {
        self.open.pop();
        self.last = self.here();
        self.expecting = false;
        at + 1
    }

    fn next(&mut self, at: usize) -> usize {
        match self.open.last_mut() {
            Some(Container::Array(index)) => {
                *index += 1;
                self.expecting = true;
            }
            Some(Container::Object(key)) => {
                *key = None;
                self.last = self.here();
            }
            None => {}
        }
        at + 1
    }

    fn string(&mut self, bytes: &[u8], at: usize) -> usize {
        let mut end = at + 1;
        while bytes.get(end).is_some_and(|byte| *byte != b'"') {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let end = (end + 1).min(bytes.len());
        if let Some(Container::Object(key)) = self.open.last_mut()
            && key.is_none()
        {
            let text = String::from_utf8_lossy(&bytes[at..end]);
            *key = Some(serde_json::from_str(&text).unwrap_or_default());
        } else {
            self.last = self.here();
            self.expecting = false;
        }
        end
    }

    fn scalar(&mut self, bytes: &[u8], at: usize) -> usize {
        self.last = self.here();
        self.expecting = false;
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
            (r#"{"a": [1,"#, r#""x"]}"#, "/a/1"),
            (r#"{"a": 1"#, "}", "/a"),
        ] {
            assert_eq!(pointer(beginning, rest), wanted, "{beginning}");
        }
    }
}
