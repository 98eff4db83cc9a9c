//! What the types would take for something else: an array in the place of an object,
//! whose elements serde takes for fields by their order; null; and a field for which
//! the types have a value of their own where the config has none.
//!
//! Decides what of these is refused, and writes the others in a way that the types
//! read right. All that is left stays as it is written, in its line. Names of capabilities
//! that nobody knows are left out on the way.
//!
//! COMPAT(runc): null for a field is none, and for a value under a name of a person's
//! own the empty one.

use std::borrow::Cow;
use std::ops::Range;

use super::escape;
use crate::error::{Error, Result};

/// What a value must be.
#[derive(Debug)]
pub(super) enum Shape {
    /// Whatever the types say; or nobody knows it.
    Any,
    /// An object with these fields that are containers themselves.
    Object(&'static [(&'static str, Shape)]),
    /// The same, and something else without fields that count.
    With(&'static [(&'static str, Shape)], &'static [&'static str], Without),
    /// An object with names of a person's own, and the empty value of what is in it.
    Map(&'static Shape, &'static str),
    /// An array.
    List(&'static Shape),
    /// The name of a capability.
    Capability,
}

/// What an object is without the fields that count.
#[derive(Debug, Clone, Copy)]
pub(super) enum Without {
    /// An error.
    Refused(&'static str),
    /// The same with this.
    Given(&'static str),
    /// None at all.
    None,
}

use Shape::{Any, Capability, List, Map, Object, With};

const PLAIN: Shape = Object(&[]);
const PLAINS: Shape = List(&PLAIN);
const CAPABILITIES: Shape = List(&Capability);

const LIST_OF_MOUNTS: Shape = List(&Object(&[("uidMappings", PLAINS), ("gidMappings", PLAINS)]));

/// The mounts of a config alone.
pub(super) const MOUNTS: Shape = Object(&[("mounts", LIST_OF_MOUNTS)]);

/// A config.
pub(super) const CONFIG: Shape = Object(&[
    ("root", PLAIN),
    ("mounts", LIST_OF_MOUNTS),
    ("process", PROCESS),
    (
        "hooks",
        Object(&[
            ("prestart", PLAINS),
            ("createRuntime", PLAINS),
            ("createContainer", PLAINS),
            ("startContainer", PLAINS),
            ("poststart", PLAINS),
            ("poststop", PLAINS),
        ]),
    ),
    ("annotations", Map(&Any, "\"\"")),
    ("linux", LINUX),
    ("solaris", PLAIN),
    ("windows", PLAIN),
    ("vm", PLAIN),
    ("zos", PLAIN),
]);

/// A process. COMPAT(runc): it is root's if it does not say whose.
pub(super) const PROCESS: Shape = With(
    &[
        ("consoleSize", PLAIN),
        ("user", PLAIN),
        (
            "capabilities",
            Object(&[
                ("bounding", CAPABILITIES),
                ("effective", CAPABILITIES),
                ("permitted", CAPABILITIES),
                ("inheritable", CAPABILITIES),
                ("ambient", CAPABILITIES),
            ]),
        ),
        ("rlimits", PLAINS),
        // COMPAT(runc): the text.
        ("ioPriority", With(&[], &["class"], Without::Refused("invalid ioPriority.Class: \"\""))),
        ("scheduler", PLAIN),
        ("execCPUAffinity", PLAIN),
    ],
    &["user"],
    Without::Given("\"user\":{}"),
);

const LINUX: Shape = Object(&[
    ("netDevices", Map(&PLAIN, "{}")),
    ("uidMappings", PLAINS),
    ("gidMappings", PLAINS),
    ("sysctl", Map(&Any, "\"\"")),
    ("resources", RESOURCES),
    ("namespaces", PLAINS),
    ("devices", PLAINS),
    ("seccomp", Object(&[("syscalls", List(&Object(&[("args", PLAINS)])))])),
    ("intelRdt", PLAIN),
    ("memoryPolicy", PLAIN),
    ("personality", PLAIN),
    ("timeOffsets", Map(&PLAIN, "{}")),
]);

/// `linux.resources`, under the specification's names.
pub(super) const RESOURCES: Shape = Object(&[
    ("devices", PLAINS),
    ("memory", PLAIN),
    ("cpu", PLAIN),
    // The types' own is a limit of 0.
    ("pids", With(&[], &["limit"], Without::None)),
    (
        "blockIO",
        Object(&[
            ("weightDevice", PLAINS),
            ("throttleReadBpsDevice", PLAINS),
            ("throttleWriteBpsDevice", PLAINS),
            ("throttleReadIOPSDevice", PLAINS),
            ("throttleWriteIOPSDevice", PLAINS),
        ]),
    ),
    ("hugepageLimits", PLAINS),
    ("network", Object(&[("priorities", PLAINS)])),
    ("rdma", Map(&PLAIN, "{}")),
    ("unified", Map(&Any, "\"\"")),
]);

/// A document that the types read right, and the names of capabilities that it has no
/// more. One that can't be parsed may come back as it is.
///
/// # Errors
/// The first array in the place of an object; an object that lacks what it must have.
pub(super) fn fitted<'a>(
    text: &'a str,
    shape: &'static Shape,
) -> Result<(Cow<'a, str>, Vec<Cow<'a, str>>)> {
    let (open, changes, unknown) = Default::default();
    let mut walk = Walk { text, bytes: text.as_bytes(), open, changes, unknown };
    walk.all(shape)?;
    let Walk { mut changes, unknown, .. } = walk;
    if changes.is_empty() {
        return Ok((text.into(), unknown));
    }
    changes.sort_by_key(|(range, _)| (range.start, range.end));
    let mut fitted = String::with_capacity(text.len());
    let mut done = 0;
    for (range, instead) in changes {
        fitted.push_str(&text[done..range.start]);
        fitted.push_str(&instead);
        fitted.extend(text[range.clone()].chars().filter(|c| *c == '\n'));
        done = range.end;
    }
    fitted.push_str(&text[done..]);
    Ok((fitted.into(), unknown))
}

/// A container around the place that was reached. There are no more than shapes in one
/// another: what nobody knows is passed over as a whole.
struct Level {
    shape: &'static Shape,
    start: usize,
    array: bool,
    /// Of the value that was begun last, in an object; before it there is none.
    key: Option<Range<usize>>,
    /// Of the same, in an array.
    index: usize,
    /// The last comma that stays.
    comma: Option<usize>,
    /// Fields that stay.
    fields: usize,
    /// Whether one that counts was there.
    counts: bool,
}

struct Walk<'a> {
    text: &'a str,
    bytes: &'a [u8],
    open: Vec<Level>,
    changes: Vec<(Range<usize>, String)>,
    /// Names of capabilities that are none, in order.
    unknown: Vec<Cow<'a, str>>,
}

