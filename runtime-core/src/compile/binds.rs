//! Binds: a tree of the host in the container.
//!
//! Decides who opens the source, what becomes of the attributes that it has, and through
//! which ids it is seen.

use std::path::Path;

use orlop_init::sys::abi::{
    MOUNT_ATTR_ATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MS_SHARED,
};

use super::mount_options::Attributes;
use super::mounts::{Entry, HostTree, push_tree, unprivileged};
use super::{Context, in_bundle, namespaces, rootfs};
use crate::error::Result;
use crate::plan::{Builder, Fill, IdMapping, Slot, Target};

/// Attributes of a mount that a user namespace may not take back (mount_namespaces(7)),
/// but for the access times.
const RESTRICTIONS: u64 =
    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

pub(super) fn bind(
    plan: &mut Builder,
    context: &Context<'_>,
    entry: &Entry<'_>,
    ids: Option<IdMapping>,
) -> Result<()> {
    let options = &entry.options;
    if let Some((key, _)) = options.data.first() {
        // COMPAT(runc): the text is runc's.
        let what = "bind mounts cannot have any filesystem-specific options applied";
        return Err(entry.error("/options", what).hint(format!("such as {key:?}")));
    }
    if entry.source.as_os_str().is_empty() {
        return Err(entry.error("", format!("the bind mount on {:?} has no source", entry.at)));
    }
    let path = in_bundle(&context.options.bundle, entry.source);
    let source = rootfs::text(&path, || format!("{}/source", entry.pointer))?;
    let recursive = options.bind == Some(true);
    let mut all = options.all;
    // The cgroups below a read-only /sys would stay writable (CVE-2023-25809).
    let sys = rootfs::clean(source).is_some_and(|path| Path::new(&path).starts_with("/sys"));
    if sys && recursive && options.top.read_only() && unprivileged(context) {
        all = all.and(Attributes { set: MOUNT_ATTR_RDONLY, clear: 0 });
    }
    // Who has privileges in a namespace of others may not undo what the host has done.
    let locked = context.namespaces.user() || context.host.in_user_namespace;
    // What is in the root has the mounts that were made there before.
    let inside = rootfs::inside(context, source);
    let tree = HostTree {
        path: inside.as_deref().unwrap_or(source),
        recursive,
        top: attributes_of_bind(entry, locked),
        all,
        target: entry.target(Target::LIKE_SOURCE)?,
        locked,
        inside: inside.is_some(),
        mapped: inside.is_some() && ids.is_some(),
    };
    // From inside another user namespace the source may be out of reach, and from inside
    // a container it is.
    let host = context.host;
    let inside_another = context.namespaces.user() && host.may_mount() && host.owns_mounts;
    let by_launcher = !context.first || inside_another;
    let slot = if tree.inside {
        if let Some(ids) = ids {
            plan.map_next(ids);
        }
        Slot::NONE
    } else if ids.is_some() || by_launcher {
        opened(plan, context, &path, recursive, ids)
    } else {
        Slot::NONE
    };
    push_tree(plan, entry, &entry.at, slot, &tree);
    Ok(())
}

/// A tree of the host that the launcher opens: its is still the host's mount namespace.
fn opened(
    plan: &mut Builder,
    context: &Context<'_>,
    path: &Path,
    recursive: bool,
    ids: Option<IdMapping>,
) -> Slot {
    let propagation = match rootfs::host_propagation(context) {
        _ if rootfs::is_mounted(context) => rootfs::kept_out(context),
        Ok((MS_SHARED, _)) | Err(_) => 0,
        Ok((kind, _)) => kind,
    };
    plan.slot(Fill::Tree { path: path.to_path_buf(), recursive, ids, propagation })
}

/// The same of what stands in for a file system, where the stage sees the host's mounts
/// no more: in a container that runs.
pub(super) fn stand_in(
    plan: &mut Builder,
    context: &Context<'_>,
    path: &str,
    recursive: bool,
) -> Slot {
    if context.first {
        return Slot::NONE;
    }
    opened(plan, context, Path::new(path), recursive, None)
}

/// What becomes of the attributes that the source has on the host.
///
/// COMPAT(runc): any option makes the mount what the list says and nothing else, though
/// mount(8) keeps what is not named. Where the host's attributes are locked they stay, and
/// taking one back is refused.
fn attributes_of_bind(entry: &Entry<'_>, locked: bool) -> Attributes {
    let mut top = entry.options.top;
    if top.set | top.clear == 0 {
        return top;
    }
    // As mount(2) does it: without a word for a policy that there was stays, and with one
    // what directories had goes too.
    let mut words = entry.mount.options().iter().flatten();
    let relative = words.rfind(|word| word.ends_with("relatime"));
    let policy = top.set & (MOUNT_ATTR_ATIME | MOUNT_ATTR_NODIRATIME) != 0;
    let times = MOUNT_ATTR_ATIME | MOUNT_ATTR_NODIRATIME;
    top.clear &= !times;
    if policy || relative.is_some_and(|word| word == "relatime") {
        top.clear |= times;
    }
    let free = if locked { MOUNT_ATTR_NOSYMFOLLOW } else { RESTRICTIONS | MOUNT_ATTR_NOSYMFOLLOW };
    top.clear |= free & !top.set;
    top
}

/// The ids through which an id-mapped mount is seen.
pub(super) fn id_mapping(
    plan: &mut Builder,
    context: &Context<'_>,
    entry: &Entry<'_>,
) -> Result<Option<IdMapping>> {
    let uid = entry.mount.uid_mappings().as_deref().unwrap_or_default();
    let gid = entry.mount.gid_mappings().as_deref().unwrap_or_default();
    let recursive = entry.options.id_map == Some(true);
    match (uid, gid) {
        ([], []) if entry.options.id_map.is_none() => Ok(None),
        ([], []) if context.namespaces.user() => Ok(Some(IdMapping::Container { recursive })),
        ([], []) => Err(entry.error(
            "/options",
            "an id-mapped mount needs mappings or a container with a user namespace",
        )),
        ([], _) => Err(entry.error("", "a mount with gidMappings needs uidMappings too")),
        (_, []) => Err(entry.error("", "a mount with uidMappings needs gidMappings too")),
        (uid, gid) => {
            for (name, mappings) in [("uid", uid), ("gid", gid)] {
                let pointer = format!("{}/{name}Mappings", entry.pointer);
                namespaces::validate_extents(plan, &pointer, name, mappings);
            }
            let extents = |mappings: &[_]| mappings.iter().map(namespaces::extent).collect();
            Ok(Some(IdMapping::Extents { uid: extents(uid), gid: extents(gid), recursive }))
        }
    }
}
