//! The limits as the files of cgroup v1.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::{List, Missing};

/// The least and the most that `cpu.shares` takes; the kernel would silently
/// take the nearest.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// The files of the limit of CPU time.
pub(in crate::cgroup) const QUOTA: &str = "cpu.cfs_quota_us";
/// Its other half.
pub(in crate::cgroup) const PERIOD: &str = "cpu.cfs_period_us";

pub(super) fn limits(resources: &LinuxResources, list: &mut List) {
    if let Some(cpu) = resources.cpu() {
        list.cpuset(cpu);
    }
    if let Some(memory) = resources.memory() {
        list.check_memory(memory);
        self::memory(memory, list);
    }
    if let Some(cpu) = resources.cpu() {
        self::cpu(cpu, list);
    }
    list.pids(resources);
    list.block_io_v1(resources);
    list.huge_pages(resources, ".limit_in_bytes");
    network(resources, list);
    list.rdma(resources);
    if resources.unified().as_ref().is_some_and(|keys| !keys.is_empty()) {
        // COMPAT(runc): its words.
        list.refuse(
            "/linux/resources/unified",
            "invalid configuration: cannot use unified on cgroup v1",
        );
    }
}

fn memory(memory: &LinuxMemory, list: &mut List) {
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    // Memory may never be more than memory and swap together: when the limit
    // grows beyond the old sum it has to wait for the new one.
    if let Some(limit) = set(memory.limit()) {
        let pointer = "/linux/resources/memory/limit";
        list.push("memory", "memory.limit_in_bytes", &limit, pointer).retry = true;
    }
    let file = "memory.memsw.limit_in_bytes";
    match (set(memory.swap()), memory.limit()) {
        (Some(swap), _) => {
            list.push("memory", file, &swap, "/linux/resources/memory/swap");
        }
        // COMPAT(runc): memory without limit is swap without limit.
        (None, Some(-1)) => {
            let pointer = "/linux/resources/memory/limit";
            list.push("memory", file, &-1, pointer).missing = Missing::Skip;
        }
        (None, _) => {}
    }
    if let Some(reservation) = set(memory.reservation()) {
        let pointer = "/linux/resources/memory/reservation";
        list.push("memory", "memory.soft_limit_in_bytes", &reservation, pointer);
    }
    if memory.disable_oom_killer() == Some(true) {
        let pointer = "/linux/resources/memory/disableOOMKiller";
        list.push("memory", "memory.oom_control", &1, pointer);
    }
    let pointer = "/linux/resources/memory/swappiness";
    match memory.swappiness() {
        Some(value @ 0..=100) => {
            list.push("memory", "memory.swappiness", &value, pointer);
        }
        // COMPAT(runc): its words.
        Some(value) => list.refuse(
            pointer,
            format!("invalid memory swappiness value: {value} (valid range is 0-100)"),
        ),
        None => {}
    }
}

fn cpu(cpu: &LinuxCpu, list: &mut List) {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        let pointer = "/linux/resources/cpu/shares";
        // COMPAT(runc): its words.
        if shares < *SHARES.start() {
            list.refuse(pointer, format!("the minimum allowed cpu-shares is {}", SHARES.start()));
        } else if shares > *SHARES.end() {
            list.refuse(pointer, format!("the maximum allowed cpu-shares is {}", SHARES.end()));
        } else {
            // An idle group takes no shares until it is idle no more.
            list.push("cpu", "cpu.shares", &shares, pointer).retry = true;
        }
    }
    // Period, burst and quota are checked against each other and against the
    // group above, so whichever comes too early waits for the rest.
    if let Some(period) = cpu.period().filter(|period| *period != 0) {
        list.push("cpu", PERIOD, &period, "/linux/resources/cpu/period").retry = true;
    }
    if let Some(burst) = cpu.burst() {
        let write = list.push("cpu", "cpu.cfs_burst_us", &burst, "/linux/resources/cpu/burst");
        write.retry = true;
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        list.push("cpu", QUOTA, &quota, "/linux/resources/cpu/quota").retry = true;
    }
    if let Some(idle) = cpu.idle() {
        list.push("cpu", "cpu.idle", &idle, "/linux/resources/cpu/idle");
    }
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        let pointer = "/linux/resources/cpu/realtimePeriod";
        list.push("cpu", "cpu.rt_period_us", &period, pointer).retry = true;
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        let pointer = "/linux/resources/cpu/realtimeRuntime";
        list.push("cpu", "cpu.rt_runtime_us", &runtime, pointer).retry = true;
    }
}

fn network(resources: &LinuxResources, list: &mut List) {
    let Some(network) = resources.network() else { return };
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        list.push("net_cls", "net_cls.classid", &class, "/linux/resources/network/classID");
    }
    for (index, priority) in network.priorities().iter().flatten().enumerate() {
        let pointer = format!("/linux/resources/network/priorities/{index}");
        let name = priority.name();
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '\0') {
            list.refuse(pointer + "/name", format!("{name:?} is not a network interface"));
            continue;
        }
        let value = format!("{name} {}", priority.priority());
        list.push("net_prio", "net_prio.ifpriomap", &value, pointer);
    }
}
