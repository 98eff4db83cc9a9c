//! Volumes and file systems.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Result, ensure};

use super::shell;
use crate::docker::container::Container;
use crate::docker::daemon::{Daemon, IMAGE};
use crate::engine::same;

pub(super) fn bind_volume(daemon: &Daemon) -> Result<()> {
    let host = daemon.directory().join("volume");
    fs::create_dir_all(&host)?;
    fs::write(host.join("from-host"), "hello")?;
    let volume = format!("{}:/mnt/volume", host.display());
    let script = "cat /mnt/volume/from-host && echo bye > /mnt/volume/from-container";
    let output = shell(daemon, &["--volume", &volume], script)?.success()?;
    same("the host's file", &output, "hello")?;
    let back = fs::read_to_string(host.join("from-container"))?;
    same("the container's file", back.trim(), "bye")?;
    ensure!(fs::metadata(host.join("from-container"))?.uid() == 0, "the file is not root's");
    let read_only = format!("{volume}:ro");
    let script = "cat /mnt/volume/from-host && ! touch /mnt/volume/no";
    shell(daemon, &["--volume", &read_only], script)?.exits_with(0)?;
    ensure!(!host.join("no").exists(), "a read-only volume was written to");
    let file = format!("{}:/etc/one-file", host.join("from-host").display());
    let output = shell(daemon, &["--volume", &file], "cat /etc/one-file")?.success()?;
    same("a single file", &output, "hello")?;
    // The engine reads the runtime's words to explain this one.
    let wrong = format!("{}:/etc", host.join("from-host").display());
    let output = shell(daemon, &["--volume", &wrong], "true")?;
    ensure!(output.code != 0, "a file covers a directory");
    ensure!(output.stderr.contains("Are you trying to mount a directory onto a file"), "{output}");
    Ok(())
}

pub(super) fn named_volume(daemon: &Daemon) -> Result<()> {
    daemon.must(&["volume", "create", "kept"])?;
    let options = ["--volume", "kept:/var/kept"];
    shell(daemon, &options, "echo data > /var/kept/file")?.exits_with(0)?;
    let output = shell(daemon, &options, "cat /var/kept/file")?.success()?;
    same("the file in the second container", &output, "data")?;
    // A new volume gets what the image has at that place.
    let output = shell(daemon, &["--volume", "/etc"], "test -s /etc/passwd && stat -fc %T /etc")?;
    output.exits_with(0)?;
    daemon.must(&["volume", "rm", "kept"]).map(drop)
}

pub(super) fn tmpfs(daemon: &Daemon) -> Result<()> {
    let options = ["--tmpfs", "/scratch:size=4m,mode=1770,noexec"];
    let script = "stat -fc %T /scratch; stat -c %a /scratch; df -k /scratch | tail -n 1 | awk '{print $2}'; \
                  grep -c ' /scratch [^ ]*noexec' /proc/self/mountinfo";
    let output = shell(daemon, &options, script)?.success()?;
    same("type, mode, size and noexec", &output, "tmpfs\n1770\n4096\n1")
}

pub(super) fn read_only(daemon: &Daemon) -> Result<()> {
    let script =
        "! touch /file && ! touch /usr/file && touch /dev/shm/file /scratch/file && echo ok";
    let output = shell(daemon, &["--read-only", "--tmpfs", "/scratch"], script)?;
    output.exits_with(0)?;
    same("the output", &output.stdout, "ok")?;
    let program = ["run", "--rm", IMAGE, "touch", "/file"];
    daemon.docker(&program)?.exits_with(0)
}

pub(super) fn copy(daemon: &Daemon) -> Result<()> {
    let container = Container::sleeping(daemon, &["--tmpfs", "/scratch"])?;
    let (there, back) = (daemon.directory().join("there"), daemon.directory().join("back"));
    fs::write(&there, "copied")?;
    let inside = format!("{}:/usr/copied", container.id);
    daemon.must(&["cp", &there.to_string_lossy(), &inside])?;
    same("the copied file", &container.exec(&["cat", "/usr/copied"])?.success()?, "copied")?;
    container.exec(&["sh", "-c", "echo more >> /usr/copied"])?.exits_with(0)?;
    daemon.must(&["cp", &inside, &back.to_string_lossy()])?;
    same("the file that came back", fs::read_to_string(&back)?.trim(), "copiedmore")?;
    let changes = container.must(&["diff"])?;
    ensure!(changes.lines().any(|line| line == "A /usr/copied"), "diff shows {changes:?}");
    Ok(())
}
