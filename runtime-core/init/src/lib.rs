//! The init stage: a small static program that carries out a plan inside the
//! new container.
//!
//! This package is built twice. As a library it gives the launcher the format of
//! the plan ([`plan`], [`op`]), the messages ([`wire`]) and the system calls
//! ([`sys`]), and carries the stage's program as bytes ([`STAGE`]). Its build
//! script builds the same sources once more, with `--cfg stage`, into that
//! program: no libc, no allocator, no panic path, no thread.
//!
//! What may happen in the stage: the ops of the plan in their order, waits at
//! gates, and one report. It decides nothing that the compiler could have known.
#![no_std]
#![cfg_attr(stage, no_main)]
// The executor's rooms are compiled for checks and tests in the library too,
// where nothing calls them.
#![cfg_attr(not(stage), allow(dead_code, unreachable_pub))]

#[cfg(test)]
extern crate std;

mod console;
mod copy_up;
mod exec;
mod file;
mod hook;
mod live;
mod mount;
mod namespace;
pub mod op;
mod path;
pub mod plan;
mod process;
mod root;
mod run;
pub mod sys;
#[cfg(test)]
mod testbed;
pub mod wire;

/// The stage's program, an ELF file.
#[cfg(not(stage))]
pub static STAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stage"));
