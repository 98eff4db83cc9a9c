//! Checks a runtime through real container engines: see [`integration::docker`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use integration::{bench, docker};

/// Checks a runtime through real container engines. Needs root.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    engine: Engine,
}

#[derive(Debug, Subcommand)]
enum Engine {
    /// Debian's docker.io, with a daemon of its own
    Docker {
        /// Check this program instead of ours, to keep the checks honest
        #[arg(long, value_name = "PATH")]
        runtime: Option<PathBuf>,
        /// The name under which it is registered
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Run only this check; may be given more than once
        #[arg(long, value_name = "NAME")]
        check: Vec<String>,
    },
}

fn main() -> Result<ExitCode> {
    let Engine::Docker { runtime, name, check } = Arguments::parse().engine;
    let default = if runtime.is_some() { "under-test" } else { "orlop" };
    let runtime = match runtime {
        Some(runtime) => runtime,
        None => {
            bench::build_programs()?;
            let programs = std::env::current_exe()?;
            programs.parent().context("the directory of this program")?.join("orlop")
        }
    };
    let runtime =
        runtime.canonicalize().with_context(|| format!("there is no {}", runtime.display()))?;
    let options = docker::Options {
        runtime,
        name: name.unwrap_or_else(|| default.to_owned()),
        checks: check,
        target: target()?,
    };
    let table = docker::run(&options)?;
    print!("{table}");
    Ok(if table.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where cargo puts what it makes: three levels above this program.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3).map(Path::to_owned);
    target.context("the target directory of this program")
}
