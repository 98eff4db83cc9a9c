//! The program: found while its absence can still be an error of create, and
//! executed at the very end.

use core::convert::Infallible;
use core::ffi::CStr;

use crate::hook::pointers;
use crate::path::{self, PathBuf};
use crate::plan::Strs;
use crate::run::{Done, Fail, Stage};
use crate::sys::{self, Errno, Fd, NO_FD, Sys, abi};
use crate::wire::Part;

/// The program, once found: a name in a directory, or a path.
#[derive(Clone, Copy, Default)]
pub struct Program {
    directory: Option<&'static CStr>,
    name: &'static CStr,
}

impl Program {
    /// Hands its path to `call`.
    #[inline(never)]
    fn with_path<T>(self, call: impl FnOnce(&CStr) -> Sys<T>) -> Sys<T> {
        let Some(directory) = self.directory else { return call(self.name) };
        let mut path = PathBuf::new();
        path.push(directory.to_bytes())?;
        path.push(b"/")?;
        path.push(self.name.to_bytes())?;
        call(path.as_c_str())
    }
}

/// `HOME=` and a directory, with its NUL; or nothing.
#[derive(Clone, Copy)]
pub struct Home {
    bytes: [u8; VARIABLE.len() + HOME_MAX + 1],
}

const VARIABLE: &[u8] = b"HOME=";
/// Longest home that is taken.
const HOME_MAX: usize = 1024;

impl Home {
    pub const NONE: Self = Self { bytes: [0; VARIABLE.len() + HOME_MAX + 1] };

    fn new(home: &[u8]) -> Self {
        let mut bytes = Self::NONE.bytes;
        let text = VARIABLE.iter().chain(home.iter().take(HOME_MAX));
        bytes.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
        Self { bytes }
    }

    /// The entry of the environment, if there is one.
    pub fn entry(&self) -> Option<&CStr> {
        let entry = CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default();
        (!entry.is_empty()).then_some(entry)
    }
}

/// Most that is read of a passwd file: an image may hold one of any size.
const PASSWD_MAX: usize = 1 << 20;

/// Looks for the program as the container's user, in `path` unless the name has
/// a slash in it.
pub fn find_program(stage: &mut Stage, name: &'static CStr, path: Strs) -> Done {
    if name.to_bytes().contains(&b'/') {
        stage.program = Program { directory: None, name };
        return runnable(name).map_err(|errno| match errno.0 {
            abi::EISDIR => Fail::new(Part::IsDirectory, abi::EISDIR),
            _ => Fail { errno, ..Fail::new(Part::Open, 0) },
        });
    }
    let mut refused = None;
    for directory in stage.plan.strs(path) {
        let program = Program { directory: Some(directory), name };
        match program.with_path(runnable) {
            Ok(()) => {
                stage.program = program;
                return Ok(());
            }
            // No descriptor is left to look with: that says nothing of what is there.
            Err(Errno(errno @ (abi::EACCES | abi::EMFILE))) => refused = Some(errno),
            Err(_) => {}
        }
    }
    match refused {
        Some(errno) => Err(Fail::new(Part::Open, errno)),
        None => Err(Fail::new(Part::NotFoundInPath, abi::ENOENT)),
    }
}

fn runnable(program: &CStr) -> Sys<()> {
    let fd = sys::openat(abi::AT_FDCWD, program, abi::O_PATH | abi::O_CLOEXEC)?;
    let kind = sys::fstat(fd).map(|stat| stat.kind());
    sys::close(fd);
    if kind? == abi::S_IFDIR {
        return Err(Errno(abi::EISDIR));
    }
    match sys::access(abi::AT_FDCWD, program, abi::X_OK) {
        // A filter that does not know the call: execve will tell.
        Err(Errno(abi::ENOSYS | abi::EPERM)) => Ok(()),
        result => result,
    }
}

/// Reads the user's home from the container's passwd file, "/" without one.
pub fn home(stage: &mut Stage, uid: u32) {
    stage.home = passwd_home(stage.root, uid).unwrap_or_else(|| Home::new(b"/"));
}

