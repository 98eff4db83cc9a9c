//! `pause` and `resume`.

use super::{Call, Id};

pub(super) fn pause(mut call: Call) -> anyhow::Result<u8> {
    let Id { id } = call.parse()?;
    call.open(&id)?.pause()?;
    Ok(0)
}

pub(super) fn resume(mut call: Call) -> anyhow::Result<u8> {
    let Id { id } = call.parse()?;
    call.open(&id)?.resume()?;
    Ok(0)
}
