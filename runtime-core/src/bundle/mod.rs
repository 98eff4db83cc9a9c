//! A bundle: its directory and what its `config.json` says.
//!
//! Decides what counts as a readable config and where in it an error is. Knows
//! nothing of what a config means; that is the compiler's.
//!
//! Beyond what the types ask for: one JSON object and nothing behind it, UTF-8
//! without a byte order mark, no NUL in any string (the kernel would cut it), no
//! field twice (of two equal keys in a map the last one holds), no nesting deeper
//! than 128 where it is looked at. Unknown fields are ignored, as the spec wants it;
//! names in linux.resources are known in any case (`resources.rs`), and if one had to be
//! changed, of a field that is there twice the last one holds. An array is no object,
//! and null is nothing (`shape.rs`).

mod pointer;
mod resources;
mod shape;

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Process, Spec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

pub use self::resources::parse_resources;
use self::shape::Shape;
use crate::error::{Error, Kind, Place, Result, listed};

/// Most that is read of a `config.json`, in bytes: 64 MiB. What is larger is refused.
pub const LARGEST: u64 = 64 << 20;

/// Name of the config in a bundle (runtime-spec, bundle).
const CONFIG: &str = "config.json";

/// What a document is.
struct Document {
    name: &'static str,
    shape: &'static Shape,
}

const CONFIG_JSON: Document = Document { name: "config", shape: &shape::CONFIG };
const PROCESS_JSON: Document = Document { name: "process", shape: &shape::PROCESS };
const MOUNTS_JSON: Document = Document { name: "list of mounts", shape: &shape::MOUNTS };

/// The part of a config that has the mounts.
#[derive(Deserialize)]
struct Section {
    mounts: Vec<Mount>,
}

/// An opened bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The directory, absolute and without links.
    pub dir: PathBuf,
    /// What `config.json` says.
    pub spec: Spec,
    /// `config.json` as it was read, for the `exec`s to come.
    pub raw: Vec<u8>,
    /// What a person should know, one line each.
    pub warnings: Vec<String>,
}

/// A document as read, and what a person should know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed<T> {
    /// What it says.
    pub value: T,
    /// One line each.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Opens the bundle in `dir` and reads its `config.json`.
    ///
    /// # Errors
    /// A directory or file that can't be read, and a config that can't be parsed,
    /// with the place of the first thing that is wrong.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, CONFIG.as_ref())
    }

    /// The same with another file than `config.json`; a relative path starts at the
    /// bundle.
    ///
    /// # Errors
    /// As [`Self::open`]'s.
    pub fn open_with(dir: &Path, config: &Path) -> Result<Self> {
        let dir = dir
            .canonicalize()
            .map_err(|error| Error::io(&error, "opening the bundle").at_path(dir))?;
        let path = dir.join(config);
        let raw = read(&path)?;
        let Parsed { value, warnings } = Self::parse(&raw).map_err(|error| {
            // Without a pointer it is about the file as a whole.
            if error.place().is_none() { error.at_path(&path) } else { error }
        })?;
        Ok(Self { dir, spec: value, raw, warnings })
    }

    /// Whether its process asks for a terminal.
    #[must_use]
    pub fn wants_terminal(&self) -> bool {
        self.spec.process().as_ref().and_then(Process::terminal) == Some(true)
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// The first thing that is wrong with it, with its place.
    pub fn parse(bytes: &[u8]) -> Result<Parsed<Spec>> {
        let text = readable(bytes, CONFIG_JSON.name)?;
        match resources::with_names(text) {
            Ok(named) => parse(&named, &CONFIG_JSON),
            Err(error) => parse::<Spec>(text, &CONFIG_JSON).and(Err(error)),
        }
    }

    /// Reads the process of an `exec`, a document of its own.
    ///
    /// # Errors
    /// The first thing that is wrong with it, with its place.
    pub fn parse_process(bytes: &[u8]) -> Result<Parsed<Process>> {
        let text = readable(bytes, PROCESS_JSON.name)?;
        parse(text, &PROCESS_JSON).map_err(|error| error.of_process(""))
    }
}

