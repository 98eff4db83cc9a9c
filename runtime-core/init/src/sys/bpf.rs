//! bpf(2), as far as a cgroup's device program needs it.
//!
//! Every command gets the whole union, zeroed, and larger than any kernel's.
//! KERNEL(<7.2): `BPF_PROG_QUERY` writes its last field whatever size it was
//! told, so a short structure would be memory corruption since 6.17.

use core::ffi::CStr;

use super::{Fd, Sys, check, nr, syscall};

const PROG_LOAD: usize = 5;
const PROG_ATTACH: usize = 8;
const PROG_DETACH: usize = 9;
const PROG_GET_FD_BY_ID: usize = 13;
const PROG_QUERY: usize = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;
const F_REPLACE: u32 = 4;

/// `union bpf_attr` in 32-bit words. The kernel takes a union larger than its
/// own as long as the rest is zero.
#[repr(C, align(8))]
struct Attr([u32; 64]);

impl Attr {
    fn new(words: &[(usize, u32)]) -> Self {
        let mut attr = Self([0; 64]);
        for &(index, word) in words {
            attr.0[index] = word;
        }
        attr
    }

    /// Stores a pointer at a word's index; both ABIs are little-endian.
    fn pointer(&mut self, index: usize, address: usize) {
        self.0[index] = address as u32;
        self.0[index + 1] = (address as u64 >> 32) as u32;
    }
}

fn bpf(command: usize, attr: &mut Attr) -> Sys<usize> {
    call!(BPF, command, attr as *mut Attr, size_of::<Attr>())
}

/// `BPF_PROG_LOAD` of a cgroup device program, eight bytes an instruction. The
/// descriptor is closed on exec. `log` takes the verifier's words; empty: none.
pub fn load_device_program(program: &[u64], license: &CStr, log: &mut [u8]) -> Sys<Fd> {
    let mut attr = Attr::new(&[(0, PROG_TYPE_CGROUP_DEVICE), (1, program.len() as u32)]);
    attr.pointer(2, program.as_ptr() as usize);
    attr.pointer(4, license.as_ptr() as usize);
    if !log.is_empty() {
        attr.0[6] = 1;
        attr.0[7] = log.len() as u32;
        attr.pointer(8, log.as_mut_ptr() as usize);
    }
    bpf(PROG_LOAD, &mut attr).map(|fd| fd as Fd)
}

/// `BPF_PROG_ATTACH` beside other programs, or in the place of `replaced` in one
/// step. KERNEL(<5.6): no replacing.
pub fn attach_device_program(cgroup: Fd, program: Fd, replaced: Option<Fd>) -> Sys<()> {
    let flags = F_ALLOW_MULTI | if replaced.is_some() { F_REPLACE } else { 0 };
    let mut attr = Attr::new(&[
        (0, cgroup as u32),
        (1, program as u32),
        (2, CGROUP_DEVICE),
        (3, flags),
        (4, replaced.unwrap_or(0) as u32),
    ]);
    bpf(PROG_ATTACH, &mut attr).map(drop)
}

/// `BPF_PROG_DETACH` of one program.
pub fn detach_device_program(cgroup: Fd, program: Fd) -> Sys<()> {
    let mut attr = Attr::new(&[(0, cgroup as u32), (1, program as u32), (2, CGROUP_DEVICE)]);
    bpf(PROG_DETACH, &mut attr).map(drop)
}

/// `BPF_PROG_QUERY`: the ids of the device programs attached to this very
/// cgroup; how many there are. `ENOSPC` when `ids` is too short (64 is the
/// kernel's limit).
pub fn device_programs(cgroup: Fd, ids: &mut [u32]) -> Sys<usize> {
    let mut attr = Attr::new(&[(0, cgroup as u32), (1, CGROUP_DEVICE), (6, ids.len() as u32)]);
    attr.pointer(4, ids.as_mut_ptr() as usize);
    bpf(PROG_QUERY, &mut attr)?;
    Ok(attr.0[6] as usize)
}

/// `BPF_PROG_GET_FD_BY_ID`. The descriptor is closed on exec.
pub fn program_by_id(id: u32) -> Sys<Fd> {
    bpf(PROG_GET_FD_BY_ID, &mut Attr::new(&[(0, id)])).map(|fd| fd as Fd)
}
