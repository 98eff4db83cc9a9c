//! Kubernetes' messages (`k8s.io/cri-api`, `runtime/v1`): the fields that are used here.

use std::collections::HashMap;

use prost::Message;

/// A request or an answer that says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Empty {}

/// A request that names a pod or a container, and an answer that does.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Name {
    /// The name.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `PodSandboxMetadata`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PodMetadata {
    /// The pod's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Another name that no other pod has.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// Kubernetes' namespace.
    #[prost(string, tag = "3")]
    pub namespace: String,
}

/// `DNSConfig`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Dns {
    /// Addresses.
    #[prost(string, repeated, tag = "1")]
    pub servers: Vec<String>,
}

/// `NamespaceOption`, of numbers of `NamespaceMode`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Namespaces {
    /// Of the network.
    #[prost(int32, tag = "1")]
    pub network: i32,
    /// Of processes.
    #[prost(int32, tag = "2")]
    pub pid: i32,
}

/// `SecurityProfile`; by itself the runtime's default.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Profile {}

/// `LinuxSandboxSecurityContext`
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PodSecurity {
    /// What is shared with whom.
    #[prost(message, optional, tag = "1")]
    pub namespaces: Option<Namespaces>,
    /// Seccomp's.
    #[prost(message, optional, tag = "9")]
    pub seccomp: Option<Profile>,
}

/// `LinuxPodSandboxConfig`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PodLinux {
    /// The cgroup in which those of the containers are.
    #[prost(string, tag = "1")]
    pub cgroup_parent: String,
    /// How the sandbox is confined.
    #[prost(message, optional, tag = "2")]
    pub security: Option<PodSecurity>,
}

/// `PodSandboxConfig`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PodConfig {
    /// Its names.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<PodMetadata>,
    /// A folder for the logs of its containers.
    #[prost(string, tag = "3")]
    pub logs: String,
    /// Whom it asks for addresses.
    #[prost(message, optional, tag = "4")]
    pub dns: Option<Dns>,
    /// All else.
    #[prost(message, optional, tag = "8")]
    pub linux: Option<PodLinux>,
}

/// `RunPodSandboxRequest`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RunPod {
    /// The pod.
    #[prost(message, optional, tag = "1")]
    pub config: Option<PodConfig>,
    /// The runtime's name in containerd's configuration.
    #[prost(string, tag = "2")]
    pub handler: String,
}

/// `ContainerMetadata`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Metadata {
    /// The container's name in its pod.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `LinuxContainerResources`
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Resources {
    /// In microseconds.
    #[prost(int64, tag = "1")]
    pub cpu_period: i64,
    /// In microseconds of each period.
    #[prost(int64, tag = "2")]
    pub cpu_quota: i64,
    /// In bytes.
    #[prost(int64, tag = "4")]
    pub memory: i64,
}

/// `LinuxContainerSecurityContext`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Security {
    /// What is shared with whom.
    #[prost(message, optional, tag = "3")]
    pub namespaces: Option<Namespaces>,
    /// Files that can't be seen.
    #[prost(string, repeated, tag = "13")]
    pub masked: Vec<String>,
    /// Files that can't be written.
    #[prost(string, repeated, tag = "14")]
    pub read_only: Vec<String>,
    /// Seccomp's.
    #[prost(message, optional, tag = "15")]
    pub seccomp: Option<Profile>,
}

/// `LinuxContainerConfig`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Linux {
    /// Its limits.
    #[prost(message, optional, tag = "1")]
    pub resources: Option<Resources>,
    /// How it is confined.
    #[prost(message, optional, tag = "2")]
    pub security: Option<Security>,
}

/// `ContainerConfig`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Config {
    /// Its names.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// The image's name, in a message of its own.
    #[prost(message, optional, tag = "2")]
    pub image: Option<Name>,
    /// The program and its arguments.
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    /// The log's name in the folder of the pod.
    #[prost(string, tag = "11")]
    pub log: String,
    /// All else.
    #[prost(message, optional, tag = "15")]
    pub linux: Option<Linux>,
}

