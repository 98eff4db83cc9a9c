//! Who waits for a container to be ready, as systemd does. A descriptor that comes along
//! is closed at once, which ends a barrier.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::console::receive;
use super::heard::Heard;

/// How long a word may be on its way.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Listens: what is said, a record a line.
pub(super) fn listen(socket: &Path) -> Result<Heard> {
    let socket = UnixDatagram::bind(socket).context("the socket of who waits")?;
    let heard = Heard::default();
    let ears = heard.clone();
    std::thread::spawn(move || {
        while let Ok((bytes, descriptors)) = receive(&socket) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let count = descriptors.len();
            ears.add(text.lines().map(|line| json!({ "says": line, "descriptors": count })));
        }
    });
    Ok(heard)
}
