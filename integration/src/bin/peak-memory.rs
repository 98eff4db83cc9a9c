//! `peak-memory FILE PROGRAM ARGUMENT...`: runs the program and appends to FILE the
//! peak resident memory, in KiB, of the largest process that it or its children
//! were.
//!
//! A program of its own, because the kernel keeps one maximum for all children a
//! process ever had, and because a child starts with its parent's maximum: this
//! one is small.

use std::fs::File;
use std::io::{self, Write};
use std::process::{Command, ExitCode};

use nix::sys::resource::{UsageWho, getrusage};

fn main() -> ExitCode {
    match measure() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("peak-memory: {error}");
            ExitCode::from(125)
        }
    }
}

fn measure() -> io::Result<u8> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(file), Some(program)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("usage: peak-memory FILE PROGRAM ARGUMENT..."));
    };
    let status = Command::new(program).args(arguments).status()?;
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    writeln!(File::options().create(true).append(true).open(file)?, "{peak}")?;
    Ok(status.code().map_or(125, |code| code as u8))
}
