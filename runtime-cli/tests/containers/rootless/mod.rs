//! Without privileges: containers of an ordinary account.
//!
//! Each test is somebody who is nobody on this machine: a name, ids and folders of
//! its own, and what the files of the machine give it, in this world alone.

mod account;
mod cgroups;
mod maps;
mod namespaces;
mod nested;
mod sweep;

use crate::harness::Test;

pub(crate) const ROOMS: &[&[Test]] =
    &[maps::TESTS, namespaces::TESTS, cgroups::TESTS, nested::TESTS];

/// Those where the runtime makes the cgroups.
pub(crate) const FOLDERS: &[Test] = sweep::FOLDERS;

/// Those where systemd makes the cgroups.
pub(crate) const SCOPES: &[Test] = sweep::SCOPES;
