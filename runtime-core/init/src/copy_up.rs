//! What lies below a tmpfs, copied into it (the mount option `tmpcopyup`), earlier
//! mounts too: nobody but the container's own makes one there.

use core::ffi::CStr;

use crate::path::PATH_MAX;
use crate::run::{Done, in_part};
use crate::sys::{self, Errno, Fd, Sys, abi};
use crate::wire::Part;

/// Directories below one another; an image may nest without end.
const DEPTH_MAX: u32 = 64;

/// Copies the content of the directory `from` (`O_PATH`) into the root of `to`,
/// with modes and owners; those of the directory itself only with `attributes`.
/// Devices and sockets are left out.
pub fn copy_up(from: Fd, to: Fd, attributes: bool) -> Done {
    let from = reopen(from).map_err(in_part(Part::Copy))?;
    if attributes {
        copy_attributes(from, to).map_err(in_part(Part::Copy))?;
    }
    let result = copy_directory(from, to, 0);
    sys::close(from);
    result.map_err(in_part(Part::Copy))
}

/// A descriptor that can be read from one that only names a directory.
fn reopen(dir: Fd) -> Sys<Fd> {
    open_entry(dir, c".", abi::O_RDONLY | abi::O_DIRECTORY)
}

fn open_entry(dir: Fd, name: &CStr, flags: u32) -> Sys<Fd> {
    // A FIFO put in a file's place must not hold us up; openat2(2) wants no such
    // flag with `O_PATH`.
    let wait = if flags & abi::O_PATH == 0 { abi::O_NONBLOCK } else { 0 };
    let how = abi::OpenHow {
        flags: u64::from(flags | abi::O_CLOEXEC | abi::O_NOFOLLOW | wait),
        mode: 0,
        resolve: abi::RESOLVE_BENEATH | abi::RESOLVE_NO_SYMLINKS,
    };
    sys::openat2(dir, name, &how)
}

fn copy_attributes(from: Fd, to: Fd) -> Sys<()> {
    let stat = sys::fstat(from)?;
    let to = open_entry(to, c".", abi::O_RDONLY | abi::O_DIRECTORY)?;
    let result = sys::chown_fd(to, stat.uid, stat.gid)
        .and_then(|()| sys::fchmod(to, u32::from(stat.mode) & 0o7777));
    sys::close(to);
    result
}

fn copy_directory(from: Fd, to: Fd, depth: u32) -> Sys<()> {
    if depth > DEPTH_MAX {
        return Err(Errno(abi::ELOOP));
    }
    let mut entries = [0u8; 2048];
    loop {
        let length = sys::getdents(from, &mut entries)?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = entries.get(..length).unwrap_or_default();
        // linux_dirent64: inode and offset (16 bytes), record length, type, name.
        while let Some(size) = rest.get(16..18).and_then(|size| size.try_into().ok()) {
            let size = usize::from(u16::from_ne_bytes(size));
            let name = rest.get(19..size).and_then(|name| CStr::from_bytes_until_nul(name).ok());
            let name = name.ok_or(Errno(abi::EPROTO))?;
            if name != c"." && name != c".." {
                copy_entry(from, to, name, depth)?;
            }
            rest = rest.get(size..).unwrap_or_default();
        }
    }
}

fn copy_entry(from: Fd, to: Fd, name: &CStr, depth: u32) -> Sys<()> {
    let fd = open_entry_path(from, name)?;
    let stat = sys::fstat(fd)?;
    sys::close(fd);
    match stat.kind() {
        abi::S_IFDIR => {
            let source = open_entry(from, name, abi::O_RDONLY | abi::O_DIRECTORY)?;
            sys::mkdirat(to, name, 0o700)?;
            let copy = open_entry(to, name, abi::O_RDONLY | abi::O_DIRECTORY)?;
            copy_directory(source, copy, depth + 1)?;
            copy_attributes(source, copy)?;
            sys::close(source);
            sys::close(copy);
        }
        abi::S_IFREG => {
            // Somebody who shares the directory may put a device there, or a FIFO.
            let source = open_entry(from, name, abi::O_RDONLY | abi::O_NONBLOCK)?;
            let opened = sys::fstat(source)?;
            if (opened.kind(), opened.inode) != (abi::S_IFREG, stat.inode) {
                sys::close(source);
                return Ok(());
            }
            sys::mknodat(to, name, abi::S_IFREG | 0o600, 0)?;
            let copy = open_entry(to, name, abi::O_WRONLY)?;
            // No more than there was: he may add to it for ever.
            let mut left = opened.size;
            while left > 0 {
                match sys::sendfile(copy, source, left.min(1 << 20) as usize)? {
                    0 => break,
                    sent => left = left.saturating_sub(sent as u64),
                }
            }
            sys::chown_fd(copy, stat.uid, stat.gid)?;
            sys::fchmod(copy, u32::from(stat.mode) & 0o7777)?;
            sys::close(source);
            sys::close(copy);
        }
        abi::S_IFLNK => {
            let mut target = [0u8; PATH_MAX];
            let length = sys::readlinkat(from, name, &mut target)?;
            if let Some(end) = target.get_mut(length) {
                *end = 0;
            }
            let target =
                CStr::from_bytes_until_nul(&target).map_err(|_| Errno(abi::ENAMETOOLONG))?;
            sys::symlinkat(target, to, name)?;
            let link = open_entry_path(to, name)?;
            sys::chown_fd(link, stat.uid, stat.gid)?;
            sys::close(link);
        }
        _ => {}
    }
    Ok(())
}

/// A link itself, not what it leads to: `RESOLVE_NO_SYMLINKS` allows that with
/// `O_PATH|O_NOFOLLOW`.
fn open_entry_path(dir: Fd, name: &CStr) -> Sys<Fd> {
    open_entry(dir, name, abi::O_PATH)
}
