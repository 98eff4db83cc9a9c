//! The clauses of the specification, from the tables in `clauses/`: what it asks
//! of a runtime, where, and why some of it can't be tested.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Which text the tables were made from.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edition {
    /// The release.
    pub(crate) version: String,
    /// The commit of its repository.
    pub(crate) commit: String,
}

/// One duty.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Clause {
    /// What cases call it.
    pub(crate) id: String,
    /// The file of the specification.
    pub(crate) file: String,
    /// The anchor of the section in it.
    pub(crate) section: String,
    /// The key word: MUST, SHOULD, or their negations.
    pub(crate) level: String,
    /// The few words by which it is found.
    pub(crate) quote: String,
    /// The duty in short.
    pub(crate) says: String,
    /// Why no case can check it.
    pub(crate) untested: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    file: String,
    sections: Vec<Section>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    anchor: String,
    clauses: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    level: String,
    quote: String,
    says: String,
    untested: Option<String>,
}

const TABLES: &[&str] = &[
    include_str!("../clauses/glossary.json"),
    include_str!("../clauses/bundle.json"),
    include_str!("../clauses/runtime.json"),
    include_str!("../clauses/runtime-linux.json"),
    include_str!("../clauses/config.json"),
    include_str!("../clauses/mount-options.json"),
    include_str!("../clauses/config-linux.json"),
    include_str!("../clauses/features.json"),
    include_str!("../clauses/features-linux.json"),
    // No text of the specification: what engines rely on beside it.
    include_str!("../clauses/command-line.json"),
];

/// The edition of the specification.
pub(crate) fn edition() -> Result<Edition> {
    serde_json::from_str(include_str!("../clauses/edition.json")).context("clauses/edition.json")
}

/// All clauses, in the order of the text.
pub(crate) fn all() -> Result<Vec<Clause>> {
    let mut clauses = Vec::new();
    for text in TABLES {
        let table: Table = serde_json::from_str(text)
            .with_context(|| format!("a table in clauses/: {}", &text[..text.len().min(60)]))?;
        for section in table.sections {
            clauses.extend(section.clauses.into_iter().map(|entry| Clause {
                id: entry.id,
                file: table.file.clone(),
                section: section.anchor.clone(),
                level: entry.level,
                quote: entry.quote,
                says: entry.says,
                untested: entry.untested,
            }));
        }
    }
    Ok(clauses)
}
