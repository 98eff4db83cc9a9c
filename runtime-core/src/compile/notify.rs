//! The socket on which the container says that it is ready (sd_notify(3)): how it comes
//! in there, and how the program hears of it.
//!
//! Who listens at its other end is the caller's business.

use std::path::Path;

use oci_spec::runtime::{Mount, Process};

use super::{Context, Options, rootfs};
use crate::plan::Builder;

/// COMPAT(runc): the place, and the options; but for the last, without which it is a peer
/// or a slave of the host's mount, as the container's root is.
const AT: &str = "/run/notify";
const OPTIONS: [&str; 6] = ["bind", "nosuid", "noexec", "nodev", "ro", "private"];

/// The mount of its directory, so that the socket can be made later.
pub(super) fn mount(options: &Options) -> Option<Mount> {
    let directory = options.notify.as_ref()?.parent()?;
    let mut mount = Mount::default();
    mount.set_destination(AT.into()).set_typ(None).set_source(Some(directory.to_path_buf()));
    mount.set_options(Some(OPTIONS.map(str::to_owned).to_vec()));
    Some(mount)
}

/// Whether it can come in. Where nothing can be mounted it can't.
pub(super) fn is_possible(plan: &mut Builder, context: &Context) -> bool {
    if context.options.notify.is_none() {
        return false;
    }
    let possible = rootfs::takes_mounts(context);
    if !possible {
        plan.warn("$NOTIFY_SOCKET: not passed on into a mount namespace that is not its own");
    }
    possible
}

/// The process, told of it.
pub(super) fn tell(process: &Process, options: &Options) -> Process {
    let mut process = process.clone();
    let name = options.notify.as_deref().and_then(Path::file_name).unwrap_or_default();
    let path = Path::new(AT).join(name);
    let entry = format!("NOTIFY_SOCKET={}", path.display());
    process.env_mut().get_or_insert_default().push(entry);
    process
}
