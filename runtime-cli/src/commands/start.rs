//! `start`: the process of a created container.

use super::{Call, Id};

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Id { id } = call.parse()?;
    call.open(&id)?.start()?;
    Ok(0)
}
