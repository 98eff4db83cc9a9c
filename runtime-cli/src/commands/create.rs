//! `create`: a container, up to the moment before its process starts.

use super::Call;
use super::bundle::Creation;

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let creation: Creation = call.parse()?;
    let id = creation.id.clone();
    let (bundle, options) = creation.open(&call.globals)?;
    let (_, started) = call.store()?.create(&id, &bundle, &options)?;
    super::warn(&started.warnings);
    Ok(0)
}
