//! `ps`: a container's processes, as ps(1) shows them or as a list of ids.

use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use super::{Call, print};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How to print: table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// The container, and arguments for ps(1) [default: -ef]
    #[arg(trailing_var_arg = true, required = true, value_names = ["CONTAINER-ID", "PS-ARGUMENT"], num_args = 1..)]
    arguments: Vec<String>,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { format, mut arguments } = call.parse()?;
    let id = arguments.remove(0);
    let pids = call.open(&id)?.processes()?;
    match format.as_str() {
        // COMPAT(runc): none is Go's empty list.
        "json" if pids.is_empty() => print("null\n")?,
        "json" => print(&(serde_json::to_string(&pids)? + "\n"))?,
        "table" => {
            if arguments.is_empty() {
                arguments.push("-ef".into());
            }
            let output = Command::new("ps").args(&arguments).output().context("starting ps")?;
            let complaint = String::from_utf8_lossy(&output.stderr);
            // How to call it comes after what is wrong; it says nothing where it found none.
            let complaint = complaint.trim().lines().next().unwrap_or("no process is shown");
            ensure!(output.status.success(), "ps: {}: {complaint}", output.status);
            print(&filter(&String::from_utf8_lossy(&output.stdout), &pids)?)?;
        }
        _ => bail!("invalid format option"),
    }
    Ok(0)
}

/// The head of ps(1)'s table, and the lines of `pids`.
fn filter(table: &str, pids: &[i32]) -> anyhow::Result<String> {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|name| name == "PID");
    let column = column.context("ps printed no PID column")?;
    let mut text = format!("{head}\n");
    for line in lines {
        let Some(cell) = line.split_whitespace().nth(column) else { continue };
        let pid: i32 = cell.parse().with_context(|| format!("ps printed the PID {cell:?}"))?;
        if pids.contains(&pid) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_head_and_the_containers_lines() {
        let table = "UID   PID  CMD\nroot    1  init\nroot   12  sh -c 1\n\nroot  112  x\n";
        let wanted = "UID   PID  CMD\nroot   12  sh -c 1\n";
        assert_eq!(filter(table, &[12]).unwrap(), wanted);
    }

    #[test]
    fn a_table_without_pids_is_refused() {
        assert!(filter("UID CMD\n", &[1]).is_err());
        assert!(filter("", &[1]).is_err());
        assert!(filter("PID\nx\n", &[1]).is_err());
    }
}
