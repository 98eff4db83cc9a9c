//! What is published: `containerd.events`, and the envelope it travels in.

use prost::Message;

use super::{Any, Mount, Timestamp};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ForwardRequest {
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Envelope {
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(string, tag = "3")]
    pub topic: String,
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// One that has a topic.
pub(crate) trait Event: Message {
    const TOPIC: &'static str;
    const NAME: &'static str;
}

macro_rules! event {
    ($name:ident, $topic:literal, { $($fields:tt)* }) => {
        #[derive(Clone, PartialEq, Message)]
        pub(crate) struct $name { $($fields)* }

        impl Event for $name {
            const TOPIC: &'static str = $topic;
            const NAME: &'static str = concat!("containerd.events.", stringify!($name));
        }
    };
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskIo {
    #[prost(string, tag = "1")]
    pub stdin: String,
    #[prost(string, tag = "2")]
    pub stdout: String,
    #[prost(string, tag = "3")]
    pub stderr: String,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
}

event!(TaskCreate, "/tasks/create", {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub bundle: String,
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    #[prost(message, optional, tag = "4")]
    pub io: Option<TaskIo>,
    #[prost(string, tag = "5")]
    pub checkpoint: String,
    #[prost(uint32, tag = "6")]
    pub pid: u32,
});
event!(TaskStart, "/tasks/start", {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
});
event!(TaskDelete, "/tasks/delete", {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    #[prost(uint32, tag = "3")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "4")]
    pub exited_at: Option<Timestamp>,
    #[prost(string, tag = "5")]
    pub id: String,
});
event!(TaskExit, "/tasks/exit", {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    #[prost(uint32, tag = "4")]
    pub exit_status: u32,
    #[prost(message, optional, tag = "5")]
    pub exited_at: Option<Timestamp>,
});
event!(TaskExecAdded, "/tasks/exec-added", {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
});
event!(TaskExecStarted, "/tasks/exec-started", {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub exec_id: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
});
event!(TaskOOM, "/tasks/oom", {
    #[prost(string, tag = "1")]
    pub container_id: String,
});
event!(TaskPaused, "/tasks/paused", {
    #[prost(string, tag = "1")]
    pub container_id: String,
});
event!(TaskResumed, "/tasks/resumed", {
    #[prost(string, tag = "1")]
    pub container_id: String,
});
event!(TaskCheckpointed, "/tasks/checkpointed", {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub checkpoint: String,
});
