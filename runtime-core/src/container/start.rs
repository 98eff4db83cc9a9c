//! `start`: one byte into a FIFO, and word out of it that the program has been executed.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;

use orlop_init::wire::{HEAD, TEXT_MAX};

use super::create::{explain, facts};
use super::state::Phase;
use super::{Container, Notify};
use crate::compile;
use crate::error::{Error, Kind, Result};
use crate::launch::{
    DYING, StartFailure, StartReport, died, start_report, wait_closed, wait_readable,
};

/// How long the stage may take from the start to its exec, in milliseconds, when
/// no startContainer hook runs in between.
const PATIENCE: i64 = 120_000;

/// The word that the stage waits for; no message of its own begins with it.
const GO: [u8; 1] = *b"s";

impl Container {
    /// Starts the process of a created container; returns when the program has
    /// been executed and the poststart hooks have run.
    ///
    /// # Errors
    /// [`Kind::WrongState`] when it is not waiting for its start; what went wrong
    /// before the program was executed. A hook that fails ends the container: it is
    /// deleted then.
    pub fn start(&self) -> Result<()> {
        self.begin(false).map(drop)
    }

    /// The same, and listens for the container's word that it is ready; `None` if it was
    /// not asked for one when it was created.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_notifying(&self) -> Result<Option<Notify>> {
        self.begin(true)
    }

    fn begin(&self, listen: bool) -> Result<Option<Notify>> {
        let (lock, container) = self.locked()?;
        let executed = container.execute(listen && container.record.notify);
        drop(lock);
        let started = executed.and_then(|notify| container.after_start().map(|()| notify));
        started.inspect_err(|error| {
            if matches!(error.kind(), Kind::Hook | Kind::Interrupted) {
                container.take_down();
            }
        })
    }

    fn after_start(&self) -> Result<()> {
        if !self.record.hooks.poststart {
            return Ok(());
        }
        let hooks = compile::poststart(&self.spec()?).map_err(Error::all)?;
        self.poststart(&hooks)
    }

    /// Lets the stage go on, and waits for its word.
    fn execute(&self, listen: bool) -> Result<Option<Notify>> {
        let folder = self.folder();
        let wrong = |words| Err(Error::new(Kind::WrongState, words));
        // COMPAT(runc): its words.
        let stopped = "cannot start a container that has stopped";
        let Some(init) = self.init()? else { return wrong(stopped) };
        if self.record.phase != Phase::Created {
            return wrong(stopped);
        }
        if !folder.waits_for_start() {
            return wrong("cannot start an already running container");
        }
        // It could not take the word, and nobody could resume it while we wait.
        if self.record.manager().is_frozen()? {
            return wrong("cannot start a container in the paused state");
        }
        // The writing end first: with our own reader there would always be one.
        let Some(mut start) = folder.open_start()? else { return wrong(stopped) };
        let mut report = folder.open_report()?;
        // Before it can say anything.
        let socket = if listen { Some(folder.bind_notify()?) } else { None };
        folder.remove_start()?;
        start.write_all(&GO).map_err(|error| Error::io(&error, "starting the container"))?;
        drop(start);

        // Hooks have timeouts of their own, or none by the user's wish.
        let patience = if self.record.hooks.start_container { -1 } else { PATIENCE };
        if !wait_closed(report.as_fd(), init.as_fd(), self.store.interrupt(), patience)? {
            return Err(Error::new(
                Kind::Timeout,
                "the container's program was not executed in time",
            ));
        }
        let mut buffer = [0; HEAD + HEAD + TEXT_MAX];
        let length = match report.read(&mut buffer) {
            // Somebody else holds the other end, and the init is dead.
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            length => length.map_err(|error| Error::io(&error, "reading the start report"))?,
        };
        // What it did not take is still there.
        let said = buffer.get(..length).unwrap_or_default();
        match start_report(said.strip_prefix(&GO).unwrap_or(said))? {
            StartReport::Executed => {
                Ok(socket.map(|socket| Notify { pid: self.record.pid, socket, init }))
            }
            StartReport::Died => {
                // Its files are closed first; who hears of it may ask what it is now.
                wait_readable(init.as_fd(), DYING)?;
                Err(explain(died(None, true), &self.record.manager()))
            }
            StartReport::Failed(failure) => Err(self.explain(&failure)),
        }
    }

    /// The stage's message names an op of the plan: compile it once more.
    fn explain(&self, failure: &StartFailure<'_>) -> Error {
        let plan = self.kept_spec().and_then(|spec| {
            let options = self.record.options(0, &self.folder());
            compile::create(&spec, &facts(&spec)?, &options).map_err(Error::all)
        });
        match plan {
            Ok(plan) => failure.explain(&plan),
            Err(_) => Error::new(Kind::Os, "the container's program could not be executed"),
        }
    }
}
