//! `-info`: what containerd can know of the runtime before there is any task.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use orlop::features::features;
use prost::Message;

use crate::messages::Any;
use crate::messages::info::{FEATURES, RuntimeInfo, RuntimeVersion};

/// Longest that is read of what containerd says: 1 MiB.
const LONGEST: u64 = 1 << 20;

pub(crate) fn info() -> Result<()> {
    let mut input = Vec::new();
    let stdin = std::io::stdin();
    stdin.take(LONGEST).read_to_end(&mut input).context("reading what containerd says")?;
    let options = if input.is_empty() { None } else { Some(Any::decode(&*input)?) };
    let value = serde_json::to_vec(&features(BTreeMap::new()))?;
    let info = RuntimeInfo {
        name: name(std::env::args().next().as_deref().unwrap_or_default()),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: option_env!("ORLOP_COMMIT").unwrap_or_default().to_owned(),
        }),
        options,
        features: Some(Any { type_url: FEATURES.to_owned(), value }),
    };
    let mut stdout = std::io::stdout();
    let written = stdout.write_all(&info.encode_to_vec()).and_then(|()| stdout.flush());
    written.context("answering")
}

/// The runtime's name, by that of the program as containerd makes it of one.
fn name(program: &str) -> String {
    let file = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let parts = file.strip_prefix("containerd-shim-").and_then(|rest| rest.rsplit_once('-'));
    let (runtime, version) = parts.unwrap_or(("orlop", "v1"));
    format!("io.containerd.{runtime}.{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_called_as_its_program() {
        for (program, wanted) in [
            ("/usr/bin/containerd-shim-orlop-v1", "io.containerd.orlop.v1"),
            ("containerd-shim-runc-v2", "io.containerd.runc.v2"),
            ("/opt/shim", "io.containerd.orlop.v1"),
        ] {
            assert_eq!(name(program), wanted);
        }
    }
}
