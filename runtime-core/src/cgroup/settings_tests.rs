//! Resources as the writes they become, on v1 and v2, and those that are refused.

use super::*;
use crate::host::{Hierarchy, IdMappers};

fn host(cgroups: Cgroups) -> HostFacts {
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
        cgroups,
        apparmor: false,
        selinux: false,
        resctrl: None,
        revealing: Vec::new(),
    }
}

fn names(list: &str) -> Vec<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

pub(super) fn v2() -> HostFacts {
    let controllers = names("cpuset cpu io memory hugetlb pids rdma");
    host(Cgroups::Unified { mount: "/sys/fs/cgroup".into(), own: "/".into(), controllers })
}

pub(super) fn v1() -> HostFacts {
    let list = "cpuset cpu,cpuacct memory devices blkio pids hugetlb net_cls,net_prio rdma";
    let hierarchy = |name: &str| Hierarchy {
        controllers: name.split(',').map(str::to_owned).collect(),
        mount: format!("/sys/fs/cgroup/{name}").into(),
        own: "/".into(),
    };
    host(Cgroups::Legacy { hierarchies: list.split_whitespace().map(hierarchy).collect() })
}

fn update(json: &str, host: &HostFacts) -> Result<Vec<String>, Vec<String>> {
    update_from(None, json, host)
}

