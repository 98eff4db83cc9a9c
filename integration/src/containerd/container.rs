//! A container that a check started, and what the host shows of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::daemon::{Daemon, IMAGE};
use crate::command::{self, Output};
use crate::engine::{PATIENCE, process};

/// A detached container.
#[derive(Debug)]
pub struct Container<'a> {
    daemon: &'a Daemon,
    /// Its name.
    pub id: String,
}

impl<'a> Container<'a> {
    /// `ctr run --detach OPTIONS IMAGE ID PROGRAM`
    ///
    /// # Errors
    /// It does not start.
    pub fn start(daemon: &'a Daemon, options: &[&str], program: &[&str]) -> Result<Self> {
        let id = daemon.fresh("task");
        let run = ["run", "--detach", "--runtime", daemon.runtime()];
        daemon.must(&[&run[..], options, &[IMAGE, &id], program].concat())?;
        Ok(Self { daemon, id })
    }

    /// One that sleeps, for longer than any check takes.
    ///
    /// # Errors
    /// It does not start.
    pub fn sleeping(daemon: &'a Daemon, options: &[&str]) -> Result<Self> {
        Self::start(daemon, options, &["sleep", "1000000"])
    }

    /// `ctr tasks exec` as a command that is still to be run, and the name of the process.
    ///
    /// # Errors
    /// There is no client.
    pub fn exec_client(&self, options: &[&str], program: &[&str]) -> Result<(Command, String)> {
        let exec = self.daemon.fresh("exec");
        let arguments = ["tasks", "exec", "--exec-id", &exec];
        let arguments = [&arguments[..], options, &[&self.id], program].concat();
        Ok((self.daemon.client(&arguments)?, exec))
    }

    /// `ctr tasks exec CONTAINER PROGRAM`
    ///
    /// # Errors
    /// The client cannot be run.
    pub fn exec(&self, program: &[&str]) -> Result<Output> {
        let (mut client, _) = self.exec_client(&[], program)?;
        command::run(&mut client, "", PATIENCE)
    }

    /// `ctr tasks VERB CONTAINER` of a verb that must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn must(&self, verb: &[&str]) -> Result<String> {
        self.daemon.must(&[&["tasks"], verb, &[&self.id]].concat())
    }

    /// What `ctr tasks list` says of it: the first process and a word; none if it is not
    /// there.
    ///
    /// # Errors
    /// The client's.
    pub fn state(&self) -> Result<Option<(u32, String)>> {
        let text = self.daemon.must(&["tasks", "list"])?;
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(&self.id));
        let Some(line) = line else { return Ok(None) };
        let mut words = line.split_whitespace().skip(1);
        let pid = words.next().and_then(|pid| pid.parse().ok());
        Ok(Some((pid.context("no process number")?, words.next().unwrap_or_default().to_owned())))
    }

    /// Waits until `ctr tasks list` has a word for it.
    ///
    /// # Errors
    /// It does not come.
    pub fn wait_for(&self, word: &str) -> Result<()> {
        let is = || self.state().is_ok_and(|state| state.is_some_and(|(_, found)| found == word));
        let came = command::until(PATIENCE, is);
        ensure!(came, "{} is not {word}, but {:?}", self.id, self.state()?);
        Ok(())
    }

    /// The first process, as the host numbers it.
    ///
    /// # Errors
    /// There is no task.
    pub fn pid(&self) -> Result<u32> {
        let state = self.state()?;
        state.map(|(pid, _)| pid).with_context(|| format!("there is no task {}", self.id))
    }

    /// Its shim, which is the parent of its first process.
    ///
    /// # Errors
    /// It does not run.
    pub fn shim(&self) -> Result<u32> {
        let shim = process::parent(self.pid()?)?;
        let shims = process::shims(self.daemon.namespace());
        ensure!(shims.contains(&shim), "its parent {shim} is none of the shims {shims:?}");
        Ok(shim)
    }

    /// `ctr tasks delete`, and the exit status that it tells.
    ///
    /// # Errors
    /// It says what is wrong.
    pub fn delete(&self) -> Result<i32> {
        let output = self.daemon.ctr(&["tasks", "delete", &self.id])?;
        output.exits_with(0)?;
        // It is a warning, if it is not zero.
        let words = "exit with non-zero exit code ";
        let Some((_, rest)) = output.stderr.split_once(words) else {
            ensure!(output.stderr.is_empty(), "{output}");
            return Ok(0);
        };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().with_context(|| format!("{output}"))
    }

    /// Kills it, and takes the task away.
    ///
    /// # Errors
    /// It does not end by that.
    pub fn end(&self) -> Result<()> {
        self.must(&["kill", "--signal", "SIGKILL"])?;
        self.wait_for("STOPPED")?;
        let code = self.delete()?;
        ensure!(code == 137, "{} was killed, and its exit status is {code}", self.id);
        Ok(())
    }

    /// A control file of its cgroup, as [`process::cgroup`].
    ///
    /// # Errors
    /// No such cgroup or file.
    pub fn cgroup(&self, v1: (&str, &str), v2: &str) -> Result<String> {
        process::cgroup(self.pid()?, v1, v2)
    }
}

/// Cgroups of containers, in all hierarchies.
#[must_use]
pub fn cgroups(daemon: &Daemon) -> Vec<PathBuf> {
    use crate::engine::leftovers::directories;
    let top = Path::new("/sys/fs/cgroup");
    let places = directories(top).into_iter().chain([top.to_owned()]);
    places.flat_map(|place| directories(&place.join(daemon.namespace()))).collect()
}
