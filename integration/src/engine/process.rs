//! What the host shows of a process: of a container's, of a daemon, of a shim.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::PATIENCE;
use crate::command;

/// `pid:[4026531836]` for the namespace `pid`
///
/// # Errors
/// There is no such process.
pub fn namespace(pid: u32, kind: &str) -> Result<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}"))?;
    Ok(link.to_string_lossy().into_owned())
}

/// A control file of its cgroup: `v1` in that controller's hierarchy, or `v2` where there
/// is only one.
///
/// # Errors
/// No such cgroup or file.
pub fn cgroup(pid: u32, (controller, v1): (&str, &str), v2: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let in_v1 = text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let names = parts.next()?;
        names.split(',').any(|name| name == controller).then(|| (names, parts.next()))
    });
    let (top, path, file) = match in_v1 {
        Some((names, path)) => (hierarchy(names, controller)?, path.unwrap_or("/"), v1),
        None => {
            let path = text.lines().find_map(|line| line.strip_prefix("0::"));
            (PathBuf::from("/sys/fs/cgroup"), path.context("no cgroup")?, v2)
        }
    };
    let file = top.join(path.trim_start_matches('/')).join(file);
    let value = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(value.trim().to_owned())
}

fn hierarchy(names: &str, controller: &str) -> Result<PathBuf> {
    [names, controller]
        .map(|name| Path::new("/sys/fs/cgroup").join(name))
        .into_iter()
        .find(|path| path.is_dir())
        .with_context(|| format!("the hierarchy of \"{controller}\" is not mounted"))
}

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
    let ended = command::until(PATIENCE, || !is_alive(pid));
    ensure!(ended, "{what} (process {pid}) does not end");
    Ok(())
}
