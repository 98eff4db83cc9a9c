//! `features`: what this build can do, whatever the host can.

use std::collections::BTreeMap;

use clap::Args;
use orlop::features::features;

use super::{Call, print};
use crate::compat;

#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments {} = call.parse()?;
    let commit = ("io.orlop.commit".to_owned(), compat::commit().to_owned());
    print(&(serde_json::to_string_pretty(&features(BTreeMap::from([commit])))? + "\n"))?;
    Ok(0)
}
