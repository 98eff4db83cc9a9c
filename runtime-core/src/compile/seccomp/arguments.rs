//! Comparisons of arguments, turned into BPF by `seccompiler`.
//!
//! Decides how wide a comparison is. Knows no system call.

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Operator};
use seccompiler::{
    BpfProgram, SeccompCmpArgLen as Width, SeccompCmpOp, SeccompCondition, SeccompRule, sock_filter,
};

/// Comparisons that must all hold.
pub(super) struct Comparisons {
    wide: SeccompRule,
    narrow: SeccompRule,
}

impl Comparisons {
    /// `None` if there are none, or one is of an argument that no call has.
    pub(super) fn new(args: &[LinuxSeccompArg]) -> Option<Self> {
        let rule = |narrow| {
            let conditions = args.iter().map(|arg| condition(arg, narrow)).collect::<Option<_>>();
            SeccompRule::new(conditions?).ok()
        };
        Some(Self { wide: rule(false)?, narrow: rule(true)? })
    }

    /// Instructions that go on behind their end when all comparisons hold, and one
    /// instruction further when one does not. `narrow` compares low halves only.
    pub(super) fn body(&self, narrow: bool) -> Vec<sock_filter> {
        let rule = if narrow { &self.narrow } else { &self.wide };
        let mut program = BpfProgram::from(rule.clone());
        // It opens with a jump over a landing place that only a chain of rules
        // needs. Jumps go forward: what the first instruction jumps over never runs.
        if let Some(&sock_filter { code, k, .. }) = program.first()
            && u32::from(code) == libc::BPF_JMP | libc::BPF_JA
        {
            program.drain(..=k as usize);
        }
        program
    }
}

fn condition(arg: &LinuxSeccompArg, narrow: bool) -> Option<SeccompCondition> {
    let (operator, value) = match arg.op() {
        Operator::ScmpCmpNe => (SeccompCmpOp::Ne, arg.value()),
        Operator::ScmpCmpLt => (SeccompCmpOp::Lt, arg.value()),
        Operator::ScmpCmpLe => (SeccompCmpOp::Le, arg.value()),
        Operator::ScmpCmpEq => (SeccompCmpOp::Eq, arg.value()),
        Operator::ScmpCmpGe => (SeccompCmpOp::Ge, arg.value()),
        Operator::ScmpCmpGt => (SeccompCmpOp::Gt, arg.value()),
        // SPEC: config-linux, seccomp: `value` is the mask, `valueTwo` what is
        // compared. Bits of it outside the mask don't count, as in libseccomp.
        Operator::ScmpCmpMaskedEq => {
            (SeccompCmpOp::MaskedEq(arg.value()), arg.value_two().unwrap_or(0))
        }
    };
    // A mask without high bits makes the high half equal whatever it is.
    let low_mask = matches!(operator, SeccompCmpOp::MaskedEq(mask) if mask >> 32 == 0);
    let width = if narrow || low_mask { Width::Dword } else { Width::Qword };
    SeccompCondition::new(u8::try_from(arg.index()).ok()?, width, operator, value).ok()
}
