//! What the host shows of the daemon and its shims.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command;

/// The process that a process is the child of.
///
/// # Errors
/// There is no such process.
pub fn parent(pid: u32) -> Result<u32> {
    field(pid, "PPid")
}

/// Memory of its own, in KiB: neither its program nor files that it has mapped.
///
/// # Errors
/// There is no such process.
pub fn memory(pid: u32) -> Result<u32> {
    field(pid, "RssAnon")
}

fn field(pid: u32, name: &str) -> Result<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("process {pid} has no {name}"))
}

/// How many descriptors it has open.
///
/// # Errors
/// There is no such process.
pub fn descriptors(pid: u32) -> Result<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    let count = entries.with_context(|| format!("process {pid}"))?.count();
    Ok(u32::try_from(count)?)
}

/// Shims of a namespace of containerd's, by their command line.
#[must_use]
pub fn shims(namespace: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split('\0');
        let program = words.next().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default();
        if program.starts_with("containerd-shim-") && words.any(|word| word == namespace) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

/// Whether it is there and no zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains("Z (zombie)"))
}

/// Waits for the end of a process that is no child of ours.
///
/// # Errors
/// It does not come.
pub fn wait_for_end(what: &str, pid: u32) -> Result<()> {
    let ended = command::until(Duration::from_secs(20), || !is_alive(pid));
    ensure!(ended, "{what} (process {pid}) does not end");
    Ok(())
}
