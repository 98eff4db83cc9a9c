//! The sources as text: every Rust file of the workspace, and the same without
//! what is no code.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file.
pub(crate) struct Source {
    /// Its path from the workspace's root.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// With comments, strings and characters blanked; the same lines.
    pub(crate) code: String,
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace around us");
    root.to_path_buf()
}

/// Every Rust file below the workspace's root, sorted.
pub(crate) fn all() -> Vec<Source> {
    let root = root();
    let mut sources = Vec::new();
    walk(&root, &mut |path| {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).expect("a source in UTF-8");
            let code = without_text(&text);
            let path = path.strip_prefix(&root).expect("below the root").to_string_lossy();
            sources.push(Source { path: path.into_owned(), text, code });
        }
    });
    assert!(sources.len() > 100, "only {} sources found", sources.len());
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Visits every file, but for what is built and what is hidden.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).expect("a directory that can be read") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_symlink() || name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            walk(&path, visit);
        } else {
            visit(&path);
        }
    }
}

/// Blanks comments, strings and character literals.
pub(crate) fn without_text(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let before = code.chars().next_back().unwrap_or(' ');
        let in_word = before.is_alphanumeric() || before == '_';
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => quoted(rest),
            'r' | 'b' | 'c' if !in_word => raw(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            let (gone, after) = rest.split_at(length);
            code.extend(gone.chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = after;
        }
    }
    code
}

/// Length of the string that `text` begins with.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Length of the prefixed string (`r#"…"#`, `b"…"`, `c"…"`) that `text` begins
/// with, or 0.
fn raw(text: &str) -> usize {
    let prefix: usize = text.chars().take_while(|c| "rbc".contains(*c)).count();
    let after = &text[prefix..];
    let hashes = after.chars().take_while(|c| *c == '#').count();
    if prefix > 2 || !after[hashes..].starts_with('"') {
        return 0;
    }
    if !text[..prefix].contains('r') {
        return prefix + quoted(after);
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let inside = prefix + hashes + 1;
    text[inside..].find(&end).map_or(text.len(), |at| inside + at + end.len())
}

/// Length of the character literal that `text` begins with, or 0 for a lifetime.
fn character(text: &str) -> usize {
    if text.starts_with("'\\") {
        return text[3..].find('\'').map_or(0, |at| at + 4);
    }
    let mut chars = text.char_indices().skip(2);
    match chars.next() {
        Some((at, '\'')) => at + 1,
        _ => 0,
    }
}

#[test]
fn only_code_is_left() {
    for (text, code) in [
        ("a // unsafe\nb", "a          \nb"),
        ("x(\"un\\\"safe\")", "x(          )"),
        ("r#\"a\"b\"# c", "         c"),
        ("let c = '\"'; d", "let c =    ; d"),
        ("fn f<'a>(b: &'a str)", "fn f<'a>(b: &'a str)"),
        ("'\\'' b", "     b"),
        ("c\"x\" b'y'", "     b   "),
    ] {
        assert_eq!(without_text(text), code);
    }
}