/// The home of `uid`; `None` when there is none to be had. The file is the image's: it
/// may be a FIFO, a device, endless or nonsense.
#[inline(never)]
fn passwd_home(root: Fd, uid: u32) -> Option<Home> {
    let flags = abi::O_RDONLY | abi::O_NONBLOCK | abi::O_NOCTTY;
    let fd = path::open(root, c"/etc/passwd", flags, 0).ok()?;
    // A link may lead to a file of the kernel's, where it matters who reads.
    let regular = sys::fstat(fd).is_ok_and(|stat| stat.kind() == abi::S_IFREG)
        && sys::fs_magic(fd).is_ok_and(|magic| magic != abi::PROC_SUPER_MAGIC);
    let mut chunk = [0u8; 4096];
    let mut line = Line::new();
    let mut total = 0;
    let mut found = false;
    while regular && !found && total < PASSWD_MAX {
        let length = sys::read(fd, &mut chunk).unwrap_or(0);
        total += length;
        for byte in chunk.get(..length).unwrap_or_default() {
            if line.feed(*byte, uid) {
                found = true;
                break;
            }
        }
        if length == 0 {
            found = found || line.feed(b'\n', uid);
            break;
        }
    }
    sys::close(fd);
    found.then(|| Home::new(line.home()))
}

/// A line of passwd(5), read byte by byte: only two of its fields are kept.
struct Line {
    field: u32,
    uid: Option<u32>,
    digits: u32,
    home: [u8; HOME_MAX],
    length: usize,
}

impl Line {
    const fn new() -> Self {
        Self { field: 0, uid: None, digits: 0, home: [0; HOME_MAX], length: 0 }
    }

    fn home(&self) -> &[u8] {
        self.home.get(..self.length).unwrap_or_default()
    }

    /// True at the end of the line of `uid`, if it names a home.
    fn feed(&mut self, byte: u8, uid: u32) -> bool {
        match (byte, self.field) {
            (b'\n', _) => {
                if self.uid == Some(uid) && self.field >= 5 && self.length > 0 {
                    return true;
                }
                *self = Self::new();
            }
            (b':', _) => self.field += 1,
            (b'0'..=b'9', 2) if self.digits < 10 => {
                let digit = u32::from(byte - b'0');
                let value = if self.digits == 0 { Some(0) } else { self.uid };
                self.uid = value.and_then(|value| value.checked_mul(10)?.checked_add(digit));
                self.digits += 1;
            }
            (_, 2) => {
                self.digits = u32::MAX; // no number: no user
                self.uid = None;
            }
            (_, 5) => match self.home.get_mut(self.length) {
                Some(place) => {
                    *place = byte;
                    self.length += 1;
                }
                // Longer than any path worth having: no home.
                None => (self.field, self.length) = (100, 0),
            },
            _ => {}
        }
        false
    }
}

/// Becomes the program. Returns only when the kernel refuses.
pub fn exec(stage: &Stage, argv: Strs, envp: Strs) -> Done {
    let argv = pointers(stage, argv, None)?;
    let envp = pointers(stage, envp, stage.home.entry())?;
    let execute = |path: &CStr| -> Sys<Infallible> { Err(sys::execve(path, argv, envp)) };
    let Err(errno) = stage.program.with_path(execute);
    let part = match errno.0 {
        abi::ENOEXEC => Part::ExecFormat,
        // It was there a moment ago: what is missing is what would run it.
        abi::ENOENT => Part::Interpreter,
        _ => Part::Whole,
    };
    Err(Fail { part, errno, text: b"", log: NO_FD })
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use super::*;

    fn home_of(uid: u32, passwd: &str) -> Option<String> {
        let mut line = Line::new();
        let found = passwd.bytes().any(|byte| line.feed(byte, uid));
        found.then(|| String::from_utf8_lossy(line.home()).into_owned())
    }

    #[test]
    fn the_home_is_the_sixth_field_of_the_users_line() {
        let passwd = "root:x:0:0:r:/root:/bin/sh\nme:x:07:7::/home/me\nx:y:8\n";
        assert_eq!(home_of(0, passwd).as_deref(), Some("/root"));
        assert_eq!(home_of(7, passwd).as_deref(), Some("/home/me"));
        assert_eq!(home_of(8, passwd), None);
        assert_eq!(home_of(1, "r:x:1x:0:r:/root:/bin/sh\n"), None);
    }

    #[test]
    fn a_home_that_does_not_fit_is_none_and_never_cut() {
        let line = |length| format!("r:x:0:0:r:/{}:/bin/sh\n", "h".repeat(length - 1));
        assert_eq!(home_of(0, &line(HOME_MAX)).map(|home| home.len()), Some(HOME_MAX));
        assert_eq!(home_of(0, &line(HOME_MAX + 1)), None);
        let second = line(HOME_MAX + 1) + "s:x:0:0:s:/s:\n";
        assert_eq!(home_of(0, &second).as_deref(), Some("/s"));
    }
}
