//! Tables: limits and the properties that they become.

use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::*;
use crate::cgroup::settings::tests::{v1, v2};
use crate::cgroup::settings::{Bandwidth, Missing};
use crate::host::HostFacts;

/// The properties of these resources, as `busctl` would write them.
fn told(resources: Value) -> Vec<String> {
    told_from(None, resources)
}

/// The same where the file of the CPU limit says something.
fn told_from(quota: Option<&str>, resources: Value) -> Vec<String> {
    let resources: LinuxResources = serde_json::from_value(resources).unwrap();
    let mut settings = Settings::for_update(&resources, &v2(), quota, None).unwrap();
    Properties::for_update(&mut settings).unwrap().0.iter().map(shown).collect()
}

/// The same on v1, with what is then written of the limit of CPU time.
fn told_v1(before: Bandwidth, resources: Value) -> (Vec<String>, Vec<String>) {
    let resources: LinuxResources = serde_json::from_value(resources).unwrap();
    let mut settings = Settings::for_update(&resources, &v1(), None, None).unwrap();
    settings.bandwidth = Some(before);
    let told = Properties::for_update(&mut settings).unwrap().0.iter().map(shown).collect();
    let of_time = settings.writes().iter().filter(|write| write.file.starts_with("cpu.cfs_"));
    (told, of_time.map(|write| write.value.clone()).collect())
}

fn shown(property: &Property) -> String {
    let Property { name, value, since } = property;
    let since = if *since == 0 { String::new() } else { format!(" (since {since})") };
    format!("{name}={}{since}", value_of(value))
}

fn value_of(value: &Variant<'_>) -> String {
    match value {
        Variant::U64(u64::MAX) => "infinity".to_owned(),
        Variant::U64(number) => number.to_string(),
        Variant::Bool(value) => value.to_string(),
        Variant::U8(byte) => format!("{byte:08b}"),
        Variant::Str(text) => text.to_string(),
        Variant::Array(list) => list.iter().map(value_of).collect::<Vec<_>>().join(" "),
        Variant::Structure(pair) => {
            pair.fields().iter().map(value_of).collect::<Vec<_>>().join(" ")
        }
        other => format!("{other:?}"),
    }
}

fn resources() -> Vec<(Value, Vec<&'static str>)> {
    vec![
        (json!({}), vec![]),
        (
            json!({"memory": {"limit": 1000, "reservation": 500, "swap": 3000}}),
            vec!["MemorySwapMax=2000", "MemoryMax=1000", "MemoryLow=500"],
        ),
        (json!({"memory": {"limit": -1}}), vec!["MemorySwapMax=infinity", "MemoryMax=infinity"]),
        (json!({"memory": {"limit": 0}}), vec![]),
        (json!({"pids": {"limit": 7}}), vec!["TasksMax=7"]),
        (json!({"pids": {"limit": -1}}), vec!["TasksMax=infinity"]),
        (json!({"pids": {"limit": 0}}), vec!["TasksMax=1"]),
        (json!({"cpu": {"shares": 1024}}), vec!["CPUWeight=100"]),
        (json!({"cpu": {"idle": 1}}), vec!["CPUWeight=0 (since 252)"]),
        (json!({"cpu": {"idle": 0}}), vec![]),
        (
            json!({"cpu": {"quota": 50_000, "period": 100_000}}),
            vec!["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=500000"],
        ),
        // A percent is the least that systemd keeps.
        (
            json!({"cpu": {"quota": 1234, "period": 100_000}}),
            vec!["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=20000"],
        ),
        (
            json!({"cpu": {"quota": -1}}),
            vec!["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=infinity"],
        ),
        (
            json!({"cpu": {"period": 50_000}}),
            vec!["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=infinity"],
        ),
        (
            json!({"cpu": {"cpus": "0-2,9", "mems": "0"}}),
            vec!["AllowedCPUs=00000111 00000010", "AllowedMemoryNodes=00000001"],
        ),
        (json!({"cpu": {"cpus": "1-9:2/4,12"}}), vec!["AllowedCPUs=01100110 00010010"]),
        (json!({"cpu": {"cpus": "0-3:2/0"}}), vec![]),
        // systemd makes 500 of 4500 for bfq: 100 + (4500 - 100) * 900 / 9900.
        (json!({"blockIO": {"weight": 500}}), vec!["IOWeight=4500"]),
        (json!({"blockIO": {"weight": 10}}), vec!["IOWeight=10"]),
        (
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 16, "weight": 100}]}}),
            vec!["IODeviceWeight=/dev/block/8:16 100"],
        ),
        (
            json!({"blockIO": {
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000},
                                          {"major": 8, "minor": 16, "rate": 0}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 5}],
            }}),
            vec![
                "IOReadBandwidthMax=/dev/block/8:0 1000",
                "IOReadBandwidthMax=/dev/block/8:16 infinity",
                "IOWriteIOPSMax=/dev/block/8:0 5",
            ],
        ),
        // What systemd has no property for is in the files alone.
        (json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}), vec![]),
    ]
}

