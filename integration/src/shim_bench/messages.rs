//! What is said to a shim and what it says, as protobuf: of containerd's messages
//! (`api/`, 1.6 to 2.4) the fields that are used here.

use prost::Message;

/// ttrpc's `Request`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(string, tag = "2")]
    pub method: String,
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
}

/// ttrpc's `Response`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.protobuf.Empty`, and any answer that is not looked at.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Empty {}

/// `containerd.types.Mount`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Mount {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub source: String,
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// `containerd.runc.v1.Options`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Options {
    #[prost(string, tag = "7")]
    pub root: String,
}

/// Of Create.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Creation {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub bundle: String,
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    #[prost(string, tag = "6")]
    pub stdout: String,
    #[prost(string, tag = "7")]
    pub stderr: String,
    #[prost(message, optional, tag = "10")]
    pub options: Option<Any>,
}

/// Of all calls that name a process, or a container where `exec_id` is empty.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Process {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// Of Exec.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Exec {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(string, tag = "5")]
    pub stdout: String,
    #[prost(string, tag = "6")]
    pub stderr: String,
    #[prost(message, optional, tag = "7")]
    pub spec: Option<Any>,
}

/// Of Kill.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Kill {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(uint32, tag = "3")]
    pub signal: u32,
}

/// Wait's answer.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Waited {
    #[prost(uint32, tag = "1")]
    pub exit_status: u32,
}

/// Connect's answer.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Connected {
    #[prost(uint32, tag = "1")]
    pub shim_pid: u32,
}

/// Stats' answer.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Statistics {
    #[prost(message, optional, tag = "1")]
    pub stats: Option<Any>,
}

/// An event on its way to the daemon.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Forward {
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}

/// What an event travels in.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Envelope {
    #[prost(string, tag = "3")]
    pub topic: String,
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// `containerd.events.TaskExit`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Exit {
    #[prost(string, tag = "1")]
    pub container: String,
    /// The exec's, or once more the container's.
    #[prost(string, tag = "2")]
    pub id: String,
}
