//! The tables hold together: every clause has a case or a reason, every case names
//! clauses that there are, and with the specification's text at hand no duty in
//! it is without a clause.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::runtime::Runtime;
use crate::{case, clause, host, known};

fn duplicates<'a>(ids: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    ids.filter(|id| !seen.insert(*id)).collect()
}

fn none<T: std::fmt::Debug>(found: &[T], what: &str) {
    assert!(found.is_empty(), "{what}: {found:#?}");
}

#[test]
fn every_clause_has_a_case_or_a_reason() {
    let (clauses, cases) = (clause::all().unwrap(), case::all().unwrap());
    let checked: BTreeSet<&str> =
        cases.iter().flat_map(|case| case.clauses.iter().map(String::as_str)).collect();
    let has = |clause: &&clause::Clause| checked.contains(clause.id.as_str());
    let open: Vec<_> =
        clauses.iter().filter(|c| !has(c) && c.untested.is_none()).map(|c| &c.id).collect();
    none(&open, "neither a case nor a reason");
    let both: Vec<_> =
        clauses.iter().filter(|c| has(c) && c.untested.is_some()).map(|c| &c.id).collect();
    none(&both, "a case, and a reason why there is none");
    assert!(clauses.len() > 300 && cases.len() > 400, "{} {}", clauses.len(), cases.len());
}

#[test]
fn every_case_names_clauses_that_there_are() {
    let (clauses, cases) = (clause::all().unwrap(), case::all().unwrap());
    let ids: BTreeSet<&str> = clauses.iter().map(|clause| clause.id.as_str()).collect();
    none(&duplicates(clauses.iter().map(|clause| clause.id.as_str())), "clauses of one name");
    none(&duplicates(cases.iter().map(|case| case.id.as_str())), "cases of one name");
    let runtime = Runtime { path: "/bin/sh".into(), arguments: Vec::new() };
    let mut wrong = Vec::new();
    for case in &cases {
        if case.clauses.is_empty() {
            wrong.push(format!("{} names no clause", case.id));
        }
        let unknown = case.clauses.iter().filter(|clause| !ids.contains(clause.as_str()));
        wrong.extend(unknown.map(|clause| format!("{} names {clause}", case.id)));
        if case.id.contains(['$', ' ']) {
            wrong.push(format!("{} is no name", case.id));
        }
        let lacks = case.needs.iter().filter_map(|need| host::lacks(need, &runtime));
        wrong.extend(lacks.filter(|why| why.starts_with("nobody")));
    }
    none(&wrong, "wrong cases");
}

