//! Roots by snapshotters and without, and mounts.

use std::fs;

use anyhow::{Result, ensure};

use crate::containerd::container::Container;
use crate::containerd::daemon::{Daemon, IMAGE};
use crate::engine::same;

/// A root of a snapshotter is the container's own, and gone with it.
fn snapshotter(daemon: &Daemon, name: &str, kind: &str) -> Result<()> {
    let options = ["--snapshotter", name];
    let container = Container::sleeping(daemon, &options)?;
    container.exec(&["sh", "-c", "echo mine > /tmp/file; rm /bin/awk"])?.exits_with(0)?;
    let script = "grep ' / ' /proc/mounts | cut -d ' ' -f 3";
    let found = container.exec(&["sh", "-c", script])?.success()?;
    if !kind.is_empty() {
        same("the file system of the root", &found, kind)?;
    }
    let script = "test ! -e /tmp/file && test -e /bin/awk";
    daemon.run(&options, &["sh", "-c", script])?.exits_with(0)?;
    let options = [&options[..], &["--read-only"]].concat();
    let output = daemon.run(&options, &["touch", "/tmp/file"])?;
    ensure!(output.code != 0 && output.stderr.contains("Read-only"), "not refused: {output}");
    container.end()?;
    let rootfs = daemon.bundle(&container.id).join("rootfs");
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let rootfs = rootfs.display().to_string();
    ensure!(!mounts.contains(&rootfs), "{rootfs} is mounted after the deletion");
    daemon.must(&["containers", "delete", &container.id])?;
    let list = ["snapshots", "--snapshotter", name, "list"];
    let snapshots = daemon.list(&list)?;
    ensure!(!snapshots.contains(&container.id), "the snapshot is still there: {snapshots:?}");
    Ok(())
}

pub(super) fn overlay(daemon: &Daemon) -> Result<()> {
    snapshotter(daemon, "overlayfs", "overlay")
}

/// One that binds a copy of everything: the file system is the host's.
pub(super) fn native(daemon: &Daemon) -> Result<()> {
    snapshotter(daemon, "native", "")
}

/// A root that containerd does not mount.
pub(super) fn root_folder(daemon: &Daemon) -> Result<()> {
    let root = daemon.root().display().to_string();
    let run = |options: &[&str], script: &str| {
        let id = daemon.fresh("rootfs");
        // No image says where programs are.
        let run = ["run", "--rm", "--runtime", daemon.runtime(), "--env", "PATH=/bin"];
        let arguments = [&run[..], &["--rootfs"]].concat();
        daemon.ctr(&[&arguments[..], options, &[&root, &id, "sh", "-c", script]].concat())
    };
    run(&[], "echo mine > /tmp/file")?.exits_with(0)?;
    let file = daemon.root().join("tmp/file");
    same("what it wrote", &fs::read_to_string(&file)?, "mine\n")?;
    fs::remove_file(&file)?;
    let output = run(&["--read-only"], "touch /tmp/file")?;
    ensure!(output.code != 0 && output.stderr.contains("Read-only"), "not refused: {output}");
    ensure!(!file.exists(), "it was written all the same");
    Ok(())
}

pub(super) fn mounts(daemon: &Daemon) -> Result<()> {
    let shared = daemon.directory().join("shared");
    fs::create_dir_all(&shared)?;
    fs::write(shared.join("host"), "of the host\n")?;
    let mount = |options: &str| {
        format!("type=bind,src={},dst=/mnt/shared,options={options}", shared.display())
    };
    let script = "cat /mnt/shared/host; echo back > /mnt/shared/container";
    let output = daemon.run(&["--mount", &mount("rbind:rw")], &["sh", "-c", script])?;
    output.exits_with(0)?;
    same("what is mounted", &output.stdout, "of the host")?;
    same("what came back", &fs::read_to_string(shared.join("container"))?, "back\n")?;
    let output = daemon.run(&["--mount", &mount("rbind:ro")], &["sh", "-c", script])?;
    ensure!(output.code != 0 && output.stderr.contains("Read-only"), "not refused: {output}");
    let tmpfs = "type=tmpfs,src=tmpfs,dst=/mnt,options=size=1m";
    let script = "df -k /mnt | tail -n 1 | awk '{ print $2 }'";
    let output = daemon.run(&["--mount", tmpfs], &["sh", "-c", script])?;
    same("the size of a tmpfs", &output.stdout, "1024")?;
    let missing = "type=bind,src=/no/such/place,dst=/mnt,options=rbind";
    let output = daemon.run(&["--mount", missing], &["true"])?;
    let words = "no such file or directory";
    ensure!(output.code != 0 && output.stderr.contains(words), "other words: {output}");
    let images = daemon.must(&["images", "list", "--quiet"])?;
    same("the image", &images, IMAGE)?;
    fs::remove_dir_all(shared)?;
    Ok(())
}
