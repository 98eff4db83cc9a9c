//! An engine's daemon as a process: started, ended one way or the other, started again.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PATIENCE;
use crate::command;

/// A daemon of our own.
#[derive(Debug)]
pub struct Server {
    command: RefCell<Command>,
    process: RefCell<Child>,
}

impl Server {
    /// Starts it, with its output in a log. Whether it is up is not asked yet.
    ///
    /// # Errors
    /// There is no such program, or the log cannot be written.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let process = RefCell::new(spawn(&mut command)?);
        Ok(Self { command: RefCell::new(command), process })
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It ends before that, or the time is over.
    pub fn wait(&self, answers: impl Fn() -> bool) -> Result<()> {
        let has_ended =
            || self.process.borrow_mut().try_wait().is_ok_and(|status| status.is_some());
        let up = command::until(PATIENCE, || has_ended() || answers());
        ensure!(up && !has_ended(), "the daemon did not come up");
        Ok(())
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.borrow().id()
    }

    /// Ends it as the kernel would, and waits for its end. What it has started stays.
    ///
    /// # Errors
    /// The kernel's.
    pub fn kill(&self) -> Result<()> {
        let mut process = self.process.borrow_mut();
        process.kill().context("killing the daemon")?;
        process.wait().context("waiting for the daemon").map(drop)
    }

    /// Asks it to end, and waits for that. Whether it did so by itself; else it is killed.
    pub fn end(&self) -> bool {
        let mut process = self.process.borrow_mut();
        let _ = kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM);
        let ended = command::wait(&mut process, PATIENCE).is_some();
        if !ended {
            let _ = process.kill();
            let _ = process.wait();
        }
        ended
    }

    /// Starts it again after either.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn again(&self) -> Result<()> {
        *self.process.borrow_mut() = spawn(&mut self.command.borrow_mut())?;
        Ok(())
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().with_context(|| format!("starting {program}"))
}
