//! `delete`: all that is left of a container.

use clap::Args;

use super::{Call, matching};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Kill it first; an unknown container is no error then
    #[arg(short, long)]
    force: bool,
    /// Delete every container whose id this regular expression matches
    #[arg(short, long)]
    regex: bool,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { force, regex, id } = call.parse()?;
    let one = |id: &str| {
        if force {
            // By name, not through `open`: what is left may have no readable state.
            call.store()?.delete_force(id)?;
        } else {
            call.open(id)?.delete()?;
        }
        Ok(())
    };
    if regex {
        matching::each(&call, &id, one)?;
    } else {
        one(&id)?;
    }
    Ok(0)
}