/// `CreateContainerRequest`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Create {
    /// The pod.
    #[prost(string, tag = "1")]
    pub pod: String,
    /// The container.
    #[prost(message, optional, tag = "2")]
    pub config: Option<Config>,
    /// The pod's, once more.
    #[prost(message, optional, tag = "3")]
    pub pod_config: Option<PodConfig>,
}

/// `StopContainerRequest`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Stop {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Seconds that it has to end by itself.
    #[prost(int64, tag = "2")]
    pub timeout: i64,
}

/// `UpdateContainerResourcesRequest`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Update {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its limits from now on.
    #[prost(message, optional, tag = "2")]
    pub resources: Option<Resources>,
}

/// `ExecSyncRequest`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Exec {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The program and its arguments.
    #[prost(string, repeated, tag = "2")]
    pub command: Vec<String>,
    /// Seconds that it may take; 0 for all there are.
    #[prost(int64, tag = "3")]
    pub timeout: i64,
}

/// `ExecSyncResponse`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Executed {
    /// What it wrote.
    #[prost(bytes = "vec", tag = "1")]
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    #[prost(bytes = "vec", tag = "2")]
    pub stderr: Vec<u8>,
    /// Its exit status.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// `PodSandboxStatusRequest` and `ContainerStatusRequest`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StatusOf {
    /// The pod or the container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// With what containerd knows beside it.
    #[prost(bool, tag = "2")]
    pub verbose: bool,
}

/// `ContainerStatus`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Status {
    /// A number of `ContainerState`.
    #[prost(int32, tag = "3")]
    pub state: i32,
    /// The exit status of what has ended.
    #[prost(int32, tag = "7")]
    pub code: i32,
    /// Why it is in that state, in a word.
    #[prost(string, tag = "10")]
    pub reason: String,
}

/// `ContainerStatusResponse`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StatusAnswer {
    /// What Kubernetes knows of it.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// What containerd knows, as JSON at the key `info`.
    #[prost(map = "string, string", tag = "2")]
    pub info: HashMap<String, String>,
}

/// `PodSandboxStatusResponse`, of which the status is not looked at.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PodStatusAnswer {
    /// What containerd knows, as JSON at the key `info`.
    #[prost(map = "string, string", tag = "2")]
    pub info: HashMap<String, String>,
}

/// `UInt64Value`
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Number {
    /// The number.
    #[prost(uint64, tag = "1")]
    pub value: u64,
}

/// `CpuUsage` and `MemoryUsage`
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Usage {
    /// Nanoseconds of all processors, or bytes of the working set.
    #[prost(message, optional, tag = "2")]
    pub used: Option<Number>,
}

/// `ContainerStats`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Stats {
    /// Whose.
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<Name>,
    /// Of processors.
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<Usage>,
    /// Of memory.
    #[prost(message, optional, tag = "3")]
    pub memory: Option<Usage>,
}

/// `ContainerStatsResponse`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StatsAnswer {
    /// The figures.
    #[prost(message, optional, tag = "1")]
    pub stats: Option<Stats>,
}

/// `ListPodSandboxResponse` and `ListContainersResponse`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct List {
    /// All of them.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<Name>,
}

/// `ImageStatusRequest`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ImageStatus {
    /// The image's name, in a message of its own.
    #[prost(message, optional, tag = "1")]
    pub image: Option<Name>,
}

/// `ImageStatusResponse`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ImageAnswer {
    /// The image, if there is one.
    #[prost(message, optional, tag = "1")]
    pub image: Option<Name>,
}

/// `RuntimeHandlerFeatures`
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Features {
    /// Mounts can be read-only with all that is below them.
    #[prost(bool, tag = "1")]
    pub recursive_read_only: bool,
    /// Pods can have user namespaces.
    #[prost(bool, tag = "2")]
    pub user_namespaces: bool,
}

/// `RuntimeHandler`
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Handler {
    /// Its name in containerd's configuration.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What its runtime can do.
    #[prost(message, optional, tag = "2")]
    pub features: Option<Features>,
}

/// `StatusResponse`, of which the handlers are looked at.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EngineStatus {
    /// The runtimes; none before containerd 2.0.
    #[prost(message, repeated, tag = "3")]
    pub handlers: Vec<Handler>,
}