#[test]
fn resources_become_properties() {
    for (resources, wanted) in resources() {
        assert_eq!(told(resources.clone()), wanted, "{resources}");
    }
}

#[test]
fn keys_of_the_unified_hierarchy_become_properties() {
    for (key, value, wanted) in [
        ("memory.high", "1G", "MemoryHigh=1073741824"),
        ("memory.min", "4k", "MemoryMin=4096"),
        ("memory.max", "max", "MemoryMax=infinity"),
        ("memory.low", " 5\n", "MemoryLow=5"),
        ("memory.swap.max", "0", "MemorySwapMax=0"),
        ("memory.zswap.max", "9", "MemoryZSwapMax=9 (since 253)"),
        ("pids.max", "max", "TasksMax=infinity"),
        ("cpu.weight", "7", "CPUWeight=7"),
        ("cpu.idle", "1", "CPUWeight=0 (since 252)"),
        ("cpu.max", "max", "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=infinity"),
        ("cpu.max", "10000 50000", "CPUQuotaPeriodUSec=50000 CPUQuotaPerSecUSec=200000"),
        ("cpuset.cpus", "1", "AllowedCPUs=00000010"),
        ("io.weight", "default 300", "IOWeight=300"),
        ("io.weight", "8:0 5", "IODeviceWeight=/dev/block/8:0 5"),
        ("io.bfq.weight", "1000", "IOWeight=10000"),
        (
            "io.max",
            "8:0 rbps=1 wbps=2\n",
            "IOReadBandwidthMax=/dev/block/8:0 1 IOWriteBandwidthMax=/dev/block/8:0 2",
        ),
        // Nothing that we could say better than the kernel.
        ("memory.high", "-5", ""),
        ("memory.high", "5X", ""),
        ("cpu.max", "1 2", "CPUQuotaPeriodUSec=2 CPUQuotaPerSecUSec=500000"),
        ("cpu.max", "5 0", ""),
        ("cpuset.cpus", "3-1", ""),
        ("cpuset.cpus", "99999999", ""),
        ("memory.oom.group", "1", ""),
        ("hugetlb.2MB.max", "0", ""),
    ] {
        let told = told(json!({"unified": {key: value}})).join(" ");
        assert_eq!(told, wanted, "{key}: {value:?}");
    }
}

#[test]
fn both_halves_of_a_cpu_limit_are_told() {
    for (resources, wanted) in [
        (json!({"cpu": {"period": 50_000}}), ["50000", "400000"]),
        (json!({"cpu": {"quota": 40_000}}), ["200000", "200000"]),
        (json!({"cpu": {"quota": -1}}), ["200000", "infinity"]),
        (json!({"unified": {"cpu.max": "10000"}}), ["200000", "50000"]),
    ] {
        let told = told_from(Some("20000 200000\n"), resources.clone());
        let [period, quota] = wanted;
        let wanted =
            [format!("CPUQuotaPeriodUSec={period}"), format!("CPUQuotaPerSecUSec={quota}")];
        assert_eq!(told, wanted, "{resources}");
    }
}

