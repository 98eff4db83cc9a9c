//! What `create` and `run` have in common: the bundle and how a container is made
//! from it.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use nix::unistd::geteuid;
use orlop::bundle::Bundle;
use orlop::cgroup::Driver;
use orlop::container::{CreateOptions, Terminal};
use orlop::host::HostFacts;
use orlop::{Error, Result};

use crate::args::{DEFAULT_ROOT, Globals};

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
    pub(super) fn options(&self) -> CreateOptions {
        CreateOptions {
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            ..CreateOptions::default()
        }
    }
}

/// The flags of both commands.
#[derive(Debug, Args)]
pub(super) struct Creation {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Send the master of the container's terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    #[command(flatten)]
    planning: Planning,
    /// The new container
    #[arg(value_name = "CONTAINER-ID")]
    pub(super) id: String,
}

impl Creation {
    /// The same for the library.
    pub(super) fn open(self, globals: &Globals) -> anyhow::Result<(Bundle, CreateOptions)> {
        rootless(&globals.rootless)?;
        let (root, chosen) = globals.root()?;
        if !chosen && root != Path::new(DEFAULT_ROOT) {
            keep(&root)?;
        }
        let options = CreateOptions {
            terminal: self.console_socket.map_or(Terminal::None, Terminal::Socket),
            pid_file: self.pid_file,
            cgroups: driver(globals),
            ..self.planning.options()
        };
        Ok((Bundle::open(&self.bundle)?, options))
    }
}

/// Who makes the cgroups.
pub(super) fn driver(globals: &Globals) -> Driver {
    if globals.systemd_cgroup { Driver::Systemd } else { Driver::ByPath }
}

/// Makes a user's own root. The sticky bit keeps it from the host's cleaning of old
/// files (XDG base directory specification, on `$XDG_RUNTIME_DIR`).
fn keep(root: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
    let made = made.and_then(|()| fs::set_permissions(root, Permissions::from_mode(0o1700)));
    made.map_err(|error| Error::io(&error, "creating").at_path(root))
}

/// The library finds out by itself whether cgroups may be out of reach; a value that
/// would have it think otherwise is refused.
fn rootless(value: &str) -> anyhow::Result<()> {
    let wanted = match value.to_ascii_lowercase().as_str() {
        "" | "auto" => return Ok(()),
        "true" | "t" | "1" => true,
        "false" | "f" | "0" => false,
        _ => bail!("invalid --rootless {value:?}: neither true, false nor auto"),
    };
    let found = !geteuid().is_root() || HostFacts::probe()?.rootless();
    if wanted != found {
        bail!(
            "--rootless {value}: the caller's privileges say {found}, and overriding is not built"
        );
    }
    Ok(())
}
