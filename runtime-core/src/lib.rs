//! Orlop compiles an OCI bundle into a plan, and a tiny sealed init stage
//! executes the plan inside the new container.

pub mod bundle;
pub mod cgroup;
pub mod compile;
pub mod container;
pub mod error;
pub mod host;
pub mod launch;
pub mod plan;

pub use error::{Error, Kind, Place, Result};
