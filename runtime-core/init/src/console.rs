//! The terminal: a pair from the container's own devpts.

use crate::mount;
use crate::op::{CONSOLE_BARE_LINES, CONSOLE_BOUND};
use crate::path::{self, Make};
use crate::plan::Slot;
use crate::run::{Done, Fail, Stage, in_part};
use crate::sys::{self, abi};
use crate::wire::Part;

/// Opens a pair, makes the slave the controlling terminal and the standard
/// streams, and sends the master away.
///
/// The slave is taken from the master by `TIOCGPTPEER`, never by its name, which
/// the image could have replaced (KERNEL(<4.13): absent).
pub fn console(stage: &Stage, size: u32, like: u32, uid: u32, gid: u32) -> Done {
    let master = path::open(stage.root, c"/dev/pts/ptmx", abi::O_RDWR | abi::O_NOCTTY, 0)
        .map_err(in_part(Part::Open))?;
    let stat = sys::fstat(master).map_err(in_part(Part::Verify))?;
    let genuine = stat.kind() == abi::S_IFCHR
        && (stat.rdev_major, stat.rdev_minor) == (5, 2)
        && sys::fs_magic(master).map_err(in_part(Part::Verify))? == abi::DEVPTS_SUPER_MAGIC;
    if !genuine {
        return Err(Fail::new(Part::Verify, abi::ENODEV));
    }
    let mut unlock = 0;
    sys::ioctl_u32(master, abi::TIOCSPTLCK, &mut unlock).map_err(in_part(Part::Peer))?;
    let flags = abi::O_RDWR | abi::O_NOCTTY | abi::O_CLOEXEC;
    let slave = sys::ioctl_value(master, abi::TIOCGPTPEER, flags).map_err(in_part(Part::Peer))?;
    let slave = slave as sys::Fd;
    if size != 0 {
        let rows_columns = [size as u16, (size >> 16) as u16, 0, 0];
        sys::terminal::set_window_size(master, &rows_columns)
            .map_err(in_part(Part::SetAttributes))?;
    }
    sys::chown_fd(slave, uid, gid).map_err(in_part(Part::SetAttributes))?;
    if like & CONSOLE_BARE_LINES != 0 {
        sys::terminal::bare_lines(master).map_err(in_part(Part::SetAttributes))?;
    }
    if like & CONSOLE_BOUND != 0 {
        let (parent, name) = path::open_parent(stage.root, c"/dev/console")?;
        let place = match path::open_child(parent, name) {
            Err(sys::Errno(abi::ENOENT)) => {
                sys::close(path::open_or_make(parent, name.to_bytes(), Make::File)?);
                path::open_child(parent, name)
            }
            result => result,
        };
        let place = place.map_err(in_part(Part::Create))?;
        mount::bind_fd(stage, slave, place)?;
        sys::close(place);
        sys::close(parent);
    }
    sys::send_fds(stage.plan.slot(Slot::CONSOLE), b"/dev/pts/ptmx", &[master])
        .map_err(in_part(Part::Send))?;
    sys::close(master);
    // Who takes the master may wait for the end of what comes.
    sys::close(stage.plan.slot(Slot::CONSOLE));
    for stream in 0..3 {
        sys::dup3(slave, stream, 0).map_err(in_part(Part::Attach))?;
    }
    sys::close(slave);
    sys::ioctl_value(0, abi::TIOCSCTTY, 0).map_err(in_part(Part::Whole)).map(drop)
}
