//! What containerd says and hears, as protobuf: the parts of its protocol files (of
//! containerd 2.2, `api/`) that a shim is concerned with. Numbers and types are theirs;
//! a field that stands here is used.

pub(crate) mod bootstrap;
pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod metrics_v1;
pub(crate) mod metrics_v2;
pub(crate) mod options;
pub(crate) mod task;
pub(crate) mod ttrpc;

use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Any {
    /// The message's name, without what may stand before it.
    pub(crate) fn name(&self) -> &str {
        self.type_url.rsplit('/').next().unwrap_or_default()
    }
}

/// `google.protobuf.Timestamp`
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = i32::try_from(since.subsec_nanos()).unwrap_or_default();
        Self { seconds: since.as_secs().cast_signed(), nanos }
    }
}

/// `google.protobuf.Empty`
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Empty {}

/// `containerd.types.Mount`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Mount {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub source: String,
    #[prost(string, tag = "3")]
    pub target: String,
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}
