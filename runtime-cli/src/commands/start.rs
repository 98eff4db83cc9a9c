//! `start`: the process of a created container.

use super::{Call, Id, notify};

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Id { id } = call.parse()?;
    let container = call.open(&id)?;
    let Some(socket) = notify::socket() else {
        container.start()?;
        return Ok(0);
    };
    match container.start_notifying()? {
        Some(notify) => notify.forward(&socket, notify.pid)?,
        None => log::warn!("nothing is passed on to $NOTIFY_SOCKET: it was not set for create"),
    }
    Ok(0)
}
