//! Tests with real engines, and benchmarks.
//!
//! The programs are in `bin/`: `runtime-bench` measures container runtimes beside
//! the kernel's own cost ([`mod@bench`], [`floor`]), `engines` runs checks through a
//! real container engine ([`docker`]). Both only see runtimes from outside, as
//! programs with a command line.

pub mod apt;
pub mod bench;
pub mod command;
pub mod docker;
pub mod floor;
pub mod lab;
