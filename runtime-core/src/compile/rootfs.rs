//! The root: what it is cloned from, what is covered in it, and the way in.
//!
//! Decides propagation, masked and read-only paths, and what becomes read-only
//! at the very end. Knows nothing of the single mounts but their order.

use std::collections::HashSet;
use std::path::Path;

use orlop_init::sys::abi::{MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE};

use super::namespaces::MOUNT;
use super::{Context, in_bundle, mounts};
use crate::error::Error;
use crate::plan::{Builder, Fill, Op, Place};

/// Longest path that the kernel takes, without its NUL.
const PATH_MAX: usize = 4095;

/// A path of the container, absolute and without `.`, `..` or doubled slashes;
/// `None` for one that leads to the root itself.
///
/// Purely a matter of spelling: links are the stage's business.
pub(super) fn clean(path: &str) -> Option<String> {
    let mut clean = String::with_capacity(path.len() + 1);
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => clean.truncate(clean.rfind('/').unwrap_or(0)),
            part => {
                clean.push('/');
                clean.push_str(part);
            }
        }
    }
    (!clean.is_empty()).then_some(clean)
}

/// Where in the root a path of the host leads by its spelling, if it leads below it.
pub(super) fn inside(context: &Context<'_>, path: &str) -> Option<String> {
    let rest = clean(path)?.strip_prefix(context.root.as_ref()?)?.to_owned();
    rest.starts_with('/').then_some(rest)
}

/// A path of the config, as text that the kernel takes.
pub(super) fn text(path: &Path, pointer: impl FnOnce() -> String) -> Result<&str, Error> {
    match path.to_str() {
        None => Err(Error::config(pointer(), format!("{path:?} is not UTF-8"))),
        Some(text) if text.contains('\0') => {
            Err(Error::config(pointer(), format!("{text:?} contains a NUL byte")))
        }
        Some(text) if text.len() > PATH_MAX => {
            Err(Error::config(pointer(), format!("a path is longer than {PATH_MAX} bytes")))
        }
        Some(text) => Ok(text),
    }
}

/// Whether the launcher mounts a clone of the root in the container's folder: the
/// container is in the runtime's own mount namespace and asks for mounts.
///
/// COMPAT(runc): it mounts there too, over the bundle's root. It makes all mounts of the
/// host slaves on that occasion, and leaves those of the container behind.
pub(super) fn is_mounted(context: &Context<'_>) -> bool {
    let Context { spec, namespaces, .. } = context;
    let mounts = spec.mounts().as_ref().is_some_and(|mounts| !mounts.is_empty());
    let read_only = spec.root().as_ref().and_then(|root| root.readonly()) == Some(true);
    !namespaces.has(MOUNT) && (mounts || read_only)
}

/// Whether anything can be mounted in the root.
pub(super) fn takes_mounts(context: &Context<'_>) -> bool {
    context.namespaces.own_mounts() || is_mounted(context)
}

/// What becomes of each clone of the host's mounts that is attached among them: never a
/// peer, whatever the root shall be. Else what is mounted in it would come up on the
/// host, and the deletion would take the host's mounts along.
pub(super) fn kept_out(context: &Context<'_>) -> u64 {
    match host_propagation(context) {
        Ok((MS_PRIVATE, _)) => MS_PRIVATE,
        _ => MS_SLAVE,
    }
}

/// Refuses what can't be had in a mount namespace of others: the runtime's own, or one
/// that the container joins. In that one nothing is mounted, and the root is a chroot(2)
/// in both.
///
/// COMPAT(runc): the text about paths. It mounts in a namespace that is joined, pivots
/// its root, and leaves both behind.
pub(super) fn validate(plan: &mut Builder, context: &Context<'_>) {
    let Context { spec, linux, namespaces, .. } = context;
    if namespaces.own_mounts() {
        return;
    }
    let closed = !is_mounted(context);
    let mut refuse = |there: bool, pointer: &str, what: &'static str| {
        if there {
            plan.error(Error::unsupported(pointer, what));
        }
    };
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let what = "a user namespace needs a mount namespace of the container's own";
    refuse(namespaces.user(), "/linux/namespaces", what);
    let mounts = spec.mounts().as_ref().is_some_and(|mounts| !mounts.is_empty());
    let what = "nothing can be mounted without a mount namespace of the container's own";
    refuse(closed && mounts, "/mounts", what);
    let what = "unable to restrict sys entries without a private MNT namespace";
    refuse(some(linux.masked_paths()), "/linux/maskedPaths", what);
    refuse(some(linux.readonly_paths()), "/linux/readonlyPaths", what);
    let what = "the root is no mount without a mount namespace of the container's own";
    let read_only = spec.root().as_ref().and_then(|root| root.readonly()) == Some(true);
    refuse(closed && read_only, "/root/readonly", what);
    let propagation = linux.rootfs_propagation().as_ref().is_some_and(|kind| !kind.is_empty());
    refuse(closed && propagation, "/linux/rootfsPropagation", what);
    plan.warn("the root is a chroot, which is left by whoever has CAP_SYS_CHROOT");
    if !closed {
        plan.warn("the container's mounts are among the host's until it is deleted");
    }
}

