//! `plan`: what creating a bundle would do, before it is done.

use std::path::PathBuf;

use clap::Args;
use orlop::bundle::Bundle;
use orlop::plan::{Dump, text};

use super::bundle::Planning;
use super::{Call, print};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    planning: Planning,
    /// The bundle's directory
    #[arg(value_name = "BUNDLE", default_value = ".")]
    bundle: PathBuf,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let arguments: Arguments = call.parse()?;
    let options = arguments.planning.options(&call.globals)?;
    let plan = call.store()?.plan("plan", &Bundle::open(&arguments.bundle)?, &options)?;
    if arguments.json {
        print(&(serde_json::to_string_pretty(&Dump::new(&plan))? + "\n"))?;
    } else {
        print(&text(&plan))?;
    }
    Ok(0)
}
