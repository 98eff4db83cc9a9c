//! A process of a container, as the host shows it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

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