/// Opens the root, and takes it out of the host's propagation if mounts will be
/// made in it.
pub(super) fn prepare(plan: &mut Builder, context: &Context<'_>) {
    let Some(root) = context.spec.root().as_ref() else {
        plan.error(Error::config("/root", "the container has no root"));
        return;
    };
    let path = in_bundle(&context.options.bundle, root.path());
    // By spelling, so that going up from it meets the mounts that hold it.
    let path = match text(&path, || "/root/path".to_owned()) {
        Ok(path) => clean(path).unwrap_or_else(|| "/".to_owned()),
        Err(error) => return plan.error(error),
    };
    if is_mounted(context) {
        if let Err(error) = root_propagation(context) {
            plan.error(error);
        }
        let slot = plan.slot(Fill::Root { path: path.into() });
        let op = Op::RootMounted { slot, kind: kept_out(context) };
        return plan.push(op, "/root/path", "taking the root");
    }
    let path = plan.str(path);
    if !context.namespaces.own_mounts() {
        plan.push(Op::RootDirectory { path }, "/root/path", "opening the root");
        return;
    }
    let (kind, recursive) = host_propagation(context).unwrap_or_else(|error| {
        plan.error(error);
        (MS_SLAVE, true)
    });
    plan.push(
        Op::Propagation { kind, recursive: recursive.into() },
        "/linux/rootfsPropagation",
        "setting the propagation of the host's mounts",
    );
    // Else what is mounted in the root would show up on the host, and the other
    // way round, and pivot_root(2) would refuse. SPEC: a root that is slave sees
    // what the host mounts; its parent is slave by now, and nothing goes back.
    if !matches!(root_propagation(context), Ok(Some((MS_SLAVE, _)))) {
        let doing = "making the root's parent mount private";
        plan.push(Op::ParentPrivate { path }, "/root/path", doing);
    }
    plan.push(Op::RootTree { path }, "/root/path", "opening the root");
}

/// How the host's mounts behave in our namespace while the root is built.
pub(super) fn host_propagation(context: &Context<'_>) -> Result<(u64, bool), Error> {
    Ok(match root_propagation(context)? {
        // Sources of shared volumes must still be the host's peers.
        Some((MS_SHARED, recursive)) => (MS_SHARED, recursive),
        Some((MS_PRIVATE | MS_UNBINDABLE, true)) => (MS_PRIVATE, true),
        // COMPAT(runc): "slave", "private" and "unbindable" change the mount of /
        // alone there and leave the others as the host's peers, so that mounts of
        // the container could reach the host.
        _ => (MS_SLAVE, true),
    })
}

fn root_propagation(context: &Context<'_>) -> Result<Option<(u64, bool)>, Error> {
    Ok(match context.linux.rootfs_propagation().as_deref() {
        None | Some("") => None,
        Some("private") => Some((MS_PRIVATE, false)),
        Some("rprivate") => Some((MS_PRIVATE, true)),
        Some("slave") => Some((MS_SLAVE, false)),
        Some("rslave") => Some((MS_SLAVE, true)),
        Some("shared") => Some((MS_SHARED, false)),
        Some("rshared") => Some((MS_SHARED, true)),
        Some("unbindable") => Some((MS_UNBINDABLE, false)),
        Some("runbindable") => Some((MS_UNBINDABLE, true)),
        Some(other) => {
            let what = format!("the root can't have the propagation {other:?}");
            return Err(Error::config("/linux/rootfsPropagation", what));
        }
    })
}

