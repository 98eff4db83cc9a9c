//! The documents speak of what is there.

use std::fs;

use super::source;

/// What stands between backquotes in ARCHITECTURE.md and looks like a path of
/// the tree, one line each.
fn named_paths(text: &str) -> Vec<&str> {
    let mut paths = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            paths.extend(line.split('`').skip(1).step_by(2).filter(|word| is_path(word)));
        }
    }
    paths
}

fn is_path(word: &str) -> bool {
    let tree = ["runtime-core/", "runtime-cli/", "integration/", "spec-tests/", ".cargo/", ".ci/"];
    let file = [".rs", ".md", ".toml", ".S"].iter().any(|end| word.ends_with(end));
    let plain = word.chars().all(|c| c.is_alphanumeric() || "._-/".contains(c));
    plain && (file || tree.iter().any(|start| word.starts_with(start)))
}

fn architecture() -> String {
    fs::read_to_string(source::root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md")
}

/// A path from the root, or the end of one: `create.rs`, `compile/mod.rs`.
#[test]
fn every_path_in_the_architecture_exists() {
    let (root, text, sources) = (source::root(), architecture(), source::all());
    let is_end = |path: &str| sources.iter().any(|s| s.path.ends_with(&format!("/{path}")));
    let paths = named_paths(&text);
    assert!(paths.len() > 100, "only {} paths found", paths.len());
    let missing: Vec<_> =
        paths.into_iter().filter(|path| !root.join(path).exists() && !is_end(path)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:#?}");
}

/// The other way round: a room that the document does not know is not found by
/// its reader.
#[test]
fn every_room_is_in_the_architecture() {
    let text = architecture();
    // Tests are told by their folder as a whole.
    let room = |folder: &str| folder.find("/tests/").map_or(folder.len(), |at| at + "/tests".len());
    // A package's own folder holds its build script and no more.
    let is_package = |folder: &str| source::root().join(folder).join("Cargo.toml").exists();
    let mut missing: Vec<_> = source::all()
        .iter()
        .filter_map(|source| Some(source.path.rsplit_once('/')?.0))
        .map(|folder| folder[..room(folder)].to_owned())
        .filter(|folder| !is_package(folder) && !text.contains(&format!("`{folder}/`")))
        .collect();
    missing.dedup();
    assert!(missing.is_empty(), "not in ARCHITECTURE.md: {missing:#?}");
}

#[test]
fn paths_are_told_from_other_words() {
    let text = "`runtime-core/src/error.rs` and `config.json`, `a b.rs`\n```\n`x.rs`\n```\n`op.rs`";
    assert_eq!(named_paths(text), ["runtime-core/src/error.rs", "op.rs"]);
}

/// Every advisory names tests that run: a file of the room, a function in it, and its
/// place in the list of those that are run.
#[test]
fn the_tests_of_advisories_exist() {
    let text = fs::read_to_string(source::root().join("SECURITY.md")).expect("the table");
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut count = 0;
    for row in rows {
        let tests: Vec<&str> = row.split('`').filter(|word| word.contains("::")).collect();
        assert!(!tests.is_empty(), "an advisory without a test: {row}");
        for test in tests {
            assert!(is_run(test), "there is no test {test}");
            count += 1;
        }
    }
    assert!(count > 30, "only {count} tests were found");
}

/// Whether there is a test of this name: `room::name` of containers, or `shim::file::name`
/// of the shim.
fn is_run(test: &str) -> bool {
    let (room, name) = test.rsplit_once("::").expect("it has two parts");
    let read = |file: &str| fs::read_to_string(source::root().join(file)).unwrap_or_default();
    if let Some(file) = room.strip_prefix("shim::") {
        let code = read(&format!("shim/tests/service/{file}.rs"));
        let is_there = read("shim/tests/service/main.rs").contains(&format!("\nmod {file};"))
            || file == "main";
        return is_there && code.contains(&format!("\n#[test]\nfn {name}("));
    }
    let code = read(&format!("runtime-cli/tests/containers/{}.rs", room.replace("::", "/")));
    let lists = code.split("tests![").skip(1).filter_map(|rest| rest.split(']').next());
    let listed = lists.flat_map(|list| list.split(',')).any(|one| one.trim() == name);
    listed && code.contains(&format!("\nfn {name}("))
}

#[test]
fn a_test_that_is_not_run_is_none() {
    for (test, there) in [
        ("security::race::a_place_that_becomes_a_link", true),
        ("security::race::for_a_while", false),
        ("security::nowhere::a_place_that_becomes_a_link", false),
        ("shim::advisories::nobody_else_reaches_the_socket", true),
        ("shim::advisories::as_another", false),
        ("shim::nowhere::nobody_else_reaches_the_socket", false),
    ] {
        assert_eq!(is_run(test), there, "{test}");
    }
}
