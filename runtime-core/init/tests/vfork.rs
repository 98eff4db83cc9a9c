//! The child of a vfork-like clone starts on a stack as the ABI wants it,
//! wherever the one that it is lent begins.

use orlop_init::sys::{self, abi};

#[repr(align(16))]
struct Aligned(u64);

fn child(remainder: &mut usize) -> ! {
    let local = Aligned(*remainder as u64);
    // The compiler places it by the stack pointer, and would take the alignment
    // for granted if it knew where the number comes from.
    let address = std::hint::black_box(std::ptr::from_ref(&local) as usize);
    *remainder = address % 16;
    std::hint::black_box(local.0);
    sys::exit(0)
}

#[test]
fn the_stack_is_aligned_wherever_it_begins() {
    let mut words = [0u64; 2048];
    for skipped in 0..4 {
        let mut args = abi::CloneArgs { exit_signal: abi::SIGCHLD, ..abi::CloneArgs::default() };
        let mut remainder = usize::MAX;
        let pid = sys::vfork(&mut args, &mut words[skipped..], child, &mut remainder);
        let status = sys::wait(pid.expect("a clone")).expect("a child to wait for");
        assert_eq!((status, remainder), (0, 0), "{skipped} words skipped");
    }
}
