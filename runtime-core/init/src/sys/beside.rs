//! A child that shares its maker's memory while both run: what vfork(2) does, but
//! for the wait in the kernel. For the launcher alone.
//!
//! The memory that it lives on may be freed when it is gone from there and not
//! before, which only the kernel can tell: it clears a word at the exec or the end.

use core::sync::atomic::{AtomicU32, Ordering};

#[cfg(target_arch = "aarch64")]
use super::aarch64::clone_onto;
use super::abi::{self, CloneArgs};
#[cfg(target_arch = "x86_64")]
use super::x86_64::clone_onto;
use super::{Sys, check, nr, syscall};

/// What a child that shares its maker's memory lives on.
#[derive(Debug)]
pub struct Beside<T> {
    stack: [u64; 1024],
    busy: AtomicU32,
    child: fn(&mut T) -> !,
    data: T,
}

impl<T> Beside<T> {
    /// `child` is what runs: as for [`super::vfork`], but nobody is suspended meanwhile.
    pub fn new(child: fn(&mut T) -> !, data: T) -> Self {
        Self { stack: [0; 1024], busy: AtomicU32::new(1), child, data }
    }

    /// What the child has made of its data.
    pub fn into_data(self) -> T {
        self.data
    }
}

/// clone3(2) with `CLONE_VM`: the child runs beside the caller, in the same memory,
/// until it has executed a program or exited ([`wait`]).
///
/// # Safety
/// `beside` points to a value that nobody touches, moves or drops before
/// [`wait`] has said that the child is gone from it.
pub unsafe fn clone<T>(args: &mut CloneArgs, beside: *mut Beside<T>) -> Sys<i32> {
    extern "C" fn start<T>(beside: *mut Beside<T>) -> ! {
        // SAFETY: the caller of `clone` leaves all of it to this process but
        // for `busy`, which is no part of this borrow.
        let (child, data) = unsafe { ((*beside).child, &mut (*beside).data) };
        child(data)
    }
    args.flags |= u64::from(abi::CLONE_VM | abi::CLONE_CHILD_CLEARTID);
    // SAFETY: addresses of fields of a live value; nothing is read.
    let (stack, busy) = unsafe { (&raw mut (*beside).stack, &raw const (*beside).busy) };
    let (low, size) = (stack as u64, size_of::<[u64; 1024]>() as u64);
    args.stack = low.next_multiple_of(16);
    args.stack_size = (low + size - args.stack) & !15;
    args.child_tid = busy as u64;
    let args = core::ptr::from_ref(args) as usize;
    let entry = start::<T> as *const () as usize;
    // SAFETY: clone3(2): with CLONE_VM the child runs on `stack` alone, which is the
    // child's until it is gone, as `beside` is; the parent's registers are its own.
    let pid =
        unsafe { clone_onto(nr::CLONE3, args, size_of::<CloneArgs>(), entry, beside as usize) };
    check(pid).map(|pid| pid as i32)
}

/// Waits until the child that was cloned with `beside` has left it to its maker:
/// false when it has not after so many milliseconds, or a signal came.
///
/// # Safety
/// `beside` points to a live value.
pub unsafe fn wait<T>(beside: *const Beside<T>, milliseconds: i64) -> bool {
    const FUTEX_WAIT: u32 = 0;
    // SAFETY: atomics may be looked at while another process writes them.
    let busy = unsafe { &(*beside).busy };
    if busy.load(Ordering::Acquire) != 0 {
        let time = [milliseconds / 1000, (milliseconds % 1000) * 1_000_000];
        // clone(2), CLONE_CHILD_CLEARTID: the kernel clears it and wakes.
        let _ = call!(FUTEX, busy.as_ptr(), FUTEX_WAIT, 1, time.as_ptr());
    }
    busy.load(Ordering::Acquire) == 0
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use super::*;
    use crate::sys;

    fn ends(number: &mut u32) -> ! {
        *number += 1;
        sys::exit(3)
    }

    fn stays(_: &mut u32) -> ! {
        loop {
            // Nothing is ever to be read there.
            let _ = sys::wait_readable(sys::NO_FD, -1);
        }
    }

    fn run(child: fn(&mut u32) -> !, killed: bool) -> (i32, u32) {
        let mut args = CloneArgs { exit_signal: abi::SIGCHLD, ..CloneArgs::default() };
        let nest = Box::into_raw(Box::new(Beside::new(child, 41)));
        // SAFETY: it is live, and touched by `wait` alone until the child is gone.
        let pid = unsafe { clone(&mut args, nest) }.expect("a clone");
        if killed {
            // SAFETY: it is live.
            assert!(!unsafe { wait(nest, 50) });
            let pidfd = sys::pidfd_open(pid).expect("a child");
            sys::pidfd_send_signal(pidfd, abi::SIGKILL).expect("it is ours");
            sys::close(pidfd);
        }
        // SAFETY: it is live.
        assert!(unsafe { wait(nest, 10_000) });
        let status = sys::wait(pid).expect("a child to wait for");
        // SAFETY: the box from above, and the child is gone.
        (status, unsafe { Box::from_raw(nest) }.into_data())
    }

    #[test]
    fn it_leaves_the_memory_when_it_ends() {
        assert_eq!(run(ends, false), (3 << 8, 42));
    }

    #[test]
    fn it_leaves_the_memory_when_it_is_killed() {
        assert_eq!(run(stays, true), (9, 41));
    }
}
