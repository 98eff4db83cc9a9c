//! A container that a check started, and what the host shows of it.

use anyhow::{Context, Result, ensure};

use super::daemon::{Daemon, IMAGE};
use crate::command::{self, Output};
use crate::engine::{PATIENCE, process};

/// A detached container.
#[derive(Debug)]
pub struct Container<'a> {
    daemon: &'a Daemon,
    /// Its full id.
    pub id: String,
}

impl<'a> Container<'a> {
    /// `docker run --detach OPTIONS IMAGE PROGRAM`
    ///
    /// # Errors
    /// It does not start.
    pub fn start(daemon: &'a Daemon, options: &[&str], program: &[&str]) -> Result<Self> {
        let id = daemon.must(&[&["run", "--detach"], options, &[IMAGE], program].concat())?;
        Ok(Self { daemon, id })
    }

    /// One that sleeps.
    ///
    /// # Errors
    /// It does not start.
    pub fn sleeping(daemon: &'a Daemon, options: &[&str]) -> Result<Self> {
        Self::start(daemon, options, &["sleep", "1000"])
    }

    /// `docker exec CONTAINER PROGRAM`
    ///
    /// # Errors
    /// The client cannot be run.
    pub fn exec(&self, program: &[&str]) -> Result<Output> {
        self.daemon.docker(&[&["exec", &self.id], program].concat())
    }

    /// `docker VERB CONTAINER` of a verb that must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn must(&self, verb: &[&str]) -> Result<String> {
        self.daemon.must(&[verb, &[&self.id]].concat())
    }

    /// What the engine knows of it, by a Go template.
    ///
    /// # Errors
    /// The client's.
    pub fn inspect(&self, template: &str) -> Result<String> {
        self.must(&["inspect", "--format", template])
    }

    /// What the engine has told of it since then: `create`, `exec_start`, `die` and so on.
    ///
    /// # Errors
    /// The client's.
    pub fn events(&self, since: &str) -> Result<Vec<String>> {
        let of = format!("container={}", self.id);
        let until = self.daemon.now()?;
        let span = ["events", "--since", since, "--until", &until];
        let what = ["--filter", "type=container", "--filter", &of];
        // An exec's have the command behind a colon.
        let text = self.daemon.must(&[&span[..], &what, &["--format", "{{.Action}}"]].concat())?;
        let word = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
        Ok(text.lines().map(word).collect())
    }

    /// Waits until its output holds a text.
    ///
    /// # Errors
    /// It does not come in time.
    pub fn wait_for_log(&self, text: &str) -> Result<()> {
        let there =
            command::until(PATIENCE, || self.must(&["logs"]).is_ok_and(|logs| logs.contains(text)));
        ensure!(there, "the container did not print \"{text}\": {}", self.must(&["logs"])?);
        Ok(())
    }

    /// The first process, as the host numbers it.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<u32> {
        let pid = self.inspect("{{.State.Pid}}")?.parse().context("reading the process number")?;
        ensure!(pid != 0, "the container does not run");
        Ok(pid)
    }

    /// `pid:[4026531836]` for the namespace `pid`
    ///
    /// # Errors
    /// It does not run.
    pub fn namespace(&self, kind: &str) -> Result<String> {
        process::namespace(self.pid()?, kind)
    }

    /// A control file of its cgroup: see [`process::cgroup`].
    ///
    /// # Errors
    /// It does not run, or no such cgroup or file.
    pub fn cgroup(&self, v1: (&str, &str), v2: &str) -> Result<String> {
        process::cgroup(self.pid()?, v1, v2)
    }
}
