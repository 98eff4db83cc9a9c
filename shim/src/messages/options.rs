//! How a runtime is configured: `containerd.runc.v1.Options`, and what runtimes of other
//! names are given; how a checkpoint is made.

use prost::Message;
use serde::{Deserialize, Serialize};

pub(crate) const RUNC: &str = "containerd.runc.v1.Options";
pub(crate) const CHECKPOINT: &str = "containerd.runc.v1.CheckpointOptions";
pub(crate) const GENERIC: &str = "runtimeoptions.v1.Options";

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    #[prost(bool, tag = "1")]
    #[serde(alias = "NoPivotRoot")]
    pub no_pivot_root: bool,
    #[prost(bool, tag = "2")]
    #[serde(alias = "NoNewKeyring")]
    pub no_new_keyring: bool,
    #[prost(string, tag = "3")]
    #[serde(alias = "ShimCgroup")]
    pub shim_cgroup: String,
    #[prost(uint32, tag = "4")]
    #[serde(alias = "IoUid")]
    pub io_uid: u32,
    #[prost(uint32, tag = "5")]
    #[serde(alias = "IoGid")]
    pub io_gid: u32,
    #[prost(string, tag = "6")]
    #[serde(alias = "BinaryName")]
    pub binary_name: String,
    #[prost(string, tag = "7")]
    #[serde(alias = "Root")]
    pub root: String,
    #[prost(bool, tag = "9")]
    #[serde(alias = "SystemdCgroup")]
    pub systemd_cgroup: bool,
    /// The daemon reads it: it comes as the checkpoint of a creation.
    #[prost(string, tag = "10")]
    #[serde(alias = "CriuImagePath")]
    pub criu_image_path: String,
    #[prost(string, tag = "11")]
    #[serde(alias = "CriuWorkPath")]
    pub criu_work_path: String,
}

/// `containerd.runc.v1.CheckpointOptions`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CheckpointOptions {
    #[prost(bool, tag = "1")]
    pub exit: bool,
    #[prost(bool, tag = "2")]
    pub open_tcp: bool,
    #[prost(bool, tag = "3")]
    pub external_unix_sockets: bool,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    #[prost(bool, tag = "5")]
    pub file_locks: bool,
    #[prost(string, repeated, tag = "6")]
    pub empty_namespaces: Vec<String>,
    #[prost(string, tag = "7")]
    pub cgroups_mode: String,
    #[prost(string, tag = "8")]
    pub image_path: String,
    #[prost(string, tag = "9")]
    pub work_path: String,
}

/// `runtimeoptions.v1.Options`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Generic {
    /// A file with TOML.
    #[prost(string, tag = "2")]
    pub config_path: String,
    /// The same itself.
    #[prost(bytes = "vec", tag = "3")]
    pub config_body: Vec<u8>,
}
