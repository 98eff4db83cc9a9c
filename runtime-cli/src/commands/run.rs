//! `run`: a container from its creation to its end.

use anyhow::Context as _;
use clap::Args;

use super::bundle::Creation;
use super::{Call, notify};
use crate::compat;
use crate::foreground::{self, Foreground};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    creation: Creation,
    /// Return as soon as the process has started
    #[arg(short, long)]
    detach: bool,
    /// Do not delete the container when its process has ended
    #[arg(long)]
    keep: bool,
    /// Do not adopt the orphans of the container
    #[arg(long)]
    no_subreaper: bool,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { creation, detach, keep, no_subreaper } = call.parse()?;
    let id = creation.id.clone();
    let (mut bundle, mut options) = creation.open(&call.globals)?;
    let store = call.store()?;
    if detach {
        let (_, started) = store.run(&id, &bundle, &options)?;
        super::warn(&started.warnings);
        notify::wait(&started);
        return Ok(0);
    }
    let mut foreground = Foreground::of(&mut bundle, &mut options, !no_subreaper)?;
    let store = store.interrupted_by(foreground.interrupt()?);
    let ran = store.run(&id, &bundle, &options);
    let (container, mut started) = ran.map_err(compat::not_executed)?;
    super::warn(&started.warnings);
    foreground.herald(notify::herald(&mut started));
    // The other end of the console socket: only the container's is left.
    drop(options);
    let status = foreground.wait(&started);
    if !keep {
        foreground::delete(&container);
    }
    foreground.finish(false)?;
    u8::try_from(status?).context("the exit status is out of range")
}
