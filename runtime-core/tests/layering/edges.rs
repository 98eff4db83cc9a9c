//! Dependencies point one way.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{self, Source};

/// Which rooms a room of `runtime-core/src` may know. `init` stands for what the
/// stage's package shares: the plan's format, the messages, the system calls.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("features", &[]),
    ("bundle", &["error"]),
    ("host", &["error", "init"]),
    ("plan", &["error", "init"]),
    ("cgroup", &["error", "host", "init"]),
    ("resctrl", &["error", "host"]),
    ("compile", &["error", "bundle", "host", "plan", "init"]),
    ("launch", &["error", "plan", "init"]),
    ("criu", &["error", "launch", "init"]),
    (
        "container",
        &[
            "error", "bundle", "host", "plan", "cgroup", "resctrl", "compile", "launch", "criu",
            "init",
        ],
    ),
];

/// What the pure rooms may not name, because it asks or changes the world.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::time",
    "std::process",
    "std::net",
    "std::thread",
    "std::io",
    "std::os",
    "nix::",
    "procfs::",
    "log::",
];

const LIBRARY: &str = "runtime-core/src/";

/// The room that a file belongs to, and how many modules below the crate's root
/// it is.
fn room(path: &str) -> Option<(&str, usize)> {
    let inner = path.strip_prefix(LIBRARY)?;
    if inner == "lib.rs" {
        return None;
    }
    let stem = inner.strip_suffix(".rs")?;
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    Some((stem.split('/').next()?, stem.split('/').count()))
}

/// Every mention of another room in a file: its line and the room.
fn mentions(source: &Source, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // A group may go over several lines: every way begins at its own word.
    for (start, word, supers) in ways(&source.code) {
        let indented = source.code[..start].rsplit('\n').next().unwrap_or_default();
        let inline = usize::from(indented.starts_with(' '));
        let reaches_root = match word {
            "crate" => true,
            "super" => supers >= depth + inline,
            _ => false,
        };
        let line = source.code[..start].matches('\n').count() + 1;
        let rest = &source.code[start..];
        if word == "orlop_init" {
            found.push((line, "init".to_owned()));
        } else if reaches_root {
            let skipped = if word == "crate" { 1 } else { supers };
            let rest = (0..skipped).fold(rest, |rest, _| rest.split_once("::").map_or("", |r| r.1));
            found.extend(heads(rest).into_iter().map(|head| (line, head)));
        }
    }
    found
}

/// The paths that begin with `crate`, `super` or `orlop_init`: where, with which
/// word, and how many `super::` follow each other.
fn ways(code: &str) -> Vec<(usize, &'static str, usize)> {
    let mut ways = Vec::new();
    for word in ["crate", "super", "orlop_init"] {
        for (at, _) in code.match_indices(&format!("{word}::")) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || before == '_' || before == ':' {
                continue;
            }
            let supers = code[at..].split("::").take_while(|part| *part == "super").count();
            ways.push((at, word, supers));
        }
    }
    ways
}

/// The first names of a path, several when it is a group: `{a::b, c}` is a and c.
fn heads(rest: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut depth = 0;
    let mut heads = vec![name(group)];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    heads
}

/// What each room knows, and one place where it does.
fn graph() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut graph: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let sources = source::all();
    let rooms: BTreeSet<&str> = sources.iter().filter_map(|s| Some(room(&s.path)?.0)).collect();
    for source in &sources {
        let Some((from, depth)) = room(&source.path) else { continue };
        let edges = graph.entry(from.to_owned()).or_default();
        for (line, to) in mentions(source, depth) {
            if to != from && (to == "init" || rooms.contains(to.as_str())) {
                edges.entry(to).or_insert_with(|| format!("{}:{line}", source.path));
            }
        }
    }
    graph
}

#[test]
fn every_edge_is_a_listed_one() {
    let graph = graph();
    let mut wrong = Vec::new();
    for (from, edges) in &graph {
        let Some((_, allowed)) = ALLOWED.iter().find(|(room, _)| room == from) else {
            wrong.push(format!("{from} is a room that this test does not know"));
            continue;
        };
        for (to, place) in edges.iter().filter(|(to, _)| !allowed.contains(&to.as_str())) {
            wrong.push(format!("{from} may not know {to}: {place}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The reading works: these are there as long as the design holds.
    for (from, to) in [("container", "launch"), ("launch", "plan"), ("compile", "plan")] {
        assert!(graph[from].contains_key(to), "no edge from {from} to {to} was found");
    }
}

#[test]
fn there_is_no_cycle() {
    let mut graph = graph();
    while !graph.is_empty() {
        let free: Vec<String> = graph
            .iter()
            .filter(|(_, edges)| edges.keys().all(|to| !graph.contains_key(to)))
            .map(|(from, _)| from.clone())
            .collect();
        assert!(!free.is_empty(), "these rooms know each other in a circle: {graph:#?}");
        graph.retain(|from, _| !free.contains(from));
    }
}

/// The list itself must not allow a cycle: each room knows only those above it.
#[test]
fn the_list_is_in_order() {
    let mut known = BTreeSet::from(["init"]);
    for (room, allowed) in ALLOWED {
        assert!(allowed.iter().all(|to| known.contains(to)), "{room} comes before what it knows");
        known.insert(room);
    }
}

#[test]
fn the_compiler_and_the_plan_are_pure() {
    let pure = |path: &str| {
        ["compile/", "plan/", "cgroup/settings", "cgroup/devices"]
            .iter()
            .any(|room| path.strip_prefix(LIBRARY).is_some_and(|path| path.starts_with(room)))
            && !path.ends_with("tests.rs")
    };
    let mut wrong = Vec::new();
    for source in source::all().iter().filter(|source| pure(&source.path)) {
        let code = source.code.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let calls = line.contains("orlop_init::sys") && !line.contains("sys::abi");
            if calls || IMPURE.iter().any(|name| line.contains(name)) {
                wrong.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The stage may have no dependency at all, the library none of a program's.
#[test]
fn the_packages_below_know_nothing_of_those_above() {
    let manifest = |path: &str| {
        std::fs::read_to_string(source::root().join(path)).expect("a package's manifest")
    };
    let stage = manifest("runtime-core/init/Cargo.toml");
    assert!(!stage.contains("dependencies]"), "the init stage has a dependency");
    let library = manifest("runtime-core/Cargo.toml");
    for name in ["anyhow", "clap", "orlop-cli", "integration"] {
        let line = |line: &str| line.split(['.', ' ', '=']).next() == Some(name);
        assert!(!library.lines().any(line), "the library depends on {name}");
    }
}

#[test]
fn groups_and_ways_up_are_read() {
    let source = |code: &str| Source {
        path: String::new(),
        text: String::new(),
        code: source::without_text(code),
    };
    let rooms = |code: &str, depth| -> Vec<String> {
        mentions(&source(code), depth).into_iter().map(|(_, room)| room).collect()
    };
    assert_eq!(rooms("use crate::{plan::{Op, Slot}, host};", 1), ["plan", "host"]);
    assert_eq!(rooms("use super::super::host::Facts;", 2), ["host"]);
    assert_eq!(rooms("use super::host;", 1), ["host"]);
    assert_eq!(rooms("mod tests {\n    use super::host;\n}", 1), [""; 0]);
    assert_eq!(rooms("// crate::plan\nuse orlop_init::sys;", 1), ["init"]);
    assert_eq!(rooms("pub(crate) fn f() {}", 1), [""; 0]);
}