/// Reads mounts that are a document of their own: as a config has them, or the list alone.
///
/// # Errors
/// The first thing that is wrong with it, with its place in such a config.
pub fn parse_mounts(text: &str) -> Result<Vec<Mount>> {
    let section = match text.trim_ascii_start().starts_with('[') {
        true => {
            serde_json::from_str::<&RawValue>(text)
                .map_err(|error| failure(text, &error, false))?;
            format!("{{\"mounts\":{text}}}").into()
        }
        false => Cow::from(text),
    };
    let section = readable(section.as_bytes(), MOUNTS_JSON.name)?;
    parse::<Section>(section, &MOUNTS_JSON).map(|parsed| parsed.value.mounts)
}

/// A name as one step of a JSON pointer (RFC 6901).
#[must_use]
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    // A FIFO would be waited for, and a terminal become ours.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        // COMPAT(runc): the text.
        Some(libc::ENOENT) if path.ends_with(CONFIG) => {
            Error::new(Kind::NotFound, "JSON specification file config.json not found")
        }
        _ => Error::io(&error, "opening").at_path(path),
    })?;
    let metadata = file.metadata();
    let metadata = metadata.map_err(|error| Error::io(&error, "looking at").at_path(path))?;
    if !metadata.is_file() {
        return Err(
            Error::new(Kind::InvalidConfig, "a config that is no regular file").at_path(path)
        );
    }
    let size = metadata.len().min(LARGEST);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::io(&error, "reading").at_path(path))?;
    if bytes.len() as u64 > LARGEST {
        let what = format!("a config of more than {} MiB", LARGEST >> 20);
        return Err(Error::new(Kind::InvalidConfig, what).at_path(path));
    }
    Ok(bytes)
}

/// Parses; where that fails, finds out what the place is called.
fn parse<T: DeserializeOwned>(text: &str, document: &Document) -> Result<Parsed<T>> {
    let (text, unknown) = shape::fitted(text, document.shape)?;
    let mut warnings = Vec::new();
    if !unknown.is_empty() {
        // COMPAT(runc): the text.
        let names = listed(unknown.iter().map(|name| &**name), " ");
        warnings.push(format!("ignoring unknown or unavailable capabilities: [{names}]"));
    }
    let error = match serde_json::from_str(&text) {
        Ok(value) => return Ok(Parsed { value, warnings }),
        Err(error) => error,
    };
    // Lines stay where they were; columns don't where something is filled in.
    let moved = matches!(text, Cow::Owned(_));
    if let Some(text) = respelled(&text, &error) {
        return parse(&text, document).map(|parsed| Parsed { warnings, ..parsed });
    }
    Err(failure(&text, &error, moved))
}

/// The text of one JSON object without a NUL in it, as far as that can be told without
/// reading it.
fn readable<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str> {
    let invalid = |what: String| Error::new(Kind::InvalidConfig, what);
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(invalid(format!("{name} begins with a byte order mark")));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| invalid(format!("{name} is not UTF-8 at byte {}", error.valid_up_to())))?;
    let start = text.trim_start_matches([' ', '\t', '\r', '\n']);
    if start.is_empty() {
        return Err(invalid(format!("{name} is empty")));
    }
    if !start.starts_with('{') {
        let null = start.trim_end() == "null";
        let what = if null { "cannot be null" } else { "must be a JSON object" };
        return Err(invalid(format!("{name} {what}")));
    }
    if text.contains("\\u0000") {
        refuse_nul(text)?;
    }
    Ok(text)
}

/// The specification's names of the flags of a scheduler that the types spell in
/// another way.
const FLAGS: [(&str, &str); 2] = [
    ("\"SCHED_FLAG_RESET_ON_FORK\"", "\"SCHED_RESET_ON_FORK\""),
    ("\"SCHED_FLAG_DL_OVERRUN\"", "\"SCHED_FLAG_D_L_OVERRUN\""),
];

fn respelled(text: &str, error: &serde_json::Error) -> Option<String> {
    let known = |(name, _): &(&str, &str)| text.contains(name);
    if !FLAGS.iter().any(known) || !pointer_at(text, error).contains("scheduler/flags/") {
        return None;
    }
    Some(FLAGS.iter().fold(text.to_owned(), |text, (name, other)| text.replace(name, other)))
}

/// Where the text is not as a person wrote it, the column has `moved`, and is not told.
fn failure(text: &str, error: &serde_json::Error, moved: bool) -> Error {
    let failure = |what| Error::new(Kind::InvalidConfig, what);
    let mut what = error.to_string();
    if let (true, Some(at)) = (moved, what.rfind(" column ")) {
        what.truncate(at);
    }
    match pointer_at(text, error) {
        pointer if pointer.is_empty() || error.is_syntax() && error.column() == 0 => failure(what),
        pointer => failure(of_peers(&pointer, what)).at(Place::Config(pointer)),
    }
}

