//! Checkpoint and restore.

mod confined;
pub(crate) mod fake;
pub(crate) mod hangs;
mod ready;
pub(crate) mod told;
pub(crate) mod whole;

use crate::harness::Test;

pub(crate) const ROOMS: &[&[Test]] =
    &[told::TESTS, confined::TESTS, ready::TESTS, hangs::TESTS, whole::TESTS];
