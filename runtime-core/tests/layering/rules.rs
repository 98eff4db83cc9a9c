//! The rules of the house that neither rustfmt nor clippy knows.

use super::source::{self, Source};

/// The two rooms that make raw system calls, and the files below them.
const UNSAFE: &[&str] = &["runtime-core/init/src/sys", "runtime-core/src/launch/clone.rs"];

const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 80;

/// Tables may be as long as what they list.
const TABLES: &[&str] = &["runtime-core/src/compile/seccomp/table.rs"];
/// Functions that are one `match` with an arm for each entry of a list.
const TABLE_FUNCTIONS: &[(&str, &str)] = &[("runtime-core/init/src/run.rs", "carry_out")];

const NO_ROOMS: &[&str] = &["utils", "util", "common", "helpers", "helper", "types", "misc"];

/// The places where `find` sees something in the code of a file.
fn places(find: impl Fn(&Source, usize, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in source::all() {
        for (index, line) in source.code.lines().enumerate() {
            if find(&source, index, line) {
                found.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
            }
        }
    }
    found
}

fn none(found: &[String], what: &str) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// Whether a word stands in a line by itself.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[test]
fn unsafe_is_in_two_rooms_only() {
    let in_room = |path: &str| UNSAFE.iter().any(|room| path.starts_with(room));
    let found = places(|source, _, line| {
        (has_word(line, "unsafe") || has_word(line, "unsafe_code")) && !in_room(&source.path)
    });
    none(&found, "unsafe outside of the two rooms");
    let rooms = places(|source, _, line| has_word(line, "unsafe") && in_room(&source.path));
    assert!(!rooms.is_empty(), "the word was not even found where it is");
}

#[test]
fn files_are_short() {
    let long = |source: &Source| {
        let lines = source.text.lines().count();
        let table = TABLES.contains(&source.path.as_str());
        (lines > LONGEST_FILE && !table).then(|| format!("{}: {lines} lines", source.path))
    };
    none(&source::all().iter().filter_map(long).collect::<Vec<_>>(), "too long");
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for source in source::all() {
        let lines: Vec<&str> = source.code.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let Some(name) = function(line) else { continue };
            // rustfmt puts the closing brace below the first letter.
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = format!("{indent}}}");
            let below = lines.iter().skip(start).position(|line| line.trim_end() == end);
            let length = below.map_or(0, |below| below + 1);
            let table = TABLE_FUNCTIONS.contains(&(source.path.as_str(), name));
            let table = table || TABLES.contains(&source.path.as_str());
            if length > LONGEST_FUNCTION && !table {
                found.push(format!("{}:{}: {name}, {length} lines", source.path, start + 1));
            }
        }
    }
    none(&found, "too long");
}

/// The name of the function that begins in a line and has a body below it.
fn function(line: &str) -> Option<&str> {
    if line.trim_end().ends_with(['}', ';']) {
        return None;
    }
    let (before, after) = line.split_once("fn ")?;
    let words = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern"];
    let declares = before.split_whitespace().all(|word| words.contains(&word));
    let name = after.split(['(', '<']).next()?;
    (declares && !name.is_empty()).then_some(name)
}

#[test]
fn rooms_have_names_that_say_something() {
    let named = |path: &str| {
        path.split('/').any(|part| NO_ROOMS.contains(&part.strip_suffix(".rs").unwrap_or(part)))
    };
    let files: Vec<String> =
        source::all().into_iter().map(|source| source.path).filter(|path| named(path)).collect();
    none(&files, "a room without a subject");
    let found = places(|_, _, line| {
        let name = line.trim().trim_end_matches([';', '{', ' ']).rsplit_once("mod ");
        name.is_some_and(|(_, name)| NO_ROOMS.contains(&name))
    });
    none(&found, "a room without a subject");
}

#[test]
fn every_file_opens_with_what_its_room_decides() {
    let missing: Vec<String> = source::all()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path)
        .collect();
    none(&missing, "no head");
}

#[test]
fn nothing_is_a_stub() {
    let stubs = ["todo!", "unimplemented!", "dbg!"];
    let found = places(|_, _, line| stubs.iter().any(|stub| line.contains(stub)));
    none(&found, "a stub");
}

#[test]
fn a_lint_is_silenced_with_a_reason() {
    let found = places(|source, index, line| {
        let attribute = line.trim_start().starts_with('#');
        let silences = line.contains("allow(") || line.contains("expect(");
        if !attribute || !silences || line.contains("allow(unsafe_code)") {
            return false; // where that one is has a rule of its own
        }
        let lines: Vec<&str> = source.text.lines().collect();
        let above = index > 0 && lines[index - 1].trim_start().starts_with("//");
        !(above || lines[index].contains("//") || lines[index].contains("reason"))
    });
    none(&found, "no reason given");
}

#[test]
fn the_reading_of_functions_works() {
    assert_eq!(function("    pub(super) fn a<T>(x: T) -> T {"), Some("a"));
    assert_eq!(function("pub const unsafe fn b("), Some("b"));
    assert_eq!(function("fn c() -> u8 { 1 }"), None);
    assert_eq!(function("    fn d(&self);"), None);
    assert_eq!(function("    let x: fn ("), None);
}