#[test]
fn levels_are_the_words_of_the_specification() {
    let words = ["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "REQUIRED", "MAY", "note"];
    // Duties without a key word: lower case, or what follows from a description.
    // And what the specification does not know, but engines do.
    let quiet = ["must", "should", "default", "usual"];
    let clauses = clause::all().unwrap();
    let level = |c: &&clause::Clause| ![&words[..], &quiet].concat().contains(&c.level.as_str());
    none(&clauses.iter().filter(level).map(|c| &c.id).collect::<Vec<_>>(), "unknown levels");
}

#[test]
fn the_lists_of_what_is_known_speak_of_what_there_is() {
    let (clauses, cases) = (clause::all().unwrap(), case::all().unwrap());
    let is_case = |id: &String| cases.iter().any(|case| &case.id == id);
    let is_clause = |id: &str| clauses.iter().any(|clause| clause.id == id);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for known in known::deviations().unwrap() {
        if !is_clause(&known.clause) {
            wrong.push(known.clause.clone());
        }
        // A race is no excuse for our own runtime, and only a race may be anywhere.
        let race = known.sometimes.is_some();
        if known.cases.is_empty() != race || (race && known.runtime == "orlop") {
            wrong.push(format!("{}: {}", known.runtime, known.why));
        }
        for case in known.cases {
            let new = seen.insert((known.runtime.clone(), known.version.clone(), case.clone()));
            if !is_case(&case) || !new {
                wrong.push(format!("{}: {case}", known.runtime));
            }
        }
    }
    for skip in known::skips().unwrap() {
        wrong.extend(skip.cases.into_iter().filter(|case| !is_case(case)));
    }
    none(&wrong, "unknown or listed twice");
}

/// The text of a file as it is read: without links, marks and code.
fn plain(text: &str) -> String {
    let outside = text.split("```").step_by(2).collect::<String>();
    let mut plain = String::new();
    let mut rest = outside.as_str();
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("<a name=\"") {
            rest = after.split_once("/>").map_or("", |(_, after)| after);
            continue;
        }
        if let Some((shown, after)) = link(rest) {
            plain.push_str(&self::plain(shown));
            rest = after;
            continue;
        }
        if first != '`' && first != '*' {
            plain.push(first);
        }
        rest = &rest[first.len_utf8()..];
    }
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `[shown](target)` or `[shown][target]`, and what follows.
fn link(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('[')?;
    let mut depth = 0;
    let end = inside.char_indices().find_map(|(at, letter)| {
        match letter {
            '[' => depth += 1,
            ']' if depth == 0 => return Some(at),
            ']' => depth -= 1,
            _ => {}
        }
        None
    })?;
    let (shown, after) = (&inside[..end], &inside[end + 1..]);
    let close = match after.chars().next()? {
        '(' => ')',
        '[' => ']',
        _ => return None,
    };
    Some((shown, after.split_once(close)?.1))
}

/// Where a text has the key words, but for those that describe a field:
/// `(string, REQUIRED)`.
fn key_words(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for word in ["MUST", "SHOULD", "SHALL", "REQUIRED", "RECOMMENDED"] {
        for (at, _) in text.match_indices(word) {
            let before = &text[..at];
            let open = before.rfind('(').filter(|open| !before[*open..].contains(')'));
            let field = open.is_some_and(|open| {
                word.starts_with('R')
                    && before[open + 1..].chars().all(|c| c.is_alphanumeric() || " ,".contains(c))
            });
            let whole = !before.ends_with(char::is_alphanumeric)
                && !text[at + word.len()..].starts_with(char::is_alphanumeric);
            if whole && !field {
                found.push(at);
            }
        }
    }
    found
}

fn specification() -> Option<BTreeMap<String, String>> {
    let repository = std::env::var_os("RUNTIME_SPEC")?;
    let commit = clause::edition().unwrap().commit;
    let files = [
        "glossary",
        "bundle",
        "runtime",
        "runtime-linux",
        "config",
        "config-linux",
        "features",
        "features-linux",
    ];
    let read = |name: &&str| {
        let file = format!("{name}.md");
        let mut git = Command::new("git");
        let output = git.arg("-C").arg(&repository).arg("show").arg(format!("{commit}:{file}"));
        let output = output.output().expect("git");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (file, String::from_utf8(output.stdout).expect("UTF-8"))
    };
    Some(files.iter().map(read).collect())
}

#[test]
fn no_duty_is_without_a_clause() {
    let Some(files) = specification() else {
        println!(
            "SKIP no_duty_is_without_a_clause: RUNTIME_SPEC names no clone of the specification"
        );
        return;
    };
    let clauses = clause::all().unwrap();
    let mut wrong = Vec::new();
    for (file, raw) in &files {
        let text = plain(raw);
        let mut covered = Vec::new();
        for clause in clauses.iter().filter(|clause| &clause.file == file) {
            let quoted: Vec<_> = text
                .match_indices(&clause.quote)
                .filter(|(at, _)| !text[..*at].ends_with(char::is_alphanumeric))
                .map(|(at, quote)| at..at + quote.len())
                .collect();
            if quoted.is_empty() {
                wrong.push(format!("{file} does not say \"{}\"", clause.quote));
            }
            if !raw.contains(&format!("<a name=\"{}\"", clause.section)) {
                wrong.push(format!("{file} has no section {}", clause.section));
            }
            covered.extend(quoted);
        }
        for at in key_words(&text) {
            if !covered.iter().any(|range| range.contains(&at)) {
                let start = text[..at].char_indices().rev().nth(60).map_or(0, |(start, _)| start);
                let around: String = text[start..].chars().take(140).collect();
                wrong.push(format!("{file}: no clause for …{around}…"));
            }
        }
    }
    none(&wrong, "the tables and the text differ");
}

#[test]
fn the_text_is_read_as_it_is_shown() {
    let raw = "# <a name=\"x\" />A `b` *c* [d [e][f] g](h)\n```\nMUST\n```\nThis **MUST** (int, REQUIRED) be.";
    assert_eq!(plain(raw), "# A b c d e g This MUST (int, REQUIRED) be.");
    assert_eq!(key_words("a MUST b (c, REQUIRED) REQUIRED MUSTARD"), [2, 23]);
}
