//! Files go into the machine, once for each change.
//!
//! A program is put beside its place and renamed: one that runs there is not
//! touched. Size and time of change say whether it is there already.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::progress::{self, Progress};
use super::ssh::{self, Ssh, User};

const LIMIT: Duration = Duration::from_secs(300);

/// A file here and its place there.
#[derive(Debug)]
pub struct Load {
    /// The file here.
    pub from: PathBuf,
    /// Its path there.
    pub to: PathBuf,
}

impl Load {
    /// To the same path there: what tests know of each other by their paths holds.
    ///
    /// # Errors
    /// There is no such file.
    pub fn in_place(file: &Path) -> Result<Self> {
        let from =
            file.canonicalize().with_context(|| format!("there is no {}", file.display()))?;
        ensure!(from.is_file(), "{} is no file", from.display());
        Ok(Self { to: from.clone(), from })
    }

    /// What `stat` prints there when it is the same file.
    fn mark(&self) -> Result<String> {
        let data = fs::metadata(&self.from)
            .with_context(|| format!("there is no {}", self.from.display()))?;
        Ok(mark(data.len(), data.mtime(), data.mtime_nsec(), &self.to))
    }
}

fn mark(size: u64, seconds: i64, nanoseconds: i64, path: &Path) -> String {
    format!("{size} {seconds}.{nanoseconds:09} {}", path.display())
}

/// Puts files into the machine as root, those that are not there.
///
/// # Errors
/// One cannot be read here or written there.
pub fn put(ssh: &Ssh, loads: &[Load]) -> Result<()> {
    let paths = loads.iter().map(|load| ssh::quote(load.to.as_os_str()).into_string().ok());
    let paths: Vec<_> = paths.collect::<Option<_>>().context("a path is not UTF-8")?;
    let line = format!("stat -c '%s %.9Y %n' -- {} 2>&1", paths.join(" "));
    let there = ssh.ask(&line, LIMIT)?.stdout;
    for (load, path) in loads.iter().zip(paths) {
        let mark = load.mark()?;
        if !there.lines().any(|line| line == mark) {
            put_one(ssh, load, &path)?;
        }
    }
    Ok(())
}

fn put_one(ssh: &Ssh, load: &Load, path: &str) -> Result<()> {
    let data = fs::metadata(&load.from)?;
    let mode = data.permissions().mode() & 0o7777;
    let time = format!("{}.{:09}", data.mtime(), data.mtime_nsec());
    let line = format!(
        "umask 022; mkdir -p -- \"$(dirname -- {path})\" && cat >{path}.new && \
         chmod {mode:o} -- {path}.new && touch -d @{time} -- {path}.new && \
         mv -f -- {path}.new {path}"
    );
    let log = ssh.folder.join("transfer.log");
    let (out, err) = progress::log(&log)?;
    let mut command = ssh.command(User::Root, &line);
    let mut child = command.stdin(File::open(&load.from)?).stdout(out).stderr(err).spawn()?;
    let name = load.to.file_name().unwrap_or_default().to_string_lossy();
    let what = format!("copying {name}, {:.1} MB", data.len() as f64 / 1e6);
    let mut progress = Progress::new(&what);
    progress.wait(&mut child, LIMIT, &log)?;
    progress.done();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_what_stat_prints() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b");
        fs::write(&path, "12345").unwrap();
        let load = Load::in_place(&path).unwrap();
        let mut stat = std::process::Command::new("stat");
        let output = stat.args(["-c", "%s %.9Y %n", "--"]).arg(&load.to).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), load.mark().unwrap());
    }

    #[test]
    fn a_folder_is_no_program() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Load::in_place(folder.path()).is_err());
        assert!(Load::in_place(&folder.path().join("none")).is_err());
    }
}
