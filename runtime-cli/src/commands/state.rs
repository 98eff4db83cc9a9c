//! `state`: a container as JSON, and the shape that `list` shares with it.

use std::collections::BTreeMap;
use std::path::Path;

use orlop::container::Status;
use serde::Serialize;

use super::{Call, Id, print};

/// COMPAT(runc): the fields and their order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: String,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "no_annotations")]
    annotations: &'a BTreeMap<String, String>,
    owner: &'a str,
}

impl<'a> Shown<'a> {
    pub(super) fn new(status: &'a Status, owner: &'a str) -> Self {
        Self {
            oci_version: &status.oci_version,
            id: &status.id,
            pid: status.pid,
            status: status.status.to_string(),
            bundle: &status.bundle,
            rootfs: &status.rootfs,
            created: &status.created,
            annotations: &status.annotations,
            owner,
        }
    }
}

fn no_annotations(annotations: &&BTreeMap<String, String>) -> bool {
    annotations.is_empty()
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Id { id } = call.parse()?;
    let status = call.open(&id)?.status()?;
    // COMPAT(runc): an owner is for `list` only, and no line end.
    print(&serde_json::to_string_pretty(&Shown::new(&status, ""))?)?;
    Ok(0)
}

#[cfg(test)]
pub(super) mod tests {
    use orlop::container::State;

    use super::*;

    pub(crate) fn status(id: &str, pid: i32) -> Status {
        Status {
            oci_version: "1.3.0".into(),
            id: id.into(),
            pid,
            status: State::Running,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-01-02T03:04:05.678901234Z".into(),
            annotations: BTreeMap::new(),
            owner: 0,
        }
    }

    // runc list.go (containerState); podman and buildkit read pid, status, bundle and
    // rootfs from it.
    #[test]
    fn the_state_has_runcs_fields_in_its_order() {
        let mut status = status("x", 7);
        let bare = serde_json::to_string(&Shown::new(&status, "root")).unwrap();
        assert_eq!(
            bare,
            "{\"ociVersion\":\"1.3.0\",\"id\":\"x\",\"pid\":7,\"status\":\"running\",\
             \"bundle\":\"/b\",\"rootfs\":\"/b/rootfs\",\
             \"created\":\"2026-01-02T03:04:05.678901234Z\",\"owner\":\"root\"}"
        );
        status.annotations.insert("b".into(), "2".into());
        status.annotations.insert("a".into(), "1".into());
        let full = serde_json::to_string(&Shown::new(&status, "root")).unwrap();
        assert!(full.contains("\"annotations\":{\"a\":\"1\",\"b\":\"2\"},\"owner\""));
    }
}
