//! A command in the foreground of a terminal, and somebody who sits there.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use serde_json::{Value, json};

use super::Story;
use crate::step::Deed;

/// A terminal, and what came out of it.
struct Desk {
    master: File,
    slave: File,
    text: Arc<Mutex<String>>,
}

impl Desk {
    fn new() -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let noctty = OFlags::NOCTTY.bits().cast_signed();
        let slave =
            File::options().read(true).write(true).custom_flags(noctty).open(name.to_str()?)?;
        let desk = Self { master: File::from(master), slave, text: Arc::default() };
        desk.resize([24, 80])?;
        let (mut master, text) = (desk.master.try_clone()?, Arc::clone(&desk.text));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                let piece = String::from_utf8_lossy(&bytes[..count]).replace('\r', "");
                text.lock().unwrap_or_else(PoisonError::into_inner).push_str(&piece);
            }
        });
        Ok(desk)
    }

    fn resize(&self, [lines, columns]: [u16; 2]) -> Result<()> {
        let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.master, size)?)
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the program printed. A key's echo may stand before it.
    fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let documents = whole.lines().filter_map(|line| line.find('{').map(|at| &line[at..]));
        documents.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn settings(&self) -> Result<String> {
        let found = tcgetattr(&self.slave)?;
        let modes = (found.input_modes, found.output_modes, found.control_modes, found.local_modes);
        Ok(format!("{modes:?}"))
    }

    fn perform(&mut self, deed: &Deed) -> Result<()> {
        match deed {
            Deed::Keys(text) => Ok(self.master.write_all(text.as_bytes())?),
            Deed::Resize(size) => self.resize(*size),
        }
    }
}

impl Story<'_> {
    /// Runs the command there to its end.
    pub(super) fn foreground(
        &self,
        words: &[String],
        deeds: &[Deed],
        pattern: &Value,
    ) -> Result<()> {
        let mut desk = Desk::new()?;
        let before = desk.settings()?;
        // With the terminal as its own, as a shell would have it.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(&self.runtime.path).args(&self.runtime.arguments);
        command.arg("--root").arg(self.places.state()).args(words);
        command.current_dir(self.places.folder());
        let stream = || desk.slave.try_clone();
        command.stdin(stream()?).stdout(stream()?).stderr(stream()?);
        let mut child = command.spawn().context("starting setsid(1)")?;
        drop(command);
        let status = self.sit(&mut desk, deeds, &mut child);
        if status.is_err() {
            child.kill()?;
            child.wait()?;
        }
        let status = status.with_context(|| format!("on the terminal: {}", desk.text()))?;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        // The last of it may be on its way to us.
        let begun = Instant::now();
        let seen = loop {
            let restored = desk.settings()? == before;
            let seen = json!({ "status": code, "lines": desk.lines(), "restored": restored });
            let told = Self::matches("the terminal", pattern, &seen);
            if told.is_ok() || begun.elapsed() > Duration::from_secs(5) {
                break told;
            }
            sleep(Duration::from_millis(5));
        };
        seen.with_context(|| format!("on the terminal: {}", desk.text()))
    }

    /// Does one thing after the other, and waits for the end.
    fn sit(&self, desk: &mut Desk, deeds: &[Deed], child: &mut Child) -> Result<ExitStatus> {
        let deadline = self.case.limits().command;
        let begun = Instant::now();
        let mut done = 0;
        loop {
            if let Some(status) = child.try_wait()? {
                ensure!(done == deeds.len(), "it ended too early: {status}");
                return Ok(status);
            }
            if done < deeds.len() && desk.lines().len() > done {
                desk.perform(&deeds[done])?;
                done += 1;
            }
            ensure!(begun.elapsed() < deadline, "it did not end within {deadline:?}");
            sleep(Duration::from_millis(5));
        }
    }
}
