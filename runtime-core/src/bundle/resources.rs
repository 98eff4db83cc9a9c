//! The names in linux.resources, in whatever case they are written.
//!
//! COMPAT(runc): it takes them in any case, and people write `CPU` and `pagesize`. Left
//! out as unknown, a limit would be none without a word.

use std::borrow::Cow;

use oci_spec::runtime::LinuxResources;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::shape::RESOURCES;
use super::{Document, parse, readable};
use crate::error::{Error, Result};

/// SPEC: all of them (config-linux.md).
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

/// Reads resources that are a document of their own.
///
/// # Errors
/// What is wrong with it first.
pub fn parse_resources(text: &str) -> Result<LinuxResources> {
    let document = Document { name: "the limits", shape: &RESOURCES };
    let text = readable(text.as_bytes(), document.name)?;
    let mut changed = false;
    let named = serde_json::from_str(text).map(|value| respelled(value, &mut changed));
    let named = named.ok().filter(|_| changed).map(|value| value.to_string());
    parse(named.as_deref().unwrap_or(text), &document).map(|parsed| parsed.value)
}

#[derive(Deserialize)]
struct Config<'a> {
    #[serde(borrow)]
    linux: Option<Linux<'a>>,
}

#[derive(Deserialize)]
struct Linux<'a> {
    #[serde(borrow)]
    resources: Option<&'a RawValue>,
}

/// The same config with the specification's names in its resources. All around them
/// stays as it is written, and in its line. A config that can't be read gets its error
/// elsewhere.
///
/// # Errors
/// Resources that can't be looked through, though whoever reads what is known may pass
/// over that: a limit beside it would be none without a word.
pub(super) fn with_names(config: &str) -> Result<Cow<'_, str>> {
    let found = serde_json::from_str::<Config>(config).ok().and_then(|config| config.linux);
    let Some(resources) = found.and_then(|linux| linux.resources).map(RawValue::get) else {
        return Ok(config.into());
    };
    let value: Value = serde_json::from_str(resources)
        .map_err(|error| Error::config("/linux/resources", error.to_string()))?;
    let mut changed = false;
    let value = respelled(value, &mut changed);
    if !changed {
        return Ok(config.into());
    }
    // It is a part of the config's own bytes.
    let start = resources.as_ptr() as usize - config.as_ptr() as usize;
    let (before, after) = (&config[..start], &config[start + resources.len()..]);
    let lines = "\n".repeat(resources.matches('\n').count());
    Ok([before, &value.to_string(), &lines, after].concat().into())
}

/// The same with the specification's names, but for those that are a person's own. What
/// is there in both ways becomes one; of two values the one with the specification's
/// name counts.
fn respelled(value: Value, changed: &mut bool) -> Value {
    match value {
        Value::Array(list) => list.into_iter().map(|value| respelled(value, changed)).collect(),
        Value::Object(object) => {
            let (mut same, mut others) = (Map::new(), Map::new());
            for (name, value) in object {
                let known = NAMES.iter().find(|known| known.eq_ignore_ascii_case(&name)).copied();
                let value = match (known, value) {
                    (Some("unified"), value) => value,
                    (Some("rdma"), Value::Object(devices)) => devices
                        .into_iter()
                        .map(|(device, limits)| (device, respelled(limits, changed)))
                        .collect(),
                    (_, value) => respelled(value, changed),
                };
                match known {
                    Some(known) if known != name => add(&mut others, known.to_owned(), value),
                    _ => add(&mut same, name, value),
                }
            }
            *changed |= !others.is_empty();
            for (name, value) in others {
                add(&mut same, name, value);
            }
            Value::Object(same)
        }
        other => other,
    }
}

/// Adds what is not there yet.
fn add(object: &mut Map<String, Value>, name: String, value: Value) {
    match (object.get_mut(&name), value) {
        (Some(Value::Object(there)), Value::Object(more)) => {
            for (name, value) in more {
                add(there, name, value);
            }
        }
        (Some(there), value) if there.is_null() => *there = value,
        (Some(_), _) => {}
        (None, value) => {
            object.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_in_any_case() {
        let given = r#"{"CPU": {"Cpus": "0", "SHARES": 5, "shares": 6},
                        "cpu": {"shares": 7, "Quota": 8},
                        "hugepageLimits": [{"pagesize": "2MB", "limit": 1}],
                        "pids": null, "PIDS": {"limit": 9},
                        "RDMA": {"Rate": {"HCAHandles": 3}},
                        "Unified": {"CPU.max": "1 2", "Limit": "3"}}"#;
        let wanted = r#"{"pids": {"limit": 9}, "rdma": {"Rate": {"hcaHandles": 3}},
                         "cpu": {"cpus": "0", "shares": 7, "quota": 8},
                         "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                         "unified": {"CPU.max": "1 2", "Limit": "3"}}"#;
        let wanted: LinuxResources = serde_json::from_str(wanted).unwrap();
        assert_eq!(parse_resources(given).unwrap(), wanted);
        let config = |resources: &str| {
            format!(r#"{{"a": 1, "a": 2, "linux": {{"resources":{resources}, "Devices": []}}}}"#)
        };
        let config = config(given);
        let found: Value = serde_json::from_str(&with_names(&config).unwrap()).unwrap();
        let resources = found["linux"]["resources"].clone();
        assert_eq!(serde_json::from_value::<LinuxResources>(resources).unwrap(), wanted);
    }

    #[test]
    fn a_document_of_its_own_is_read_like_a_config() {
        for none in ["{}", r#"{"pids": {}}"#, r#"{"PIDS": {"Limit": null}}"#, r#"{"cpu": null}"#] {
            assert_eq!(parse_resources(none).unwrap(), LinuxResources::default(), "{none}");
        }
        for (text, wanted) in [
            ("[null, {}]", "the limits must be a JSON object"),
            (r#"{"memory": [1, 2]}"#, "must be a JSON object, not an array (config.json: /memory)"),
            (r#"{"CPU": {"quota": "x"}}"#, "(config.json: /cpu/quota)"),
            (
                r#"{"blockIO": {"weightDevice": [{"major": -1.5}]}}"#,
                "/blockIO/weightDevice/0/major)",
            ),
        ] {
            let error = parse_resources(text).unwrap_err().to_string();
            assert!(error.ends_with(wanted), "{error}");
        }
    }

    #[test]
    fn the_rest_stays_as_it_is_written() {
        let config = r#"{"A": 1, "A": 1.50, "linux": {"resources": {"PIDS": null} , "B":2}}"#;
        let wanted = r#"{"A": 1, "A": 1.50, "linux": {"resources": {"pids":null} , "B":2}}"#;
        assert_eq!(&*with_names(config).unwrap(), wanted);
        let config = "{\"linux\": {\"resources\": {\n\"PIDS\":\nnull}},\n\"a\": 1}";
        let lines = "{\"linux\": {\"resources\": {\"pids\":null}\n\n},\n\"a\": 1}";
        assert_eq!(&*with_names(config).unwrap(), lines);
        let deep = "[".repeat(200) + &"]".repeat(200);
        let config = format!("{{\"linux\": {{\"resources\": {{\"a\": {deep}}}}}}}");
        assert!(with_names(&config).is_err());
        for same in [wanted, "{", "{\"linux\": {\"Resources\": {\"CPU\": {}}}}", "{}"] {
            assert!(matches!(with_names(same), Ok(Cow::Borrowed(found)) if found == same));
        }
    }
}
