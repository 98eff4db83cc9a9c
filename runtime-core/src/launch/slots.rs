//! Filling the slots: what the stage needs and only the launcher can open.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use orlop_init::sys::{self, Errno, abi};

use super::{Kit, ids, owned};
use crate::error::{Error, Kind, Place, Result};
use crate::plan::{Fill, IdMapping, Op, Plan, Slot};

/// `NS_GET_NSTYPE` (ioctl_ns(2)).
const NS_GET_NSTYPE: u32 = 0xb703;

/// One descriptor for each of the plan's fills, in order.
pub(super) fn fill(plan: &Plan, kit: &Kit<'_>) -> Result<Vec<OwnedFd>> {
    let fill = |(index, fill): (usize, &Fill)| {
        let result = match fill {
            Fill::Tree { path, recursive, ids, propagation } => {
                tree(path, *recursive, *propagation).and_then(|tree| {
                    let doing = || format!("mapping the ids of the mount source {path:?}");
                    ids.as_ref().map_or(Ok(()), |ids| map(plan, &tree, ids, doing))?;
                    Ok(tree)
                })
            }
            Fill::Root { .. } => kit.root.map_or_else(
                || Err(Error::new(Kind::Internal, "the plan has a root that nobody mounted")),
                |root| {
                    root.try_clone_to_owned()
                        .map_err(|error| Error::io(&error, "passing the root on"))
                },
            ),
            Fill::Namespace { path, kind, index } => namespace(path, *kind).map_err(|error| {
                error.at(Place::Config(format!("/linux/namespaces/{index}/path")))
            }),
            Fill::CgroupProcs { index } => given(kit.cgroup_procs, *index),
            Fill::ResctrlTasks { index } => given(kit.resctrl_tasks, *index),
        };
        // The op that uses the slot knows the place in the config.
        result.map_err(|error| match pointer_of(plan, Slot::FIRST_FREE + index as u32) {
            Some(pointer) if error.place().is_none() => error.at(Place::Config(pointer)),
            _ => error,
        })
    };
    plan.fills().iter().enumerate().map(fill).collect()
}

fn pointer_of(plan: &Plan, slot: u32) -> Option<String> {
    let (_, origin) = plan.steps().find(|(op, _)| match op {
        Op::Bind { slot: used, .. } | Op::JoinProcess { slot: used, .. } => used.0 == slot,
        _ => false,
    })?;
    (!origin.pointer.is_empty()).then(|| origin.pointer.to_string())
}

fn tree(path: &Path, recursive: bool, propagation: u64) -> Result<OwnedFd> {
    let doing = || format!("opening the mount source {path:?}");
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new(Kind::InvalidConfig, doing()))?;
    let deep = if recursive { abi::AT_RECURSIVE } else { 0 };
    let flags = abi::OPEN_TREE_CLONE | abi::OPEN_TREE_CLOEXEC | deep;
    let tree = owned(sys::open_tree(abi::AT_FDCWD, &name, flags))
        .map_err(|errno| Error::os(errno, doing()))?;
    if propagation != 0 {
        // In our mount namespace: what the container mounts in a peer of the host's, and
        // be it by a later entry of its config, would come up on the host.
        let attr = abi::MountAttr { propagation, ..abi::MountAttr::default() };
        let flags = abi::AT_EMPTY_PATH | abi::AT_RECURSIVE;
        sys::mount_setattr(tree.as_raw_fd(), c"", flags, &attr).map_err(|Errno(errno)| {
            Error::os(errno, format!("taking the mount source {path:?} out of the host's mounts"))
        })?;
    }
    Ok(tree)
}

/// Has a detached tree seen through other ids.
pub(super) fn map(
    plan: &Plan,
    tree: &OwnedFd,
    mapping: &IdMapping,
    doing: impl FnOnce() -> String,
) -> Result<()> {
    let (namespace, deep) = match mapping {
        IdMapping::Extents { uid, gid, recursive } => (ids::namespace(uid, gid)?, *recursive),
        IdMapping::Container { recursive } => (container_ids(plan)?, *recursive),
    };
    let attr = abi::MountAttr {
        set: abi::MOUNT_ATTR_IDMAP,
        userns_fd: namespace.as_raw_fd() as u64,
        ..abi::MountAttr::default()
    };
    let flags = abi::AT_EMPTY_PATH | if deep { abi::AT_RECURSIVE } else { 0 };
    sys::mount_setattr(tree.as_raw_fd(), c"", flags, &attr).map_err(|Errno(errno)| {
        let error = Error::os(errno, doing());
        if errno == abi::EINVAL {
            error.hint("its file system may not support idmapped mounts")
        } else {
            error
        }
    })
}

/// A user namespace with the container's own mapping.
fn container_ids(plan: &Plan) -> Result<OwnedFd> {
    if let Some(maps) = &plan.outside.maps {
        return ids::namespace(&maps.uid, &maps.gid);
    }
    let joined = plan.fills().iter().find_map(|fill| match fill {
        Fill::Namespace { path, kind: abi::CLONE_NEWUSER, .. } => Some(path),
        _ => None,
    });
    match joined {
        Some(path) => namespace(path, abi::CLONE_NEWUSER),
        None => Err(Error::new(
            Kind::InvalidConfig,
            "an idmap mount without mappings needs a container with a user namespace",
        )),
    }
}

fn namespace(path: &Path, kind: u32) -> Result<OwnedFd> {
    // A FIFO would be waited for.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| Error::io(&error, format!("opening the namespace {path:?}")))?;
    // A plain file answers ENOTTY.
    match sys::ioctl_value(file.as_raw_fd(), NS_GET_NSTYPE, 0) {
        Ok(found) if found == kind as usize => Ok(file.into()),
        Ok(_) => {
            let doing = format!("joining a namespace of another type {path:?}");
            Err(Error::os(abi::EINVAL, doing))
        }
        Err(_) => {
            let doing = format!("joining what is not a namespace file {path:?}");
            Err(Error::os(abi::EINVAL, doing))
        }
    }
}

/// A list that the caller has opened.
fn given(lists: &[OwnedFd], index: usize) -> Result<OwnedFd> {
    let fd = lists.get(index).ok_or_else(|| {
        Error::new(Kind::Internal, format!("the plan joins list {index}, which nobody opened"))
    })?;
    fd.try_clone().map_err(|error| Error::io(&error, "passing a list of tasks on"))
}
