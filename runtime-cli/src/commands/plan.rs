//! `plan`: what creating a bundle would do, before it is done.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use oci_spec::runtime::Spec;
use orlop::compile::{self, Options};
use orlop::host::HostFacts;
use orlop::plan::{Dump, text};
use orlop::{Error, Kind};

use super::{Call, bundle, print};

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
    let directory = bundle::directory(&arguments.bundle)?;
    let spec = read(&directory.join("config.json"))?;
    let options = Options {
        id: "plan".into(),
        bundle: directory,
        no_pivot: arguments.no_pivot,
        no_new_keyring: arguments.no_new_keyring,
        preserve_fds: arguments.preserve_fds,
        ..Options::default()
    };
    let plan =
        compile::create(&spec, &HostFacts::probe()?, &options).map_err(|errors| all(&errors))?;
    if arguments.json {
        print(&(serde_json::to_string_pretty(&Dump::new(&plan))? + "\n"))?;
    } else {
        print(&text(&plan))?;
    }
    Ok(0)
}

fn read(path: &Path) -> anyhow::Result<Spec> {
    let file = File::open(path).map_err(|error| match error.kind() {
        // COMPAT(runc): its sentence.
        std::io::ErrorKind::NotFound => {
            Error::new(Kind::NotFound, "JSON specification file config.json not found")
        }
        _ => Error::io(&error, "opening").at_path(path),
    })?;
    serde_json::from_reader(BufReader::new(file)).with_context(|| format!("reading {path:?}"))
}

/// Every reason at once: a person repairs a bundle in one go.
fn all(errors: &[Error]) -> anyhow::Error {
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    anyhow!(errors.join("; "))
}
