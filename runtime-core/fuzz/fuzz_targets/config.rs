//! A whole config.json: see the door.
#![no_main]

#[path = "../doors/config.rs"]
mod door;

libfuzzer_sys::fuzz_target!(|data: &[u8]| door::run(data));
