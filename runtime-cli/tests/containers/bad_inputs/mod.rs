//! Bad inputs: what a person or an engine may get wrong, and the one line that
//! tells them. A row is a test, a way to get it wrong is a case.
//!
//! Each case ends within ten seconds, in one line or in a container that works,
//! and leaves nothing behind. Rows are numbered, so that none is lost.

mod case;
mod config;
mod container;
mod environment;
mod filter;
mod hooks;
mod namespaces;
mod process;
mod program;
mod resources;
mod root;

use crate::harness::Test;

pub(crate) const ROOMS: &[&[Test]] = &[
    config::TESTS,
    program::TESTS,
    process::TESTS,
    root::TESTS,
    namespaces::TESTS,
    resources::TESTS,
    filter::TESTS,
    hooks::TESTS,
    container::TESTS,
    environment::TESTS,
];
