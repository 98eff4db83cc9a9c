//! Block devices that are files (loop(4)).

pub use super::Errno;
use super::{Fd, Sys, check, nr, syscall};

/// <linux/loop.h>
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LOOP_CTL_GET_FREE: u32 = 0x4c82;

/// Nobody writes to it.
pub const LO_FLAGS_READ_ONLY: u32 = 1;
/// The file is let go when nobody has the device open or mounted.
pub const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Past the page cache of the file.
pub const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_config` with its `struct loop_info64`.
#[repr(C)]
#[derive(Debug, Clone)]
pub struct LoopConfig {
    fd: u32,
    block_size: u32,
    device: [u64; 3],
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    name: [u8; 64],
    encryption_name: [u8; 64],
    key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

impl LoopConfig {
    /// All of the file `fd`; `name` is for people, and is cut after 63 bytes.
    pub fn new(fd: Fd, flags: u32, name: &[u8]) -> Self {
        let mut kept = [0; 64];
        let length = name.len().min(63);
        kept[..length].copy_from_slice(&name[..length]);
        Self {
            fd: fd.cast_unsigned(),
            block_size: 0,
            device: [0; 3],
            offset: 0,
            size_limit: 0,
            number: 0,
            encryption: [0; 2],
            flags,
            name: kept,
            encryption_name: [0; 64],
            key: [0; 32],
            init: [0; 2],
            reserved: [0; 8],
        }
    }
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

/// ioctl(2) `LOOP_CTL_GET_FREE` of /dev/loop-control: the number of a device that is free
/// at this moment.
pub fn loop_get_free(control: Fd) -> Sys<usize> {
    call!(IOCTL, control, LOOP_CTL_GET_FREE, 0)
}

/// ioctl(2) `LOOP_CONFIGURE`. `EBUSY` if the device is not free. KERNEL(<5.8): absent.
pub fn loop_configure(device: Fd, config: &LoopConfig) -> Sys<()> {
    call!(IOCTL, device, LOOP_CONFIGURE, config as *const LoopConfig).map(drop)
}
