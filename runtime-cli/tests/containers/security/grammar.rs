//! What is said in one language and read in another: where a value could end early, or a
//! length could wrap.

use serde_json::{Value, json};

use crate::harness::{Lab, Test, tests};

pub(crate) const TESTS: &[Test] =
    tests![a_value_is_one_value, no_length_wraps, annotations_that_weaken_are_listed];

// CRI-O's CVE-2022-0811: what stands behind a `+` in a parameter's value was a second
// parameter.
fn a_value_is_one_value(lab: &Lab) {
    const OTHER: [&str; 2] = ["/proc/sys/kernel/shmmax", "/proc/sys/kernel/msgmax"];
    let look = ["cat", "/proc/sys/kernel/domainname", OTHER[0], OTHER[1]];
    let plain = lab.run(&lab.bundle(&look), "a", &[]).ok();
    let (_, others) = plain.split_once('\n').unwrap();
    for between in ["+", " + ", ",", ";", "&", " ", "\n", "\n+", "\r", "\0", "\0+"] {
        let value = format!("one{between}kernel.shmmax=4242{between}kernel.msgmax=4242");
        let mut bundle = lab.bundle(&look);
        bundle.config["linux"]["sysctl"] = json!({"kernel.domainname": value});
        let output = lab.run(&bundle, "a", &[]);
        if output.code != 0 {
            let said = output.fails();
            assert!(said.contains("sysctl"), "{between:?}: {said}");
            continue;
        }
        // The kernel itself ends a name at its line's end.
        let name = value.split('\n').next().unwrap();
        assert_eq!(output.stdout, format!("{name}\n{others}"), "{between:?}");
    }
}

// CVE-2021-43784: a length had 16 bits, and what was behind its end was read as
// something else.
fn no_length_wraps(lab: &Lab) {
    for length in [(1 << 16) - 1, 1 << 16, (1 << 16) + 1, (1 << 16) + 9] {
        let text = "x".repeat(length);
        let mut bundle = lab.bundle(&["say", &text]);
        assert_eq!(lab.run(&bundle, "a", &[]).ok().trim_end().len(), length);
        bundle.args(&["env"]);
        bundle.config["process"]["env"] = json!([format!("A={text}"), "B=y"]);
        let printed = lab.run(&bundle, "a", &[]).ok();
        let lengths: Vec<_> = printed.lines().take(2).map(str::len).collect();
        assert_eq!(lengths, [2 + length, 3]);
    }
    // As many as the kernel takes (credentials(7)).
    let mut bundle = lab.bundle(&["cat", "/proc/self/status"]);
    let groups: Vec<u32> = (1..=1 << 16).collect();
    bundle.config["process"]["user"]["additionalGids"] = json!(groups);
    let status = lab.run(&bundle, "a", &[]).ok();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    let found: Vec<u32> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(found == groups, "{} groups", found.len());
    // A length that wraps would leave nothing of these, or their beginning.
    let long = |tail: &str| format!("{}{tail}", "/x".repeat(1 << 15));
    let refused = |pointer: &str, name: &str, value: Value, words: &str| {
        let mut bundle = lab.bundle(&["exit", "0"]);
        bundle.config.pointer_mut(pointer).unwrap()[name] = value;
        let said = lab.run(&bundle, "a", &[]).fails();
        assert!(said.contains(words), "{name}: {}", said.get(..300).unwrap_or(&said));
    };
    for kind in ["ipc", "network", "uts"] {
        let namespaces = lab.bundle(&["sleep"]).config["linux"]["namespaces"].clone();
        let list = namespaces.as_array().unwrap();
        let index = list.iter().position(|one| one["type"] == kind).unwrap();
        let path = long(&format!("/proc/self/ns/{}", &kind[..3]));
        refused(&format!("/linux/namespaces/{index}"), "path", json!(path), "name too long");
    }
    refused("/process", "cwd", json!(long("/")), "name too long");
    refused("", "hostname", json!(long("name")), "/hostname");
    // What netlink is told: its lengths do have 16 bits.
    for length in [16, (1 << 16) - 4, (1 << 16) - 2, 1 << 16, (1 << 16) + 3] {
        let name = "d".repeat(length);
        let words = "invalid network device name";
        refused("/linux", "netDevices", json!({ &name: {} }), words);
        refused("/linux", "netDevices", json!({ "lo": { "name": name } }), words);
    }
    // One line for each of the kernel's map, which it takes 340 of (user_namespaces(7)).
    let mut bundle = lab.bundle(&["exit", "0"]);
    bundle.namespace("user", None);
    let extent = |id: u32| json!({"containerID": id, "hostID": 100_000 + id, "size": 1});
    let map: Vec<_> = (0..5000).map(extent).collect();
    bundle.config["linux"]["uidMappings"] = json!(map);
    bundle.config["linux"]["gidMappings"] = json!(map);
    let said = lab.run(&bundle, "a", &[]).fails();
    assert!(said.contains("/linux/uidMappings"), "{said}");
}

// CRI-O's CVE-2024-3154: whoever wrote an annotation had its unit's properties. An
// engine takes from others what is in this list only.
fn annotations_that_weaken_are_listed(lab: &Lab) {
    let features: Value = serde_json::from_str(&lab.runtime(&["features"]).ok()).unwrap();
    let listed = features["potentiallyUnsafeConfigAnnotations"].as_array().unwrap();
    let listed: Vec<_> = listed.iter().map(|name| name.as_str().unwrap()).collect();
    let is_listed = |name: &str| {
        // SPEC: one that ends in a dot stands for all that begin so.
        listed.iter().any(|one| *one == name || one.ends_with('.') && name.starts_with(one))
    };
    for name in ["org.systemd.property.DevicePolicy", "org.criu.config"] {
        assert!(is_listed(name), "{name}: {listed:?}");
    }
}
