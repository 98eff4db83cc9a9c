//! The thread for one system call: it ends before what it was lent does, whatever
//! its maker does meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

use orlop_init::sys::{self, thread};

struct Work<'a> {
    go: &'a AtomicU32,
    done: u32,
    signals: u64,
}

fn work(work: &mut Work<'_>) {
    while work.go.load(Ordering::Acquire) == 0 {
        let _ = sys::wait_readable(sys::NO_FD, 1);
    }
    work.signals = sys::block_signals();
    work.done += 1;
}

#[test]
fn the_caller_has_its_turns_until_the_thread_is_over() {
    let before = sys::block_signals();
    sys::restore_signals(before);
    let (go, mut turns) = (AtomicU32::new(0), 0);
    let mut data = Work { go: &go, done: 0, signals: 0 };
    let mut meanwhile = || {
        turns += 1;
        if turns == 3 {
            go.store(1, Ordering::Release);
        }
    };
    thread::beside(&mut [0; 1024], work, &mut data, 10, &mut meanwhile).expect("a thread");
    assert_eq!(data.done, 1);
    assert!(turns >= 3, "{turns} turns");
    // All but SIGKILL and SIGSTOP.
    assert_eq!(data.signals, !(1 << 8 | 1 << 18), "{:x}", data.signals);
    let after = sys::block_signals();
    sys::restore_signals(after);
    assert_eq!(before, after, "the caller's signals");
}

#[test]
fn a_panic_of_the_caller_waits_for_the_thread() {
    let go = AtomicU32::new(0);
    let mut data = Work { go: &go, done: 0, signals: 0 };
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let mut stack = [0; 1024];
        thread::beside(&mut stack, work, &mut data, 1, &mut || {
            go.store(1, Ordering::Release);
            panic!("enough")
        })
    }));
    assert!(ended.is_err());
    assert_eq!(data.done, 1);
}
