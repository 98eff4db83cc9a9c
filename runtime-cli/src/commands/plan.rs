//! `plan`: what creating a bundle would do, before it is done.

use std::path::PathBuf;

use clap::Args;
use orlop::bundle::Bundle;
use orlop::container::CreateOptions;
use orlop::plan::{Dump, text};

use super::{Call, print};

#[derive(Debug, Args)]
struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Move the root instead of pivoting
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass this many descriptors after stdio
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,
    /// The bundle's directory
    #[arg(value_name = "BUNDLE", default_value = ".")]
    bundle: PathBuf,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let arguments: Arguments = call.parse()?;
    let options = CreateOptions {
        no_pivot: arguments.no_pivot,
        no_new_keyring: arguments.no_new_keyring,
        preserve_fds: arguments.preserve_fds,
        ..CreateOptions::default()
    };
    let plan = call.store()?.plan("plan", &Bundle::open(&arguments.bundle)?, &options)?;
    if arguments.json {
        print(&(serde_json::to_string_pretty(&Dump::new(&plan))? + "\n"))?;
    } else {
        print(&text(&plan))?;
    }
    Ok(0)
}
