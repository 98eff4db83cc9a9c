//! What happens to a process on a signal (rt_sigaction(2)), for a program that has no
//! handlers of its own.

use super::{check, exit, nr, syscall};

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

/// Those that ask a process to end: SIGHUP, SIGINT, SIGQUIT, SIGTERM.
pub const ENDING: [i32; 4] = [1, 2, 3, 15];

/// The process ends, process 1 of a pid namespace too, with the status that a shell
/// tells of it. Until the next exec.
pub fn end_on(signal: i32) {
    const SA_RESTORER: usize = 0x0400_0000;
    extern "C" fn end(signal: i32) -> ! {
        exit(signal.wrapping_add(128))
    }
    // It never comes back, and so needs no restorer; without any, x86_64 runs none.
    let end = end as extern "C" fn(i32) -> ! as usize;
    let _ = call!(RT_SIGACTION, signal, [end, SA_RESTORER, end, 0].as_ptr(), 0, 8);
}

/// Whether it is ignored, most often since whoever started the program ignores it.
pub fn is_ignored(signal: i32) -> bool {
    let mut action = [0usize; 4]; // the handler comes first
    call!(RT_SIGACTION, signal, 0, action.as_mut_ptr(), 8).is_ok() && action[0] == SIG_IGN
}