impl Walk<'_> {
    fn all(&mut self, shape: &'static Shape) -> Result<()> {
        let mut next = shape;
        let mut at = 0;
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'{' | b'[' if matches!(next, Any | Capability) => at = self.over(at),
                b'{' | b'[' => {
                    let array = *byte == b'[';
                    if array && !matches!(next, List(_)) {
                        return Err(self.refused("must be a JSON object, not an array"));
                    }
                    let (shape, start) = (next, at);
                    let (key, index, comma, fields, counts) = (None, 0, None, 0, false);
                    self.open.push(Level {
                        shape,
                        start,
                        array,
                        key,
                        index,
                        comma,
                        fields,
                        counts,
                    });
                    next = self.element();
                    at += 1;
                }
                b'}' | b']' => {
                    self.close(at)?;
                    next = &Any;
                    at += 1;
                }
                b',' => {
                    self.comma(at);
                    next = self.element();
                    at += 1;
                }
                b'"' => {
                    let end = string_end(self.bytes, at);
                    if let Some(shape) = self.key(at..end) {
                        next = shape;
                    }
                    at = if matches!(next, Capability) { self.capability(at..end) } else { end };
                }
                b'n' if self.bytes[at..].starts_with(b"null") => at = self.null(at),
                b':' | b' ' | b'\t' | b'\r' | b'\n' => at += 1,
                _ => {
                    let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']');
                    let rest = &self.bytes[at..];
                    at += rest.iter().position(ends).unwrap_or(rest.len());
                }
            }
        }
        Ok(())
    }

    /// The end of a container that nobody looks into.
    fn over(&self, mut at: usize) -> usize {
        let mut depth = 0_usize;
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                b'"' => {
                    at = string_end(self.bytes, at);
                    continue;
                }
                _ => {}
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
        at
    }

    /// What must be next in an array.
    fn element(&self) -> &'static Shape {
        match self.open.last() {
            Some(Level { shape: List(element), array: true, .. }) => element,
            _ => &Any,
        }
    }

    fn comma(&mut self, at: usize) {
        if let Some(level) = self.open.last_mut() {
            level.index += 1;
            level.key = None;
            level.comma = Some(at);
        }
    }

    /// What must be next, if this string is a key.
    fn key(&mut self, range: Range<usize>) -> Option<&'static Shape> {
        let (text, bytes) = (self.text, self.bytes);
        let level = self.open.last_mut().filter(|level| !level.array && level.key.is_none())?;
        level.key = Some(range.clone());
        level.fields += 1;
        let (fields, counting) = match level.shape {
            Map(value, _) => return Some(value),
            Object(fields) => (*fields, &[][..]),
            With(fields, counting, _) => {
                let rest = bytes.get(range.end..).unwrap_or_default().trim_ascii_start();
                let value = rest.strip_prefix(b":").unwrap_or_default().trim_ascii_start();
                (*fields, if value.starts_with(b"null") { &[][..] } else { *counting })
            }
            _ => return Some(&Any),
        };
        let name = name(&text[range]);
        level.counts |= counting.contains(&&*name);
        let found = fields.iter().find(|(field, _)| *field == name);
        Some(found.map_or(&Any, |(_, shape)| shape))
    }

    /// Where it goes on behind a null.
    fn null(&mut self, at: usize) -> usize {
        let end = at + "null".len();
        let Some(level) = self.open.last_mut() else { return end };
        let (Some(key), false) = (level.key.clone(), level.array) else { return end };
        if let Map(_, empty) = level.shape {
            self.changes.push((at..end, (*empty).to_owned()));
            return end;
        }
        level.fields = level.fields.saturating_sub(1);
        self.leave_out(key.start..end)
    }

    /// Where it goes on behind the name of a capability.
    ///
    /// COMPAT(runc): upper case, with the prefix. The types take more than that.
    fn capability(&mut self, range: Range<usize>) -> usize {
        let name = name(&self.text[range.clone()]);
        let bare = name.strip_prefix("CAP_");
        if bare.is_some_and(|bare| bare.parse::<oci_spec::runtime::Capability>().is_ok()) {
            return range.end;
        }
        if let Err(place) = self.unknown.binary_search(&name) {
            self.unknown.insert(place, name);
        }
        self.leave_out(range)
    }

    /// Takes out an element or a field, with one comma, and tells where it goes on.
    fn leave_out(&mut self, range: Range<usize>) -> usize {
        let Some(level) = self.open.last_mut() else { return range.end };
        let rest = &self.bytes[range.end..];
        let behind = rest.trim_ascii_start();
        let range = if behind.first() == Some(&b',') {
            level.key = None;
            range.start..range.end + rest.len() - behind.len() + 1
        } else {
            // With the comma before it. All since that is gone already.
            level.comma.unwrap_or(range.start)..range.end
        };
        let end = range.end;
        self.replace(range, "");
        end
    }

    /// Whatever was to be changed in it is gone: that came last.
    fn replace(&mut self, range: Range<usize>, instead: &str) {
        while self.changes.pop_if(|(inner, _)| inner.start >= range.start).is_some() {}
        self.changes.push((range, instead.to_owned()));
    }

    fn close(&mut self, at: usize) -> Result<()> {
        let Some(level) = self.open.pop() else { return Ok(()) };
        let (With(_, _, without), false) = (level.shape, level.counts) else { return Ok(()) };
        match without {
            Without::Refused(what) => return Err(self.refused(what)),
            Without::Given(field) => {
                let first = level.start + 1;
                let comma = if level.fields == 0 { "" } else { "," };
                self.changes.push((first..first, format!("{field}{comma}")));
            }
            Without::None => self.replace(level.start..at + 1, "null"),
        }
        Ok(())
    }

    fn refused(&self, what: &'static str) -> Error {
        Error::config(self.pointer(), what)
    }

    /// Of the value that was begun last in what is open.
    fn pointer(&self) -> String {
        let steps = self.open.iter().map(|level| match &level.key {
            Some(key) => format!("/{}", escape(&name(&self.text[key.clone()]))),
            None => format!("/{}", level.index),
        });
        steps.collect()
    }
}

