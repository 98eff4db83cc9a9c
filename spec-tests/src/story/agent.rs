//! The seccomp agent, to which the runtime sends filters. With the metadata `answer` it
//! answers one call. Otherwise the filter's descriptor is closed at once, so that the
//! kernel answers ENOSYS to a call that waits for the agent.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::console::receive;
use super::heard::Heard;
use super::operations::PATIENCE;
use crate::probe;

/// Listens: what arrives, a record a connection.
pub(super) fn listen(socket: &Path) -> Result<Heard> {
    let listener = UnixListener::bind(socket).context("the agent's socket")?;
    let heard = Heard::default();
    let ears = heard.clone();
    let program = socket.with_file_name("answer");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let record = hear(&stream, &program)
                .unwrap_or_else(|error| json!({ "error": error.to_string() }));
            ears.add([record]);
        }
    });
    Ok(heard)
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
