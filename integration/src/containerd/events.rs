//! What containerd tells: `ctr events`, followed while a check runs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::daemon::Daemon;
use crate::command;
use crate::engine::PATIENCE;

/// One event of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `exit` for `/tasks/exit`.
    pub topic: String,
    /// The container.
    pub container: String,
    /// The exec, if it is about one.
    pub exec: String,
    /// The exit status of an exit or a deletion.
    pub status: u64,
}

impl Event {
    /// `2026-01-02 03:04:05.6 +0000 UTC NAMESPACE /tasks/exit {"container_id":..}`
    fn of(line: &str, namespace: &str) -> Option<Self> {
        let (_, rest) = line.split_once(&format!(" {namespace} /tasks/"))?;
        let (topic, json) = rest.split_once(' ')?;
        let value: Value = serde_json::from_str(json).ok()?;
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let container = text("container_id");
        // The init has the container's own name.
        let exec = [text("exec_id"), text("id")].into_iter().find(|name| !name.is_empty());
        let exec = exec.filter(|name| *name != container).unwrap_or_default();
        let status = value["exit_status"].as_u64().unwrap_or_default();
        Some(Self { topic: topic.to_owned(), container, exec, status })
    }

    /// `exit`, or `exit of EXEC`.
    #[must_use]
    pub fn words(&self) -> String {
        match self.exec.as_str() {
            "" => self.topic.clone(),
            exec => format!("{} of {exec}", self.topic),
        }
    }
}

/// Somebody who listens.
#[derive(Debug)]
pub struct Listener {
    client: Child,
    lines: Arc<Mutex<Vec<String>>>,
    namespace: String,
}

impl Listener {
    /// Begins, and waits until events come.
    ///
    /// # Errors
    /// None come.
    pub fn start(daemon: &Daemon) -> Result<Self> {
        let mut client = daemon.client(&["events"])?;
        client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().context("starting ctr events")?;
        let stdout = client.stdout.take().context("no output of ctr events")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(mut lines) = theirs.lock() {
                    lines.push(line);
                }
            }
        });
        let listener = Self { client, lines, namespace: daemon.namespace().to_owned() };
        let mut asked = 0;
        let hears = command::until(PATIENCE, || {
            asked += 1;
            let label = format!("asked={asked}");
            let _ = daemon.ctr(&["namespaces", "label", daemon.namespace(), &label]);
            thread::sleep(Duration::from_millis(50));
            !listener.all().is_empty()
        });
        ensure!(hears, "ctr events tells nothing");
        Ok(listener)
    }

    fn all(&self) -> Vec<String> {
        self.lines.lock().map(|lines| lines.clone()).unwrap_or_default()
    }

    /// What was told of a container up to now.
    #[must_use]
    pub fn of(&self, container: &str) -> Vec<Event> {
        let events = self.all().into_iter().filter_map(|line| Event::of(&line, &self.namespace));
        events.filter(|event| event.container == container).collect()
    }

    /// Waits for an event of a container, by its words, and for what may still follow it.
    ///
    /// # Errors
    /// It does not come.
    pub fn until(&self, container: &str, words: &str) -> Result<Vec<Event>> {
        let has = || self.of(container).iter().any(|event| event.words() == words);
        ensure!(
            command::until(PATIENCE, has),
            "no {words:?} of {container}: {}",
            self.told(container)
        );
        Ok(self.of(container))
    }

    /// All that was told of a container, in words.
    #[must_use]
    pub fn told(&self, container: &str) -> String {
        let words: Vec<String> = self.of(container).iter().map(Event::words).collect();
        words.join(", ")
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_off_its_line() {
        let line = |json: &str| format!("2026-01-02 03:04:05.6 +0000 UTC space /tasks/exit {json}");
        let event = |json: &str| Event::of(&line(json), "space").unwrap();
        let exec = event(r#"{"container_id":"a","id":"b","pid":3,"exit_status":4}"#);
        assert_eq!((exec.words().as_str(), exec.status), ("exit of b", 4));
        let init = event(r#"{"container_id":"a","id":"a","pid":3}"#);
        assert_eq!((init.words().as_str(), init.status), ("exit", 0));
        assert_eq!(Event::of(&line("{}"), "other"), None);
    }
}
