//! A shim as containerd sees it: a program that starts a server, and calls to that.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use serde_json::Value;

use super::container::{Container, Layout};
use super::messages::Empty;
use super::messages::task::{
    ConnectResponse, KillRequest, ProcessRequest, StatsResponse, WaitResponse,
};
use super::ttrpc::{Client, Events};
use crate::bench::meter::Watchdog;

const NAMESPACE: &str = "bench";

/// A shim's program.
#[derive(Debug)]
pub(super) struct Shim {
    /// As in the report and for `--only`.
    pub name: &'static str,
    pub program: PathBuf,
    /// Where its runtime's containers are.
    pub state: PathBuf,
    /// strace and the file it writes to, when executions are counted.
    pub traced: Option<(PathBuf, PathBuf)>,
}

/// What all of them are given.
#[derive(Debug)]
pub(super) struct World<'a> {
    pub layout: Layout<'a>,
    pub events: &'a Events,
    pub dog: &'a Watchdog,
}

/// A server with what it looks after.
#[derive(Debug)]
pub(super) struct Server {
    pub client: Client,
    pub pid: Pid,
}

impl Shim {
    fn command(&self, container: &Container, world: &World<'_>) -> Command {
        let mut command = match &self.traced {
            Some((strace, file)) => {
                let mut command = Command::new(strace);
                // The tracer goes aside, so that the program is our child, and ends with
                // the last process of it.
                command.args(["-D", "-f", "-qq", "-e", "trace=execve,execveat", "-A", "-o"]);
                command.arg(file).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.args(["-namespace", NAMESPACE, "-address"]).arg(&world.events.path);
        command.args(["-publish-binary", "/bin/false", "-id", &container.id]);
        command.current_dir(&container.bundle).env("TTRPC_ADDRESS", &world.events.path);
        command.env("GOMAXPROCS", "2"); // containerd says so
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    /// Starts the program that starts the server: the server's address. This is what
    /// `start` takes, from the first call until its answer is read to the end.
    pub(super) fn start(&self, container: &Container, world: &World<'_>) -> Result<String> {
        let answer = self.output(self.command(container, world).arg("start"), world.dog)?;
        let answer = String::from_utf8(answer)?;
        if answer.starts_with("unix://") {
            return Ok(answer);
        }
        let answer: Value = serde_json::from_str(&answer).context("what start has answered")?;
        Ok(answer["address"].as_str().context("start has answered without an address")?.to_owned())
    }

    /// The same, and a connection.
    pub(super) fn serve(&self, container: &Container, world: &World<'_>) -> Result<Server> {
        Server::at(&self.start(container, world)?)
    }

    /// The program that containerd starts once more when the server has gone.
    pub(super) fn delete(&self, container: &Container, world: &World<'_>) -> Result<()> {
        let mut command = self.command(container, world);
        command.arg("-bundle").arg(&container.bundle).arg("delete");
        self.output(&mut command, world.dog).map(drop)
    }

    /// What it has said, if it has ended well.
    fn output(&self, command: &mut Command, dog: &Watchdog) -> Result<Vec<u8>> {
        let mut child = command.spawn().context("starting the shim")?;
        let mut stdout = child.stdout.take().context("a pipe")?;
        let status = dog.wait(Pid::from_raw(child.id().cast_signed()))?;
        ensure!(status == 0, "the shim's program has ended with {status}");
        let mut said = vec![0; 4096];
        if self.traced.is_some() {
            // All is there; the tracer has the pipe as long as there is something to trace.
            let count = stdout.read(&mut said)?;
            said.truncate(count);
        } else {
            said.clear();
            stdout.read_to_end(&mut said)?;
        }
        Ok(said)
    }

    /// Create of a container.
    pub(super) fn create(
        &self,
        server: &mut Server,
        container: &Container,
        world: &World<'_>,
    ) -> Result<()> {
        let creation = world.layout.creation(container, &self.state);
        server.client.ask::<Empty>("Create", &creation).map(drop)
    }
}

impl Server {
    /// The one at that address.
    pub(super) fn at(address: &str) -> Result<Self> {
        let mut client = Client::to(address)?;
        let connected: ConnectResponse = client.ask("Connect", &ProcessRequest::default())?;
        Ok(Self { client, pid: Pid::from_raw(connected.shim_pid.cast_signed()) })
    }

    /// Start of a container.
    pub(super) fn start(&mut self, container: &Container) -> Result<()> {
        self.client.ask::<Empty>("Start", &of(container, "")).map(drop)
    }

    /// Start of a container, or of an exec in it, until its end is known in both ways:
    /// its exit status.
    pub(super) fn run(
        &mut self,
        container: &Container,
        exec_id: &str,
        world: &World<'_>,
    ) -> Result<u32> {
        let process = of(container, exec_id);
        let waits = self.client.send("Wait", &process)?;
        let _: Empty = self.client.ask("Start", &process)?;
        let waited: WaitResponse = self.client.receive(waits).context("Wait")?;
        let id = if exec_id.is_empty() { &container.id } else { exec_id };
        world.events.exit(&container.id, id)?;
        Ok(waited.exit_status)
    }

    /// One exec of /bin/true, from Exec to Delete.
    pub(super) fn exec(
        &mut self,
        container: &Container,
        exec_id: &str,
        world: &World<'_>,
    ) -> Result<()> {
        let _: Empty = self.client.ask("Exec", &container.exec(exec_id))?;
        let status = self.run(container, exec_id, world)?;
        ensure!(status == 0, "an exec has ended with {status}");
        self.client.ask::<Empty>("Delete", &of(container, exec_id)).map(drop)
    }

    /// What a container has used: the length of the message.
    pub(super) fn stats(&mut self, container: &Container) -> Result<usize> {
        let found: StatsResponse = self.client.ask("Stats", &of(container, ""))?;
        Ok(found.stats.context("Stats has answered without any")?.value.len())
    }

    /// Kills a container that runs, and deletes it.
    pub(super) fn kill(&mut self, container: &Container) -> Result<()> {
        let waits = self.client.send("Wait", &of(container, ""))?;
        let kill = KillRequest { id: container.id.clone(), signal: 9, ..KillRequest::default() };
        let _: Empty = self.client.ask("Kill", &kill)?;
        let _: WaitResponse = self.client.receive(waits).context("Wait")?;
        self.delete(container)
    }

    /// Delete of a container that has ended.
    pub(super) fn delete(&mut self, container: &Container) -> Result<()> {
        self.client.ask::<Empty>("Delete", &of(container, "")).map(drop)
    }

    /// Shutdown. A server may be gone before its answer is, and containerd takes that for one.
    pub(super) fn shutdown(&mut self, container: &Container) -> Result<()> {
        match self.client.ask::<Empty>("Shutdown", &of(container, "")) {
            Err(error) if !is_end(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Shutdown, until the server has ended: it is our child, as we adopt orphans.
    pub(super) fn end(mut self, container: &Container, world: &World<'_>) -> Result<()> {
        self.shutdown(container)?;
        world.dog.wait(self.pid).map(drop)
    }
}

fn is_end(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(BrokenPipe | ConnectionReset | UnexpectedEof))
}

fn of(container: &Container, exec_id: &str) -> ProcessRequest {
    ProcessRequest { id: container.id.clone(), exec_id: exec_id.to_owned() }
}

/// What a program says of its version, in one line.
pub(super) fn version(program: &Path, flag: &str) -> String {
    let output = Command::new(program).arg(flag).output().ok();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let line = text.lines().map(str::trim).find(|line| !line.ends_with(':'));
    line.unwrap_or("of an unknown version").to_owned()
}
