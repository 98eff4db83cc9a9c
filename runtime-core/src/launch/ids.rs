//! Id maps: written for a new user namespace, or made for an idmapped mount.

use std::fs::File;
use std::os::fd::OwnedFd;

use orlop_init::sys::abi;

use super::{Kit, Reached, launch, write_proc};
use crate::error::{Error, Kind, Result};
use crate::plan::{Builder, Extent, Gate, Maps, Op};

/// Writes the maps of the user namespace that process `pid`, our child, is in.
///
/// # Errors
/// What the kernel says to a map (user_namespaces(7)).
pub(super) fn write(pid: i32, maps: &Maps) -> Result<()> {
    if maps.deny_setgroups {
        write_proc(pid, "setgroups", "deny")?;
    }
    write_proc(pid, "gid_map", &lines(&maps.gid))?;
    write_proc(pid, "uid_map", &lines(&maps.uid))
}

fn lines(extents: &[Extent]) -> String {
    extents
        .iter()
        .map(|Extent { inside, outside, count }| format!("{inside} {outside} {count}\n"))
        .collect()
}

/// A user namespace with these maps and nobody in it: a stage is launched into
/// one, its file is opened, and the stage ends.
///
/// # Errors
/// As [`write`].
pub(super) fn namespace(uid: &[Extent], gid: &[Extent]) -> Result<OwnedFd> {
    let mut plan = Builder::new();
    plan.push(Op::KeepFds { preserve: 0 }, "", "closing inherited descriptors");
    plan.push(Op::WaitFor { gate: Gate::Mapped }, "", "holding a user namespace");
    plan.outside().clone_flags = abi::CLONE_NEWUSER;
    let plan = plan.finish().map_err(|_| Error::new(Kind::Internal, "a plan of two ops"))?;
    let mut child = launch(&plan, &Kit::default())?;
    match child.next(&plan)? {
        Reached::Gate(Gate::Mapped) => {}
        other => return Err(Error::new(Kind::Internal, format!("the stage said {other:?}"))),
    }
    let maps = Maps { uid: uid.to_vec(), gid: gid.to_vec(), deny_setgroups: false };
    write(child.pid(), &maps)?;
    let path = format!("/proc/{}/ns/user", child.pid());
    let file = File::open(&path).map_err(|error| Error::io(&error, "opening").at_path(&path))?;
    Ok(file.into()) // the stage ends with `child`
}
