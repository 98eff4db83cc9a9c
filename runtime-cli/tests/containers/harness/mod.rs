//! What every test stands on: a world of its own, bundles, the runtime, and the
//! leak oracle after each test.
//!
//! Tests run one after another in a private pid and mount namespace, once for
//! each cgroup view. So what the oracle finds can only be the test's own, and
//! what a broken test leaves behind ends with its world.

mod bundle;
mod lab;
mod oracle;
mod output;
mod runtime;
mod session;
mod skips;
mod suite;
mod view;

pub(crate) use bundle::Bundle;
pub(crate) use lab::Lab;
pub(crate) use oracle::{Picture, processes};
pub(crate) use orlop_spec_tests::cgroups::{ROOT as CGROUPS, of as cgroups};
pub(crate) use output::Output;
pub(crate) use runtime::{ORLOP, Running, until};
pub(crate) use session::Session;
pub(crate) use suite::{Test, main, tests};
pub(crate) use view::View;
