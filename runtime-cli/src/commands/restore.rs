//! `restore`: a container with the processes that a checkpoint has saved.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use orlop::bundle::Bundle;
use orlop::container::{CreateOptions, RestoreOptions, Terminal};

use super::bundle::{driver, rootless};
use super::images::Images;
use super::{Call, notify};
use crate::foreground::{self, Foreground};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    images: Images,
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Send the master of the container's terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Return as soon as the processes go on
    #[arg(short, long)]
    detach: bool,
    /// Do not adopt the orphans of the container
    #[arg(long)]
    no_subreaper: bool,
    /// Taken for runc's sake: CRIU makes the root
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Give the processes this profile: apparmor:NAME or selinux:LABEL
    #[arg(long, value_name = "PROFILE")]
    lsm_profile: Option<String>,
    /// Give mounts that had a label this one
    #[arg(long, value_name = "LABEL")]
    lsm_mount_context: Option<String>,
    /// The new container
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let arguments: Arguments = call.parse()?;
    let how = RestoreOptions {
        criu: arguments.images.options()?,
        lsm_profile: arguments.lsm_profile,
        lsm_mount_context: arguments.lsm_mount_context,
    };
    let mut options = CreateOptions {
        cgroups: driver(&call.globals)?,
        terminal: arguments.console_socket.map_or(Terminal::None, Terminal::Socket),
        pid_file: arguments.pid_file,
        no_pivot: arguments.no_pivot,
        no_new_keyring: arguments.no_new_keyring,
        notify: notify::socket().is_some(),
        optional_cgroup: rootless(&call.globals.rootless)?,
        ..CreateOptions::default()
    };
    let mut bundle = Bundle::open(&arguments.bundle)?;
    let store = call.store()?;
    if arguments.detach {
        let foreground = Foreground::new()?;
        let store = store.interrupted_by(foreground.interrupt()?);
        let (_, started) = store.restore(&arguments.id, &bundle, &options, &how)?;
        super::warn(&started.warnings);
        return Ok(0);
    }
    let subreaper = !arguments.no_subreaper;
    let mut foreground = Foreground::of(&mut bundle, &mut options, subreaper)?;
    let store = store.interrupted_by(foreground.interrupt()?);
    let (container, started) = store.restore(&arguments.id, &bundle, &options, &how)?;
    super::warn(&started.warnings);
    // The other end of the console socket: only the container's is left.
    drop(options);
    let status = foreground.wait(&started);
    foreground::delete(&container);
    foreground.finish(false)?;
    u8::try_from(status?).context("the exit status is out of range")
}
