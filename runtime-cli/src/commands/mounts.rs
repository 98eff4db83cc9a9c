//! `mounts`: more mounts for a running container, or fewer.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use orlop::bundle::parse_mounts;

use super::Call;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// add or remove
    #[arg(value_name = "ACTION")]
    action: String,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
    /// A file with the mounts as config.json has them: {"mounts": [...]}, or the list
    /// alone. For remove their destinations count
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { action, id, file } = call.parse()?;
    let add = match &*action {
        "add" => true,
        "remove" => false,
        _ => bail!("mounts {action:?}: neither add nor remove"),
    };
    let container = call.open(&id)?;
    let text = super::text_of(&file)?;
    let mounts = parse_mounts(&text).with_context(|| format!("reading the mounts in {file:?}"))?;
    if add {
        container.add_mounts(&mounts)?;
    } else {
        container.remove_mounts(&mounts)?;
    };
    Ok(0)
}
