//! Pods as Kubernetes makes them, by the calls of its container runtime interface (CRI):
//! [`messages`] what is said.
//!
//! They have the host's network, which here is the engine's own: nothing of a network is
//! configured. What is not said otherwise is what a kubelet says.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use prost::Message;
use serde_json::Value;

use super::daemon::{Daemon, IMAGE};
use super::grpc;
use crate::command;
use crate::engine::{PATIENCE, process};

pub mod messages;

use messages::{
    Config, Create, Dns, Empty, Exec, Executed, ImageAnswer, ImageStatus, Linux, List, Metadata,
    Name, Namespaces, PodConfig, PodLinux, PodMetadata, PodSecurity, PodStatusAnswer, Profile,
    Resources, RunPod, Security, Stats, StatsAnswer, Status, StatusAnswer, StatusOf, Stop, Update,
};

/// containerd's namespace for all that Kubernetes has.
pub const NAMESPACE: &str = "k8s.io";

/// The runtime under test in containerd's configuration, by its own name.
pub const HANDLER: &str = "under-test";
/// The same in the place of the shim that containerd knows, by its path.
pub const BY_PATH: &str = "by-path";

/// One for the pod.
pub const POD: i32 = 0;
/// One for each container.
pub const CONTAINER: i32 = 1;
const NODE: i32 = 2;

const MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The state of a container that has started.
pub const RUNNING: i32 = 1;
/// The state of one that has ended.
pub const EXITED: i32 = 2;

/// Calls a method of the runtime's service.
///
/// # Errors
/// containerd's.
pub fn call<A: Message + Default>(
    socket: &Path,
    method: &str,
    request: &impl Message,
) -> Result<A> {
    let method = format!("runtime.v1.RuntimeService/{method}");
    grpc::call(socket, &method, request, PATIENCE)
}

/// One whose answer says nothing.
fn tell(socket: &Path, method: &str, request: &impl Message) -> Result<()> {
    call::<Empty>(socket, method, request).map(drop)
}

/// Waits until the image is known: it is told of by an event.
///
/// # Errors
/// It does not come.
pub fn wait_for_image(daemon: &Daemon) -> Result<()> {
    let method = "runtime.v1.ImageService/ImageStatus";
    let request = ImageStatus { image: Some(Name { id: IMAGE.to_owned() }) };
    let is_known = || {
        let answer = grpc::call::<ImageAnswer>(&daemon.socket(), method, &request, PATIENCE);
        answer.is_ok_and(|answer| answer.image.is_some())
    };
    ensure!(command::until(PATIENCE, is_known), "the image is not known to CRI");
    Ok(())
}

/// As a kubelet tells it: a slice by its name, anything else by its path.
fn parent(cgroup: &str) -> String {
    let slash = if cgroup.ends_with(".slice") { "" } else { "/" };
    format!("{slash}{cgroup}")
}

/// Removes all pods.
///
/// # Errors
/// One that cannot be removed.
pub fn clear(daemon: &Daemon) -> Result<()> {
    let socket = daemon.socket();
    for pod in call::<List>(&socket, "ListPodSandbox", &Empty {})?.items {
        tell(&socket, "StopPodSandbox", &pod)?;
        tell(&socket, "RemovePodSandbox", &pod)?;
    }
    Ok(())
}

/// What containerd knows of a pod or a container beside what Kubernetes asks for.
fn first_process(info: Option<&String>) -> Result<u32> {
    let info = info.context("nothing but the status is told")?;
    let info: Value = serde_json::from_str(info)?;
    let pid = info["pid"].as_u64().with_context(|| format!("no process in {info}"))?;
    Ok(u32::try_from(pid)?)
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    socket: PathBuf,
    config: PodConfig,
    namespaces: Namespaces,
    name: Name,
}

impl Pod {
    /// Its sandbox, with namespaces of processes for the pod or for each container.
    ///
    /// # Errors
    /// It does not start.
    pub fn run(daemon: &Daemon, pid: i32) -> Result<Self> {
        Self::run_by(daemon, HANDLER, pid)
    }

    /// The same by a handler.
    ///
    /// # Errors
    /// It does not start.
    pub fn run_by(daemon: &Daemon, handler: &str, pid: i32) -> Result<Self> {
        let name = daemon.fresh("pod");
        let namespaces = Namespaces { network: NODE, pid };
        let config = PodConfig {
            metadata: Some(PodMetadata {
                uid: format!("{name}-uid"),
                namespace: "default".to_owned(),
                name: name.clone(),
            }),
            logs: daemon.directory().join("logs").join(name).display().to_string(),
            dns: Some(Dns { servers: vec!["127.0.0.1".to_owned()] }),
            linux: Some(PodLinux {
                cgroup_parent: parent(daemon.pods()),
                security: Some(PodSecurity {
                    namespaces: Some(namespaces),
                    seccomp: Some(Profile {}),
                }),
            }),
        };
        let request = RunPod { config: Some(config.clone()), handler: handler.to_owned() };
        let socket = daemon.socket();
        let name = call(&socket, "RunPodSandbox", &request)?;
        Ok(Self { socket, config, namespaces, name })
    }

