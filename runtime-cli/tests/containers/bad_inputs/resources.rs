//! Rows 30 to 33: what the cgroup is asked for.

use std::fs;

use serde_json::{Value, json};

use super::case::{Case, check};
use crate::harness::{Lab, Test, View, tests};

pub(crate) const TESTS: &[Test] = tests![
    row_30_device_rules,
    row_31_memory,
    row_32_numbers,
    row_33_files_and_paths,
    row_33_paths_of_the_file_system
];

fn resources(field: &str, value: Value) -> Value {
    let mut patch = json!({"linux": {"resources": {}}});
    patch["linux"]["resources"][field] = value;
    patch
}

fn row_30_device_rules(lab: &Lab) {
    let rule = |rule: Value| resources("devices", Value::Array(vec![rule]));
    check(
        lab,
        &[
            Case::patch("type", rule(json!({"allow": true, "type": "z", "access": "r"})))
                .fails("unknown variant `z`, expected one of * (config.json: /linux/resources/devices/0/type)"),
            Case::patch("a FIFO", rule(json!({"allow": true, "type": "p", "access": "r"})))
                .fails("invalid cgroup device type \"p\" (config.json: /linux/resources/devices/0/type)"),
            Case::patch("no access", rule(json!({"allow": true, "type": "c"})))
                .fails("device access at 0 field cannot be empty (config.json: /linux/resources/devices/0/access)"),
            Case::patch("empty access", rule(json!({"allow": true, "access": ""})))
                .fails("device access at 0 field cannot be empty (config.json: /linux/resources/devices/0/access)"),
            Case::patch("access", rule(json!({"allow": true, "access": "x"})))
                .fails("device access \"x\" has none of the letters r, w and m (config.json: /linux/resources/devices/0/access)"),
            Case::patch("a number", rule(json!({"allow": true, "type": "c", "major": -2, "access": "r"})))
                .fails("-2 is not a device number (config.json: /linux/resources/devices/0/major)"),
        ],
    );
}

/// What the kernel says of a value is written down for v1; where only v2 is there,
/// that the controller is not.
fn skip_with_v2(lab: &Lab, controller: &str) {
    let all = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if all.split_whitespace().any(|name| name == controller) {
        lab.skip(&format!("cgroup v2 has the {controller} controller here"));
    }
}

fn row_31_memory(lab: &Lab) {
    skip_with_v2(lab, "memory");
    let memory = |value| resources("memory", value);
    check(
        lab,
        &[
            Case::patch("negative", memory(json!({"limit": -2})))
                .fails_on("-2 bytes of memory: invalid argument (config.json: /linux/resources/memory/limit)", "-2 bytes of memory: invalid argument (config.json: /linux/resources/memory/limit); the cgroup controller \"memory\" is not available (config.json: /linux/resources/memory/limit)"),
            Case::patch("less than is in use", memory(json!({"limit": 1})))
                .fails_on("the init process died before it was ready: signal: killed (container init was OOM-killed (memory limit too low?))", "the cgroup controller \"memory\" is not available (config.json: /linux/resources/memory/limit)"),
            Case::patch("swap below it", memory(json!({"limit": 1 << 30, "swap": 1 << 20})))
                .fails_on("memory+swap limit should be >= memory limit (config.json: /linux/resources/memory/swap)", "memory+swap limit should be >= memory limit (config.json: /linux/resources/memory/swap); the cgroup controller \"memory\" is not available (config.json: /linux/resources/memory/swap)"),
            Case::patch("swappiness", memory(json!({"swappiness": 101})))
                .fails_on("invalid memory swappiness value: 101 (valid range is 0-100) (config.json: /linux/resources/memory/swappiness)", "cgroup v2 has no swappiness of a cgroup (config.json: /linux/resources/memory/swappiness)"),
        ],
    );
}

/// What is said where it is missing.
const PIDS: &str =
    "the cgroup controller \"pids\" is not available (config.json: /linux/resources/pids/limit)";

