//! A program that runs a bundle in itself: `embed BUNDLE`. The README shows it.

use std::path::Path;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use orlop::bundle::Bundle;
use orlop::container::{CreateOptions, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: embed BUNDLE")?;
    let bundle = Bundle::open(Path::new(&dir))?;
    let store = Store::new("/run/embed-example");
    let id = format!("example-{}", std::process::id());

    // Or `create`, and `start` later. Nothing of this process is changed by it.
    let (container, started) = store.run(&id, &bundle, &CreateOptions::default())?;
    println!("{:?}", container.status()?);

    // The process is our child: its pidfd is for poll(2), its status for us.
    let status = waitpid(Pid::from_raw(started.pid), None)?;
    container.delete()?;
    match status {
        WaitStatus::Exited(_, 0) => Ok(()),
        other => Err(format!("the container ended with {other:?}").into()),
    }
}
