//! The machines a filter is made for and the system call ABIs they serve.
//!
//! Decides which architectures of a profile matter on a machine. Knows no system
//! call by name and no BPF.

use std::ops::Range;

use oci_spec::runtime::Arch;

/// A kind of machine, by what its kernel runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// x86_64, with its 32-bit ABIs x86 and x32.
    X86_64,
    /// aarch64, with 32-bit Arm.
    Aarch64,
    /// riscv64.
    Riscv64,
}

impl Machine {
    /// The machine that this library is built for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Self = Self::X86_64;
    /// The machine that this library is built for.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Self = Self::Aarch64;
    /// The machine that this library is built for.
    #[cfg(target_arch = "riscv64")]
    pub const NATIVE: Self = Self::Riscv64;

    /// The ABIs that a filter for these architectures covers, the native one
    /// first and always.
    ///
    /// An architecture that this machine's kernel can't run is left out: no call
    /// of it can occur, and if one did, the filter kills what it does not know.
    pub(super) fn abis(self, architectures: &[Arch]) -> Vec<Abi> {
        let wanted = |abi: &Abi| architectures.iter().any(|arch| abi.is(*arch));
        let (native, others): (_, &[_]) = match self {
            Self::X86_64 => (Abi::X86_64, &[Abi::X86, Abi::X32]),
            Self::Aarch64 => (Abi::Aarch64, &[Abi::Arm]),
            Self::Riscv64 => (Abi::Riscv64, &[]),
        };
        // COMPAT(runc): libseccomp puts the native architecture into each filter.
        std::iter::once(native).chain(others.iter().copied().filter(wanted)).collect()
    }
}

/// A system call ABI. The number is its column in the table of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64 = 0,
    X86 = 1,
    X32 = 2,
    Aarch64 = 3,
    Arm = 4,
    Riscv64 = 5,
}

/// Set in the number of each x32 call (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// First private number of Arm (`__ARM_NR_BASE`).
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

impl Abi {
    fn is(self, arch: Arch) -> bool {
        match self {
            Self::X86_64 => arch == Arch::ScmpArchX86_64,
            Self::X86 => arch == Arch::ScmpArchX86,
            Self::X32 => arch == Arch::ScmpArchX32,
            Self::Aarch64 => arch == Arch::ScmpArchAarch64,
            Self::Arm => arch == Arch::ScmpArchArm,
            Self::Riscv64 => arch == Arch::ScmpArchRiscv64,
        }
    }

    /// `AUDIT_ARCH_*` (linux/audit.h). x32 shares that of x86_64.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
        }
    }

    /// Whether arguments are compared by their low 32 bits.
    ///
    /// COMPAT(runc): libseccomp does so on each ABI whose `long` has 32 bits. It
    /// makes a -1 that a profile spells with 64 bits match there.
    pub(super) fn narrow(self) -> bool {
        matches!(self, Self::X86 | Self::X32 | Self::Arm)
    }

    /// What is added to a slot to get the number of a call.
    pub(super) fn base(self) -> u32 {
        if self == Self::X32 { X32_BIT } else { 0 }
    }

    /// Slots that are outside the order in which the kernel hands out numbers, so
    /// that they say nothing about which call is the newest.
    pub(super) fn out_of_order(self) -> Range<usize> {
        match self {
            // The calls that x32 has in a form of its own.
            Self::X32 => 512..548,
            _ => 0..0,
        }
    }
}
