//! Paths inside a hostile root: found and made without ever leaving it.
//!
//! The one rule: every lookup is openat2(2) with `RESOLVE_IN_ROOT` from the root's
//! descriptor, so links and `..` stay inside whatever an image or another
//! container does meanwhile; every creation is one component below a descriptor.

use core::ffi::CStr;
use core::ops::Range;

use crate::run::{Done, Fail, in_part};
use crate::sys::{self, Errno, Fd, NO_FD, Sys, abi};
use crate::wire::Part;

/// Longest path the kernel takes, with its NUL.
pub const PATH_MAX: usize = 4096;
/// As many links as the kernel follows in one lookup.
const MOST_LINKS: usize = 40;
/// A rename elsewhere makes openat2 answer EAGAIN; a storm of them is an attack.
const MOST_RACES: usize = 128;

/// What to make at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Dir(u32),
    File,
}

/// Opens what is at `path` in the root, following links inside it.
pub fn open(root: Fd, path: &CStr, flags: u32, resolve: u64) -> Sys<Fd> {
    open_how(root, path, flags, abi::RESOLVE_IN_ROOT | resolve)
}

fn open_how(root: Fd, path: &CStr, flags: u32, resolve: u64) -> Sys<Fd> {
    let how = abi::OpenHow {
        flags: u64::from(flags | abi::O_CLOEXEC),
        mode: 0,
        resolve: abi::RESOLVE_NO_MAGICLINKS | resolve,
    };
    let mut races = 0;
    loop {
        match sys::openat2(root, path, &how) {
            Err(Errno(abi::EAGAIN | abi::EINTR)) if races < MOST_RACES => races += 1,
            result => return result,
        }
    }
}

/// Opens what is at a path below a mount, which may be empty, without leaving it: a
/// link that leads out is EXDEV. What is mounted below is on the way.
pub fn open_beneath(mount: Fd, path: &CStr) -> Sys<Fd> {
    if path.is_empty() {
        // Its root may be a file.
        return sys::open_tree(mount, c"", abi::OPEN_TREE_CLOEXEC | abi::AT_EMPTY_PATH);
    }
    open_how(mount, path, abi::O_PATH, abi::RESOLVE_BENEATH)
}

/// A path under construction. It is a whole page: a function that has one is never
/// inlined, or every caller's stack would have it too, and each page costs a fault.
pub struct PathBuf {
    bytes: [u8; PATH_MAX],
    len: usize,
}

impl PathBuf {
    pub const fn new() -> Self {
        Self { bytes: [0; PATH_MAX], len: 0 }
    }

    /// Appends, keeping the terminating NUL; too long is ENAMETOOLONG.
    pub fn push(&mut self, part: &[u8]) -> Sys<()> {
        let end = self.len + part.len();
        let place = match self.bytes.get_mut(self.len..end) {
            Some(place) if end < PATH_MAX => place,
            _ => return Err(Errno(abi::ENAMETOOLONG)),
        };
        place.copy_from_slice(part);
        self.len = end;
        if let Some(nul) = self.bytes.get_mut(end) {
            *nul = 0;
        }
        Ok(())
    }

    /// Appends a number in decimal.
    pub fn push_number(&mut self, number: u32) -> Sys<()> {
        if number >= 10 {
            self.push_number(number / 10)?;
        }
        self.push(&[b'0' + (number % 10) as u8])
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }

    /// A part of it as a string of its own, for one call.
    fn with_part<T>(&mut self, part: Range<usize>, call: impl FnOnce(&CStr) -> T) -> T {
        let saved = self.bytes.get(part.end).copied().unwrap_or(0);
        if let Some(byte) = self.bytes.get_mut(part.end) {
            *byte = 0;
        }
        let bytes = self.bytes.get(part.start..).unwrap_or_default();
        let result = call(CStr::from_bytes_until_nul(bytes).unwrap_or_default());
        if let Some(byte) = self.bytes.get_mut(part.end) {
            *byte = saved;
        }
        result
    }
}

/// Opens (`O_PATH`) what is at `path`; makes it, and the directories above it,
/// where it is missing. A dangling link is followed to where it points, inside
/// the root, as every image with a link at /etc/resolv.conf expects.
#[inline(never)]
pub fn open_or_make(root: Fd, path: &[u8], make: Make) -> Done<Fd> {
    let resolve_failed = in_part(Part::Resolve);
    let mut wanted = PathBuf::new();
    if path.first() != Some(&b'/') {
        wanted.push(b"/").map_err(&resolve_failed)?;
    }
    wanted.push(path).map_err(&resolve_failed)?;
    for _ in 0..MOST_LINKS {
        match open(root, wanted.as_c_str(), abi::O_PATH, 0) {
            Err(Errno(abi::ENOENT)) => {}
            result => return result.map_err(&resolve_failed),
        }
        if let Some(fd) = make_missing(root, &mut wanted, make)? {
            return Ok(fd);
        }
    }
    Err(Fail::new(Part::Dangling, abi::ELOOP))
}

