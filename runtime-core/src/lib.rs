//! A low-level OCI container runtime as a library.
//!
//! Orlop *compiles* an OCI bundle into a plan, and a tiny sealed program, the init
//! stage, *executes* the plan inside the new container:
//!
//! ```text
//! Bundle ─┐
//! HostFacts ─┼─▶ compile ─▶ Plan ─▶ launch ─▶ the stage runs it, op after op
//! Options ─┘     pure       data     one clone
//! ```
//!
//! Most callers need [`bundle`] and [`container`] alone:
//!
//! ```no_run
//! use orlop::bundle::Bundle;
//! use orlop::container::{CreateOptions, Store};
//!
//! # fn main() -> orlop::Result<()> {
//! let bundle = Bundle::open("/srv/box".as_ref())?;
//! let store = Store::new("/run/my-program");
//! let (container, process) = store.create("box", &bundle, &CreateOptions::default())?;
//! container.start()?;
//! // `process.pid` is a child of this program, `process.pidfd` can be polled.
//! # Ok(())
//! # }
//! ```
//!
//! What a bundle would do can be looked at without doing it: [`compile::create`]
//! needs no privileges and no kernel, and [`plan::text`] prints its answer.
//!
//! A launch changes nothing of the calling process: working directory, umask,
//! environment, dumpable flag, oom score, signals, threads and descriptors are as
//! before. It may have threads, and its size does not matter. It must be able to
//! wait for its children: a disposition of `SIG_IGN` for SIGCHLD would reap them.
//!
//! Linux 5.14 or newer, on x86_64 and aarch64.

pub mod bundle;
pub mod cgroup;
pub mod compile;
pub mod container;
mod criu;
pub mod error;
pub mod features;
pub mod host;
pub mod launch;
pub mod plan;
pub mod resctrl;

pub use error::{Error, Kind, Place, Result};
