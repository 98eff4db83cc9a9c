//! Advisories of other runtimes, as tests: what a hostile image, a hostile process
//! in a container, or one that shares a volume with it must not reach.
//!
//! Each test names the advisory that taught it. What an engine or a person may get
//! wrong is in the room of bad inputs.

mod descriptors;
mod devices;
mod grammar;
mod identity;
mod mounts;
mod observer;
mod procfs;
mod race;
mod root;

use crate::harness::Test;

pub(crate) const ROOMS: &[&[Test]] = &[
    descriptors::TESTS,
    devices::TESTS,
    grammar::TESTS,
    identity::TESTS,
    mounts::TESTS,
    observer::TESTS,
    procfs::TESTS,
    race::TESTS,
    race::binds::TESTS,
    race::devices::TESTS,
    race::procfs::TESTS,
    root::TESTS,
];
