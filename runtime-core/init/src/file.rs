//! Files in the root and in /proc: directories, links, devices, parameters.

use core::ffi::CStr;

use crate::mount;
use crate::op::{CHDIR_MAKE, CHDIR_TRY, DEVICE_BOUND, DEVICE_MADE};
use crate::path::{self, Make, PathBuf};
use crate::run::{Done, Fail, Stage, in_part};
use crate::sys::{self, Errno, Fd, abi};
use crate::wire::Part;

/// A device node as the config wants it.
pub struct Node {
    pub mode: u32,
    pub major: u32,
    pub minor: u32,
    pub uid: u32,
    pub gid: u32,
}

pub fn mkdir(stage: &Stage, at: &'static CStr, mode: u32) -> Done {
    let fd = path::open_or_make(stage.root, at.to_bytes(), Make::Dir(mode))?;
    sys::close(fd);
    Ok(())
}

/// The directory of a node or a link, and its name there. One directory is found once
/// for all that come one after another: nothing is mounted between them.
fn parent(stage: &mut Stage, at: &'static CStr) -> Done<(Fd, &'static CStr)> {
    match (stage.parent, path::split_last(at)) {
        (Some((known, fd)), Some((directory, name))) if known == directory => Ok((fd, name)),
        _ => {
            leave_parent(stage);
            let (fd, name) = path::open_parent(stage.root, at)?;
            let directory = at.to_bytes().strip_suffix(name.to_bytes()).unwrap_or_default();
            stage.parent = Some((directory, fd));
            Ok((fd, name))
        }
    }
}

/// Something else comes.
pub fn leave_parent(stage: &mut Stage) {
    if let Some((_, fd)) = stage.parent.take() {
        sys::close(fd);
    }
}

pub fn symlink(stage: &mut Stage, at: &'static CStr, to: &'static CStr, replace: bool) -> Done {
    let (parent, name) = parent(stage, at)?;
    let create = in_part(Part::Create);
    let mut made = sys::symlinkat(to, parent, name);
    if made == Err(Errno(abi::EEXIST)) && replace && !is_multiplexer(parent, name) {
        match sys::unlinkat(parent, name) {
            // A directory, or something mounted there, is meant to stay.
            Ok(()) | Err(Errno(abi::ENOENT | abi::EISDIR | abi::EBUSY)) => {}
            Err(errno) => return Err(create(errno)),
        }
        made = sys::symlinkat(to, parent, name);
    }
    match made {
        Ok(()) | Err(Errno(abi::EEXIST)) => {}
        Err(errno) => return Err(create(errno)),
    }
    Ok(())
}

/// Whether it is the device by which terminals are made. It takes the devpts beside it
/// (KERNEL(<4.7): one for all), so it may stay; and the directory may be the host's.
fn is_multiplexer(parent: Fd, name: &CStr) -> bool {
    let Ok(fd) = path::open_child(parent, name) else { return false };
    let stat = sys::fstat(fd);
    sys::close(fd);
    stat.is_ok_and(|stat| {
        stat.kind() == abi::S_IFCHR && (stat.rdev_major, stat.rdev_minor) == (5, 2)
    })
}

/// Makes a node, or binds the host's. One that is there must be the same device: an
/// image may have put anything in its place. It is left as it is: its directory may be
/// the host's, and so would the node be.
///
/// COMPAT(runc): that an owner and a mode are those of a new node only.
pub fn device(stage: &mut Stage, at: &'static CStr, node: &Node, bind: u32) -> Done {
    let (parent, name) = parent(stage, at)?;
    let number = abi::device_number(node.major, node.minor);
    if bind == DEVICE_BOUND {
        return bind_device(stage, (parent, name), at, node);
    }
    let made = match sys::mknodat(parent, name, node.mode, number) {
        Ok(()) => true,
        Err(Errno(abi::EEXIST)) => false,
        // An outer container's device cgroup, most often.
        Err(Errno(abi::EPERM)) if bind == DEVICE_MADE => {
            return bind_device(stage, (parent, name), at, node);
        }
        Err(errno) => return Err(Fail { errno, ..Fail::new(Part::Create, 0) }),
    };
    if !made || (node.uid, node.gid) != (0, 0) {
        let fd = path::open_child(parent, name).map_err(in_part(Part::Verify))?;
        verify(fd, node)?;
        if made {
            sys::chown_fd(fd, node.uid, node.gid).map_err(in_part(Part::SetAttributes))?;
        }
        sys::close(fd);
    }
    Ok(())
}

