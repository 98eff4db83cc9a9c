//! A file as a block device (loop(4)).

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use orlop_init::sys::block::{self, LoopConfig};

/// How often another may be quicker.
const TRIES: usize = 100;

/// A device with the content of a file, and its path. It is given back when nobody has it
/// open or mounted any more.
pub(super) fn attach(file: &str, read_only: bool, direct: bool) -> std::io::Result<(File, String)> {
    let open = |path: &Path| File::options().read(true).write(!read_only).open(path);
    let backing = open(Path::new(file))?;
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    let raw = |errno: block::Errno| std::io::Error::from_raw_os_error(errno.0);
    let mut flags = block::LO_FLAGS_AUTOCLEAR;
    if read_only {
        flags |= block::LO_FLAGS_READ_ONLY;
    }
    if direct {
        flags |= block::LO_FLAGS_DIRECT_IO;
    }
    let config = LoopConfig::new(backing.as_raw_fd(), flags, file.as_bytes());
    for _ in 0..TRIES {
        let number = block::loop_get_free(control.as_raw_fd()).map_err(raw)?;
        let path = format!("/dev/loop{number}");
        let device = open(Path::new(&path))?;
        match block::loop_configure(device.as_raw_fd(), &config) {
            Ok(()) => return Ok((device, path)),
            // It was free when we asked.
            Err(errno) if errno.0 == Errno::EBUSY as i32 => {}
            Err(errno) => return Err(raw(errno)),
        }
    }
    Err(Errno::EBUSY.into())
}
