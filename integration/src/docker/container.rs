//! A container that a check started, and what the host shows of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::daemon::{Daemon, IMAGE};
use crate::command::{self, Output};

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

    /// Waits until its output holds a text.
    ///
    /// # Errors
    /// It does not come in time.
    pub fn wait_for_log(&self, text: &str) -> Result<()> {
        let there = command::until(Duration::from_secs(20), || {
            self.must(&["logs"]).is_ok_and(|logs| logs.contains(text))
        });
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
        let link = fs::read_link(format!("/proc/{}/ns/{kind}", self.pid()?))?;
        Ok(link.to_string_lossy().into_owned())
    }

    /// A control file of its cgroup: `v1` in that controller's hierarchy, or `v2`
    /// where there is only one.
    ///
    /// # Errors
    /// No such cgroup or file.
    pub fn cgroup(&self, (controller, v1): (&str, &str), v2: &str) -> Result<String> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid()?))?;
        let in_v1 = text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let names = parts.next()?;
            names.split(',').any(|name| name == controller).then(|| (names, parts.next()))
        });
        let (top, path, file) = match in_v1 {
            Some((names, path)) => (hierarchy(names, controller)?, path.unwrap_or("/"), v1),
            None => {
                let path = text.lines().find_map(|line| line.strip_prefix("0::"));
                (PathBuf::from("/sys/fs/cgroup"), path.context("no cgroup")?, v2)
            }
        };
        let file = top.join(path.trim_start_matches('/')).join(file);
        let value = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(value.trim().to_owned())
    }
}

fn hierarchy(names: &str, controller: &str) -> Result<PathBuf> {
    [names, controller]
        .map(|name| Path::new("/sys/fs/cgroup").join(name))
        .into_iter()
        .find(|path| path.is_dir())
        .with_context(|| format!("the hierarchy of \"{controller}\" is not mounted"))
}