fn row_32_numbers(lab: &Lab) {
    skip_with_v2(lab, "cpu");
    let cpu = |value| resources("cpu", value);
    check(
        lab,
        &[
            Case::patch("pids -5", resources("pids", json!({"limit": -5}))).needs_v1(PIDS),
            Case::patch("pids 0", resources("pids", json!({"limit": 0}))).needs_v1(PIDS),
            Case::patch("shares 1", cpu(json!({"shares": 1})))
                .fails_on("the minimum allowed cpu-shares is 2 (config.json: /linux/resources/cpu/shares)", "the cgroup controller \"cpu\" is not available (config.json: /linux/resources/cpu/shares)"),
            Case::patch("huge shares", cpu(json!({"shares": 262_145})))
                .fails_on("the maximum allowed cpu-shares is 262144 (config.json: /linux/resources/cpu/shares)", "the cgroup controller \"cpu\" is not available (config.json: /linux/resources/cpu/shares)"),
            Case::patch("quota 1", cpu(json!({"quota": 1})))
                .fails_on("writing \"1\" to \"/sys/fs/cgroup/cpu/ID/cpu.cfs_quota_us\" (config.json: /linux/resources/cpu/quota): invalid argument", "the cgroup controller \"cpu\" is not available (config.json: /linux/resources/cpu/quota)"),
            Case::patch("cpus x", cpu(json!({"cpus": "x"})))
                .fails_on("writing \"x\" to \"/sys/fs/cgroup/cpuset/ID/cpuset.cpus\" (config.json: /linux/resources/cpu/cpus): invalid argument", "the cgroup controller \"cpuset\" is not available (config.json: /linux/resources/cpu/cpus)"),
            Case::patch("cpus 999", cpu(json!({"cpus": "999"})))
                .fails_on("writing \"999\" to \"/sys/fs/cgroup/cpuset/ID/cpuset.cpus\" (config.json: /linux/resources/cpu/cpus): numerical result out of range", "the cgroup controller \"cpuset\" is not available (config.json: /linux/resources/cpu/cpus)"),
        ],
    );
}

fn row_33_files_and_paths(lab: &Lab) {
    let unified = |key: &str| resources("unified", json!({key: "1"}));
    let path = |path: String| json!({"linux": {"cgroupsPath": path}});
    let pages = |size: &str| resources("hugepageLimits", json!([{"pageSize": size, "limit": 1}]));
    let slice = Case::patch(
        "a slice of systemd, which is not there",
        path(format!("system.slice:orlop:{}", lab.id("a"))),
    )
    .variable("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
    let unheard = "connecting to the system bus at \"unix:path=/nowhere/bus\": no such file or directory (is systemd running here, and its D-Bus?)";
    // With v1 a path is a path, unless systemd is asked for.
    let slice = match lab.view {
        View::Systemd => slice.fails(unheard),
        View::Host | View::V2 => slice.needs_v1(unheard),
    };
    check(
        lab,
        &[
            Case::patch("a slash", unified("../memory.max"))
                .fails_on("invalid configuration: cannot use unified on cgroup v1 (config.json: /linux/resources/unified)", "unified resource \"../memory.max\" must be a file name (no slashes) (config.json: /linux/resources/unified/..~1memory.max)"),
            Case::patch("a controller", unified("nope.max"))
                .fails_on("invalid configuration: cannot use unified on cgroup v1 (config.json: /linux/resources/unified)", "unified resource \"nope.max\" can't be set: controller \"nope\" not available (config.json: /linux/resources/unified/nope.max)"),
            Case::patch("no controller", unified("max"))
                .fails_on("invalid configuration: cannot use unified on cgroup v1 (config.json: /linux/resources/unified)", "unified resource \"max\" must be in the form CONTROLLER.PARAMETER (config.json: /linux/resources/unified/max)"),
            Case::patch("a move", unified("cgroup.procs"))
                .fails_on("invalid configuration: cannot use unified on cgroup v1 (config.json: /linux/resources/unified)", "unified resource \"cgroup.procs\" is no limit (config.json: /linux/resources/unified/cgroup.procs)"),
            Case::patch("a file", unified("cgroup.nope"))
                .fails_on("invalid configuration: cannot use unified on cgroup v1 (config.json: /linux/resources/unified)", "\"cgroup.nope\" does not exist in the cgroup \"/sys/fs/cgroup/*\": the kernel has no such file (config.json: /linux/resources/unified/cgroup.nope)"),
            Case::patch("a page size with a way out", pages("../../x"))
                .fails("the page size \"../../x\" is not a number with KB, MB or GB (config.json: /linux/resources/hugepageLimits/0/pageSize)"),
            Case::patch("a page size with a slash", pages("2MB/x"))
                .fails("the page size \"2MB/x\" is not a number with KB, MB or GB (config.json: /linux/resources/hugepageLimits/0/pageSize)"),
            Case::patch("NUL", path("a\0b".into()))
                .fails("a string contains a NUL byte (config.json: /linux/cgroupsPath)"),
            slice,
        ],
    );
}

fn row_33_paths_of_the_file_system(lab: &Lab) {
    if lab.view == View::Systemd {
        lab.skip("the path is one of the file system");
    }
    let path = |path: String| json!({"linux": {"cgroupsPath": path}});
    check(
        lab,
        &[
            Case::patch("dots", path(format!("../../../../{}", lab.id("a")))),
            Case::patch("nothing but dots", path("../..".into()))
                .fails("the cgroup path \"../..\" names a cgroup that is not the container's own (config.json: /linux/cgroupsPath)"),
            Case::patch("a new line", path(format!("{}\n", lab.id("a"))))
                .fails("the cgroup path \"ID\\n\" has a NUL or a newline in it (config.json: /linux/cgroupsPath)"),
        ],
    );
}
