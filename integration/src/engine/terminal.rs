//! A command on a terminal of its own: what a person at a keyboard would see.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::pty::{Winsize, openpty};

use super::PATIENCE;
use crate::command;

/// Rows and columns that no default has.
pub const SIZE: (u16, u16) = (37, 111);

/// A command that runs on a terminal.
#[derive(Debug)]
pub struct Session {
    child: std::process::Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
}

impl Session {
    /// Starts it.
    ///
    /// # Errors
    /// There is no terminal to be had, or no such program.
    pub fn start(mut command: Command) -> Result<Self> {
        let size = Winsize { ws_row: SIZE.0, ws_col: SIZE.1, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).context("opening a terminal")?;
        command.stdin(pty.slave.try_clone()?).stdout(pty.slave.try_clone()?).stderr(pty.slave);
        let child = command.spawn().context("starting a command on a terminal")?;
        drop(command); // holds the slave's side, which must end with the child
        let keyboard = File::from(pty.master);
        let mut reader = keyboard.try_clone()?;
        let screen = Arc::new(Mutex::new(String::new()));
        let theirs = Arc::clone(&screen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The kernel says EIO when the last user of the other side is gone.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if let Ok(mut screen) = theirs.lock() {
                    screen.push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            }
        });
        Ok(Self { child, keyboard, screen })
    }

    /// Types a line.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        writeln!(self.keyboard, "{line}").context("typing")
    }

    /// Waits for a text on the screen.
    ///
    /// # Errors
    /// It does not come; the error holds what is there.
    pub fn expect(&self, text: &str) -> Result<()> {
        let there = command::until(PATIENCE, || self.shows(text));
        ensure!(there, "\"{text}\" did not appear on the terminal, but: {:?}", self.screen());
        Ok(())
    }

    /// Whether a text is on the screen.
    #[must_use]
    pub fn shows(&self, text: &str) -> bool {
        self.screen().contains(text)
    }

    fn screen(&self) -> String {
        self.screen.lock().map(|screen| screen.clone()).unwrap_or_default()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end; then it is killed.
    pub fn finish(mut self) -> Result<i32> {
        let Some(status) = command::wait(&mut self.child, PATIENCE) else {
            let _ = self.child.kill();
            let _ = self.child.wait();
            bail!("the command on the terminal did not end, the screen is {:?}", self.screen());
        };
        Ok(command::code(status))
    }
}
