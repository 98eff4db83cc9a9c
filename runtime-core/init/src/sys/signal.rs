//! What happens to a process on a signal (rt_sigaction(2)), for a program that has no
//! handlers of its own.

use super::{check, nr, syscall};

const SIG_IGN: usize = 1;

/// The default disposition.
pub fn reset(signal: i32) {
    let _ = call!(RT_SIGACTION, signal, [0usize; 4].as_ptr(), 0, 8);
}

/// Nothing happens.
#[cfg(not(stage))]
pub fn ignore(signal: i32) {
    let _ = call!(RT_SIGACTION, signal, [SIG_IGN, 0, 0, 0].as_ptr(), 0, 8);
}

/// Whether it is ignored, most often since whoever started the program ignores it.
pub fn is_ignored(signal: i32) -> bool {
    let mut action = [0usize; 4]; // the handler comes first
    call!(RT_SIGACTION, signal, 0, action.as_mut_ptr(), 8).is_ok() && action[0] == SIG_IGN
}
