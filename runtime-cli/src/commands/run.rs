//! `run`: a container from its creation to its end.

use anyhow::Context as _;
use clap::Args;
use orlop::container::{self, RunOptions};

use super::Call;
use super::bundle::Creation;

#[derive(Debug, Args)]
struct Arguments {
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
    let options = creation.options(&call.globals)?;
    let run = RunOptions { detach, keep, no_subreaper };
    let status = container::run(&call.store()?, &id, &options, &run)?;
    u8::try_from(status).context("the exit status is out of range")
}
