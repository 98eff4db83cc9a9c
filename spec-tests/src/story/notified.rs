//! Who waits for a container to be ready, as systemd does: it listens, and keeps what it
//! is told. A descriptor that comes along is closed at once, which ends a barrier.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Story;
use super::console::receive;

/// How long a word may be on its way.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was said, a record a line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notified {
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Notified {
    /// Listens until the process ends.
    pub(super) fn listen(socket: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(socket).context("the socket of who waits")?;
        let notified = Self::default();
        let ears = notified.clone();
        std::thread::spawn(move || {
            while let Ok((bytes, descriptors)) = receive(&socket) {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let count = descriptors.len();
                let lines = text.lines().map(|line| json!({ "says": line, "descriptors": count }));
                ears.heard.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
            }
        });
        Ok(notified)
    }

    fn heard(&self) -> Value {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone().into()
    }
}

impl Story<'_> {
    /// What was said so far; some of it may be on its way.
    pub(super) fn told(&mut self, pattern: &Value) -> Result<()> {
        let notified = self.notified.as_ref().context("nobody waits in this case")?;
        let begun = Instant::now();
        loop {
            let told = Self::matches("notified", pattern, &notified.heard());
            if told.is_ok() || begun.elapsed() > PATIENCE {
                return told;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
