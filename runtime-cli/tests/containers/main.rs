//! Real containers through the built command line, as root, one test at a time.
//!
//! One program plays three parts: the tests, the world they run in
//! (`harness/view.rs`) and, as `/bin/probe` in every container, the process that
//! looks around there. So nothing but the toolchain is needed to make a root file
//! system. A room is a file of tests with a `TESTS` list; it decides what is
//! tested and may not know how a container is cleaned up after.

mod harness;
mod life;
mod probe;
mod sweep;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = probe::main().or_else(sweep::tracer::main) {
        return code;
    }
    harness::main(&[life::TESTS, sweep::TESTS])
}
