//! The door for mounts: lines of text become the type, source, destination and
//! options of one mount in an otherwise plain config.

use orlop::bundle::Bundle;
use orlop::compile::{self, Options};
use orlop::host::{Cgroups, HostFacts, IdMappers};
use orlop::{Kind, plan};
use serde_json::{Map, Value, json};

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut mount = Map::new();
    for field in ["type", "source", "destination"] {
        // An empty line leaves the field out.
        if let Some(line) = lines.next().filter(|line| !line.is_empty()) {
            mount.insert(field.into(), line.into());
        }
    }
    mount.insert("options".into(), lines.collect::<Vec<_>>().into());
    let config = config(&Value::Object(mount));
    let parsed = match Bundle::parse(config.to_string().as_bytes()) {
        Ok(parsed) => parsed,
        // A mount without a destination, or a NUL.
        Err(error) => return assert_eq!(error.kind(), Kind::InvalidConfig),
    };
    let options = Options { id: "c1".into(), bundle: "/bundle".into(), ..Options::default() };
    match compile::create(&parsed.value, &host(), &options) {
        Ok(compiled) => assert_eq!(plan::check(&compiled), Ok(()), "{}", plan::text(&compiled)),
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            for error in errors {
                let text = error.to_string();
                assert!(text.contains("config.json: /mounts/0"), "no place: {text}");
                assert_eq!(text.lines().count(), 1, "not one line: {text:?}");
            }
        }
    }
}

fn config(mount: &Value) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh"]},
        "mounts": [mount],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "user"}],
            "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65_536}],
            "gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65_536}],
        },
    })
}

/// A host that refuses nothing by itself.
pub(crate) fn host() -> HostFacts {
    HostFacts {
        kernel: (6, 1),
        euid: 0,
        egid: 0,
        capabilities: u64::MAX,
        bounding: u64::MAX,
        last_capability: 40,
        in_user_namespace: false,
        owns_mounts: true,
        id_mappers: IdMappers::default(),
        setgroups: true,
        cgroups: Cgroups::None,
        apparmor: false,
        selinux: false,
        resctrl: None,
        revealing: Vec::new(),
    }
}
