//! Whether what a runtime says of itself is true: one container that uses all
//! the names of a list.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Story;
use crate::step::End;

impl Story<'_> {
    /// Makes a container that uses every name in a list of the features
    /// structure.
    pub(super) fn recognises(&mut self, list: &str) -> Result<()> {
        let features = self.runtime.features(self.places.folder())?;
        let found = crate::template::find(&features, list);
        let Some(Value::Array(names)) = found else { return Ok(()) };
        let names: Vec<String> =
            names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        let mut config = self.config()?;
        self.use_all(list, &names, &mut config)
            .with_context(|| format!("using all of {list}: {names:?}"))?;
        self.put_config(&config)?;
        self.create(End::Works).with_context(|| format!("using all of {list}: {names:?}"))?;
        self.clear()
    }

    fn use_all(&self, list: &str, names: &[String], config: &mut Value) -> Result<()> {
        let rule = |action: &str, arguments: Value| json!({ "names": ["getcwd"], "action": action, "args": arguments });
        let filter =
            |rules: Vec<Value>| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
        match list {
            "hooks" => {
                for name in names {
                    let inside = name == "startContainer";
                    let path = if inside {
                        "/bin/probe".into()
                    } else {
                        json!(self.rootfs().join("bin/probe"))
                    };
                    config["hooks"][name] = json!([{ "path": path, "args": ["probe"] }]);
                }
            }
            "mountOptions" => {
                config["mounts"] = self.mounts_with(names, &config["mounts"]);
            }
            "linux.namespaces" => {
                let kinds: Vec<Value> = names.iter().map(|name| json!({ "type": name })).collect();
                config["linux"]["namespaces"] = json!(kinds);
                let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
                config["linux"]["uidMappings"] = map.clone();
                config["linux"]["gidMappings"] = map;
            }
            "linux.capabilities" => config["process"]["capabilities"]["bounding"] = json!(names),
            "linux.seccomp.actions" => {
                let others = names.iter().filter(|name| *name != "SCMP_ACT_NOTIFY");
                config["linux"]["seccomp"] = filter(others.map(|name| rule_of(name)).collect());
            }
            "linux.seccomp.operators" => {
                let rules = names.iter().enumerate().map(|(index, op)| {
                    let index = index % 6;
                    rule(
                        "SCMP_ACT_ERRNO",
                        json!([{ "index": index, "value": 7, "valueTwo": 7, "op": op }]),
                    )
                });
                config["linux"]["seccomp"] = filter(rules.collect());
            }
            "linux.seccomp.archs" => {
                config["linux"]["seccomp"] = filter(vec![rule("SCMP_ACT_ERRNO", json!([]))]);
                config["linux"]["seccomp"]["architectures"] = json!(names);
            }
            "linux.seccomp.supportedFlags" => {
                config["linux"]["seccomp"] = filter(vec![rule("SCMP_ACT_ERRNO", json!([]))]);
                config["linux"]["seccomp"]["flags"] = json!(names);
            }
            _ => bail!("nobody knows how to use all of \"{list}\""),
        }
        Ok(())
    }

    /// A mount for each option, with what it needs to make sense.
    fn mounts_with(&self, options: &[String], before: &Value) -> Value {
        let mut mounts = before.as_array().cloned().unwrap_or_default();
        let source = self.rootfs().join("work");
        for (number, option) in options.iter().enumerate() {
            let at = format!("/tmp/{number}");
            let tmpfs = json!({ "destination": at, "type": "tmpfs", "source": "tmpfs" });
            let recursive = option.starts_with('r')
                && !matches!(option.as_str(), "ro" | "rw" | "remount" | "relatime");
            let mut mount = tmpfs.clone();
            mount["options"] = json!([option]);
            if recursive || matches!(option.as_str(), "bind" | "idmap") {
                mount["type"] = json!("none");
                mount["source"] = json!(source);
                mount["options"] = json!(["rbind", option]);
            }
            if option.ends_with("idmap") {
                let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
                mount["uidMappings"] = map.clone();
                mount["gidMappings"] = map;
            }
            if option == "remount" {
                mounts.push(tmpfs);
            }
            mounts.push(mount);
        }
        mounts.into()
    }
}

/// A rule of an action, on a system call of its own.
fn rule_of(action: &str) -> Value {
    let call = match action {
        "SCMP_ACT_ALLOW" => "read",
        "SCMP_ACT_ERRNO" => "getcwd",
        "SCMP_ACT_KILL" => "acct",
        "SCMP_ACT_KILL_PROCESS" => "swapon",
        "SCMP_ACT_KILL_THREAD" => "swapoff",
        "SCMP_ACT_LOG" => "write",
        "SCMP_ACT_TRACE" => "reboot",
        "SCMP_ACT_TRAP" => "quotactl",
        _ => "vhangup",
    };
    json!({ "names": [call], "action": action })
}
