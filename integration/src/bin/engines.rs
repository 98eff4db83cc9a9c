//! Checks our programs through real container engines: see [`integration::docker`] and
//! [`integration::containerd`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use integration::engine::Options;
use integration::{bench, containerd, docker};

/// Checks our programs through real container engines. Needs root.
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
        /// With our shim in the place of the engine's, or this one; its name must have the
        /// form containerd-shim-NAME-VERSION
        #[arg(long, value_name = "PATH", require_equals = true)]
        #[allow(clippy::option_option)] // clap's form of a value that may be left out
        shim: Option<Option<PathBuf>>,
        /// Have systemd make the cgroups
        #[arg(long)]
        systemd_cgroup: bool,
        /// Run only this check; may be given more than once
        #[arg(long, value_name = "NAME")]
        check: Vec<String>,
    },
    /// Debian's containerd, with a daemon of its own, and our shim
    Containerd {
        /// Check this shim instead of ours, to keep the checks honest; its name must
        /// have the form containerd-shim-NAME-VERSION
        #[arg(long, value_name = "PATH")]
        shim: Option<PathBuf>,
        /// Have systemd make the cgroups of pods
        #[arg(long)]
        systemd_cgroup: bool,
        /// Run only this check; may be given more than once
        #[arg(long, value_name = "NAME")]
        check: Vec<String>,
    },
}

fn main() -> Result<ExitCode> {
    let target = target()?;
    let table = match Arguments::parse().engine {
        Engine::Docker { runtime, name, shim, systemd_cgroup, check } => {
            let default = match (&runtime, &shim) {
                (Some(_), _) | (_, Some(Some(_))) => "under-test",
                (None, Some(None)) => "orlop-shim",
                (None, None) => "orlop",
            };
            let options = Options {
                program: program(runtime, "orlop-cli", "orlop")?,
                name: name.unwrap_or_else(|| default.to_owned()),
                checks: check,
                target,
            };
            let shim = shim.map(shim_program).transpose()?;
            docker::run(&options, &docker::Setup { shim, systemd_cgroup })?
        }
        Engine::Containerd { shim, systemd_cgroup, check } => {
            let program = shim_program(shim)?;
            let name = containerd::runtime_name(&program)?;
            let options = Options { program, name, checks: check, target };
            containerd::run(&options, systemd_cgroup)?
        }
    };
    print!("{table}");
    Ok(if table.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shim_program(given: Option<PathBuf>) -> Result<PathBuf> {
    program(given, "containerd-shim-orlop", containerd::SHIM)
}

/// The program under test: the one that is given, else ours, which is built.
fn program(given: Option<PathBuf>, package: &str, name: &str) -> Result<PathBuf> {
    let program = match given {
        Some(program) => program,
        None => {
            bench::build_programs(&[package])?;
            let ours = std::env::current_exe()?;
            ours.parent().context("the directory of this program")?.join(name)
        }
    };
    program.canonicalize().with_context(|| format!("there is no {}", program.display()))
}

/// Where cargo puts what it makes: three levels above this program.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3).map(Path::to_owned);
    target.context("the target directory of this program")
}