fn bind_device(stage: &Stage, (parent, name): (Fd, &CStr), at: &'static CStr, node: &Node) -> Done {
    match sys::mknodat(parent, name, abi::S_IFREG | 0o644, 0) {
        Ok(()) | Err(Errno(abi::EEXIST)) => {}
        Err(errno) => return Err(Fail { errno, ..Fail::new(Part::Create, 0) }),
    }
    let place = path::open_child(parent, name).map_err(in_part(Part::Verify))?;
    let tree = mount::host_file(at, stage.kept_out)?;
    verify(tree, node)?;
    sys::move_mount(tree, place).map_err(in_part(Part::Attach))?;
    sys::close(tree);
    sys::close(place);
    Ok(())
}

/// Whether it is the device that the config means, whatever its name.
fn verify(fd: Fd, node: &Node) -> Done {
    let stat = sys::fstat(fd).map_err(in_part(Part::Verify))?;
    let same = stat.kind() == node.mode & abi::S_IFMT
        && (stat.kind() == abi::S_IFIFO
            || (stat.rdev_major, stat.rdev_minor) == (node.major, node.minor));
    if same { Ok(()) } else { Err(Fail::new(Part::Verify, abi::EEXIST)) }
}

/// Opens a file of our own procfs: no link, no mount over it.
fn open_proc_file(stage: &Stage, path: &CStr) -> Done<Fd> {
    let how = abi::OpenHow {
        flags: u64::from(abi::O_WRONLY | abi::O_CLOEXEC),
        mode: 0,
        resolve: abi::RESOLVE_BENEATH | abi::RESOLVE_NO_SYMLINKS | abi::RESOLVE_NO_XDEV,
    };
    sys::openat2(stage.proc, path, &how).map_err(in_part(Part::Open))
}

fn write_proc_file(stage: &Stage, path: &CStr, value: &'static [u8]) -> Done {
    let fd = open_proc_file(stage, path)?;
    sys::write(fd, value).map_err(|errno| Fail {
        text: value,
        errno,
        ..Fail::new(Part::Write, 0)
    })?;
    sys::close(fd);
    Ok(())
}

#[inline(never)]
pub fn sysctl(stage: &Stage, key: &'static CStr, value: &'static [u8]) -> Done {
    let mut path = PathBuf::new();
    path.push(b"sys/").and_then(|()| path.push(key.to_bytes())).map_err(in_part(Part::Resolve))?;
    write_proc_file(stage, path.as_c_str(), value)
}

/// /proc/PID/attr/...: by number, because `self` is a link.
#[inline(never)]
pub fn label(stage: &Stage, file: &'static CStr, value: &'static [u8]) -> Done {
    let mut path = PathBuf::new();
    push_number(&mut path, sys::getpid().cast_unsigned())
        .and_then(|()| path.push(b"/attr/"))
        .and_then(|()| path.push(file.to_bytes()))
        .map_err(in_part(Part::Resolve))?;
    write_proc_file(stage, path.as_c_str(), value)
}

fn push_number(path: &mut PathBuf, number: u32) -> sys::Sys<()> {
    let mut digits = [0u8; 10];
    let mut rest = number;
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    path.push(digits.get(10 - count..).unwrap_or_default())
}

