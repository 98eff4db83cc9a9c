//! The container's view of its cgroups: what a mount of type `cgroup` becomes.
//!
//! Decides between new mounts (with a cgroup namespace) and binds of the
//! container's own directories (without), for cgroup v2, v1 and both at once.
//! Knows nothing of limits; where the directories are, the cgroup manager said.

use std::path::{Path, PathBuf};

use orlop_init::sys::abi::{
    CLONE_NEWCGROUP, MOUNT_ATTR_ATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
};

use super::mount_options::Attributes;
use super::mounts::{Entry, HostTree, New, flag_of, push_new, push_tree, unprivileged};
use super::{CgroupDir, Context, binds, mounts, rootfs};
use crate::error::{Error, Result};
use crate::host::Cgroups;
use crate::plan::{Builder, Op, Target};

/// What nobody needs in a cgroup hierarchy.
const STRICT: u64 = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/// Makes a mount of type `cgroup`.
pub(super) fn mount(plan: &mut Builder, context: &Context<'_>, entry: &Entry<'_>) -> Result<()> {
    let anew = context.unified() && mounted_anew(context);
    let options = entry.options.data.iter().filter(|_| !anew).map(|(key, _)| key.as_str());
    for option in options.chain(entry.options.superblock.iter().copied()) {
        // COMPAT(runc): it takes them, too.
        plan.warn(format!("{}: {option:?} has no effect on a view of cgroups", entry.pointer));
    }
    let own = own(context);
    match &context.host.cgroups {
        Cgroups::None => {
            let what = format!("no cgroups are mounted on this host to show on {:?}", entry.at);
            Err(Error::unsupported(entry.pointer.clone(), what))
        }
        Cgroups::Unified { mount, own: path, .. } => {
            let host = CgroupDir {
                controllers: Vec::new(),
                mount: mount.clone(),
                directory: below(mount, path),
            };
            let (dir, managed) = own.first().map_or((&host, false), |dir| (dir, true));
            one(plan, context, entry, &View { at: entry.at.clone(), dir, managed })
        }
        Cgroups::Legacy { hierarchies } => {
            let host: Vec<CgroupDir> = hierarchies
                .iter()
                .map(|hierarchy| CgroupDir {
                    controllers: hierarchy.controllers.clone(),
                    mount: hierarchy.mount.clone(),
                    directory: below(&hierarchy.mount, &hierarchy.own),
                })
                .collect();
            let managed = !own.is_empty();
            legacy(plan, context, entry, (if managed { own } else { &host }, managed))
        }
    }
}

fn own<'a>(context: &Context<'a>) -> &'a [CgroupDir] {
    &context.options.cgroups
}

/// A cgroup's directory: its absolute path in the hierarchy, below the mount.
fn below(mount: &Path, cgroup: &Path) -> PathBuf {
    mount.join(cgroup.strip_prefix("/").unwrap_or(cgroup))
}

/// One hierarchy as the container shall see it.
struct View<'a> {
    at: String,
    dir: &'a CgroupDir,
    /// Whether the directory is the container's, not the caller's own.
    managed: bool,
}

/// cgroup v1, alone or with v2 beside it: one mount for each hierarchy, on a
/// tmpfs that becomes read-only at the end (`mounts::finish`).
fn legacy(
    plan: &mut Builder,
    context: &Context<'_>,
    entry: &Entry<'_>,
    (dirs, managed): (&[CgroupDir], bool),
) -> Result<()> {
    let mut data = vec![("mode".to_owned(), "755".to_owned())];
    data.extend(mounts::label(context).map(|label| ("context".to_owned(), label.to_owned())));
    let new = New {
        fs_type: "tmpfs",
        source: "cgroup",
        data,
        attributes: entry.attributes() & !MOUNT_ATTR_RDONLY | STRICT,
        at: &entry.at,
        target: Target::DIR,
        keep: false,
        below: 0,
        fallback: "",
        label: "",
    };
    push_new(plan, entry, &new);
    for dir in dirs {
        let name = match dir.mount.file_name().and_then(|name| name.to_str()) {
            Some(name) => name.to_owned(),
            None => dir.controllers.join(","),
        };
        let at = format!("{}/{name}", entry.at);
        one(plan, context, entry, &View { at, dir, managed })?;
        for controller in dir.controllers.iter().filter(|_| dir.controllers.len() > 1) {
            // `cpu` leads to `cpu,cpuacct`; one with that name is the mount itself.
            if *controller != name {
                let at = format!("{}/{controller}", entry.at);
                let doing = format!("linking {at:?} to {name:?}");
                let op = Op::Symlink { at: plan.str(at), to: plan.str(&name), replace: 0 };
                plan.push(op, entry.pointer.clone(), doing);
            }
        }
    }
    Ok(())
}

fn one(
    plan: &mut Builder,
    context: &Context<'_>,
    entry: &Entry<'_>,
    view: &View<'_>,
) -> Result<()> {
    let controllers = &view.dir.controllers;
    // COMPAT(runc): who has the host's cgroup namespace sees the host's hierarchy, in which
    // /proc/self/cgroup names its place; but not who is root by a user namespace alone,
    // whose other containers are in it too (CVE-2023-25809).
    let whole = controllers.is_empty() && context.unified() && !unprivileged(context);
    // A cgroup that is not the container's own is the caller's: nothing there may be
    // changed by a container (CVE-2023-25809).
    let foreign = if view.managed { 0 } else { MOUNT_ATTR_RDONLY };
    if mounted_anew(context) {
        let mut data: Vec<_> = controllers.iter().flat_map(|name| controller(name)).collect();
        let fs_type = if controllers.is_empty() {
            data.extend(entry.options.data.iter().cloned());
            "cgroup2"
        } else {
            "cgroup"
        };
        let new = New {
            fs_type,
            source: "cgroup",
            data,
            attributes: entry.attributes() | STRICT | foreign,
            at: &view.at,
            target: Target::DIR,
            keep: false,
            below: 0,
            fallback: "",
            label: "",
        };
        push_new(plan, entry, &new);
        return Ok(());
    }
    // Access times mean nothing here, and a namespace may not change the policy.
    let set = STRICT | foreign | entry.attributes() & !MOUNT_ATTR_ATIME;
    let path = if whole { &view.dir.mount } else { &view.dir.directory };
    let tree = HostTree {
        path: rootfs::text(path, || entry.pointer.clone())?,
        recursive: false,
        top: Attributes { set, clear: 0 },
        all: Attributes::default(),
        target: Target::DIR,
        locked: false,
        inside: false,
        mapped: false,
    };
    let slot = binds::stand_in(plan, context, tree.path, false);
    push_tree(plan, entry, &view.at, slot, &tree);
    Ok(())
}

/// Whether the container mounts the hierarchies itself, in a cgroup namespace. In the
/// host's that would change their options for the whole machine: there they are bound.
pub(super) fn mounted_anew(context: &Context<'_>) -> bool {
    if context.namespaces.user() {
        // Its owner must be our user namespace, or the kernel refuses.
        context.namespaces.is_new(CLONE_NEWCGROUP)
    } else {
        context.is_private(CLONE_NEWCGROUP)
    }
}

/// A controller as an option of a cgroup v1 mount.
fn controller(name: &str) -> Vec<(String, String)> {
    match name.strip_prefix("name=") {
        Some(name) => vec![flag_of("none"), ("name".to_owned(), name.to_owned())],
        None => vec![flag_of(name)],
    }
}
