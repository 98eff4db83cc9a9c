//! A plan as the stage reads it: see the door.
#![no_main]

#[path = "../doors/plan_reader.rs"]
mod door;

libfuzzer_sys::fuzz_target!(|data: &[u8]| door::run(data));
