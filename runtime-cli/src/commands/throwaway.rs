//! `try`: a throwaway container of the machine's own programs. No image, no
//! download, no root needed.
//!
//! It writes a bundle into a temporary folder, runs it in the foreground and
//! removes it. `isolation.rs` says what this machine lets it isolate, `config.rs`
//! writes that down as the config of a container like any other, `folder.rs` sees
//! to it that nothing is left.

mod config;
mod folder;
mod isolation;

use std::fs::{self, Permissions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use orlop::bundle::Bundle;
use orlop::container::CreateOptions;
use orlop::host::HostFacts;
use orlop::{Error, Kind, Place};
use serde_json::Value;

use config::{Config, PRIVATE};
use folder::Folder;
use isolation::Isolation;

use super::Call;
use crate::foreground::Foreground;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Wait for the end of another `try` and clean up after it
    #[arg(long, value_name = "FOLDER", hide = true)]
    guard: Option<PathBuf>,
    /// What to run [default: a shell]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The machine's own directories that the container sees, read-only.
const SHARED: &[&str] = &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt"];

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { guard, command } = call.parse()?;
    if let Some(path) = guard {
        folder::guard(&path)?;
        return Ok(0);
    }
    folder::sweep();
    let isolation = Isolation::of(&HostFacts::probe()?)?;
    let folder = Folder::new(isolation.identity)?;
    let rootfs = folder.rootfs();
    let shared = lay_out(&rootfs)
        .map_err(|error| Error::io(&error, "laying out the root").at_path(&rootfs))?;
    // A command in a pipeline writes what the next one reads, line ends and all.
    let terminal =
        std::io::stdin().is_terminal() && (command.is_empty() || std::io::stdout().is_terminal());
    let command = if command.is_empty() { vec![shell()] } else { command };
    let term = std::env::var("TERM").unwrap_or_else(|_| "dumb".into());
    let config =
        Config { id: folder.id(), command: &command, terminal, term: &term, shared: &shared };
    let config = config.write(&isolation);
    folder.write_config(&config)?;

    let mut bundle = Bundle::open(folder.path())?;
    let mut foreground = Foreground::new()?;
    foreground.end_when_asked();
    let mut options = CreateOptions::default();
    foreground.join(&mut bundle.spec, &mut options)?;
    let (_, started) = folder
        .store()
        .interrupted_by(foreground.interrupt()?)
        .run(folder.id(), &bundle, &options)
        .map_err(|error| explain(error, &config))?;
    super::warn(&started.warnings);
    drop(options);
    introduce(&isolation, terminal);
    let status = foreground.wait(&started)?;
    foreground.finish(false)?;
    u8::try_from(status).context("the exit status is out of range")
}

/// Makes the root's directories. A link of the machine's, such as `/bin`, is a
/// link again; returned are the directories to be bound.
fn lay_out(rootfs: &Path) -> std::io::Result<Vec<&'static str>> {
    let mut shared = Vec::new();
    // Whatever the umask is, for the container's root may be another user.
    let make = |path: &Path| {
        fs::create_dir(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o755))
    };
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

/// Says why the kernel refuses what any user may do, where that is known.
fn explain(error: Error, config: &Value) -> Error {
    const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    if error.kind() != Kind::Permission {
        return error;
    }
    let entry = match error.place() {
        Some(Place::Config(at)) => config.pointer(at),
        _ => None,
    };
    if entry.is_some_and(|entry| entry["type"] == "proc") {
        let why = "in a container that hides a part of its /proc nobody can mount another";
        error.hint(why)
    } else if fs::read_to_string(APPARMOR).is_ok_and(|text| text.trim() == "1") {
        error.hint(format!("see {APPARMOR:?}"))
    } else {
        error
    }
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
