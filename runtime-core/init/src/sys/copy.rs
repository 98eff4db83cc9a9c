//! A copy of a process that has std.

use super::abi::{self, CloneArgs};
use super::{Sys, fork, unshare};

/// A copy of this process, as fork(2) makes it: its pid, and 0 in the copy. EINVAL in a
/// process with more than one thread, whose locks the copy could have held for ever.
pub fn fork_alone() -> Sys<i32> {
    // It does nothing to a process with one thread, and is refused with more (unshare(2)).
    unshare(abi::CLONE_VM)?;
    fork(&CloneArgs { exit_signal: abi::SIGCHLD, ..CloneArgs::default() })
}
