//! Id maps: written for a new user namespace, or made for an idmapped mount.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use caps::{CapSet, Capability};
use nix::unistd::{SysconfVar, sysconf};
use orlop_init::sys::abi;

use super::mapper::Mapper;
use super::{Kit, Reached, launch, write_proc};
use crate::error::{Error, Kind, Place, Result};
use crate::plan::{Builder, Extent, Gate, Maps, Op};

/// Writes the maps of the user namespace that process `pid`, our child, is in, or
/// has them written by the programs that may.
///
/// # Errors
/// What the kernel says to a map (user_namespaces(7)), or why a program failed;
/// [`Kind::Timeout`] and [`Kind::Interrupted`] while it ran.
pub(super) fn write(pid: i32, maps: &Maps, interrupt: Option<BorrowedFd<'_>>) -> Result<()> {
    if maps.deny_setgroups {
        write_proc(pid, "setgroups", "deny")?;
    }
    write_maps(pid, maps, interrupt).map_err(|(error, ids)| {
        error.at(Place::Config(format!("/linux/{ids}Mappings"))) // the container's
    })
}

/// The maps alone; a failure with the kind of the ids, as whose maps they are is the
/// caller's to say.
fn write_maps(
    pid: i32,
    maps: &Maps,
    interrupt: Option<BorrowedFd<'_>>,
) -> Result<(), (Error, &'static str)> {
    let one = |ids: &'static str, extents: &[Extent], program: &Option<PathBuf>| {
        short_enough(ids, extents).map_err(|error| (error, ids))?;
        let written = match program {
            None => write_proc(pid, &format!("{ids}_map"), &lines(extents))
                .map_err(|error| explained(error, ids, extents)),
            Some(program) => Mapper { program, ids, extents }.run(pid, interrupt),
        };
        written.map_err(|error| (error, ids))
    };
    one("gid", &maps.gid, &maps.gid_by)?;
    one("uid", &maps.uid, &maps.uid_by)
}

/// Refuses a map of so many digits that the kernel does not read it, though it may have
/// as many lines: it would answer no more than that an argument is invalid.
fn short_enough(ids: &str, extents: &[Extent]) -> Result<()> {
    let (length, page) = (lines(extents).len(), page_size());
    if length < page {
        return Ok(());
    }
    let what = format!(
        "the {ids} mappings take {length} bytes: a map must be smaller than a page, {page}"
    );
    Err(Error::new(Kind::InvalidConfig, what).hint("user_namespaces(7)"))
}

fn page_size() -> usize {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| size.try_into().ok()).unwrap_or(4096)
}

/// With what a person can't see in the answer: the capability that it takes to give the
/// namespace's user id 0 away (user_namespaces(7)), if the caller has not got it.
fn explained(error: Error, ids: &str, extents: &[Extent]) -> Error {
    let root = ids == "uid" && extents.iter().any(|extent| extent.outside == 0);
    let may = || caps::has_cap(None, CapSet::Effective, Capability::CAP_SETFCAP);
    if root && error.errno() == Some(libc::EPERM) && matches!(may(), Ok(false)) {
        error.hint("since Linux 5.12 CAP_SETFCAP is needed to give the user id 0 away")
    } else {
        error
    }
}

fn lines(extents: &[Extent]) -> String {
    extents
        .iter()
        .map(|Extent { inside, outside, count }| format!("{inside} {outside} {count}\n"))
        .collect()
}

/// A user namespace with these maps (user_namespaces(7)) and nobody in it: a stage is
/// launched into one, its file is opened, and the stage ends.
///
/// # Errors
/// What the kernel says to a map, as of ids that overlap or that the caller may not give.
pub fn namespace(uid: &[Extent], gid: &[Extent]) -> Result<OwnedFd> {
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
    let maps = Maps { uid: uid.to_vec(), gid: gid.to_vec(), ..Maps::default() };
    write_maps(child.pid(), &maps, None).map_err(|(error, _)| error)?;
    let path = format!("/proc/{}/ns/user", child.pid());
    let file = File::open(&path).map_err(|error| Error::io(&error, "opening").at_path(&path))?;
    Ok(file.into()) // the stage ends with `child`
}
