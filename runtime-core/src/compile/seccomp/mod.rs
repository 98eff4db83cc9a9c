//! A seccomp profile becomes one BPF program for all ABIs of a machine.
//!
//! Pure: nothing here looks at the host. The rooms: `profile` reads and checks
//! what is written, `abi` says which architectures matter, `table` knows the
//! numbers of names, `verdict` lays the rules over the numbers, `layout` makes a
//! program of them with `arguments` and `program`, which write BPF. This one
//! decides the flags and the warnings.
//!
//! Shape of a program: a jump by architecture (an unknown one kills the process),
//! a binary search over the call's number, then a value or the comparisons of the
//! call's arguments. `seccompiler` writes those comparisons; its filters have one
//! action, one architecture and a linear search, so the rest is ours.

mod abi;
mod arguments;
mod layout;
mod profile;
mod program;
mod table;
mod verdict;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag as Flag};

pub use abi::Machine;
use profile::Profile;
use program::LIMIT;
use table::Call;
use verdict::Verdict;

use crate::error::{Error, listed};

/// What seccomp(2) needs to install a profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// An array of `struct sock_filter`, 8 bytes each, in native byte order.
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Whether installing it makes a listener, which the agent must get.
    pub notify: bool,
    /// The place in the profile that keeps every program from being executed, whatever
    /// it is: the rule for execve(2), or the whole profile.
    pub refuses_programs: Option<String>,
    /// What a person should know though it is no failure, one line each.
    pub warnings: Vec<String>,
}

const FLAG_LOG: u32 = 2;
const FLAG_SPEC_ALLOW: u32 = 4;
const FLAG_NEW_LISTENER: u32 = 8;
const FLAG_WAIT_KILLABLE_RECV: u32 = 32;

/// Compiles a profile for the machine that this library is built for.
///
/// `pointer` is the JSON pointer of the object, `/linux/seccomp`.
///
/// # Errors
/// All that is wrong with the profile, each with its place; or one error if the
/// program would be longer than the kernel takes.
pub fn compile(seccomp: &LinuxSeccomp, pointer: &str) -> Result<Filter, Vec<Error>> {
    compile_for(Machine::NATIVE, seccomp, pointer)
}

/// [`compile`] for any machine.
///
/// # Errors
/// As [`compile`].
pub fn compile_for(
    machine: Machine,
    seccomp: &LinuxSeccomp,
    pointer: &str,
) -> Result<Filter, Vec<Error>> {
    let profile = Profile::read(seccomp, pointer)?;
    let mut calls = Vec::with_capacity(512);
    let mut unknown = Vec::new();
    for (index, rule) in profile.rules.iter().enumerate() {
        for name in rule.names {
            match Call::named(name) {
                Some(call) => calls.push((call, index as u32)),
                None if FOREIGN.binary_search(&name.as_str()).is_ok() => {}
                // COMPAT(runc): ignores names that it does not know.
                None => unknown.push(name.as_str()),
            }
        }
    }
    let abis = machine.abis(seccomp.architectures().as_deref().unwrap_or_default());
    let execve = Call::named("execve");
    let (program, answer) = layout::write(&profile, &abis, &calls, execve).ok_or_else(|| {
        let what = format!("the seccomp profile needs more than {LIMIT} BPF instructions");
        vec![Error::config(pointer, what)]
    })?;
    // With arguments it depends on the program.
    let refuses_programs = match answer {
        Some(Verdict::Return(value)) if profile::forbids(value) => {
            let rule = calls.iter().find(|(call, index)| {
                Some(*call) == execve && profile.rules[*index as usize].decides()
            });
            Some(
                rule.map_or(pointer.to_owned(), |(_, index)| format!("{pointer}/syscalls/{index}")),
            )
        }
        _ => None,
    };
    let mut warnings = Vec::new();
    if !unknown.is_empty() {
        let names = listed(unknown.iter().map(|name| format!("{name:?}")), ", ");
        warnings.push(format!("{pointer}: ignoring unknown system calls {names}"));
    }
    let flags = flags(seccomp.flags().as_deref(), profile.notify);
    Ok(Filter { program, flags, notify: profile.notify, refuses_programs, warnings })
}

/// Calls that only MIPS, PowerPC or s390 has, or Arm's old ABI. One profile serves
/// all machines, so that these say nothing of a mistake; in order.
const FOREIGN: [&str; 20] = [
    "cachectl",
    "multiplexer",
    "pciconfig_iobase",
    "pciconfig_read",
    "pciconfig_write",
    "rtas",
    "s390_guarded_storage",
    "s390_pci_mmio_read",
    "s390_pci_mmio_write",
    "s390_runtime_instr",
    "s390_sthyi",
    "spu_create",
    "spu_run",
    "subpage_prot",
    "swapcontext",
    "switch_endian",
    "sys_debug_setcontext",
    "syscall",
    "sysmips",
    "timerfd",
];

/// The flags of seccomp(2).
fn flags(wanted: Option<&[Flag]>, notify: bool) -> u32 {
    // COMPAT(runc): no list at all means SPEC_ALLOW, an empty one nothing.
    let wanted = wanted.unwrap_or(&[Flag::SeccompFilterFlagSpecAllow]);
    let listener = if notify { FLAG_NEW_LISTENER } else { 0 };
    wanted.iter().fold(listener, |flags, flag| {
        flags
            | match flag {
                Flag::SeccompFilterFlagLog => FLAG_LOG,
                Flag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
                // KERNEL(<5.19): refuses it with EINVAL. Without a listener each
                // kernel does, and there is nothing to wait for.
                Flag::SeccompFilterFlagWaitKillableRecv if notify => FLAG_WAIT_KILLABLE_RECV,
                Flag::SeccompFilterFlagWaitKillableRecv => 0,
                // COMPAT(runc): recognised; the stage has one thread.
                Flag::SeccompFilterFlagTsync => 0,
            }
    })
}
