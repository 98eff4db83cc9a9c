//! Programs of a few instructions, for system calls that no safe function makes: those of
//! another ABI, of a number that nobody knows, and a few that libraries leave out.
//!
//! Each is a file of its own, so that what a filter does to it is not done to the probe.
//! For x86-64: cases that ask for one need such a machine.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use serde_json::{Value, json};

/// Where a program is loaded, low enough for addresses of 32 bits.
const BASE: u64 = 0x40_0000;

/// `program NAME PATH`: writes one. Those that only make a call end with its errno, or 0.
pub(crate) fn write(name: &str, path: &str) -> std::io::Result<Value> {
    let code: &[u8] = match name {
        "getcwd-32" => GETCWD_32,
        "call-999" => CALL_999,
        "with-local-memory" => WITH_LOCAL_MEMORY,
        "scheduler" => SCHEDULER,
        "answer" => ANSWER,
        _ => return Err(std::io::Error::other("no such program")),
    };
    // The mode at once: a filter may not know the call that changes it.
    let mut file = File::options().write(true).create_new(true).mode(0o755).open(path)?;
    file.write_all(&elf(code))?;
    Ok(json!(""))
}

/// sched_getattr(2) of process 1.
pub(super) fn attributes() -> std::io::Result<Value> {
    let path = "/tmp/scheduler";
    write("scheduler", path)?;
    let said = Command::new(path).output()?.stdout;
    let half = |at: usize| Some(u32::from_ne_bytes(said.get(at..at + 4)?.try_into().ok()?));
    let whole = |at: usize| Some(u64::from_ne_bytes(said.get(at..at + 8)?.try_into().ok()?));
    Ok(json!({
        "policy": half(4), "flags": whole(8), "nice": half(16).map(u32::cast_signed),
        "priority": half(20), "runtime": whole(24), "deadline": whole(32), "period": whole(40),
    }))
}

/// An executable of one page that may be read, written and run, with the code at its start.
fn elf(code: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    let halves = |numbers: &[u16]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
    let words = |numbers: &[u64]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(halves(&[2, 62, 1, 0])); // an executable for x86-64
    file.extend(words(&[BASE + HEADERS, 64, 0])); // entry, program headers, no sections
    file.extend(halves(&[0, 0, 64, 56, 1, 0, 0, 0]));
    file.extend(halves(&[1, 0, 7, 0])); // PT_LOAD, rwx
    let size = HEADERS + code.len() as u64;
    file.extend(words(&[0, BASE, BASE, size, 0x1000, 0x1000]));
    file.extend(code);
    file
}

/// getcwd(2) as a program of 32 bits makes it.
#[rustfmt::skip]
const GETCWD_32: &[u8] = &[
    0xb8, 183, 0, 0, 0, // mov eax, 183
    0xbb, 0x00, 0x08, 0x40, 0, // mov ebx, BASE + 0x800
    0xb9, 0x80, 0, 0, 0, // mov ecx, 128
    0xcd, 0x80, // int 0x80
    0x31, 0xdb, // xor ebx, ebx
    0x85, 0xc0, // test eax, eax
    0x79, 0x04, // jns exit
    0x89, 0xc3, // mov ebx, eax
    0xf7, 0xdb, // neg ebx
    0xb8, 1, 0, 0, 0, // exit: mov eax, 1
    0xcd, 0x80, // int 0x80
];

/// A call that is newer than anything.
#[rustfmt::skip]
const CALL_999: &[u8] = &[
    0xb8, 0xe7, 0x03, 0, 0, // mov eax, 999
    0x0f, 0x05, // syscall
    0x89, 0xc7, // mov edi, eax
    0xf7, 0xdf, // neg edi
    0xb8, 60, 0, 0, 0, // mov eax, 60
    0x0f, 0x05, // syscall
];

