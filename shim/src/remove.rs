//! `delete`: what is left of a task whose shim is gone, or which never had one.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use prost::Message;

use crate::args::Args;
use crate::messages::Timestamp;
use crate::messages::options::Options;
use crate::messages::task::DeleteResponse;
use crate::{lock, options, socket, work};

/// As if it had been killed.
const KILLED: u32 = 128 + 9;

pub(crate) fn remove(args: &Args) -> Result<()> {
    let bundle = match args.bundle.as_str() {
        "" => std::env::current_dir().context("looking for the bundle")?,
        bundle => Path::new(bundle).to_owned(),
    };
    let _lock = lock::take(&bundle).inspect_err(|error| {
        eprintln!("deleting {:?} beside others who work on it: {error}", args.id);
    });
    let options = options::read(&bundle.join("options.json"), options::LONGEST);
    let options = options.ok().and_then(|text| serde_json::from_str::<Options>(&text).ok());
    let root = work::root_of(&options.unwrap_or_default(), &args.namespace);
    let pid = orlop::container::Store::new(&root)
        .open(&args.id)
        .and_then(|container| container.status())
        .map_or(0, |status| status.pid);
    if let Err(failure) = work::delete(&root, &args.id, &bundle) {
        eprintln!("deleting {:?}: {}", args.id, failure.message);
    }
    if let Err(error) = socket::remove_dead(&bundle) {
        eprintln!("the socket of {:?}: {error:#}", args.id);
    }
    let response = DeleteResponse {
        pid: u32::try_from(pid).unwrap_or_default(),
        exit_status: KILLED,
        exited_at: Some(Timestamp::now()),
    };
    let mut stdout = std::io::stdout();
    stdout.write_all(&response.encode_to_vec()).and_then(|()| stdout.flush()).context("answering")
}
