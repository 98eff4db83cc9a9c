//! Tests with real engines, and benchmarks.
//!
//! The programs are in `bin/`: `runtime-bench` measures container runtimes beside
//! the kernel's own cost ([`mod@bench`], [`floor`]), `shim-bench` containerd's shims
//! ([`shim_bench`]), `engines` runs checks through real container
//! engines ([`docker`], [`containerd`]).
//! All only see runtimes from outside, as programs with a command line.

pub mod apt;
pub mod bench;
pub mod command;
pub mod containerd;
pub mod docker;
pub mod engine;
pub mod floor;
pub mod lab;
pub mod shim_bench;
