//! Measures container runtimes beside the kernel floor: see [`integration::bench`].

use anyhow::{Context, Result};
use clap::Parser;
use integration::bench::{self, Options, subject};

/// Measures orlop, runc and crun beside what the kernel itself needs. Needs root.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds that count
    #[arg(long, default_value_t = 100, value_name = "N")]
    iterations: usize,
    /// Print JSON (times in microseconds) instead of tables
    #[arg(long)]
    json: bool,
    /// Measure only this one; may be given more than once
    #[arg(long, value_name = "NAME", value_parser = subject::NAMES)]
    only: Vec<String>,
    /// Stay in the host's cgroup hierarchy even if it is not pure v2
    #[arg(long)]
    host_cgroups: bool,
    /// The runtimes have systemd make their cgroups
    #[arg(long)]
    systemd_cgroup: bool,
}

fn main() -> Result<()> {
    let Arguments { iterations, json, only, host_cgroups, systemd_cgroup } = Arguments::parse();
    anyhow::ensure!(iterations > 0, "at least one round is needed");
    bench::build_programs(&["orlop-cli", "integration"])?;
    let programs = std::env::current_exe()?;
    let programs = programs.parent().context("the directory of this program")?;
    let options = Options { iterations, only, host_cgroups, systemd: systemd_cgroup };
    let report = bench::run(&options, programs)?;
    if json {
        println!("{:#}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(())
}
