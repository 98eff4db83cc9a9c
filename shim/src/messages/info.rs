//! What is known of a runtime before there is any task.

use prost::Message;

use super::Any;

/// The name of the specification's features, as JSON.
pub(crate) const FEATURES: &str =
    "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// `containerd.types.RuntimeInfo`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RuntimeInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub version: Option<RuntimeVersion>,
    /// Those that were given.
    #[prost(message, optional, tag = "3")]
    pub options: Option<Any>,
    #[prost(message, optional, tag = "4")]
    pub features: Option<Any>,
}

/// `containerd.types.RuntimeVersion`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RuntimeVersion {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(string, tag = "2")]
    pub revision: String,
}
