//! The mounts of a container, each by its number: a path says where something is, and not
//! whose it is.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use oci_spec::runtime::Mount;
use orlop_init::sys::{self, abi};
use orlop_init::wire::MountId;
use serde::{Deserialize, Serialize};

use super::root::Root;
use crate::error::Result;
use crate::plan::Plan;

/// One that the config or `mounts add` has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mounted {
    /// As it was asked for.
    pub destination: PathBuf,
    /// What [`MountId`] has.
    mount: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    inode: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    device: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Mounted {
    fn new(destination: PathBuf, id: MountId) -> Self {
        let MountId { mount, inode, device } = id;
        Self { destination, mount, inode, device }
    }

    /// How the kernel tells it from all others.
    pub(super) fn id(&self) -> MountId {
        MountId { mount: self.mount, inode: self.inode, device: self.device }
    }
}

/// The entry of a list of mounts that an error or an op is about.
pub(super) fn entry(pointer: &str) -> Option<usize> {
    pointer.strip_prefix("/mounts/")?.split('/').next()?.parse().ok()
}

/// What a plan has mounted for the entries of `mounts`. One with several mounts, as that
/// of v1's cgroups, is known by the first, which has the others on it.
pub(super) fn made(plan: &Plan, told: &[(u32, MountId)], mounts: &[Mount]) -> Vec<Mounted> {
    let mut last = None;
    let each = told.iter().filter_map(|(op, id)| {
        let index = entry(&plan.origin(*op as usize)?.pointer)?;
        if last.replace(index) == Some(index) {
            return None;
        }
        Some(Mounted::new(mounts.get(index)?.destination().clone(), *id))
    });
    each.collect()
}

/// What CRIU has mounted for them in the root of process `pid`, which has not gone on
/// yet: what is seen there. Of two at one place that is the last.
pub(super) fn restored(pid: i32, mounts: &[Mount]) -> Result<Vec<Mounted>> {
    let root = Root::of(pid)?;
    let mut found: Vec<Mounted> = Vec::new();
    for mount in mounts.iter().rev() {
        let Some(place) = mount.destination().to_str() else { continue };
        let Some(place) = root.find(place)? else { continue };
        // What does not say who it is can't be removed by that.
        let Ok(stat) = sys::fstat(place.as_raw_fd()) else { continue };
        if stat.attributes & abi::STATX_ATTR_MOUNT_ROOT == 0 {
            continue;
        }
        let one = Mounted::new(mount.destination().clone(), MountId::of(&stat));
        if found.iter().all(|other| other.id() != one.id()) {
            found.push(one);
        }
    }
    found.reverse();
    Ok(found)
}
