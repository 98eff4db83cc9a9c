//! What `create` and `run` have in common: the bundle and how a container is made
//! from it.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use orlop::bundle::Bundle;
use orlop::cgroup::Driver;
use orlop::container::{CreateOptions, Terminal};
use orlop::{Error, Result};

use super::activation::Activation;
use super::notify;
use crate::args::{DEFAULT_ROOT, Globals, bool_of_go};

/// The flags that change the plan.
#[derive(Debug, Args)]
pub(super) struct Planning {
    /// Move the root instead of pivoting, for a root on a ramdisk
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass this many descriptors after stdio
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,
}

impl Planning {
    /// The same for the library.
    pub(super) fn options(&self, globals: &Globals) -> anyhow::Result<CreateOptions> {
        Ok(CreateOptions {
            cgroups: driver(globals)?,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            optional_cgroup: rootless(&globals.rootless)?,
            ..CreateOptions::default()
        })
    }
}

/// The flags of both commands.
#[derive(Debug, Args)]
pub(super) struct Creation {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Read this file instead of the bundle's config.json; a relative path starts at
    /// the bundle
    #[arg(short = 'f', long, value_name = "FILE", default_value = "config.json")]
    config: PathBuf,
    /// Send the master of the container's terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send a pidfd of the process to this socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    #[command(flatten)]
    planning: Planning,
    /// The new container
    #[arg(value_name = "CONTAINER-ID")]
    pub(super) id: String,
}

impl Creation {
    /// The same for the library.
    pub(super) fn open(self, globals: &Globals) -> anyhow::Result<(Bundle, CreateOptions)> {
        let mut options = CreateOptions {
            terminal: self.console_socket.map_or(Terminal::None, Terminal::Socket),
            pid_file: self.pid_file,
            pidfd_socket: self.pidfd_socket,
            notify: notify::socket().is_some(),
            ..self.planning.options(globals)?
        };
        let (root, chosen) = globals.root()?;
        if !chosen && root != Path::new(DEFAULT_ROOT) {
            keep(&root)?;
        }
        let mut bundle = Bundle::open_with(&self.bundle, &self.config)?;
        if let Some(listening) = Activation::of_environment() {
            // Before those that were asked for: they begin at 3.
            options.preserve_fds = options.preserve_fds.saturating_add(listening.count);
            if let Some(process) = bundle.spec.process_mut() {
                listening.tell(process, true);
            }
        }
        Ok((bundle, options))
    }
}

/// Makes a user's own root. The sticky bit keeps it from the host's cleaning of old
/// files (XDG base directory specification, on `$XDG_RUNTIME_DIR`).
fn keep(root: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
    let made = made.and_then(|()| fs::set_permissions(root, Permissions::from_mode(0o1700)));
    made.map_err(|error| Error::io(&error, "creating").at_path(root))
}

/// Whether cgroups may be out of reach; none leaves it to the library, which knows
/// the caller's privileges.
pub(super) fn rootless(value: &str) -> anyhow::Result<Option<bool>> {
    if value.is_empty() || value.eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    let Ok(value) = bool_of_go(value) else {
        bail!("invalid --rootless {value:?}: neither true, false nor auto")
    };
    Ok(Some(value))
}

/// Who makes the cgroups, by crun's flag or by runc's, which say the same if both
/// are given.
pub(super) fn driver(globals: &Globals) -> anyhow::Result<Driver> {
    let named = match globals.cgroup_manager.as_deref() {
        None if globals.systemd_cgroup => Driver::Systemd,
        None => Driver::ByPath,
        Some("cgroupfs") => Driver::Cgroupfs,
        Some("systemd") => Driver::Systemd,
        Some("disabled") => Driver::Nobody,
        Some(other) => {
            bail!("--cgroup-manager {other:?} is neither cgroupfs, systemd nor disabled")
        }
    };
    if globals.systemd_cgroup && named != Driver::Systemd {
        bail!("--systemd-cgroup contradicts --cgroup-manager");
    }
    Ok(named)
}
