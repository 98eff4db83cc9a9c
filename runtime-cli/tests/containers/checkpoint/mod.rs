//! Checkpoint and restore.

pub(crate) mod fake;
mod told;
pub(crate) mod whole;

use crate::harness::Test;

pub(crate) const ROOMS: &[&[Test]] = &[told::TESTS, whole::TESTS];
