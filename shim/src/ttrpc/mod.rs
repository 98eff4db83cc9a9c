//! ttrpc over a socket: frames, and who sends them. Unary calls only, which is all that a
//! task service has (containerd/ttrpc, `PROTOCOL.md`).

pub(crate) mod connection;
pub(crate) mod frame;

use prost::Message;

use crate::messages::ttrpc::{Response, Status};

/// Codes of gRPC (google.rpc.Code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Code {
    Ok = 0,
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    Unimplemented = 12,
    Internal = 13,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The answer to one call, framed.
pub(crate) fn answer(stream: u32, result: Result<Vec<u8>, Failure>) -> Vec<u8> {
    let response = match result {
        Ok(payload) => Response { status: None, payload },
        Err(Failure { code, message }) => {
            let status = Some(Status { code: code as i32, message });
            Response { status, payload: Vec::new() }
        }
    };
    frame::encode(stream, frame::RESPONSE, &response.encode_to_vec())
}
