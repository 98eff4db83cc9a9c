//! Talk with a running QEMU.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::qemu;

/// It answers at once, or somebody else is talking with it.
const LIMIT: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
pub struct Monitor {
    reader: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects to the QEMU of a machine's folder.
    ///
    /// # Errors
    /// Nobody listens there, or does not answer.
    pub fn connect(folder: &Path) -> Result<Self> {
        let directory = File::open(folder)?;
        // The path of a socket may have 107 bytes; the folder's alone may be longer.
        let path = format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), qemu::MONITOR);
        let stream = UnixStream::connect(path).context("connecting to QEMU's monitor")?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut monitor = Self { reader: BufReader::new(stream) };
        monitor.read(|value| value.get("QMP").is_some())?;
        monitor.ask(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(monitor)
    }

    /// The loopback port that leads to the machine's ssh.
    ///
    /// # Errors
    /// It does not tell.
    pub fn port(&mut self) -> Result<u16> {
        let arguments = json!({ "command-line": "info usernet" });
        let answer =
            self.ask(&json!({ "execute": "human-monitor-command", "arguments": arguments }))?;
        let text = answer.as_str().unwrap_or_default();
        qemu::port(text).with_context(|| format!("QEMU forwards no port: {text:?}"))
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// It refuses.
    pub fn power_down(&mut self) -> Result<()> {
        self.ask(&json!({ "execute": "system_powerdown" })).map(drop)
    }

    fn ask(&mut self, command: &Value) -> Result<Value> {
        let mut line = command.to_string();
        line.push('\n');
        self.reader.get_mut().write_all(line.as_bytes()).context("asking QEMU's monitor")?;
        let answer =
            self.read(|value| value.get("return").is_some() || value.get("error").is_some())?;
        if let Some(error) = answer.get("error") {
            bail!("QEMU refuses {command}: {error}");
        }
        Ok(answer["return"].clone())
    }

    /// The next message that is wanted; events in between are of no interest.
    fn read(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        loop {
            let mut line = String::new();
            let read = self.reader.read_line(&mut line).context("reading QEMU's monitor")?;
            if read == 0 {
                bail!("QEMU closed its monitor");
            }
            let value: Value = serde_json::from_str(&line)?;
            if wanted(&value) {
                return Ok(value);
            }
        }
    }
}
