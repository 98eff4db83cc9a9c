//! Measures containerd's shims beside each other: see [`integration::shim_bench`].

use anyhow::{Context, Result, bail};
use clap::Parser;
use integration::shim_bench::{self, NAMES, Options};

/// Measures containerd-shim-orlop-v1 and containerd-shim-runc-v2. Needs root.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds that count
    #[arg(long, default_value_t = 50, value_name = "N")]
    iterations: usize,
    /// Measure only this one; may be given more than once
    #[arg(long, value_name = "NAME", value_parser = NAMES)]
    only: Vec<String>,
    /// See only what is left of many tasks and execs; an error if it is more than nothing
    #[arg(long)]
    flat: bool,
}

fn main() -> Result<()> {
    let Arguments { iterations, only, flat } = Arguments::parse();
    anyhow::ensure!(iterations > 0, "at least one round is needed");
    shim_bench::build_programs()?;
    let programs = std::env::current_exe()?;
    let programs = programs.parent().context("the directory of this program")?;
    let report = shim_bench::run(&Options { iterations, only, flat }, programs)?;
    print!("{report}");
    if let Some(left) = report.flat.iter().find(|flat| flat.shim == NAMES[0] && !flat.is_flat()) {
        bail!("{} leaves something behind", left.shim);
    }
    Ok(())
}