/// `PROGRAM PATH ARGUMENT…`: executes that with the memory policy MPOL_LOCAL.
#[rustfmt::skip]
const WITH_LOCAL_MEMORY: &[u8] = &[
    0xbf, 4, 0, 0, 0, // mov edi, MPOL_LOCAL
    0x31, 0xf6, // xor esi, esi
    0x31, 0xd2, // xor edx, edx
    0xb8, 238, 0, 0, 0, // mov eax, set_mempolicy
    0x0f, 0x05, // syscall
    0x48, 0x8b, 0x0c, 0x24, // mov rcx, [rsp]
    0x48, 0x8d, 0x74, 0x24, 0x10, // lea rsi, [rsp + 16]
    0x48, 0x8b, 0x3e, // mov rdi, [rsi]
    0x48, 0x8d, 0x54, 0xcc, 0x10, // lea rdx, [rsp + rcx * 8 + 16]
    0xb8, 59, 0, 0, 0, // mov eax, execve
    0x0f, 0x05, // syscall
    0xbf, 99, 0, 0, 0, // mov edi, 99
    0xb8, 60, 0, 0, 0, // mov eax, exit
    0x0f, 0x05, // syscall
];

/// Takes the first call that waits for the listener that is its standard input, and
/// answers it with EEXIST.
#[rustfmt::skip]
const ANSWER: &[u8] = &[
    0x48, 0x81, 0xec, 0x80, 0, 0, 0, // sub rsp, 128
    0x48, 0x89, 0xe7, // mov rdi, rsp
    0x31, 0xc0, // xor eax, eax
    0xb9, 16, 0, 0, 0, // mov ecx, 16
    0xf3, 0x48, 0xab, // rep stosq
    0x31, 0xff, // xor edi, edi
    0xbe, 0x00, 0x21, 0x50, 0xc0, // mov esi, SECCOMP_IOCTL_NOTIF_RECV
    0x48, 0x89, 0xe2, // mov rdx, rsp
    0xb8, 16, 0, 0, 0, // mov eax, ioctl
    0x0f, 0x05, // syscall
    0x31, 0xc0, // xor eax, eax: the id stays, val and flags are 0
    0x48, 0x89, 0x44, 0x24, 0x08, // mov [rsp + 8], rax
    0xc7, 0x44, 0x24, 0x10, 0xef, 0xff, 0xff, 0xff, // mov dword ptr [rsp + 16], -17
    0x89, 0x44, 0x24, 0x14, // mov [rsp + 20], eax
    0x31, 0xff, // xor edi, edi
    0xbe, 0x01, 0x21, 0x18, 0xc0, // mov esi, SECCOMP_IOCTL_NOTIF_SEND
    0x48, 0x89, 0xe2, // mov rdx, rsp
    0xb8, 16, 0, 0, 0, // mov eax, ioctl
    0x0f, 0x05, // syscall
    0x89, 0xc7, // mov edi, eax
    0xb8, 60, 0, 0, 0, // mov eax, exit
    0x0f, 0x05, // syscall
];

/// Prints the `struct sched_attr` of process 1.
#[rustfmt::skip]
const SCHEDULER: &[u8] = &[
    0x48, 0x83, 0xec, 0x40, // sub rsp, 64
    0xbf, 1, 0, 0, 0, // mov edi, 1
    0x48, 0x89, 0xe6, // mov rsi, rsp
    0xba, 56, 0, 0, 0, // mov edx, 56
    0x45, 0x31, 0xd2, // xor r10d, r10d
    0xb8, 0x3b, 0x01, 0, 0, // mov eax, sched_getattr
    0x0f, 0x05, // syscall
    0xbf, 1, 0, 0, 0, // mov edi, 1
    0x48, 0x89, 0xe6, // mov rsi, rsp
    0xba, 56, 0, 0, 0, // mov edx, 56
    0xb8, 1, 0, 0, 0, // mov eax, write
    0x0f, 0x05, // syscall
    0x31, 0xff, // xor edi, edi
    0xb8, 60, 0, 0, 0, // mov eax, exit
    0x0f, 0x05, // syscall
];
