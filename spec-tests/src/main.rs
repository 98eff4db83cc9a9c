//! The runtime specification as cases: runs them against a runtime, and tells
//! which clauses hold.
//!
//! The program has three parts: this one reads the command line and tells the
//! result; a worker runs one case in a process of its own; and the probe is what
//! runs inside of the containers.

mod case;
mod clause;
#[cfg(test)]
mod consistency;
mod crew;
mod host;
mod known;
mod leftovers;
mod merge;
mod pattern;
mod probe;
mod report;
mod runtime;
mod step;
mod story;
mod template;
mod verdict;
mod worker;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use nix::unistd::geteuid;

use report::{Report, page, table};
use runtime::Runtime;
use verdict::Lists;

/// Checks a container runtime against the OCI runtime specification.
#[derive(Debug, Parser)]
struct Arguments {
    /// The runtime [default: orlop, built now]
    #[arg(long, value_name = "PATH")]
    runtime: Option<PathBuf>,
    /// An argument before each of its commands; may be given more than once
    #[arg(long = "runtime-arg", value_name = "ARG", allow_hyphen_values = true)]
    runtime_args: Vec<String>,
    /// Let it see cgroup v2 alone, whatever the host has
    #[arg(long)]
    only_v2: bool,
    /// How many cases run at once
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Where the report goes, as JSON and as a page
    #[arg(long, value_name = "DIR", default_value = "target/spec-tests")]
    out: PathBuf,
    /// List the cases, run none
    #[arg(long)]
    list: bool,
    /// Only cases whose names hold one of these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

fn main() -> ExitCode {
    if let Some(end) = probe::main() {
        return end;
    }
    if std::env::args().nth(1).as_deref() == Some(worker::NAME) {
        return worker::main();
    }
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("spec-tests: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all was as expected.
fn run(arguments: &Arguments) -> Result<bool> {
    let mut cases = case::all()?;
    let named = |id: &str| arguments.names.iter().any(|name| id.contains(name));
    cases.retain(|case| arguments.names.is_empty() || named(&case.id));
    if arguments.list {
        for case in &cases {
            println!("{:44} {}", case.id, case.says);
        }
        return Ok(true);
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let runtime = Runtime { path: program(arguments)?, arguments: arguments.runtime_args.clone() };
    let identity = runtime.identify()?;
    let host = kind_of_host(arguments, &runtime);
    let (deviations, skips) = (known::deviations()?, known::skips()?);
    let lists = Lists { identity: &identity, host: &host, deviations: &deviations, skips: &skips };
    println!("{} {} on {host}, {} cases", identity.name, identity.version, cases.len());
    let judge = |ended: &crew::Ended| {
        let case = cases.iter().find(|case| case.id == ended.id);
        case.map(|case| lists.judge(case, ended))
    };
    let tell = |ended: &crew::Ended| {
        if let Some(verdict) = judge(ended) {
            println!("{}", table::line(&verdict));
        }
    };
    // Not /tmp: devices of a root file system don't work where that is a tmpfs.
    let base = std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
    let folder = tempfile::Builder::new().prefix("orlop-spec-").tempdir_in(base)?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let (only_v2, jobs) = (arguments.only_v2, arguments.jobs);
    let bench = crew::Bench { runtime, folder: folder.path().to_owned(), only_v2, jobs };
    let ended = crew::run(&cases, &bench, &tell)?;
    let verdicts = ended.iter().filter_map(judge).collect();
    let report =
        Report::new(clause::edition()?, identity.clone(), host.clone(), verdicts, clause::all()?);
    println!("\n{}\n{}{}", table::clauses(&report), table::differing(&report), report.sum());
    save(&report, &arguments.out)?;
    Ok(report.is_as_expected())
}

/// The runtime's program; our own is built first.
fn program(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(path) = &arguments.runtime {
        return fs::canonicalize(path)
            .with_context(|| format!("no runtime \"{}\"", path.display()));
    }
    let cargo = std::env::var_os("CARGO").context("without cargo, --runtime is needed")?;
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "orlop-cli"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    anyhow::ensure!(built.success(), "the runtime does not build: {built}");
    Ok(std::env::current_exe()?.with_file_name("orlop"))
}

/// What the lists call this host, and what the runtime is told of it.
fn kind_of_host(arguments: &Arguments, runtime: &Runtime) -> String {
    let cgroups = host::Cgroups::probe();
    let borrowed = arguments.only_v2 && cgroups != host::Cgroups::V2;
    let mut kind = if borrowed { "v2-borrowed" } else { cgroups.name() }.to_owned();
    if !geteuid().is_root() {
        kind.push_str("-rootless");
    }
    if runtime.asks_systemd() {
        kind.push_str("-systemd");
    }
    if host::selinux() {
        kind.push_str("-selinux");
    }
    kind
}

fn save(report: &Report, out: &std::path::Path) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("making \"{}\"", out.display()))?;
    let name = format!("{}-{}", report.runtime.name, report.host);
    let (document, picture) = (out.join(name.clone() + ".json"), out.join(name + ".html"));
    fs::write(&document, format!("{}\n", serde_json::to_string_pretty(report)?))?;
    fs::write(&picture, page::page(report))?;
    println!("{}\n{}", document.display(), picture.display());
    Ok(())
}
