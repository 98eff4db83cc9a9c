//! The seccomp agent: it listens, and keeps what the runtime sends. With the metadata
//! `answer` it answers one call. Otherwise the filter's descriptor is closed at once, so
//! that the kernel answers ENOSYS to a call that waits for the agent.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Story;
use super::console::receive;
use super::operations::PATIENCE;
use crate::probe;

/// What arrived, a record a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agent {
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Agent {
    /// Listens until the process ends.
    pub(super) fn listen(socket: &Path) -> Result<Self> {
        let listener = UnixListener::bind(socket).context("the agent's socket")?;
        let agent = Self::default();
        let ears = agent.clone();
        let program = socket.with_file_name("answer");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let record = hear(&stream, &program)
                    .unwrap_or_else(|error| json!({ "error": error.to_string() }));
                ears.heard.lock().unwrap_or_else(PoisonError::into_inner).push(record);
            }
        });
        Ok(agent)
    }

    fn heard(&self) -> Value {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone().into()
    }
}

/// Everything of one connection, up to its end.
fn hear(stream: &UnixStream, program: &PathBuf) -> Result<Value> {
    // Half of the time that the case waits for what was heard.
    stream.set_read_timeout(Some(PATIENCE / 2))?;
    let (mut text, mut descriptors, mut closed) = (Vec::new(), Vec::new(), true);
    let mut listener = None;
    loop {
        match receive(stream) {
            Ok((bytes, fds)) if bytes.is_empty() && fds.is_empty() => break,
            Ok((bytes, fds)) => {
                descriptors.push(fds.len());
                text.extend(bytes);
                listener = listener.or(fds.into_iter().next());
            }
            Err(_) => {
                closed = false;
                break;
            }
        }
    }
    // Two documents in one connection are no JSON.
    let state = serde_json::from_slice::<Value>(&text)?;
    if let Some(listener) = listener.filter(|_| state["metadata"] == "answer") {
        let draft = program.with_extension("draft");
        probe::write_program("answer", draft.to_str().context("a path in UTF-8")?)?;
        // By a process of its own: a command that is begun meanwhile would have the file
        // open for writing for a moment, and nobody could execute it.
        Command::new("cp").arg("-p").arg(draft).arg(program).status()?;
        // It ends with the call, or with the last process that could make one.
        std::thread::spawn({
            let mut command = Command::new(program);
            command.stdin(listener);
            move || command.status()
        });
    }
    Ok(json!({ "sent": state, "descriptors": descriptors, "closed": closed }))
}

impl Story<'_> {
    /// What the agent was sent so far. It may not have read all of it yet.
    pub(super) fn heard(&mut self, pattern: &Value) -> Result<()> {
        let agent = self.agent.as_ref().context("the case has no listener")?;
        let begun = Instant::now();
        loop {
            let seen = Self::matches("agent", pattern, &agent.heard());
            if seen.is_ok() || begun.elapsed() > PATIENCE {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