/// COMPAT(runc): what it says first of a policy that is none.
fn of_peers(pointer: &str, what: String) -> String {
    let Some(field) = pointer.strip_prefix("/linux/memoryPolicy") else { return what };
    let part = match field.split('/').nth(1) {
        Some("flags") => " flag",
        Some("nodes") => " nodes",
        _ => " mode",
    };
    format!("invalid memory policy{part}: {what}")
}

/// The JSON pointer of the last value that the parser had begun when it stopped.
fn pointer_at(text: &str, error: &serde_json::Error) -> String {
    let line = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    let end = line.map(str::len).sum::<usize>() + error.column();
    let mut place = pointer::Place::default();
    let (taken, rest) = text.as_bytes().split_at(end.min(text.len()));
    place.walk(taken);
    place.into_pointer(rest)
}

/// The kernel takes a NUL for the end of a string: a path or argument with one
/// would silently become another.
fn refuse_nul(text: &str) -> Result<()> {
    // A document that can't be parsed gets its error where it is parsed.
    let Ok(document) = serde_json::from_str::<Value>(text) else { return Ok(()) };
    let mut place = String::new();
    if find_nul(&document, &mut place) {
        return Err(Error::config(place, "a string contains a NUL byte"));
    }
    Ok(())
}

/// Whether there is a NUL below `value`; `place` then leads to it.
fn find_nul(value: &Value, place: &mut String) -> bool {
    let length = place.len();
    let step = |name: &str, value: &Value, place: &mut String| {
        place.push('/');
        place.push_str(name);
        let found = find_nul(value, place);
        if !found {
            place.truncate(length);
        }
        found
    };
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(list) => {
            list.iter().enumerate().any(|(index, value)| step(&index.to_string(), value, place))
        }
        Value::Object(map) => {
            map.iter().any(|(key, value)| key.contains('\0') || step(&escape(key), value, place))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;

    use super::*;

    const SMALL: &str =
        r#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"cwd":"/","args":["sh"]}}"#;

    fn refusal(text: &str) -> String {
        Bundle::parse(text.as_bytes()).expect_err("must be refused").to_string()
    }

    fn with_process(more: &str) -> String {
        SMALL.replace(r#""cwd":"/""#, &format!(r#""cwd":"/",{more}"#))
    }

    #[test]
    fn mounts_are_read_with_and_without_their_section() {
        let found = parse_mounts(r#"{"a":1,"mounts":[{"destination":"/a","type":null}]}"#);
        let found = found.unwrap();
        assert_eq!(found, parse_mounts(r#" [{"destination": "/a"}]"#).unwrap());
        assert_eq!(found.len(), 1);
        for (text, wanted) in [
            ("", "list of mounts is empty"),
            ("1", "list of mounts must be a JSON object"),
            ("{}", "missing field `mounts` at line 1 column 2"),
            ("[], \"a\": 1", "trailing characters at line 1 column 3"),
            ("[[1]]", "must be a JSON object, not an array (config.json: /mounts/0)"),
        ] {
            assert_eq!(parse_mounts(text).expect_err("must be refused").to_string(), wanted);
        }
    }

    #[test]
    fn what_is_no_config_is_told_in_a_word() {
        assert_eq!(refusal(""), "config is empty");
        assert_eq!(refusal(" \n"), "config is empty");
        assert_eq!(refusal("null"), "config cannot be null");
        assert_eq!(refusal("[]"), "config must be a JSON object");
        assert!(refusal("{\"ociVersion\": \"1.0").starts_with("EOF while parsing a string"));
        assert!(refusal(&format!("{SMALL} x")).starts_with("trailing characters"));
        assert_eq!(refusal(&format!("\u{feff}{SMALL}")), "config begins with a byte order mark");
        let error = Bundle::parse(b"{\"hostname\":\"\xff\"}").expect_err("must be refused");
        assert_eq!(error.to_string(), "config is not UTF-8 at byte 13");
    }

    #[test]
    fn a_wrong_type_is_told_with_its_place() {
        for (field, place) in [
            (r#""args":"sh""#, "/process/args"),
            (r#""oomScoreAdj":1.5"#, "/process/oomScoreAdj"),
            (r#""env":["A=1",2]"#, "/process/env/1"),
            (r#""rlimits":[{"type":"RLIMIT_FOO","soft":1,"hard":1}]"#, "/process/rlimits/0/type"),
        ] {
            let text = SMALL.replace(r#""args":["sh"]"#, field);
            let error = Bundle::parse(text.as_bytes()).expect_err(field);
            assert_eq!(error.place(), Some(&Place::Config(place.into())), "{error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
        for uid in ["\"0\"", "-1", "1.5", "4294967296"] {
            let text = SMALL.replace("\"uid\":0", &format!("\"uid\":{uid}"));
            assert!(refusal(&text).contains("(config.json: /process/user/uid)"), "{uid}");
        }
    }

    #[test]
    fn a_nul_is_refused_where_it_is() {
        let text = with_process(r#""env":["A=1","B=\u0000"]"#);
        assert_eq!(refusal(&text), "a string contains a NUL byte (config.json: /process/env/1)");
        let text = with_process(r#""env":["A=\\u0000"]"#);
        assert!(Bundle::parse(text.as_bytes()).is_ok(), "an escaped backslash is no NUL");
        let text = SMALL.replacen('{', r#"{"annotations":{"a/b":"\u0000"},"#, 1);
        assert!(refusal(&text).ends_with("(config.json: /annotations/a~1b)"));
    }

    #[test]
    fn unknown_capabilities_are_left_out_with_one_warning() {
        let text = with_process(
            r#""capabilities":{"bounding":["CAP_CHOWN","CAP_BOGUS"],"effective":["CAP_BOGUS","X"]}"#,
        );
        let parsed = Bundle::parse(text.as_bytes()).expect("no error");
        assert_eq!(
            parsed.warnings,
            ["ignoring unknown or unavailable capabilities: [CAP_BOGUS X]"]
        );
        let process = parsed.value.process().as_ref().expect("a process");
        let capabilities = process.capabilities().as_ref().expect("capabilities");
        assert_eq!(capabilities.bounding().as_ref().map(|set| set.len()), Some(1));
        let text = with_process(r#""capabilities":{"bounding":["CAP_BOGUS",3]}"#);
        assert!(refusal(&text).contains("/process/capabilities/bounding/0"), "{}", refusal(&text));
    }

    #[test]
    fn a_name_of_a_capability_is_exact() {
        let given = r#"["KILL", "CAP_CHOWN", "cap_kill", "chown","CAP_CAP_BPF","CAP_\u0042PF"]"#;
        let left =
            "ignoring unknown or unavailable capabilities: [CAP_CAP_BPF KILL cap_kill chown]";
        let known = Some([Capability::Chown, Capability::Bpf].into());
        // A flag that is read in another spelling takes the second way.
        for more in ["", r#","scheduler":{"policy":"SCHED_FIFO","flags":["SCHED_FLAG_RECLAIM"]}"#] {
            let text = format!(r#""capabilities":{{"permitted":{given}}}{more}"#);
            let parsed = Bundle::parse(with_process(&text).as_bytes()).expect("no error");
            let alone = format!(r#"{{"cwd":"/",{text}}}"#);
            let alone = Bundle::parse_process(alone.as_bytes()).expect("no error");
            assert_eq!((&parsed.warnings, &alone.warnings), (&vec![left.into()], &parsed.warnings));
            for process in [parsed.value.process().as_ref().expect("one"), &alone.value] {
                let capabilities = process.capabilities().as_ref().expect("capabilities");
                assert_eq!(capabilities.permitted(), &known);
            }
        }
    }

    #[test]
    fn a_column_is_that_of_the_text_as_it_was_written() {
        let refusal = |text: &str| Bundle::parse_process(text.as_bytes()).unwrap_err().to_string();
        let whole = r#"{"user":{"uid":0,"gid":0},"cwd":"/","args":[1]}"#;
        assert!(
            refusal(whole).contains("expected a string at line 1 column 45"),
            "{}",
            refusal(whole)
        );
        // A user is filled in, before the place.
        let filled = refusal(r#"{"user":null,"cwd":"/","args":[1]}"#);
        let told = "expected a string at line 1 (";
        assert!(filled.contains(told) && filled.contains("/args/0"), "{filled}");
    }

    #[test]
    fn any_number_of_unknown_capabilities_is_one_short_warning() {
        let names: Vec<String> = (0..60_000).map(|index| format!("CAP_{index:05}")).collect();
        let names = serde_json::to_string(&names).expect("names");
        let text = with_process(&format!(r#""capabilities":{{"bounding":{names}}}"#));
        let warnings = Bundle::parse(text.as_bytes()).expect("no error").warnings;
        let [warning] = warnings.as_slice() else { panic!("{} warnings", warnings.len()) };
        assert!(warning.contains("[CAP_00000 CAP_00001 "), "{warning}");
        assert!(warning.ends_with(" CAP_00031 and 59968 more]"), "{warning}");
    }

    #[test]
    fn a_field_twice_is_refused() {
        let text = with_process(r#""terminal":true,"terminal":false"#);
        assert!(refusal(&text).starts_with("duplicate field `terminal`"));
    }

    #[test]
    fn deep_nesting_is_one_clear_error() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let text = with_process(&format!(r#""args":{deep}"#));
        assert_eq!(refusal(&text).lines().count(), 1);
        let text = SMALL.replacen('{', &format!(r#"{{"future":{deep},"#), 1);
        assert!(Bundle::parse(text.as_bytes()).is_ok(), "unknown fields are not looked at");
    }

    #[test]
    fn a_process_is_a_document_too() {
        let text = r#"{"user":{"uid":0,"gid":0},"cwd":"/","args":["sh"],"env":[1]}"#;
        let error = Bundle::parse_process(text.as_bytes()).expect_err("must be refused");
        assert_eq!(error.place(), Some(&Place::Process("/env/0".into())));
    }

    #[test]
    fn a_process_without_a_user_is_root() {
        let parsed = Bundle::parse_process(br#"{"cwd":"/","args":["sh"]}"#).expect("it is good");
        assert_eq!((parsed.value.user().uid(), parsed.value.user().gid()), (0, 0));
        let error = Bundle::parse_process(br#"{"args":["sh"]}"#).expect_err("no cwd").to_string();
        assert!(error.contains("cwd"), "{error}");
    }

    #[test]
    fn flags_of_a_scheduler_have_the_names_of_the_specification() {
        let flags = r#"["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN","SCHED_FLAG_RECLAIM"]"#;
        let process = |flags: &str| {
            let scheduler = format!(r#"{{"policy":"SCHED_DEADLINE","flags":{flags}}}"#);
            let text =
                format!(r#"{{"user":{{"uid":0,"gid":0}},"cwd":"/","scheduler":{scheduler}}}"#);
            Bundle::parse_process(text.as_bytes())
        };
        let parsed = process(flags).expect("they are known").value;
        let scheduler = parsed.scheduler().as_ref().expect("there is one");
        assert_eq!(scheduler.flags().as_ref().map(Vec::len), Some(3));
        let error = process(r#"["SCHED_FLAG_RESET_ON_FORK","X"]"#).expect_err("X is none");
        assert_eq!(error.place(), Some(&Place::Process("/scheduler/flags/1".into())));
    }

    #[test]
    fn a_missing_config_has_runcs_words() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = Bundle::open(dir.path()).expect_err("nothing there");
        assert_eq!(error.to_string(), "JSON specification file config.json not found");
    }

    #[test]
    fn an_error_without_a_place_names_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("config.json"), "{").expect("a file");
        let error = Bundle::open(dir.path()).expect_err("cut").to_string();
        assert!(error.contains("config.json\""), "{error}");
    }

    #[test]
    fn a_config_must_be_a_regular_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().canonicalize().expect("there").join("config.json");
        let refusal = || Bundle::open(dir.path()).expect_err("no file").to_string();
        let wanted = format!("a config that is no regular file {path:?}");
        let mode = nix::sys::stat::Mode::S_IRUSR;
        nix::unistd::mkfifo(&path, mode).expect("a FIFO");
        assert_eq!(refusal(), wanted);
        for other in ["/dev/zero", "/"] {
            std::fs::remove_file(&path).expect("removed");
            std::os::unix::fs::symlink(other, &path).expect("a link");
            assert_eq!(refusal(), wanted, "{other}");
        }
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(dir.path().join("real"), SMALL).expect("a file");
        std::os::unix::fs::symlink("real", &path).expect("a link");
        Bundle::open(dir.path()).expect("a link to a file is fine");
    }
}
