//! A thread for one system call that may wait for long, without what a libc gives
//! a thread: it has the thread pointer of the one that makes it, and so neither
//! errno, allocator nor locks.

use core::sync::atomic::{AtomicU32, Ordering};

#[cfg(target_arch = "aarch64")]
use super::aarch64::clone_onto;
use super::abi::{self, CloneArgs};
#[cfg(target_arch = "x86_64")]
use super::x86_64::clone_onto;
use super::{Sys, block_signals, check, nr, restore_signals, syscall, trap};

/// Runs `work(data)` in a thread on `stack`, where no signal is heard, and returns
/// when that is over. `meanwhile` is called after each so many milliseconds of it.
/// KERNEL: EINVAL while the caller's children go to another pid namespace than its own.
///
/// `work` may call what is in [`super`] and nothing that allocates, locks, unwinds
/// or looks at what each thread has of its own.
pub fn beside<T: Send>(
    stack: &mut [u64; 1024],
    work: fn(&mut T),
    data: &mut T,
    turn: i64,
    meanwhile: &mut dyn FnMut(),
) -> Sys<()> {
    struct Lent<'a, T>(fn(&mut T), &'a mut T);
    extern "C" fn start<T>(lent: *mut Lent<'_, T>) -> ! {
        // SAFETY: the frame below lends `lent` and does not look at it until the
        // thread is over; nothing else refers to it.
        let Lent(work, data) = unsafe { &mut *lent };
        work(data);
        let _ = call!(EXIT, 0);
        trap()
    }

    let mut lent = Lent(work, data);
    // Made last, and so the first to go: nothing of this ends before the thread has.
    let busy = Busy(AtomicU32::new(1));
    let mut args = CloneArgs {
        flags: u64::from(
            abi::CLONE_VM
                | abi::CLONE_FS
                | abi::CLONE_FILES
                | abi::CLONE_SIGHAND
                | abi::CLONE_THREAD
                | abi::CLONE_SYSVSEM
                | abi::CLONE_CHILD_CLEARTID,
        ),
        child_tid: busy.0.as_ptr() as u64,
        ..CloneArgs::default()
    };
    args.run_on(stack);
    let args = [core::ptr::from_ref(&args) as usize, size_of::<CloneArgs>(), 0];
    let entry = start::<T> as *const () as usize;
    let lent = core::ptr::from_mut(&mut lent) as usize;
    let before = block_signals();
    // SAFETY: clone3(2): the thread runs on `stack` alone and on what `lent` refers
    // to, both of which this frame lends until `busy` says that it is over, even
    // when `meanwhile` unwinds; the caller's registers are its own.
    let made = check(unsafe { clone_onto(nr::CLONE3, args, entry, lent) });
    restore_signals(before);
    if let Err(errno) = made {
        busy.0.store(0, Ordering::Relaxed);
        return Err(errno);
    }
    while !busy.is_over_within(turn) {
        meanwhile();
    }
    Ok(())
}

/// Not 0 while a thread runs: the kernel clears it and wakes who waits
/// (clone(2), `CLONE_CHILD_CLEARTID`). What is lent to the thread outlives it.
struct Busy(AtomicU32);

impl Busy {
    fn is_over_within(&self, milliseconds: i64) -> bool {
        const FUTEX_WAIT: u32 = 0;
        if self.0.load(Ordering::Acquire) != 0 {
            let time = [milliseconds / 1000, (milliseconds % 1000) * 1_000_000];
            let _ = call!(FUTEX, self.0.as_ptr(), FUTEX_WAIT, 1, time.as_ptr());
        }
        self.0.load(Ordering::Acquire) == 0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        while !self.is_over_within(1000) {}
    }
}
