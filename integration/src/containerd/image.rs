//! The image: busybox, whose one file has a name for each of its commands.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use crate::engine::PATIENCE;
use crate::{apt, command};

/// The root file system as a folder.
///
/// # Errors
/// busybox is not installed, or the folder cannot be filled.
pub fn root(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("busybox");
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "mnt", "root"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    let busybox = apt::installed("busybox").context("busybox is not installed")?;
    fs::copy(&busybox, root.join("bin/busybox"))?;
    let names = command::run(Command::new(busybox).arg("--list"), "", PATIENCE)?.success()?;
    for name in names.lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(name))?;
    }
    Ok(root)
}

/// An image of that root, as `docker save` writes it: what every containerd imports. By
/// itself it holds a pod together: it sleeps, and waits for what others leave to it.
///
/// # Errors
/// tar or sha256sum fails.
pub fn archive(root: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    let archive = folder.join("image.tar");
    let layer = folder.join("layer.tar");
    let tar = |file: &Path, from: &Path, what: &[&str]| {
        let mut tar = Command::new("tar");
        tar.args(["--owner=0", "--group=0", "--create", "--file"]).arg(file);
        tar.arg("--directory").arg(from).args(what);
        command::run(&mut tar, "", PATIENCE)?.success().map(drop)
    };
    tar(&layer, root, &["."])?;
    let sum = command::run(Command::new("sha256sum").arg(&layer), "", PATIENCE)?.success()?;
    let sum = sum.split(' ').next().unwrap_or_default();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["sh", "-c", "while :; do sleep 1000; done"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
    fs::write(folder.join("config.json"), config.to_string())?;
    fs::write(folder.join("manifest.json"), manifest.to_string())?;
    tar(&archive, folder, &["manifest.json", "config.json", "layer.tar"])?;
    fs::remove_file(layer)?;
    Ok(archive)
}