/// The standard streams: the host's null device becomes the container's, so that
/// no descriptor of the host's /dev stays open, and what is left belongs to the
/// container's user, who could not open it again otherwise, but for other devices.
pub fn stdio(stage: &Stage, uid: u32, gid: u32) -> Done {
    let mut null = sys::NO_FD;
    for stream in 0..3 {
        let Ok(stat) = sys::fstat(stream) else { continue }; // closed by the caller
        if stat.kind() == abi::S_IFCHR && (stat.rdev_major, stat.rdev_minor) == (1, 3) {
            if null == sys::NO_FD {
                null = open_null(stage)?;
            }
            sys::dup3(null, stream, 0).map_err(in_part(Part::Attach))?;
        } else if stat.uid != uid && !is_shared(stream, &stat) {
            match sys::chown_fd(stream, uid, gid) {
                // Ids that are not mapped, a file system that has no owners.
                Ok(()) | Err(Errno(abi::EPERM | abi::EINVAL | abi::EROFS | abi::ENOSYS)) => {}
                Err(errno) => return Err(Fail { errno, ..Fail::new(Part::SetAttributes, 0) }),
            }
        }
    }
    sys::close(null);
    Ok(())
}

/// A device is everybody's who can reach it, unless it is the caller's terminal:
/// giving it to one container would take it from the host. A terminal has a line
/// discipline. COMPAT(runc): gives away all but the null device.
fn is_shared(stream: Fd, stat: &abi::Statx) -> bool {
    let device = matches!(stat.kind(), abi::S_IFCHR | abi::S_IFBLK);
    device && sys::ioctl_u32(stream, abi::TIOCGETD, &mut 0).is_err()
}

/// The container's /dev/null, if it is one; reading and writing anything else
/// that an image calls so would hand it the streams.
fn open_null(stage: &Stage) -> Done<Fd> {
    let fd = path::open(stage.root, c"/dev/null", abi::O_RDWR | abi::O_NOCTTY | abi::O_NONBLOCK, 0)
        .map_err(in_part(Part::Open))?;
    let stat = sys::fstat(fd).map_err(in_part(Part::Verify))?;
    if stat.kind() != abi::S_IFCHR || (stat.rdev_major, stat.rdev_minor) != (1, 3) {
        return Err(Fail::new(Part::Verify, abi::ENODEV));
    }
    sys::fcntl(fd, abi::F_SETFL, 0).map_err(in_part(Part::SetAttributes))?;
    Ok(fd)
}

/// Enters the working directory through a descriptor found inside the root, and
/// asks the kernel whether it really is inside.
pub fn chdir(stage: &mut Stage, at: &'static CStr, create: u32) -> Done {
    if stage.in_cwd {
        return Ok(());
    }
    let early = matches!(create, CHDIR_MAKE | CHDIR_TRY);
    let opened = if create == CHDIR_MAKE {
        path::open_or_make(stage.root, at.to_bytes(), Make::Dir(0o755))
    } else {
        path::open(stage.root, at, abi::O_PATH, 0).map_err(in_part(Part::Resolve))
    };
    let fd = match opened {
        Err(Fail { errno: Errno(abi::EACCES), .. }) if early => return Ok(()),
        result => result?,
    };
    match sys::fchdir(fd) {
        // Root squashed away on a network file system: the user may be let in.
        Err(Errno(abi::EACCES)) if early => return Ok(()),
        result => result.map_err(in_part(Part::Whole))?,
    }
    sys::close(fd);
    inside_root()?;
    stage.in_cwd = true;
    Ok(())
}

#[inline(never)]
fn inside_root() -> Done {
    let mut cwd = [0; path::PATH_MAX];
    let length = sys::getcwd(&mut cwd).map_err(in_part(Part::OutsideRoot))?;
    match cwd.get(..length).and_then(|cwd| cwd.first()) {
        Some(&b'/') => Ok(()),
        _ => Err(Fail::new(Part::OutsideRoot, abi::ENOENT)),
    }
}

#[cfg(test)]
mod tests;