/// The same where the file of the CPU limit says something.
fn update_from(
    quota: Option<&str>,
    json: &str,
    host: &HostFacts,
) -> Result<Vec<String>, Vec<String>> {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    let show = |write: &Write| {
        let (missing, retry) = match &write.missing {
            Missing::Fail => (String::new(), if write.retry { " retry" } else { "" }),
            Missing::Skip => (" skip".to_owned(), ""),
            Missing::Instead { file, value } => (format!(" or {file}={value}"), ""),
        };
        format!("{}={:?}{missing}{retry}", write.file, write.value).replace('"', "")
    };
    match Settings::for_update(&resources, host, quota, None) {
        Ok(settings) => Ok(settings.writes().iter().map(show).collect()),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

/// A row: what the configuration says, what v1 writes, what v2 writes.
type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

const TABLE: &[Row] = &[
    ("{}", &[], &[]),
    (r#"{"pids":{"limit":5}}"#, &["pids.max=5"], &["pids.max=5"]),
    (r#"{"pids":{"limit":0}}"#, &["pids.max=1"], &["pids.max=1"]),
    (r#"{"pids":{"limit":-5}}"#, &["pids.max=max"], &["pids.max=max"]),
    (
        r#"{"memory":{"limit":10,"swap":30,"reservation":5}}"#,
        &[
            "memory.limit_in_bytes=10 retry",
            "memory.memsw.limit_in_bytes=30",
            "memory.soft_limit_in_bytes=5",
        ],
        &["memory.swap.max=20", "memory.max=10", "memory.low=5"],
    ),
    (
        r#"{"memory":{"limit":10,"swap":10}}"#,
        &["memory.limit_in_bytes=10 retry", "memory.memsw.limit_in_bytes=10"],
        &["memory.swap.max=0 skip", "memory.max=10"],
    ),
    (
        r#"{"memory":{"limit":10,"swap":-1}}"#,
        &["memory.limit_in_bytes=10 retry", "memory.memsw.limit_in_bytes=-1"],
        &["memory.swap.max=max skip", "memory.max=10"],
    ),
    (
        r#"{"memory":{"limit":-1}}"#,
        &["memory.limit_in_bytes=-1 retry", "memory.memsw.limit_in_bytes=-1 skip"],
        &["memory.swap.max=max skip", "memory.max=max"],
    ),
    (
        r#"{"memory":{"limit":-1,"swap":7}}"#,
        &["memory.limit_in_bytes=-1 retry", "memory.memsw.limit_in_bytes=7"],
        &["memory.swap.max=7", "memory.max=max"],
    ),
    (r#"{"memory":{"limit":0,"swap":0,"reservation":0}}"#, &[], &[]),
    (r#"{"memory":{"disableOOMKiller":false,"useHierarchy":true}}"#, &[], &[]),
    (r#"{"memory":{"useHierarchy":false}}"#, &[], &[]),
    (r#"{"memory":{"kernel":5,"kernelTCP":6}}"#, &[], &[]),
    (
        r#"{"cpu":{"shares":1024,"quota":5000,"period":10000,"burst":7,"idle":0}}"#,
        &[
            "cpu.shares=1024 retry",
            "cpu.cfs_period_us=10000 retry",
            "cpu.cfs_burst_us=7 retry",
            "cpu.cfs_quota_us=5000 retry",
            "cpu.idle=0",
        ],
        &["cpu.idle=0", "cpu.weight=100", "cpu.max.burst=7 retry", "cpu.max=5000 10000"],
    ),
    (r#"{"cpu":{"quota":-1}}"#, &["cpu.cfs_quota_us=-1 retry"], &["cpu.max=max 100000"]),
    (r#"{"cpu":{"period":20000}}"#, &["cpu.cfs_period_us=20000 retry"], &["cpu.max=max 20000"]),
    (r#"{"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":""}}"#, &[], &[]),
    (
        r#"{"cpu":{"cpus":"0-1","mems":"0"}}"#,
        &["cpuset.cpus=0-1", "cpuset.mems=0"],
        &["cpuset.cpus=0-1", "cpuset.mems=0"],
    ),
    (
        r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":10}]}}"#,
        &[
            "blkio.weight=500 or blkio.bfq.weight=500",
            "blkio.weight_device=8:0 10 or blkio.bfq.weight_device=8:0 10",
        ],
        &["io.bfq.weight=500 or io.weight=4950", "io.bfq.weight=8:0 10 or io.weight=8:0 1"],
    ),
    (
        r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":100}],
                       "throttleWriteIOPSDevice":[{"major":8,"minor":1,"rate":0}]}}"#,
        &["blkio.throttle.read_bps_device=8:0 100", "blkio.throttle.write_iops_device=8:1 0"],
        &["io.max=8:0 rbps=100", "io.max=8:1 wiops=max"],
    ),
    (
        r#"{"hugepageLimits":[{"pageSize":"2MB","limit":9}]}"#,
        &["hugetlb.2MB.limit_in_bytes=9", "hugetlb.2MB.rsvd.limit_in_bytes=9 skip"],
        &["hugetlb.2MB.max=9", "hugetlb.2MB.rsvd.max=9 skip"],
    ),
    (
        r#"{"rdma":{"mlx5_1":{"hcaHandles":3},"mlx5_0":{"hcaHandles":1,"hcaObjects":2}}}"#,
        &["rdma.max=mlx5_0 hca_handle=1 hca_object=2", "rdma.max=mlx5_1 hca_handle=3"],
        &["rdma.max=mlx5_0 hca_handle=1 hca_object=2", "rdma.max=mlx5_1 hca_handle=3"],
    ),
];

#[test]
fn limits_become_writes() {
    for (json, first, second) in TABLE {
        assert_eq!(update(json, &v1()).unwrap(), *first, "v1: {json}");
        assert_eq!(update(json, &v2()).unwrap(), *second, "v2: {json}");
    }
}

#[test]
fn an_update_keeps_the_other_half_of_a_cpu_limit() {
    for (quota, json, wanted) in [
        ("50000 100000\n", r#"{"cpu":{"period":20000}}"#, &["cpu.max=50000 20000"][..]),
        ("max 50000\n", r#"{"cpu":{"period":20000}}"#, &["cpu.max=max 20000"]),
        ("50000 20000\n", r#"{"cpu":{"quota":7000}}"#, &["cpu.max=7000 20000"]),
        ("50000 20000\n", r#"{"cpu":{"quota":-1}}"#, &["cpu.max=max 20000"]),
        ("50000 20000\n", r#"{"cpu":{"quota":0,"period":0}}"#, &[]),
        ("50000 20000\n", r#"{"cpu":{"quota":3000,"period":30000}}"#, &["cpu.max=3000 30000"]),
        ("50000 20000\n", r#"{"unified":{"cpu.max":"max\n"}}"#, &["cpu.max=max 20000"]),
        (
            "50000 20000\n",
            r#"{"cpu":{"period":40000},"unified":{"cpu.max":"9000"}}"#,
            &["cpu.max=50000 40000", "cpu.max=9000 40000"],
        ),
    ] {
        assert_eq!(update_from(Some(quota), json, &v2()).unwrap(), wanted, "{quota:?} {json}");
    }
}

#[test]
fn what_only_v1_has_is_refused_by_name_on_v2() {
    let table = [
        (r#"{"network":{"classID":5}}"#, "net_cls.classid=5", "network/classID"),
        (
            r#"{"network":{"priorities":[{"name":"eth0","priority":3}]}}"#,
            "net_prio.ifpriomap=eth0 3",
            "network/priorities",
        ),
        (r#"{"memory":{"swappiness":60}}"#, "memory.swappiness=60", "memory/swappiness"),
        (
            r#"{"memory":{"disableOOMKiller":true}}"#,
            "memory.oom_control=1",
            "memory/disableOOMKiller",
        ),
        (
            r#"{"cpu":{"realtimeRuntime":950}}"#,
            "cpu.rt_runtime_us=950 retry",
            "cpu/realtimeRuntime",
        ),
        (r#"{"cpu":{"realtimePeriod":1000}}"#, "cpu.rt_period_us=1000 retry", "cpu/realtimePeriod"),
        (r#"{"blockIO":{"leafWeight":10}}"#, "blkio.leaf_weight=10", "blockIO/leafWeight"),
    ];
    for (json, write, pointer) in table {
        assert_eq!(update(json, &v1()).unwrap(), [write], "{json}");
        let errors = update(json, &v2()).unwrap_err();
        assert_eq!(errors.len(), 1, "{json}: {errors:?}");
        assert!(errors[0].contains(&format!("/linux/resources/{pointer}")), "{json}: {errors:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let both = [
        (r#"{"memory":{"limit":-2}}"#, "invalid argument"),
        (r#"{"memory":{"limit":20,"swap":10}}"#, "memory+swap limit should be >= memory limit"),
        (r#"{"hugepageLimits":[{"pageSize":"../../x","limit":1}]}"#, "\"../../x\" is not"),
        (r#"{"hugepageLimits":[{"pageSize":"0MB","limit":1}]}"#, "hugepageLimits/0/pageSize"),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":-1}]}"#, "hugepageLimits/0/limit"),
        (r#"{"rdma":{"a b":{"hcaHandles":1}}}"#, "not the name of an RDMA device"),
        (
            r#"{"blockIO":{"weightDevice":[{"major":-1,"minor":0,"weight":1}]}}"#,
            "weightDevice/0/major",
        ),
    ];
    for (json, text) in both {
        for host in [v1(), v2()] {
            let errors = update(json, &host).unwrap_err();
            assert_eq!(errors.len(), 1, "{json}: {errors:?}");
            assert!(errors[0].contains(text), "{json}: {errors:?}");
        }
    }
    let first = [
        (r#"{"cpu":{"shares":1}}"#, "the minimum allowed cpu-shares is 2"),
        (r#"{"cpu":{"shares":300000}}"#, "the maximum allowed cpu-shares is 262144"),
        (r#"{"memory":{"swappiness":101}}"#, "invalid memory swappiness value: 101"),
        (r#"{"unified":{"memory.max":"1"}}"#, "cannot use unified on cgroup v1"),
    ];
    for (json, text) in first {
        let errors = update(json, &v1()).unwrap_err();
        assert!(errors[0].contains(text), "{json}: {errors:?}");
    }
    let second = [
        (r#"{"memory":{"swap":10}}"#, "unable to set swap limit without memory limit"),
        (r#"{"unified":{"a/b":"1"}}"#, "unified resource \"a/b\" must be a file name (no slashes)"),
        (r#"{"unified":{"memory":"1"}}"#, "must be in the form CONTROLLER.PARAMETER"),
        (r#"{"unified":{"..":"1"}}"#, "must be in the form CONTROLLER.PARAMETER"),
        (r#"{"unified":{"cgroup.procs":"1"}}"#, "\"cgroup.procs\" is no limit"),
        (r#"{"unified":{"cgroup.threads":"1"}}"#, "/linux/resources/unified/cgroup.threads)"),
        (r#"{"unified":{"cgroup.kill":"1"}}"#, "\"cgroup.kill\" is no limit"),
        (r#"{"unified":{"cgroup.freeze":"1"}}"#, "\"cgroup.freeze\" is no limit"),
        (
            r#"{"unified":{"foo.max":"1"}}"#,
            "unified resource \"foo.max\" can't be set: controller \"foo\" not available",
        ),
    ];
    for (json, text) in second {
        let errors = update(json, &v2()).unwrap_err();
        assert!(errors[0].contains(text), "{json}: {errors:?}");
    }
}

#[test]
fn memory_and_swap_go_by_what_was_said_before() {
    let kept = |memory: &str| -> Linux {
        let text = format!(r#"{{"resources":{{"memory":{memory}}}}}"#);
        serde_json::from_str(&text).unwrap()
    };
    let table: &[(&str, &str, &[&str])] = &[
        (r#"{"limit":10,"swap":30}"#, r#"{"limit":20}"#, &["memory.swap.max=10", "memory.max=20"]),
        (r#"{"limit":10,"swap":30}"#, r#"{"swap":50}"#, &["memory.swap.max=40", "memory.max=10"]),
        (r#"{"limit":10}"#, r#"{"swap":10}"#, &["memory.swap.max=0", "memory.max=10"]),
        (r#"{"limit":10,"swap":30}"#, r#"{"swap":-1}"#, &["memory.swap.max=max", "memory.max=10"]),
        (r#"{"limit":10,"swap":-1}"#, r#"{"limit":20}"#, &["memory.swap.max=max", "memory.max=20"]),
        (
            r#"{"limit":10,"swap":30}"#,
            r#"{"limit":-1}"#,
            &["memory.swap.max=max", "memory.max=max"],
        ),
        (r#"{"limit":-1,"swap":0}"#, r#"{"limit":20}"#, &["memory.max=20"]),
        (r#"{"limit":-1}"#, r#"{"swap":30}"#, &["memory.swap.max=30", "memory.max=max"]),
        (r#"{"limit":10,"swap":30}"#, r#"{"swap":0}"#, &["memory.max=10"]),
        (r#"{"limit":10,"swap":30}"#, r#"{"limit":20,"swap":0}"#, &["memory.max=20"]),
        (r#"{"limit":10,"swap":30}"#, r#"{"reservation":5}"#, &["memory.low=5"]),
    ];
    for (before, now, wanted) in table {
        let update: LinuxResources =
            serde_json::from_str(&format!(r#"{{"memory":{now}}}"#)).unwrap();
        let settings = Settings::for_update(&update, &v2(), None, Some(&kept(before))).unwrap();
        let written = |write: &Write| format!("{}={}", write.file, write.value);
        let found: Vec<_> = settings.writes().iter().map(written).collect();
        assert_eq!(found, *wanted, "{before} {now}");
    }
    for (before, now, text) in [
        (r#"{"limit":10,"swap":30}"#, r#"{"limit":40}"#, "memory+swap limit should be >= memory"),
        (r#"{"limit":10}"#, r#"{"swap":5}"#, "memory+swap limit should be >= memory limit"),
        (r#"{"limit":10,"swap":30}"#, r#"{"limit":0}"#, "swap limit without memory limit"),
        (r#"{"limit":0}"#, r#"{"swap":5}"#, "swap limit without memory limit"),
    ] {
        let update = serde_json::from_str(&format!(r#"{{"memory":{now}}}"#)).unwrap();
        let errors = Settings::for_update(&update, &v2(), None, Some(&kept(before))).unwrap_err();
        assert!(errors[0].to_string().contains(text), "{before} {now}: {errors:?}");
    }
}

#[test]
fn every_error_is_told_at_once() {
    let json = r#"{"memory":{"limit":-2},"network":{"classID":1},"unified":{"x/y":"1"}}"#;
    assert_eq!(update(json, &v2()).unwrap_err().len(), 3);
}

#[test]
fn a_missing_controller_matters_only_to_its_limits() {
    let mut poor = v2();
    if let Cgroups::Unified { controllers, .. } = &mut poor.cgroups {
        *controllers = names("pids");
    }
    assert_eq!(update(r#"{"pids":{"limit":3},"memory":{}}"#, &poor).unwrap(), ["pids.max=3"]);
    let errors = update(r#"{"memory":{"limit":3},"cpu":{"shares":9}}"#, &poor).unwrap_err();
    assert_eq!(
        errors,
        [
            "the cgroup controller \"memory\" is not available (config.json: \
             /linux/resources/memory/limit)",
            "the cgroup controller \"cpu\" is not available (config.json: \
             /linux/resources/cpu/shares)",
        ]
    );
    let none = host(Cgroups::None);
    assert_eq!(update(r#"{"pids":{"limit":3}}"#, &none).unwrap_err().len(), 1);
    assert!(update("{}", &none).unwrap().is_empty());
}

#[test]
fn unified_is_written_last_and_line_by_line() {
    let json = r#"{"unified":{"memory.high":"5","io.max":"8:0 rbps=1\n8:1 rbps=2"},
                   "memory":{"limit":9}}"#;
    assert_eq!(
        update(json, &v2()).unwrap(),
        ["memory.max=9", "io.max=8:0 rbps=1\\n", "io.max=8:1 rbps=2", "memory.high=5"]
    );
}

#[test]
fn devices_are_for_those_who_can_set_them() {
    let required = |host: &HostFacts| {
        let settings = Settings::for_create(None, host, host.rootless()).unwrap();
        settings.devices.map(|devices| devices.required)
    };
    assert_eq!(required(&v1()), Some(true));
    assert_eq!(required(&v2()), Some(true));
    assert_eq!(required(&host(Cgroups::None)), None);
    let inside = |mut host: HostFacts| {
        host.in_user_namespace = true;
        host
    };
    assert_eq!(required(&inside(v1())), None);
    assert_eq!(required(&inside(v2())), Some(false));
    let update = Settings::for_update(&LinuxResources::default(), &v2(), None, None).unwrap();
    assert_eq!(update.devices, None);
}
