//! What a client of the shim says: see the door.
#![no_main]

#[path = "../doors/frames.rs"]
mod door;

libfuzzer_sys::fuzz_target!(|data: &[u8]| door::run(data));
