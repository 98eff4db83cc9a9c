//! The options, type and places of a mount: see the door.
#![no_main]

#[path = "../doors/mount_options.rs"]
mod door;

libfuzzer_sys::fuzz_target!(|data: &[u8]| door::run(data));
