//! The names in linux.resources, in whichever case they are written.

use serde_json::{Map, Value};

/// The names in linux.resources (config-linux.md).
const NAMES: &[&str] = &[
    "access",
    "allow",
    "blockIO",
    "burst",
    "checkBeforeUpdate",
    "classID",
    "cpu",
    "cpus",
    "devices",
    "disableOOMKiller",
    "hcaHandles",
    "hcaObjects",
    "hugepageLimits",
    "idle",
    "kernel",
    "kernelTCP",
    "leafWeight",
    "limit",
    "major",
    "memory",
    "mems",
    "minor",
    "name",
    "network",
    "pageSize",
    "period",
    "pids",
    "priorities",
    "priority",
    "quota",
    "rate",
    "rdma",
    "realtimePeriod",
    "realtimeRuntime",
    "reservation",
    "shares",
    "swap",
    "swappiness",
    "throttleReadBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteBpsDevice",
    "throttleWriteIOPSDevice",
    "type",
    "unified",
    "useHierarchy",
    "weight",
    "weightDevice",
];

/// linux.resources with the specification's names, but for those that are a person's
/// own. Of a name that is there twice the one counts that needed no change.
///
/// COMPAT(runc): names are taken in any case, and people write `CPU` and `pagesize`.
#[must_use]
pub fn with_known_names(resources: Value) -> Value {
    match resources {
        Value::Array(list) => list.into_iter().map(with_known_names).collect(),
        Value::Object(object) => {
            let mut named = Map::new();
            for (name, value) in object {
                let known = NAMES.iter().find(|known| known.eq_ignore_ascii_case(&name));
                let known = known.copied().unwrap_or(&name);
                let own = matches!(known, "unified" | "rdma");
                let value = if own { value } else { with_known_names(value) };
                if known == name {
                    named.insert(name, value);
                } else {
                    named.entry(known).or_insert(value);
                }
            }
            Value::Object(named)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(given: &str, wanted: &str) {
        let value = with_known_names(serde_json::from_str(given).expect("JSON"));
        assert_eq!(value, serde_json::from_str::<Value>(wanted).expect("JSON"));
    }

    #[test]
    fn names_are_taken_in_any_case() {
        renamed(
            r#"{"CPU": {"Cpus": "0", "SHARES": 5}, "Unified": {"CPU.max": "1 2"}}"#,
            r#"{"cpu": {"cpus": "0", "shares": 5}, "unified": {"CPU.max": "1 2"}}"#,
        );
        renamed(
            r#"{"hugepageLimits": [{"PageSize": "2MB", "limit": 1, "mine": {"Own": 1}}]}"#,
            r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 1, "mine": {"Own": 1}}]}"#,
        );
    }

    #[test]
    fn the_right_name_counts() {
        renamed(r#"{"PIDS": 1, "pids": 2, "Pids": 3}"#, r#"{"pids": 2}"#);
    }
}
