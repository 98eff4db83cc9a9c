//! The engine: a Docker daemon of our own, and its client.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Setup;
use crate::apt;
use crate::command::{self, Output};
use crate::containerd;
use crate::engine::PATIENCE;
use crate::engine::server::Server;

/// The name of the imported image.
pub const IMAGE: &str = "debian-minbase";

/// The runtime of which the shim only has the place: dockerd has runc's started for it.
pub const IN_PLACE: &str = "in-place";

/// A hundred megabytes, copied and hashed: minutes with emulated processors.
const IMPORT: Duration = Duration::from_secs(900);

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    server: Server,
    directory: TempDir,
    settings: Value,
    cgroup_parent: String,
    runtime: String,
    shim: Option<PathBuf>,
    major: u32,
}

impl Daemon {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It does not come up; the error names its log.
    pub fn start(runtime: &Path, name: &str, setup: &Setup, log: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("orlop-engines-").tempdir()?;
        let path = |name: &str| directory.path().join(name);
        let program = apt::installed("dockerd").context("dockerd is not installed")?;
        let major = major(&program)?;
        let cgroup_parent = setup.cgroup_parent();
        let driver = if setup.systemd_cgroup { "systemd" } else { "cgroupfs" };
        let settings = json!({
            "default-runtime": name,
            "runtimes": runtimes(runtime, name, setup, major, directory.path())?,
            "cgroup-parent": setup.parent_option(),
            "exec-opts": [format!("native.cgroupdriver={driver}")],
            "live-restore": false,
        });
        fs::write(path("daemon.json"), settings.to_string())?;
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
        // Where the daemon's containerd looks for shims, before all other places.
        let system = std::env::var("PATH").unwrap_or_default();
        dockerd.env("PATH", format!("{}:{system}", path("shims").display()));
        // A session's folder, of which there is none in our /run.
        dockerd.env_remove("XDG_RUNTIME_DIR");
        let server = Server::start(dockerd, log)?;
        let (runtime, shim) = (name.to_owned(), setup.shim.clone());
        let daemon = Self { server, directory, settings, cgroup_parent, runtime, shim, major };
        if let Err(error) = daemon.wait() {
            drop(daemon.stop());
            return Err(error.context(format!("its log is {}", log.display())));
        }
        Ok(daemon)
    }

    fn wait(&self) -> Result<()> {
        self.server.wait(|| self.docker(&["version"]).is_ok_and(|output| output.code == 0))
    }

    /// Ends it in one of two ways and starts it again. `meanwhile` is what happens without
    /// it.
    ///
    /// # Errors
    /// It does not end or come up, or those of `meanwhile`.
    pub fn restart(&self, killed: bool, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        if killed {
            self.server.kill()?;
        } else {
            ensure!(self.server.end(), "dockerd did not stop by itself and was killed");
        }
        let result = meanwhile();
        self.server.again()?;
        self.wait()?;
        result
    }

    /// Has it leave containers alone when it ends, or no more.
    ///
    /// # Errors
    /// It does not take to it.
    pub fn live_restore(&self, on: bool) -> Result<()> {
        let mut settings = self.settings.clone();
        settings["live-restore"] = on.into();
        fs::write(self.directory.path().join("daemon.json"), settings.to_string())?;
        kill(Pid::from_raw(self.server.pid().cast_signed()), Signal::SIGHUP)?;
        let template = ["info", "--format", "{{.LiveRestoreEnabled}}"];
        let taken = command::until(PATIENCE, || {
            self.must(&template).is_ok_and(|answer| answer == on.to_string())
        });
        ensure!(taken, "dockerd does not read its settings again");
        Ok(())
    }

    /// The first number of its version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// What the containerd that it uses says of its version.
    ///
    /// # Errors
    /// It is not there.
    pub fn containerd(&self) -> Result<String> {
        let program = apt::installed("containerd").context("containerd is not installed")?;
        command::run(Command::new(program).arg("--version"), "", PATIENCE)?.success()
    }

    /// The shim under test, if it is one.
    #[must_use]
    pub fn shim(&self) -> Option<&Path> {
        self.shim.as_deref()
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
        let mut output = command::run(&mut self.client(arguments)?, input, PATIENCE)?;
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

    /// The time, as the engine's clock has it, to ask for events by.
    ///
    /// # Errors
    /// The client's.
    pub fn now(&self) -> Result<String> {
        self.must(&["info", "--format", "{{.SystemTime}}"])
    }

    /// Makes the image of a root file system.
    ///
    /// # Errors
    /// The client's.
    pub fn import(&self, tar: &Path) -> Result<()> {
        let mut import = self.client(&["import", &tar.to_string_lossy(), IMAGE])?;
        let output = command::run(&mut import, "", IMPORT).context("importing the image")?;
        output.success().context("importing the image").map(drop)
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
    pub fn stop(self) -> (TempDir, bool) {
        let ended = self.server.end();
        (self.directory, ended)
    }
}

/// `Docker version 20.10.24+dfsg1, build 5d6db84`
fn major(dockerd: &Path) -> Result<u32> {
    let text = command::run(Command::new(dockerd).arg("--version"), "", PATIENCE)?.success()?;
    let version = text.split_whitespace().nth(2).and_then(|version| version.split('.').next());
    let major = version.and_then(|major| major.parse().ok());
    major.with_context(|| format!("no version of Docker's: {text:?}"))
}

/// What the settings say of runtimes. A shim gets its place in the daemon's `PATH`, by its
/// own name and by runc's.
fn runtimes(
    runtime: &Path,
    name: &str,
    setup: &Setup,
    major: u32,
    directory: &Path,
) -> Result<Value> {
    let path = json!({ "path": runtime });
    let Some(shim) = &setup.shim else { return Ok(json!({ name: path })) };
    let shims = directory.join("shims");
    fs::create_dir(&shims)?;
    symlink(shim, shims.join(shim.file_name().context("the shim's name")?))?;
    if shim.file_name().is_some_and(|name| name != RUNCS) {
        symlink(shim, shims.join(RUNCS))?;
    }
    if major < TYPES {
        return Ok(json!({ name: path }));
    }
    let config = directory.join("shim.toml");
    let root = directory.join("exec/runtime-shim");
    let said = format!("SystemdCgroup = {}\nRoot = {root:?}\n", setup.systemd_cgroup);
    fs::write(&config, said)?;
    let kind = containerd::runtime_name(shim)?;
    // The only key of such a runtime's options that reaches it.
    let by_type = json!({ "runtimeType": kind, "options": { "ConfigPath": config } });
    Ok(json!({ name: by_type, IN_PLACE: path }))
}

/// The shim that dockerd has started for every runtime that is a path.
const RUNCS: &str = "containerd-shim-runc-v2";

/// The first Docker that knows shims of another name than runc's.
pub const TYPES: u32 = 23;
