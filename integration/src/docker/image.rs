//! The image: a small Debian, made from the machine's own apt sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::tools;
use crate::command;

/// The root file system as a tar file, made once and then kept in `cache`.
///
/// # Errors
/// apt knows no Debian, or mmdebstrap fails; the error names its log.
pub fn debian(cache: &Path, logs: &Path) -> Result<PathBuf> {
    let tar = cache.join("debian-minbase.tar");
    if tar.is_file() {
        return Ok(tar);
    }
    let mut sources = sources()?;
    if sources.is_empty() {
        tools::apt(&["update"], logs)?;
        sources = self::sources()?;
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
    tools::logged(&mut mmdebstrap, &logs.join("mmdebstrap.log"), Duration::from_secs(900))?;
    fs::rename(&partial, &tar).context("keeping the image")?;
    eprintln!("made the image in {:.0} s", start.elapsed().as_secs_f64());
    Ok(tar)
}

/// Debian's own among apt's sources, one a line of the classic format, whatever
/// files they are configured in. Their keys are those that this machine trusts.
fn sources() -> Result<Vec<String>> {
    let mut targets = Command::new("apt-get");
    let format = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)";
    targets.args(["indextargets", "--format", format]);
    targets.args(["Created-By: Packages", "Origin: Debian"]);
    let text = command::run(&mut targets, "", Duration::from_secs(30))?.success()?;
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}
