//! `try`: a throwaway container of the machine's own programs. No image, no
//! download, no root needed.
//!
//! It writes a bundle into a temporary folder, runs it in the foreground and
//! removes it. `isolation.rs` says what this machine lets it isolate, `config.rs`
//! writes that down as the config of a container like any other.

mod config;
mod isolation;

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use orlop::bundle::Bundle;
use orlop::container::{CreateOptions, Store};
use orlop::host::HostFacts;

use config::{Config, PRIVATE};
use isolation::Isolation;

use super::Call;
use crate::foreground::Foreground;

#[derive(Debug, Args)]
struct Arguments {
    /// What to run [default: a shell]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The machine's own directories that the container sees, read-only.
const SHARED: &[&str] = &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt"];

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { command } = call.parse()?;
    let folder = Folder::new()?;
    let rootfs = folder.path.join("rootfs");
    let shared = lay_out(&rootfs).context("laying out the root")?;
    let terminal = command.is_empty() && std::io::stdin().is_terminal();
    let command = if command.is_empty() { vec![shell()] } else { command };
    let isolation = Isolation::of(&HostFacts::probe()?);
    let id = format!("orlop-try-{}", std::process::id());
    let config = Config { id: &id, command: &command, terminal, shared: &shared };
    let config = config.write(&isolation).to_string();
    fs::write(folder.path.join("config.json"), config).context("writing the bundle")?;

    let mut bundle = Bundle::open(&folder.path)?;
    let store = Store::new(folder.path.join("state"));
    let mut foreground = Foreground::new()?;
    foreground.end_when_asked();
    let mut options = CreateOptions::default();
    if let Some(process) = bundle.spec.process_mut()
        && terminal
    {
        options.terminal = foreground.terminal(process)?;
    }
    let (container, started) = store.run(&id, &bundle, &options)?;
    super::warn(&started.warnings);
    drop(options);
    introduce(&isolation, terminal);
    let status = foreground.wait(&started);
    container.delete()?;
    u8::try_from(status?).context("the exit status is out of range")
}

/// A temporary folder, removed at the end.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let template = std::env::temp_dir().join("orlop-try-XXXXXX");
        let path = nix::unistd::mkdtemp(&template).context("making a temporary folder")?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is mounted in our mount namespace: the folder has only what we
        // put there.
        if let Err(error) = fs::remove_dir_all(&self.path) {
            log::warn!("removing {:?}: {error}", self.path);
        }
    }
}

/// Makes the root's directories. A link of the machine's, such as `/bin`, is a
/// link again; returned are the directories to be bound.
fn lay_out(rootfs: &Path) -> std::io::Result<Vec<&'static str>> {
    let mut shared = Vec::new();
    let make = |path: &Path| fs::DirBuilder::new().mode(0o755).create(path);
    make(rootfs)?;
    for name in SHARED {
        let own = Path::new("/").join(name);
        match fs::symlink_metadata(&own) {
            Err(_) => {}
            Ok(metadata) if metadata.is_symlink() => {
                std::os::unix::fs::symlink(fs::read_link(&own)?, rootfs.join(name))?;
            }
            Ok(_) => {
                make(&rootfs.join(name))?;
                shared.push(*name);
            }
        }
    }
    for name in PRIVATE.iter().chain(&["dev", "proc", "sys"]) {
        make(&rootfs.join(name))?;
    }
    Ok(shared)
}

fn shell() -> String {
    let known = ["/bin/bash", "/bin/sh"].into_iter().find(|path| Path::new(path).exists());
    known.unwrap_or("sh").to_owned()
}

/// Three lines for a person, none for a program.
fn introduce(isolation: &Isolation, terminal: bool) {
    let mut to = std::io::stderr();
    if to.is_terminal() {
        let end = if terminal { "\r\n" } else { "\n" };
        let text: String = isolation.lines().map(|line| line + end).concat();
        let _ = to.write_all(text.as_bytes());
    }
}
