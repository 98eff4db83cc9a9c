//! The measurements, each for one shim; [`super::run`] has them take turns.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};

use super::container::Container;
use super::look::{Holdings, Memory, childrens_time, own_time};
use super::shim::{Server, Shim, World};
use crate::bench::bundle::PROBE_STATUS;
use crate::bench::cgroups::View;
use crate::bench::meter::{Cost, Meter};
use crate::command;

/// Before memory is looked at: what a shim does when it has answered is done by then.
const SETTLED: Duration = Duration::from_millis(500);

/// What strace has to end.
const TRACED: Duration = Duration::from_secs(10);

thread_local!(static NEXT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

fn number() -> usize {
    NEXT.replace(NEXT.get() + 1)
}

fn container(world: &World<'_>, args: &[&str], pod: Option<&str>) -> Result<Container> {
    world.layout.container(View::id(number()), args, pod)
}

/// A shim that only says that it ran a container would win every comparison.
pub(super) fn probe(shim: &Shim, world: &World<'_>) -> Result<()> {
    let mut args = vec!["/bin/true"];
    args.resize(1 + PROBE_STATUS as usize, "argument");
    let container = container(world, &args, None)?;
    let mut server = shim.serve(&container, world)?;
    let status = shim.create(&mut server, &container, world).and_then(|()| {
        let status = server.run(&container, "", world);
        server.delete(&container).and(status)
    });
    server.end(&container, world)?;
    let (status, wanted) = (status?, PROBE_STATUS.unsigned_abs());
    ensure!(status == wanted, "the exit status is {status} instead of {wanted}");
    Ok(())
}

/// `start`, until its answer is read. The server's end is not measured.
pub(super) fn start(shim: &Shim, world: &World<'_>) -> Result<Cost> {
    let container = container(world, &["/bin/true"], None)?;
    let begin = Instant::now();
    let meter = Meter::start()?;
    let address = shim.start(&container, world)?;
    let cost = Cost { wall: begin.elapsed(), ..meter.stop()? };
    Server::at(&address)?.end(&container, world)?;
    Ok(cost)
}

/// All that containerd does for one container that runs /bin/true, from `start` to the
/// `delete` behind the server's end. Processor time is that of everything that came of it:
/// we adopt the server, and the kernel adds to us what whoever is waited for has used, and
/// has added to it. A cgroup would not do: the container goes into one of its own.
pub(super) fn task(shim: &Shim, world: &World<'_>) -> Result<Cost> {
    let container = container(world, &["/bin/true"], None)?;
    let begin = Instant::now();
    let meter = Meter::start()?;
    let mut server = shim.serve(&container, world)?;
    shim.create(&mut server, &container, world)?;
    let status = server.run(&container, "", world)?;
    ensure!(status == 0, "/bin/true has ended with {status}");
    server.delete(&container)?;
    let pid = server.pid;
    server.shutdown(&container)?;
    drop(server);
    shim.delete(&container, world)?;
    let wall = begin.elapsed();
    world.dog.wait(pid)?;
    Ok(Cost { wall, ..meter.stop()? })
}

/// A pod whose first container runs, and one server for all of them.
pub(super) struct Pod<'a> {
    shim: &'a Shim,
    pub server: Server,
    containers: Vec<Container>,
}

impl<'a> Pod<'a> {
    /// With one container.
    pub(super) fn begin(shim: &'a Shim, world: &World<'_>) -> Result<Self> {
        let first = container(world, &["/bin/pause"], None)?;
        let server = shim.serve(&first, world)?;
        let mut pod = Self { shim, server, containers: Vec::new() };
        pod.run(first, world)?;
        Ok(pod)
    }

    fn run(&mut self, container: Container, world: &World<'_>) -> Result<()> {
        self.shim.create(&mut self.server, &container, world)?;
        self.server.start(&container)?;
        self.containers.push(container);
        Ok(())
    }

    fn sandbox(&self) -> Result<&Container> {
        self.containers.first().context("the pod's first container")
    }

    /// Until there are so many.
    pub(super) fn grow(&mut self, count: usize, world: &World<'_>) -> Result<()> {
        while self.containers.len() < count {
            let next = container(world, &["/bin/pause"], Some(&self.sandbox()?.id))?;
            self.run(next, world)?;
        }
        Ok(())
    }

    /// Its server's memory.
    pub(super) fn memory(&self) -> Result<Memory> {
        thread::sleep(SETTLED);
        Memory::of(self.server.pid)
    }

    /// A container that comes and goes in it.
    pub(super) fn task(&mut self, world: &World<'_>) -> Result<()> {
        let next = container(world, &["/bin/true"], Some(&self.sandbox()?.id))?;
        self.shim.create(&mut self.server, &next, world)?;
        self.server.run(&next, "", world)?;
        self.server.delete(&next)
    }

    /// /bin/true in its first container: how long it took.
    pub(super) fn exec(&mut self, world: &World<'_>) -> Result<Duration> {
        let begin = Instant::now();
        let name = format!("exec-{}", number());
        let first = self.containers.first().context("the pod's first container")?;
        self.server.exec(first, &name, world)?;
        Ok(begin.elapsed())
    }

    /// So many calls of Stats: how long they took, and what the server used for them.
    pub(super) fn stats(&mut self, calls: usize) -> Result<Cost> {
        let first = self.containers.first().context("the pod's first container")?;
        let (begin, used) = (Instant::now(), own_time(self.server.pid)?);
        for _ in 0..calls {
            let length = self.server.stats(first)?;
            ensure!(length > 0, "Stats has answered with nothing");
        }
        let cpu = own_time(self.server.pid)?.saturating_sub(used);
        Ok(Cost { wall: begin.elapsed(), cpu })
    }

    /// What the server and its children have used until now.
    pub(super) fn used(&self) -> Result<Duration> {
        Ok(own_time(self.server.pid)? + childrens_time(self.server.pid)?)
    }

    /// What must not grow.
    pub(super) fn holdings(&self) -> Result<Holdings> {
        thread::sleep(SETTLED);
        Holdings::of(self.server.pid)
    }

    /// Takes all of it away.
    pub(super) fn end(mut self, world: &World<'_>) -> Result<()> {
        while self.containers.len() > 1 {
            if let Some(last) = self.containers.pop() {
                self.server.kill(&last)?;
            }
        }
        let first = self.containers.pop().context("the pod's first container")?;
        self.server.kill(&first)?;
        self.server.end(&first, world)
    }
}

/// Programs that are executed for [`task`], or None without strace.
pub(super) fn executions(shim: &Shim, world: &World<'_>) -> Result<Option<usize>> {
    let Some(strace) = crate::bench::runtime::installed("strace") else { return Ok(None) };
    let file = world.layout.directory.join(format!("{}.strace", shim.name));
    let traced = Shim {
        name: shim.name,
        program: shim.program.clone(),
        state: shim.state.clone(),
        traced: Some((strace, file.clone())),
    };
    task(&traced, world)?;
    // The tracers are ours now, too.
    let over = || matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
    ensure!(command::until(TRACED, over), "strace does not end");
    let text = fs::read_to_string(&file)?;
    fs::remove_file(&file)?;
    let count = text.lines().filter(|line| line.ends_with(" = 0")).count();
    ensure!(count > 0, "strace has seen nothing: is this traced itself?");
    Ok(Some(count))
}
