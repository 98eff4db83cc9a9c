//! The engine: a Docker daemon of our own, and its client.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::apt;
use crate::command::{self, Output};

/// The name of the imported image.
pub const IMAGE: &str = "debian-minbase";

/// No answer of the engine takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    process: Child,
    directory: TempDir,
    cgroup_parent: String,
    runtime: String,
}

impl Daemon {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It does not come up; the error names its log.
    pub fn start(runtime: &Path, name: &str, log: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("orlop-engines-").tempdir()?;
        let path = |name: &str| directory.path().join(name);
        fs::write(path("daemon.json"), "{}")?;
        let cgroup_parent = format!("orlop-engines-{}", std::process::id());
        let output = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let program = apt::installed("dockerd").context("dockerd is not installed")?;
        let mut dockerd = Command::new(program);
        dockerd.arg("--host").arg(format!("unix://{}", path("docker.sock").display()));
        for (option, file) in [
            ("--config-file", "daemon.json"),
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "docker.pid"),
        ] {
            dockerd.arg(option).arg(path(file));
        }
        dockerd.arg("--cgroup-parent").arg(format!("/{cgroup_parent}"));
        dockerd.arg("--add-runtime").arg(format!("{name}={}", runtime.display()));
        dockerd.arg("--default-runtime").arg(name);
        dockerd.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let process = dockerd.spawn().context("starting dockerd")?;
        let mut daemon = Self { process, directory, cgroup_parent, runtime: name.to_owned() };
        let up = command::until(LIMIT, || {
            daemon.process.try_wait().is_ok_and(|status| status.is_some())
                || daemon.docker(&["version"]).is_ok_and(|output| output.code == 0)
        });
        if !up || daemon.process.try_wait()?.is_some() {
            drop(daemon.stop());
            bail!("dockerd did not come up; its log is {}", log.display());
        }
        Ok(daemon)
    }

    /// The name of the runtime under test.
    #[must_use]
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    /// The cgroup below which all containers are, without a slash.
    #[must_use]
    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    /// Where a check may put files of the host.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A client command that is still to be run.
    ///
    /// # Errors
    /// Docker's client is not installed.
    pub fn client(&self, arguments: &[&str]) -> Result<Command> {
        let mut docker = Command::new(apt::installed("docker").context("no docker client")?);
        let socket = self.directory.path().join("docker.sock");
        docker.arg("--host").arg(format!("unix://{}", socket.display())).args(arguments);
        // Neither a person's configuration nor another engine is asked.
        docker.env("DOCKER_CONFIG", self.directory.path()).env_remove("DOCKER_CONTEXT");
        Ok(docker)
    }

    /// Runs a client command to its end.
    ///
    /// # Errors
    /// It cannot be started or does not end; its own failure is in the output.
    pub fn docker(&self, arguments: &[&str]) -> Result<Output> {
        self.docker_with_input(arguments, "")
    }

    /// The same with standard input.
    ///
    /// # Errors
    /// As [`Daemon::docker`].
    pub fn docker_with_input(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut output = command::run(&mut self.client(arguments)?, input, LIMIT)?;
        output.line = format!("docker {}", arguments.join(" "));
        Ok(output)
    }

    /// Standard output of a client command that must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn must(&self, arguments: &[&str]) -> Result<String> {
        self.docker(arguments)?.success()
    }

    /// Makes the image of a root file system.
    ///
    /// # Errors
    /// The client's.
    pub fn import(&self, tar: &Path) -> Result<()> {
        self.must(&["import", &tar.to_string_lossy(), IMAGE])
            .context("importing the image")
            .map(drop)
    }

    /// Removes all containers and volumes.
    ///
    /// # Errors
    /// One that cannot be removed.
    pub fn remove_containers(&self) -> Result<()> {
        let ids = self.must(&["ps", "--all", "--quiet"])?;
        if !ids.is_empty() {
            let ids: Vec<&str> = ids.lines().collect();
            self.must(&[&["rm", "--force", "--volumes"], ids.as_slice()].concat())?;
        }
        self.must(&["volume", "prune", "--force"]).map(drop)
    }

    /// Stops it. Returns its directory, for a look at what is left, and whether it
    /// ended by itself.
    #[must_use]
    pub fn stop(mut self) -> (TempDir, bool) {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        let _ = kill(pid, Signal::SIGTERM);
        let ended = command::wait(&mut self.process, LIMIT).is_some();
        if !ended {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        (self.directory, ended)
    }
}
