//! The stage's first and last instructions: entry from the kernel, the panic
//! that can't happen, and the memory functions that the compiler calls.

use core::ffi::CStr;

/// Called by `_start` with the initial stack (execve(2), "process image").
pub(super) extern "C" fn enter(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc, then argc pointers to C strings, then NULL
    // at the initial stack pointer, and they live as long as the process.
    let argument = unsafe {
        if *stack < 2 { c"" } else { CStr::from_ptr(*stack.add(2) as *const core::ffi::c_char) }
    };
    crate::run::main(argument)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    super::exit(super::abi::PANICKED)
}

/// memcpy(3)
///
/// # Safety
/// As in C.
// SAFETY: the one definition of this symbol in the stage, with C's contract.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: C's contract: both are valid for `length` bytes.
    unsafe { super::copy_bytes(to, from, length) };
    to
}

/// memmove(3)
///
/// # Safety
/// As in C.
// SAFETY: the one definition of this symbol in the stage, with C's contract.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if to.cast_const() <= from {
        // SAFETY: C's contract; copying upwards is right when `to` lies below.
        return unsafe { memcpy(to, from, length) };
    }
    for i in (0..length).rev() {
        // SAFETY: C's contract, copied downwards because `to` lies above. The
        // volatile read keeps the compiler from making this a call of memmove.
        unsafe { *to.add(i) = from.add(i).read_volatile() };
    }
    to
}

/// memset(3)
///
/// # Safety
/// As in C.
// SAFETY: the one definition of this symbol in the stage, with C's contract.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    // SAFETY: C's contract: `to` is valid for `length` bytes.
    unsafe { super::fill_bytes(to, byte as u8, length) };
    to
}

/// memcmp(3)
///
/// # Safety
/// As in C.
// SAFETY: the one definition of this symbol in the stage, with C's contract.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    for i in 0..length {
        // SAFETY: C's contract: both are valid for `length` bytes.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

/// bcmp(3)
///
/// # Safety
/// As in C.
// SAFETY: the one definition of this symbol in the stage, with C's contract.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, length) }
}

/// strlen(3)
///
/// # Safety
/// As in C.
// SAFETY: the one definition of this symbol in the stage, with C's contract.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: C's contract: `text` is terminated.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
