//! `create`: a container, up to the moment before its process starts.

use super::Call;
use super::bundle::Creation;

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let creation: Creation = call.parse()?;
    let id = creation.id.clone();
    let options = creation.options(&call.globals)?;
    let created = call.store()?.create(&id, &options)?;
    for warning in &created.warnings {
        log::warn!("{warning}");
    }
    Ok(0)
}
