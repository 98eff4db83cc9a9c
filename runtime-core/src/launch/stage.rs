//! The stage's program as a file that nobody can change: a sealed memfd.
//!
//! What a container can see of us under /proc/PID/exe is this file and nothing
//! else (CVE-2019-5736). Where the host forbids to execute memfds
//! (`vm.memfd_noexec=2`), an installed copy serves, through a read-only mount
//! that is attached nowhere.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::stat::{Mode, fchmod};
use orlop_init::STAGE;
use orlop_init::sys::{self, Errno, abi};

use super::owned;
use crate::error::{Error, Kind, Result};

/// Where an installed copy may lie, for hosts that do not execute memfds.
const INSTALLED: [&std::ffi::CStr; 2] =
    [c"/usr/libexec/orlop/init", c"/usr/local/libexec/orlop/init"];

/// `F_SEAL_EXEC` (fcntl(2)): the mode's execute bits are fixed too.
/// KERNEL(<6.3): absent.
const F_SEAL_EXEC: i32 = 0x20;

/// The program, made once in a process and kept.
///
/// # Errors
/// No memfd and no installed copy can be had.
pub(super) fn program() -> Result<BorrowedFd<'static>> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(fd) = PROGRAM.get() {
        return Ok(fd.as_fd());
    }
    let fd = match sealed() {
        Err(error) if error.errno() == Some(abi::EACCES) => installed(error)?,
        result => result?,
    };
    Ok(PROGRAM.get_or_init(|| fd).as_fd())
}

fn sealed() -> Result<OwnedFd> {
    let failed = |errno: i32, doing| Error::os(errno, doing);
    let flags = abi::MFD_CLOEXEC | abi::MFD_ALLOW_SEALING;
    // KERNEL(<6.3): MFD_EXEC is unknown, and what it asks for is the default.
    let fd = match sys::memfd_create(c"orlop-init", flags | abi::MFD_EXEC) {
        Err(Errno(abi::EINVAL)) => sys::memfd_create(c"orlop-init", flags),
        result => result,
    };
    let fd = owned(fd).map_err(|errno| failed(errno, "making a file for the init stage"))?;
    let mut file = File::from(fd);
    file.write_all(STAGE).map_err(|error| Error::io(&error, "writing the init stage"))?;
    // To be executed, not read: the kernel then hides the process from whoever has
    // CAP_SYS_PTRACE only in the user namespace that the stage is born in. Its files
    // in /proc belong to root then, so a launcher that is somebody else, and has its
    // ids to write there, can't ask for that.
    if nix::unistd::geteuid().is_root() {
        fchmod(&file, Mode::S_IXUSR | Mode::S_IXGRP | Mode::S_IXOTH)
            .map_err(|errno| failed(errno as i32, "setting the mode of the init stage"))?;
    }
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    let with_exec = SealFlag::from_bits_retain(seals.bits() | F_SEAL_EXEC);
    if fcntl(&file, FcntlArg::F_ADD_SEALS(with_exec)).is_err() {
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))
            .map_err(|errno| failed(errno as i32, "sealing the init stage"))?;
    }
    Ok(file.into())
}

/// A read-only clone of an installed copy, whose bytes are compared: a file that
/// another version left there would misread our plans.
fn installed(no_memfd: Error) -> Result<OwnedFd> {
    for path in INSTALLED {
        let flags = abi::OPEN_TREE_CLONE | abi::OPEN_TREE_CLOEXEC;
        let Ok(tree) = owned(sys::open_tree(abi::AT_FDCWD, path, flags)) else { continue };
        let attr = abi::MountAttr { set: abi::MOUNT_ATTR_RDONLY, ..abi::MountAttr::default() };
        let name = Path::new(path.to_str().unwrap_or_default());
        sys::mount_setattr(tree.as_raw_fd(), c"", abi::AT_EMPTY_PATH, &attr).map_err(
            |Errno(errno)| {
                Error::os(errno, "making the installed init stage read-only").at_path(name)
            },
        )?;
        let mut content = Vec::new();
        let link = format!("/proc/self/fd/{}", tree.as_raw_fd());
        let file = File::open(link);
        let read = file.and_then(|mut file| file.read_to_end(&mut content).map(|_| file));
        let file = read
            .map_err(|error| Error::io(&error, "reading the installed init stage").at_path(name))?;
        if content != STAGE {
            return Err(Error::new(
                Kind::Unsupported,
                "the installed init stage belongs to another version of Orlop",
            )
            .at_path(name));
        }
        return Ok(file.into());
    }
    Err(no_memfd.hint("vm.memfd_noexec forbids it; \"orlop stage\" installs a copy"))
}