/// Hides paths and makes paths read-only.
pub(super) fn cover(plan: &mut Builder, context: &Context<'_>) {
    let label = mounts::label(context).unwrap_or_default();
    let mut masked = HashSet::new();
    for (index, path) in context.linux.masked_paths().iter().flatten().enumerate() {
        let pointer = format!("/linux/maskedPaths/{index}");
        if let Some(at) = covered(plan, path, &pointer)
            && masked.insert(at.clone())
        {
            let doing = format!("masking {at:?}");
            let Place { at, under, below } = plan.place(&at);
            let label = plan.str(label);
            plan.push(Op::Mask { at, under, below, label }, pointer, doing);
        }
    }
    // After them: a read-only path is a clone of what it covers, masks included. A mask
    // that came later would be put on the mounts below, which the clone hides.
    let mut read_only = HashSet::new();
    for (index, path) in context.linux.readonly_paths().iter().flatten().enumerate() {
        // Each clone has all earlier ones of the same place in it: once is enough.
        let pointer = format!("/linux/readonlyPaths/{index}");
        if let Some(at) = covered(plan, path, &pointer)
            && read_only.insert(at.clone())
        {
            let doing = format!("making {at:?} read-only");
            let Place { at, under, below } = plan.place(&at);
            plan.push(Op::ReadOnly { at, under, below }, pointer, doing);
        }
    }
}

fn covered(plan: &mut Builder, path: &str, pointer: &str) -> Option<String> {
    if let Err(error) = text(Path::new(path), || pointer.to_owned()) {
        plan.error(error);
        return None;
    }
    if !path.starts_with('/') {
        plan.error(Error::config(pointer, format!("{path:?} is not an absolute path")));
        return None;
    }
    let clean = clean(path);
    if clean.is_none() {
        plan.error(Error::config(pointer, format!("{path:?} is the root itself")));
    }
    clean
}

/// Makes the root the root.
pub(super) fn enter(plan: &mut Builder, context: &Context<'_>) {
    if !context.namespaces.own_mounts() {
        plan.push(Op::ChangeRoot {}, "/root/path", "changing the root");
    } else if context.options.no_pivot {
        // Those in the root are the container's.
        let in_root =
            |path: &Path| path.to_str().is_some_and(|path| inside(context, path).is_some());
        let hidden = context.host.revealing.iter().filter(|path| !in_root(path));
        let revealing = plan.strs(hidden.map(|path| path.as_os_str().as_encoded_bytes()));
        plan.push(Op::MoveRoot { revealing }, "/root/path", "moving the root over \"/\"");
    } else {
        plan.push(Op::PivotRoot {}, "/root/path", "pivoting into the root");
    }
}

/// For what is done in a container: its root is that of its mount namespace, once that is
/// joined.
pub(super) fn of_container(plan: &mut Builder) {
    let path = plan.str("/");
    plan.push(Op::RootDirectory { path }, "/root/path", "opening the root");
}

/// For `exec`: the root of a container that is in a mount namespace of others is not
/// that namespace's.
pub(super) fn join(plan: &mut Builder, context: &Context<'_>) {
    if !context.namespaces.own_mounts() {
        prepare(plan, context);
        enter(plan, context);
    }
}

/// What had to stay writable or private until now.
pub(super) fn finish(plan: &mut Builder, context: &Context<'_>) {
    // The root is private by now, and stays so unless asked otherwise. One that the
    // launcher has mounted is a slave.
    if let Ok(Some((kind, recursive))) = root_propagation(context)
        && (kind != MS_PRIVATE || is_mounted(context))
    {
        plan.push(
            Op::RootPropagation { kind, recursive: recursive.into() },
            "/linux/rootfsPropagation",
            "setting the propagation of the root",
        );
    }
    let read_only = context.spec.root().as_ref().and_then(|root| root.readonly());
    if read_only == Some(true) {
        plan.push(Op::RootReadOnly {}, "/root/readonly", "making the root read-only");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_by_spelling_and_never_leaves_the_root() {
        let cases = [
            ("/a/b", Some("/a/b")),
            ("a/b", Some("/a/b")),
            ("//a//./b/", Some("/a/b")),
            ("/a/../../../b", Some("/b")),
            ("/", None),
            ("", None),
            ("..", None),
            ("/a/..", None),
        ];
        for (path, wanted) in cases {
            assert_eq!(clean(path).as_deref(), wanted, "{path:?}");
        }
    }
}