#[test]
fn a_key_holds_against_a_limit_that_it_repeats() {
    let told = told(json!({"pids": {"limit": 5}, "unified": {"pids.max": "9"}}));
    assert_eq!(told, ["TasksMax=9"]);
}

/// systemd and we write the same weight for bfq; for the other scheduler its own is
/// near.
#[test]
fn weights_of_both_schedulers_agree() {
    // systemd, src/shared/cgroup-setup.h, BFQ_WEIGHT().
    let bfq = |weight: u64| match weight {
        ..=100 => 100 - (100 - weight) * 99 / 99,
        _ => 100 + (weight - 100) * 900 / 9900,
    };
    for weight in 1..=1000 {
        assert_eq!(bfq(of_bfq(weight)), weight);
    }
    let settings = converted(json!({"blockIO": {"weight": 750}}));
    let instead = Missing::Instead { file: "io.weight", value: "7475".to_owned() };
    assert_eq!(settings.writes()[0].missing, instead);
}

/// What is left to write when systemd has been told.
fn converted(resources: Value) -> Settings {
    let resources: LinuxResources = serde_json::from_value(resources).unwrap();
    let mut settings = Settings::for_update(&resources, &v2(), None, None).unwrap();
    let _ = Properties::for_update(&mut settings);
    settings
}

#[test]
fn a_quota_is_written_in_whole_percents_unless_it_is_the_files() {
    for (resources, wanted) in [
        (json!({"cpu": {"quota": 500_000, "period": 900_000}}), "504000 900000"),
        (json!({"cpu": {"quota": 500_000, "period": 1_000_000}}), "500000 1000000"),
        (json!({"cpu": {"quota": 1, "period": 100_000}}), "1000 100000"),
        (json!({"cpu": {"quota": -1, "period": 7000}}), "max 7000"),
        (json!({"unified": {"cpu.max": "500000 900000"}}), "500000 900000"),
    ] {
        assert_eq!(converted(resources.clone()).writes()[0].value, wanted, "{resources}");
    }
}

#[test]
fn a_weight_beside_idleness_is_ignored() {
    for (resources, property, files) in [
        (json!({"cpu": {"shares": 200, "idle": 1}}), "CPUWeight=0 (since 252)", &["cpu.idle"][..]),
        (
            json!({"unified": {"cpu.idle": "1", "cpu.weight": "8"}}),
            "CPUWeight=0 (since 252)",
            &["cpu.idle"],
        ),
        (json!({"cpu": {"shares": 1024, "idle": 0}}), "CPUWeight=100", &["cpu.idle", "cpu.weight"]),
    ] {
        assert_eq!(told(resources.clone()), [property], "{resources}");
        let settings = converted(resources.clone());
        let found: Vec<_> = settings.writes().iter().map(|write| &*write.file).collect();
        assert_eq!(found, files, "{resources}");
        assert_eq!(settings.notes().is_empty(), files.len() > 1, "{resources}");
    }
}

fn created(resources: &Value, annotations: &[(&str, &str)]) -> Result<Vec<String>, Vec<Error>> {
    created_on(&v2(), resources, annotations)
}

fn created_on(
    host: &HostFacts,
    resources: &Value,
    annotations: &[(&str, &str)],
) -> Result<Vec<String>, Vec<Error>> {
    let linux = serde_json::from_value(json!({"resources": resources})).unwrap();
    let mut settings = Settings::for_create(Some(&linux), host, false)?;
    let annotations = annotations.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    let properties = Properties::for_create(&mut settings, Some(&annotations.collect()), "c1")?;
    Ok(properties.0.iter().map(shown).collect())
}

