//! Orlop under containerd: the shim and the runtime in one process.
//!
//! ```text
//! containerd ─ start ─▶ this program ─ fork ─▶ the server: one thread, one epoll loop
//!            ─ ttrpc ─▶ calls ─▶ answers, or a step: a copy of the server that calls the
//!                                library and tells what came of it
//! ```
#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

mod args;
mod calls;
mod checkpoint;
mod console;
mod done;
mod info;
mod lock;
mod log;
mod logger;
mod messages;
mod metrics;
mod options;
mod outbox;
mod poller;
mod pump;
mod remove;
mod rootfs;
mod shim;
mod socket;
mod start;
mod stdio;
mod step;
mod stream;
mod task;
mod ttrpc;
mod work;

use args::Args;

orlop_init::program!(begin);

fn begin() -> u8 {
    let done = Args::parse(std::env::args().skip(1)).and_then(|args| match args.action.as_str() {
        _ if args.version => {
            println!("containerd-shim-orlop-v1 {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        _ if args.info => info::info(),
        "start" => start::start(&args),
        "delete" => remove::remove(&args),
        action => anyhow::bail!("there is nothing called {action:?} to do"),
    });
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("containerd-shim-orlop-v1: {error:#}");
            1
        }
    }
}
