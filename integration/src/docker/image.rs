//! The image: a small Debian, made from the machine's own apt sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::{apt, command};

/// The root file system as a tar file, made once and then kept in `cache`.
///
/// # Errors
/// apt knows no Debian, or mmdebstrap fails; the error names its log.
pub fn debian(cache: &Path, logs: &Path) -> Result<PathBuf> {
    let tar = cache.join("debian-minbase.tar");
    if tar.is_file() {
        return Ok(tar);
    }
    apt::ensure_installed(&[("mmdebstrap", "mmdebstrap")], &logs.join("apt.log"))?;
    let mut sources = apt::sources()?;
    if sources.is_empty() {
        apt::get(&["update"], &logs.join("apt.log"))?;
        sources = apt::sources()?;
    }
    ensure!(!sources.is_empty(), "apt has no sources of Debian's to make an image from");
    eprintln!("making a Debian image with mmdebstrap");
    let start = Instant::now();
    // A cut file must never be taken for the image.
    let partial = cache.join("debian-minbase.partial.tar");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--variant=minbase", "--mode=root", "--format=tar", ""]).arg(&partial);
    // What no check reads would only make the import slower.
    for path in ["doc", "man", "locale"] {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
    }
    mmdebstrap.args(sources);
    command::logged(&mut mmdebstrap, &logs.join("mmdebstrap.log"), Duration::from_secs(900))?;
    fs::rename(&partial, &tar).context("keeping the image")?;
    eprintln!("made the image in {:.0} s", start.elapsed().as_secs_f64());
    Ok(tar)
}
