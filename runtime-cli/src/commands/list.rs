//! `list`: all containers of a root, as a table, as JSON or by their ids.

use std::io::Write as _;

use anyhow::bail;
use clap::Args;
use orlop::Kind;
use orlop::container::Status;

use super::state::Shown;
use super::{Call, print};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How to print: table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// Print the ids only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { format, quiet } = call.parse()?;
    let (root, chosen) = call.globals.root()?;
    let listed = match call.store()?.list() {
        // Nothing has been created yet; but a root that was asked for must be there.
        Err(error) if error.kind() == Kind::NotFound && !chosen => Vec::new(),
        listed => {
            let listed = listed?;
            if chosen && listed.is_empty() {
                root.read_dir()
                    .map_err(|error| orlop::Error::io(&error, "opening").at_path(&root))?;
            }
            listed
        }
    };
    let mut containers = Vec::new();
    for one in listed {
        match one {
            Ok(status) => containers.push(status),
            // Not the log: the list is no failure, and a log with an error is one.
            Err(error) => drop(writeln!(std::io::stderr(), "{error}")),
        }
    }
    print(&match format.as_str() {
        _ if quiet => containers.iter().map(|one| one.id.clone() + "\n").collect(),
        "table" => table(&containers),
        "json" => json(&containers)?,
        _ => bail!("invalid format option"),
    })?;
    Ok(0)
}

/// COMPAT(runc): no containers are `null`, as Go prints an empty slice.
fn json(containers: &[Status]) -> anyhow::Result<String> {
    if containers.is_empty() {
        return Ok("null\n".into());
    }
    let owners = owners(containers);
    let shown = containers.iter().zip(&owners).map(|(one, owner)| Shown::new(one, owner));
    let shown: Vec<_> = shown.collect();
    Ok(serde_json::to_string(&shown)? + "\n")
}

/// The owners' names, read from passwd(5) itself: the C library's way would load
/// shared objects into this static program.
fn owners(containers: &[Status]) -> Vec<String> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = |uid: u32| {
        let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let named = fields.filter(|fields| fields.len() > 2);
        let mut own = named.filter(|fields| fields[2].parse() == Ok(uid));
        // COMPAT(runc): an unknown owner is #1234.
        own.next().map_or_else(|| format!("#{uid}"), |fields| fields[0].to_owned())
    };
    containers.iter().map(|one| name(one.owner)).collect()
}

/// COMPAT(runc): columns of 12 or more, three spaces apart, the last one unpadded.
fn table(containers: &[Status]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let rows = containers.iter().zip(owners(containers)).map(|(one, owner)| {
        [
            one.id.clone(),
            one.pid.to_string(),
            one.status.to_string(),
            one.bundle.display().to_string(),
            one.created.clone(),
            owner,
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let wide = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let width = (wide(column).unwrap_or(0) + 3).max(12);
                text.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::status;
    use super::*;

    // As the installed runc 1.1.5 prints it.
    #[test]
    fn an_empty_table_is_its_head() {
        let head = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
        assert_eq!(table(&[]), head);
        assert_eq!(json(&[]).unwrap(), "null\n");
    }

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        let text = table(&[status("a-name-of-17-char", 1), status("é", 123_456)]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "ID                  PID         STATUS      BUNDLE      \
             CREATED                          OWNER"
        );
        assert_eq!(
            lines[2],
            "é                   123456      running     /b          \
             2026-01-02T03:04:05.678901234Z   root"
        );
    }
}