#[test]
fn a_new_scope_is_told_what_every_container_has() {
    let usual = [
        "Description=orlop container c1",
        "DefaultDependencies=false",
        "Delegate=true",
        "CPUAccounting=true",
        "MemoryAccounting=true",
        "IOAccounting=true",
        "TasksAccounting=true",
        "CollectMode=inactive-or-failed",
    ];
    assert_eq!(created(&json!({}), &[]).unwrap(), usual);
    let found = created(&json!({"unified": {"memory.oom.group": "1"}}), &[]).unwrap();
    assert_eq!(found[7..], ["OOMPolicy=kill (since 253)", "CollectMode=inactive-or-failed"]);
}

#[test]
fn annotations_hold_against_what_every_container_has() {
    let found = created(
        &json!({}),
        &[
            ("org.systemd.property.CollectMode", "'inactive'"),
            ("org.systemd.property.TasksMax", "uint64 9"),
            ("org.systemd.property.TimeoutStopSec", "3"),
            ("other", "x"),
        ],
    );
    let found = found.unwrap();
    assert_eq!(found[7..], ["CollectMode=inactive", "TasksMax=9", "TimeoutStopUSec=3000000"]);
    let errors = created(&json!({}), &[("org.systemd.property.Foo", "x")]).unwrap_err();
    assert!(errors[0].to_string().contains("/annotations/org.systemd.property.Foo"));
}

#[test]
fn a_scope_that_is_to_fail_stays_when_it_has() {
    let wish = ("org.systemd.property.RuntimeMaxSec", "2");
    let found = created(&json!({}), &[wish]).unwrap();
    assert_eq!(found[7..], ["RuntimeMaxUSec=2000000"]);
    let goes = ("org.systemd.property.CollectMode", "'inactive-or-failed'");
    let mut found = created(&json!({}), &[wish, goes]).unwrap().split_off(7);
    found.sort();
    assert_eq!(found, ["CollectMode=inactive-or-failed", "RuntimeMaxUSec=2000000"]);
}

/// The last assignment is the one that holds in systemd, but of a list each does.
#[test]
fn no_annotation_holds_against_a_limit() {
    let found = created(
        &json!({
            "pids": {"limit": 5},
            "blockIO": {"throttleReadBpsDevice": [
                {"major": 8, "minor": 0, "rate": 1000},
                {"major": 8, "minor": 16, "rate": 2000},
            ]},
            "unified": {"memory.oom.group": "1"},
        }),
        &[
            ("org.systemd.property.IOReadBandwidthMax", "[('/dev/sda', uint64 9)]"),
            ("org.systemd.property.MemoryMax", "uint64 9"),
            ("org.systemd.property.OOMPolicy", "'stop'"),
            ("org.systemd.property.TasksMax", "uint64 9"),
            ("org.systemd.property.TasksMaxScale", "uint32 9"),
        ],
    );
    let mut found = found.unwrap().split_off(7);
    assert_eq!(found.pop().unwrap(), "CollectMode=inactive-or-failed");
    found[..2].sort();
    assert_eq!(found[0], "MemoryMax=9");
    assert!(found[1].starts_with("TasksMaxScale="), "{}", found[1]);
    found[2..].sort();
    let limits = [
        "IOReadBandwidthMax=/dev/block/8:0 1000",
        "IOReadBandwidthMax=/dev/block/8:16 2000",
        "OOMPolicy=kill (since 253)",
        "TasksMax=5",
    ];
    assert_eq!(found[2..], limits);
}