    /// The name that containerd has given it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.name.id
    }

    /// The first process of its sandbox, as the host numbers it.
    ///
    /// # Errors
    /// containerd's.
    pub fn pid(&self) -> Result<u32> {
        let request = StatusOf { id: self.name.id.clone(), verbose: true };
        let answer: PodStatusAnswer = call(&self.socket, "PodSandboxStatus", &request)?;
        first_process(answer.info.get("info"))
    }

    /// Its shim.
    ///
    /// # Errors
    /// It does not run.
    pub fn shim(&self) -> Result<u32> {
        let shim = process::parent(self.pid()?)?;
        let shims = process::shims(NAMESPACE);
        ensure!(shims.contains(&shim), "its parent {shim} is none of the shims {shims:?}");
        Ok(shim)
    }

    /// A container that is not started yet.
    ///
    /// # Errors
    /// It can't be made.
    pub fn create(&self, name: &str, resources: Resources, program: &[&str]) -> Result<Member> {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let config = Config {
            metadata: Some(Metadata { name: name.to_owned() }),
            image: Some(Name { id: IMAGE.to_owned() }),
            command: owned(program),
            log: format!("{name}.log"),
            linux: Some(Linux {
                resources: Some(resources),
                security: Some(Security {
                    namespaces: Some(self.namespaces),
                    masked: owned(&MASKED),
                    read_only: owned(&READ_ONLY),
                    seccomp: Some(Profile {}),
                }),
            }),
        };
        let pod = self.name.id.clone();
        let request = Create { pod, config: Some(config), pod_config: Some(self.config.clone()) };
        let log = PathBuf::from(&self.config.logs).join(format!("{name}.log"));
        let name = call(&self.socket, "CreateContainer", &request)?;
        Ok(Member { socket: self.socket.clone(), name, log })
    }

    /// A container that runs.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, name: &str, program: &[&str]) -> Result<Member> {
        let member = self.create(name, Resources::default(), program)?;
        member.start()?;
        Ok(member)
    }

    /// Stops it and all that it has.
    ///
    /// # Errors
    /// containerd's.
    pub fn stop(&self) -> Result<()> {
        tell(&self.socket, "StopPodSandbox", &self.name)
    }

    /// Removes it and all that it has.
    ///
    /// # Errors
    /// containerd's.
    pub fn remove(&self) -> Result<()> {
        tell(&self.socket, "RemovePodSandbox", &self.name)
    }
}

/// A container of a pod.
#[derive(Debug)]
pub struct Member {
    socket: PathBuf,
    name: Name,
    /// What it has written, line by line, each with a time and a stream before it.
    pub log: PathBuf,
}

impl Member {
    /// The name that containerd has given it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.name.id
    }

    /// Starts it.
    ///
    /// # Errors
    /// containerd's.
    pub fn start(&self) -> Result<()> {
        tell(&self.socket, "StartContainer", &self.name)
    }

    fn ask(&self) -> Result<StatusAnswer> {
        let request = StatusOf { id: self.name.id.clone(), verbose: true };
        call(&self.socket, "ContainerStatus", &request)
    }

    /// What Kubernetes knows of it.
    ///
    /// # Errors
    /// containerd's.
    pub fn status(&self) -> Result<Status> {
        self.ask()?.status.context("no status")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not come.
    pub fn wait(&self) -> Result<Status> {
        let ended = || self.status().is_ok_and(|status| status.state == EXITED);
        ensure!(command::until(PATIENCE, ended), "it does not end: {:?}", self.status());
        self.status()
    }

    /// Its first process, as the host numbers it.
    ///
    /// # Errors
    /// containerd's.
    pub fn pid(&self) -> Result<u32> {
        first_process(self.ask()?.info.get("info"))
    }

    /// Executes a program in it, which may take so many seconds.
    ///
    /// # Errors
    /// It can't be started, or takes longer.
    pub fn exec(&self, timeout: i64, program: &[&str]) -> Result<Executed> {
        let command = program.iter().map(|&word| word.to_owned()).collect();
        let request = Exec { id: self.name.id.clone(), command, timeout };
        call(&self.socket, "ExecSync", &request)
    }

    /// What it uses.
    ///
    /// # Errors
    /// containerd's.
    pub fn stats(&self) -> Result<Stats> {
        let answer: StatsAnswer = call(&self.socket, "ContainerStats", &self.name)?;
        answer.stats.context("no figures")
    }

    /// Gives it other limits.
    ///
    /// # Errors
    /// containerd's.
    pub fn update(&self, resources: Resources) -> Result<()> {
        let request = Update { id: self.name.id.clone(), resources: Some(resources) };
        tell(&self.socket, "UpdateContainerResources", &request)
    }

    /// Asks it to end, and ends it after so many seconds.
    ///
    /// # Errors
    /// containerd's.
    pub fn stop(&self, timeout: i64) -> Result<()> {
        tell(&self.socket, "StopContainer", &Stop { id: self.name.id.clone(), timeout })
    }

    /// Removes it.
    ///
    /// # Errors
    /// containerd's.
    pub fn remove(&self) -> Result<()> {
        tell(&self.socket, "RemoveContainer", &self.name)
    }
}