/// Makes what is missing of `wanted`. `None`: a dangling link was met and
/// `wanted` now leads where it points, or somebody else was quicker.
fn make_missing(root: Fd, wanted: &mut PathBuf, make: Make) -> Done<Option<Fd>> {
    let look = |path: &CStr| open(root, path, abi::O_PATH, 0);
    let directory = |path: &CStr| open(root, path, abi::O_PATH | abi::O_DIRECTORY, 0);
    // Mostly it is the last component alone that is missing.
    let mut start = last_component(wanted.as_bytes());
    let mut missing = true;
    let mut parent = match wanted.with_part(0..start, directory) {
        Ok(fd) => fd,
        Err(_) => {
            (start, missing) = (0, false);
            directory(c"/").map_err(in_part(Part::Resolve))?
        }
    };
    loop {
        while wanted.as_bytes().get(start) == Some(&b'/') {
            start += 1;
        }
        let rest = wanted.as_bytes().get(start..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(Some(parent));
        }
        let end = start + rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let last =
            wanted.as_bytes().get(end..).is_none_or(|rest| rest.iter().all(|byte| *byte == b'/'));
        let found = if core::mem::take(&mut missing) {
            Err(Errno(abi::ENOENT))
        } else {
            wanted.with_part(0..end, look)
        };
        let next = match found {
            Ok(fd) => fd,
            Err(Errno(abi::ENOENT)) => {
                let make = if last { make } else { Make::Dir(0o755) };
                match wanted.with_part(start..end, |name| make_one(parent, name, make)) {
                    Ok(fd) => fd,
                    Err(Errno(abi::EEXIST)) => {
                        // Once more: a link of /proc/self/fd may be the parent's own.
                        let redirected = match wanted.with_part(0..end, look) {
                            Err(Errno(abi::ENOENT)) => redirect(parent, wanted, start..end),
                            found => found.map(sys::close).map_err(in_part(Part::Resolve)),
                        };
                        sys::close(parent);
                        return redirected.map(|()| None);
                    }
                    Err(errno) => return Err(Fail { errno, ..Fail::new(Part::Create, 0) }),
                }
            }
            Err(errno) => return Err(Fail { errno, ..Fail::new(Part::Resolve, 0) }),
        };
        sys::close(parent);
        parent = next;
        start = end;
    }
}

fn make_one(parent: Fd, name: &CStr, make: Make) -> Sys<Fd> {
    let kind = match make {
        Make::Dir(mode) => {
            sys::mkdirat(parent, name, mode)?;
            abi::S_IFDIR
        }
        Make::File => {
            sys::mknodat(parent, name, abi::S_IFREG | 0o644, 0)?;
            abi::S_IFREG
        }
    };
    let fd = open_child(parent, name)?;
    if sys::fstat(fd)?.kind() == kind {
        return Ok(fd);
    }
    // Something was put in its place meanwhile, a link perhaps: look again.
    sys::close(fd);
    Err(Errno(abi::EEXIST))
}

/// Opens a component just made, and nothing that was put in its place.
pub fn open_child(parent: Fd, name: &CStr) -> Sys<Fd> {
    let how = abi::OpenHow {
        flags: u64::from(abi::O_PATH | abi::O_NOFOLLOW | abi::O_CLOEXEC),
        mode: 0,
        resolve: abi::RESOLVE_BENEATH | abi::RESOLVE_NO_SYMLINKS | abi::RESOLVE_NO_XDEV,
    };
    sys::openat2(parent, name, &how)
}

/// This component of `wanted` exists but leads nowhere: if it is a link, put its
/// target in its place.
#[cold]
#[inline(never)]
fn redirect(parent: Fd, wanted: &mut PathBuf, component: Range<usize>) -> Done {
    let dangling = in_part(Part::Dangling);
    let mut target = [0; PATH_MAX];
    let read = |name: &CStr| sys::readlinkat(parent, name, &mut target);
    let length = match wanted.with_part(component.clone(), read) {
        Ok(length) => length,
        // No link: it appeared meanwhile, and the next lookup will find it.
        Err(Errno(abi::EINVAL | abi::ENOENT)) => return Ok(()),
        Err(errno) => return Err(dangling(errno)),
    };
    let target = target.get(..length).unwrap_or_default();
    let (before, after) = (..component.start, component.end..);
    let mut path = PathBuf::new();
    if target.first() != Some(&b'/') {
        path.push(wanted.as_bytes().get(before).unwrap_or_default()).map_err(&dangling)?;
    }
    path.push(target).map_err(&dangling)?;
    path.push(wanted.as_bytes().get(after).unwrap_or_default()).map_err(&dangling)?;
    *wanted = path;
    Ok(())
}

/// Where the last component of a path begins, with or without slashes after it.
fn last_component(path: &[u8]) -> usize {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let name = path.get(..end).unwrap_or_default();
    name.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1)
}

/// Splits a path into its directory and its last component; `None` for one that ends
/// in a directory.
pub fn split_last(path: &CStr) -> Option<(&[u8], &CStr)> {
    let bytes = path.to_bytes();
    let cut = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (directory, name) = path.to_bytes_with_nul().split_at_checked(cut)?;
    let name = CStr::from_bytes_with_nul(name).ok()?;
    (!matches!(name.to_bytes(), b"" | b"." | b"..")).then_some((directory, name))
}

/// The descriptor of the directory that holds `path`, made where it is missing,
/// and the last component.
pub fn open_parent(root: Fd, path: &CStr) -> Done<(Fd, &CStr)> {
    let (directory, name) = split_last(path).ok_or(Fail::new(Part::Resolve, abi::EINVAL))?;
    let fd = open_or_make(root, directory, Make::Dir(0o755))?;
    if fd == NO_FD {
        return Err(Fail::new(Part::Resolve, abi::ENOENT));
    }
    Ok((fd, name))
}

#[cfg(test)]
mod tests;