#[test]
fn resources_of_v1_become_properties() {
    for (resources, wanted) in [
        (json!({"memory": {"limit": 1000, "reservation": 500, "swap": 3000}}), "MemoryLimit=1000"),
        (json!({"memory": {"limit": -1}}), "MemoryLimit=infinity"),
        (json!({"pids": {"limit": 0}}), "TasksMax=1"),
        (json!({"pids": {"limit": -1}}), "TasksMax=infinity"),
        (json!({"cpu": {"shares": 512}}), "CPUShares=512"),
        (json!({"blockIO": {"weight": 500}}), "BlockIOWeight=500"),
        (
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 16, "weight": 100}]}}),
            "BlockIODeviceWeight=/dev/block/8:16 100",
        ),
        (
            json!({"blockIO": {
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
                // For operations it has no word.
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 7}],
            }}),
            "BlockIOReadBandwidth=/dev/block/8:0 1000",
        ),
        (
            json!({"blockIO": {"throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 0}]}}),
            "BlockIOWriteBandwidth=/dev/block/8:0 infinity",
        ),
    ] {
        let (told, _) = told_v1(Bandwidth::default(), resources.clone());
        assert_eq!(told, [wanted], "{resources}");
    }
    for resources in [json!({}), json!({"cpu": {"cpus": "0", "idle": 1}})] {
        assert!(told_v1(Bandwidth::default(), resources).0.is_empty());
    }
}

#[test]
fn both_halves_of_a_limit_of_time_are_told_on_v1() {
    let (none, half) = (Bandwidth::default(), Bandwidth { quota: 3000, period: 50_000 });
    for (before, resources, period, percent, written) in [
        (none, json!({"quota": 2000, "period": 50_000}), "50000", "40000", &["50000", "2000"][..]),
        (none, json!({"quota": 1234}), "100000", "20000", &["2000"]),
        (none, json!({"period": 7000}), "7000", "infinity", &["7000"]),
        (half, json!({"quota": 1234}), "50000", "30000", &["1500"]),
        (half, json!({"period": 100_000}), "100000", "30000", &["100000"]),
        (half, json!({"quota": -1}), "50000", "infinity", &["-1"]),
    ] {
        let (told, found) = told_v1(before, json!({"cpu": resources}));
        let wanted =
            [format!("CPUQuotaPeriodUSec={period}"), format!("CPUQuotaPerSecUSec={percent}")];
        assert_eq!(told, wanted, "{resources}");
        assert_eq!(found, written, "{resources}");
    }
}

/// The usual devices are among them, and nothing that another rule covers.
#[test]
fn a_scope_of_v1_is_told_of_devices() {
    let all = json!({"allow": false, "access": "rwm"});
    let rule = |kind: &str, major: i64, minor: i64, access: &str| json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": access});
    let listed = [all, rule("c", 10, 200, "rw"), rule("b", 8, -1, "r"), rule("c", 250, -1, "w")];
    let found = created_on(&v1(), &json!({ "devices": listed }), &[]).unwrap();
    let [usual @ .., policy, none, devices, collect] = &found[..] else { panic!("{found:?}") };
    assert!(usual.iter().any(|told| told == "BlockIOAccounting=true"), "{usual:?}");
    assert_eq!((&**policy, &**none), ("DevicePolicy=strict", "DeviceAllow="));
    assert_eq!(collect, "CollectMode=inactive-or-failed");
    for one in [
        "/dev/char/10:200 rwm",
        "block-8 rm",
        "char-250 wm",
        "char-* m",
        "block-* m",
        "/dev/char/1:3 rwm",
        "char-136 rwm",
    ] {
        assert!(devices.contains(one), "{one}: {devices}");
    }
    let everything = json!({"devices": [{"allow": true, "access": "rwm"}]});
    let found = created_on(&v1(), &everything, &[]).unwrap();
    assert_eq!(found[7..9], ["DevicePolicy=auto", "DeviceAllow="]);
    assert_eq!(found.len(), 10);
}

#[test]
fn device_rules_that_systemd_would_forget_are_refused_on_v1() {
    let rule = |allow: bool, major: i64| json!({"allow": allow, "type": "c", "major": major, "minor": 3, "access": "rw"});
    for (listed, words) in [
        (json!([rule(true, -1)]), "allows \"c *:3 rwm\""),
        (json!([{"allow": true, "access": "rwm"}, rule(false, 10)]), "denies \"c 10:3 rw\""),
    ] {
        let errors = created_on(&v1(), &json!({ "devices": listed }), &[]).unwrap_err();
        let error = errors[0].to_string();
        assert!(error.contains(words), "{error}");
        assert!(error.contains("/linux/resources/devices"), "{error}");
    }
}
