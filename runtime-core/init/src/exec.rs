//! The program: found while its absence can still be an error of create, and
//! executed at the very end.

use core::ffi::CStr;

use crate::hook::pointers;
use crate::path::{self, PathBuf};
use crate::plan::Strs;
use crate::run::{Done, Fail, Stage, in_part};
use crate::sys::{self, Errno, NO_FD, Sys, abi};
use crate::wire::Part;

/// The program's path, once found.
pub struct Program(PathBuf);

/// `HOME=` and a directory, or nothing.
pub struct Home(PathBuf);

impl Program {
    pub const fn none() -> Self {
        Self(PathBuf::new())
    }
}

impl Home {
    pub const fn none() -> Self {
        Self(PathBuf::new())
    }
}

/// Most that is read of a passwd file: an image may hold one of any size.
const PASSWD_MAX: usize = 1 << 20;

/// Looks for the program as the container's user, in `path` unless the name has
/// a slash in it.
pub fn find_program(stage: &mut Stage, name: &'static CStr, path: Strs) -> Done {
    if name.to_bytes().contains(&b'/') {
        let mut program = PathBuf::new();
        program.push(name.to_bytes()).map_err(in_part(Part::Open))?;
        return match runnable(program.as_c_str()) {
            Ok(()) => {
                stage.program = Program(program);
                Ok(())
            }
            Err(Errno(abi::EISDIR)) => Err(Fail::new(Part::IsDirectory, abi::EISDIR)),
            Err(errno) => Err(Fail { errno, ..Fail::new(Part::Open, 0) }),
        };
    }
    let mut refused = None;
    for dir in stage.plan.strs(path) {
        let mut program = PathBuf::new();
        let built = program
            .push(dir.to_bytes())
            .and_then(|()| program.push(b"/"))
            .and_then(|()| program.push(name.to_bytes()));
        match built.and_then(|()| runnable(program.as_c_str())) {
            Ok(()) => {
                stage.program = Program(program);
                return Ok(());
            }
            Err(Errno(abi::EACCES)) => refused = Some(abi::EACCES),
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
pub fn home(stage: &mut Stage, uid: u32) -> Done {
    let mut home = PathBuf::new();
    home.push(b"HOME=").map_err(in_part(Part::Whole))?;
    if !passwd_home(stage, uid, &mut home) {
        home.push(b"/").map_err(in_part(Part::Whole))?;
    }
    stage.home = Home(home);
    Ok(())
}

/// Appends the home of `uid`; false when there is none to be had. The file is the
/// image's: it may be a FIFO, a device, endless or nonsense.
fn passwd_home(stage: &Stage, uid: u32, home: &mut PathBuf) -> bool {
    let flags = abi::O_RDONLY | abi::O_NONBLOCK | abi::O_NOCTTY;
    let Ok(fd) = path::open(stage.root, c"/etc/passwd", flags, 0) else { return false };
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
    found && home.push(line.home()).is_ok()
}

/// A line of passwd(5), read byte by byte: only two of its fields are kept.
struct Line {
    field: u32,
    uid: Option<u32>,
    digits: u32,
    home: [u8; 1024],
    length: usize,
}

impl Line {
    const fn new() -> Self {
        Self { field: 0, uid: None, digits: 0, home: [0; 1024], length: 0 }
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
                None => self.field = 100, // longer than any path worth having
            },
            _ => {}
        }
        false
    }
}

/// Becomes the program. Returns only when the kernel refuses.
pub fn exec(stage: &Stage, argv: Strs, envp: Strs) -> Done {
    let argv = pointers(stage, argv, None)?;
    let home = stage.home.0.as_c_str();
    let envp = pointers(stage, envp, (!home.is_empty()).then_some(home))?;
    let program = stage.program.0.as_c_str();
    let errno = sys::execve(program, argv, envp);
    let part = match errno.0 {
        abi::ENOEXEC => Part::ExecFormat,
        // It was there a moment ago: what is missing is what would run it.
        abi::ENOENT => Part::Interpreter,
        _ => Part::Whole,
    };
    Err(Fail { part, errno, text: b"", log: NO_FD })
}
