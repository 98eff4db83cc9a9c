//! What is told of a launch to who debugs it, step by step.
//!
//! COMPAT(runc): the first words of each line, for which people and tests look.

use log::{Level, debug, log_enabled};
use orlop_init::wire::MessageKind;

use crate::plan::{Op, Plan};

/// What the stage adds for a listener (seccomp(2)).
const NEW_LISTENER: u32 = 1 << 3;

/// The stage has begun.
pub(super) fn begun(plan: &Plan, pid: i32) {
    if !log_enabled!(Level::Debug) {
        return;
    }
    // What of it the others use is told there, and both are looked for.
    debug!(
        "runc exeseal: using /proc/self/exe clone, in the place of \
         \"runc exeseal: using overlayfs for sealed /proc/self/exe\": a sealed memory file"
    );
    debug!("nsexec container setup: the init stage is process {pid}");
    for (op, _) in plan.steps() {
        if let Op::Seccomp { flags, notify, .. } = op {
            debug!("seccomp filter flags: {}", flags | (notify * NEW_LISTENER));
        }
    }
    let mask = plan.steps().find_map(|(op, _)| match op {
        Op::Affinity { mask } => Some(plan.bytes(*mask)),
        _ => None,
    });
    let digits: String =
        mask.unwrap_or_default().iter().rev().map(|b| format!("{b:02x}")).collect();
    match digits.trim_start_matches('0') {
        "" => debug!("nsexec: affinity: all processors of the cgroup"),
        digits => debug!("nsexec: affinity: 0x{digits}"),
    }
}

/// It has sent a message.
pub(super) fn heard(kind: MessageKind) {
    debug!("child process in init(): {kind:?}");
    if kind == MessageKind::Leaving {
        debug!("setns_init: about to exec");
    }
}

/// It is told to go on where nothing of ours is left to do.
pub(super) fn released() {
    debug!("init: closing the pipe to signal completion");
}
