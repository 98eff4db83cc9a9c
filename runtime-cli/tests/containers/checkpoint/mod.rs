//! Checkpoint and restore.

mod confined;
pub(crate) mod fake;
mod hangs;
mod told;
pub(crate) mod whole;

use crate::harness::Test;

pub(crate) const ROOMS: &[&[Test]] =
    &[told::TESTS, confined::TESTS, hangs::TESTS, whole::TESTS];