/// A key without its quotes.
fn name(quoted: &str) -> Cow<'_, str> {
    if quoted.contains('\\') {
        return serde_json::from_str::<String>(quoted).unwrap_or_default().into();
    }
    quoted.trim_matches('"').into()
}

/// Behind a string that begins at `at`.
pub(super) fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while bytes.get(end).is_some_and(|byte| *byte != b'"') {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(text: &str) -> String {
        fitted(text, &CONFIG).unwrap().0.into_owned()
    }

    fn refusal(text: &str) -> String {
        fitted(text, &CONFIG).unwrap_err().to_string()
    }

    /// The same without what is not there.
    fn same(text: &str, wanted: &str) {
        let fitted = fit(text);
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text);
        assert_eq!(parsed(&fitted).expect(&fitted), parsed(wanted).unwrap(), "{text}");
        assert_eq!(fitted.lines().count(), text.lines().count());
    }

    /// In one go: looking at all before for each would take hours.
    #[test]
    fn a_million_nulls_are_read() {
        let nulls: Vec<_> = (0..1_000_000).map(|name| format!("\"{name}\":null")).collect();
        let nulls = nulls.join(",");
        assert_eq!(fit(&format!("{{{nulls}}}")), "{}");
        assert_eq!(fit(&format!("{{{nulls},\"a\":1}}")), "{\"a\":1}");
        assert_eq!(fit(&format!("{{\"linux\":{{\"resources\":{{{nulls}}}}}}}")).len(), 26);
    }

    #[test]
    fn what_is_well_stays() {
        for text in [
            r#"{"root": {"path": "null"}, "x": [null, {"root": [1]}], "process": {"user": {}}}"#,
            r#"{"mounts": [{"options": ["a", null]}], "linux": {"seccomp": {"syscalls": [{}]}}}"#,
            "{\"a\": \"\\\"",
            "{\"a",
            "}",
            "{\"x\":[[[{",
            "",
            "nul",
        ] {
            assert_eq!(fit(text), text);
        }
    }

    #[test]
    fn an_array_for_an_object_is_refused_where_it_is() {
        for (text, place) in [
            (r#"{"root": ["rootfs", true]}"#, "/root"),
            (r#"{"r\u006fot": []}"#, "/root"),
            (r#"{"mounts": [{}, ["/proc"]]}"#, "/mounts/1"),
            (r#"{"mounts": [{"uidMappings": [[1,2,3]]}]}"#, "/mounts/0/uidMappings/0"),
            (r#"{"process": []}"#, "/process"),
            (r#"{"process": {"a": null, "user": [0, 0]}}"#, "/process/user"),
            (r#"{"annotations": []}"#, "/annotations"),
            (r#"{"linux": {"rdma": 1, "netDevices": {"a/b": []}}}"#, "/linux/netDevices/a~1b"),
            (
                r#"{"linux": {"seccomp": {"syscalls": [[["read"], "X"]]}}}"#,
                "/linux/seccomp/syscalls/0",
            ),
            (r#"{"linux": {"resources": {"memory": [1]}}}"#, "/linux/resources/memory"),
            (r#"{"hooks": {"poststop": [["/bin/true"]]}}"#, "/hooks/poststop/0"),
        ] {
            let wanted = format!("must be a JSON object, not an array (config.json: {place})");
            assert_eq!(refusal(text), wanted, "{text}");
        }
    }

    #[test]
    fn null_is_nothing() {
        let user = r#""user": {}"#;
        for (text, wanted) in [
            (r#"{"root": null}"#, "{}"),
            ("{\"a\": 1,\n \"root\": null\n, \"b\": 2}", r#"{"a": 1, "b": 2}"#),
            (r#"{"a": 1, "root": null}"#, r#"{"a": 1}"#),
            (r#"{"a": 1, "b": null, "c":null , "root": null}"#, r#"{"a": 1}"#),
            (r#"{"b": null, "a": 1, "c": null, "d": 2, "e": null}"#, r#"{"a": 1, "d": 2}"#),
            (r#"{"root": null, "root": {"path": "a"}}"#, r#"{"root": {"path": "a"}}"#),
            (
                r#"{"annotations": {"a": null, "b": "c"}}"#,
                r#"{"annotations": {"a": "", "b": "c"}}"#,
            ),
            (
                r#"{"linux": {"resources": {"rdma": {"a": null}, "unified": {"b": null}}}}"#,
                r#"{"linux": {"resources": {"rdma": {"a": {}}, "unified": {"b": ""}}}}"#,
            ),
            (r#"{"mounts": [{"source": null, "type": "b"}]}"#, r#"{"mounts": [{"type": "b"}]}"#),
        ] {
            same(text, wanted);
        }
        for process in ["{}", "{\n}", r#"{"user": null}"#, r#"{"user": null, "user": null}"#] {
            same(&format!("{{\"process\": {process}}}"), &format!("{{\"process\": {{{user}}}}}"));
        }
        let text = r#"{"process": {"cwd": "/", "user": null, "env": []}}"#;
        same(text, &format!(r#"{{"process": {{{user}, "cwd": "/", "env": []}}}}"#));
    }

    #[test]
    fn what_says_nothing_is_not_there() {
        for pids in ["{}", r#"{"limit": null}"#, "{\"x\": null,\n\"y\": 1, \"limit\" : null }"] {
            let text = format!(r#"{{"linux": {{"resources": {{"pids": {pids}, "cpu": {{}}}}}}}}"#);
            same(&text, r#"{"linux": {"resources": {"pids": null, "cpu": {}}}}"#);
        }
        for given in
            [r#"{"linux": {"resources": {"pids": {"limit": 0}}}}"#, r#"{"linux": {"seccomp": {}}}"#]
        {
            assert_eq!(fit(given), given);
        }
    }

    #[test]
    fn capabilities_are_left_out_in_any_place() {
        for (set, wanted) in [
            (r#"["KILL"]"#, "[]"),
            (r#"["KILL", "CAP_KILL"]"#, r#"["CAP_KILL"]"#),
            (r#"["CAP_KILL", "KILL"]"#, r#"["CAP_KILL"]"#),
            (r#"["a", "CAP_KILL" , "b","c" ]"#, r#"["CAP_KILL"]"#),
            ("[\"CAP_KILL\",\n\"a\",\n\"CAP_BPF\"\n]", r#"["CAP_KILL", "CAP_BPF"]"#),
            (r#"["a", 3, "b"]"#, "[3]"),
            (r#"[["a"], {"b": "c"}]"#, r#"[["a"], {"b": "c"}]"#),
            (r#""a""#, r#""a""#),
        ] {
            let config = |set: &str| {
                let sets = format!(r#"{{"ambient": {set}, "other": ["a"]}}"#);
                format!(r#"{{"process": {{"user": {{}}, "capabilities": {sets}}}}}"#)
            };
            same(&config(set), &config(wanted));
        }
    }

    #[test]
    fn a_priority_has_a_class() {
        for priority in ["{}", r#"{"priority": 1, "class": null}"#] {
            let text = format!(r#"{{"process": {{"user": {{}}, "ioPriority": {priority}}}}}"#);
            let wanted = r#"invalid ioPriority.Class: "" (config.json: /process/ioPriority)"#;
            assert_eq!(refusal(&text), wanted);
        }
    }

    #[test]
    fn a_deep_document_takes_no_more_than_a_long_one() {
        let begun = std::time::Instant::now();
        for deep in [r#"{"a":"#.repeat(1_000_000), format!("{{\"x\":{}", "[".repeat(10_000_000))] {
            assert_eq!(fit(&deep), deep);
        }
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}
