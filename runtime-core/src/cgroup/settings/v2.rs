//! The limits as the files of cgroup v2, converted where v2 counts in another
//! way, and refused by name where v2 has nothing like it.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::{List, Missing, escape};

/// The file of the CPU limit, `quota period`.
const QUOTA: &str = "cpu.max";

/// What it says in a new cgroup.
const UNLIMITED: (&str, &str) = ("max", "100000");

/// `quota` is what the file of the CPU limit says; nothing for a new cgroup.
pub(super) fn limits(resources: &LinuxResources, quota: Option<&str>, list: &mut List) {
    let so_far = quota.and_then(|text| text.trim_end().split_once(' ')).unwrap_or(UNLIMITED);
    list.pids(resources);
    if let Some(memory) = resources.memory() {
        list.check_memory(memory);
        self::memory(memory, list);
    }
    list.block_io_v2(resources);
    if let Some(cpu) = resources.cpu() {
        self::cpu(cpu, so_far, list);
        list.cpuset(cpu);
    }
    list.huge_pages(resources, ".max");
    list.rdma(resources);
    if let Some(network) = resources.network() {
        if network.class_id().is_some_and(|class| class != 0) {
            list.unsupported(
                "/linux/resources/network/classID",
                "cgroup v2 has no network classes",
            );
        }
        if network.priorities().as_ref().is_some_and(|list| !list.is_empty()) {
            list.unsupported(
                "/linux/resources/network/priorities",
                "cgroup v2 has no network priorities",
            );
        }
    }
    unified(resources, list);
    same_period(so_far.1, list);
}

fn max_or(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

fn memory(memory: &LinuxMemory, list: &mut List) {
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    let pointer = "/linux/resources/memory/swap";
    // v1 counts memory and swap together, v2 swap alone.
    let swap = match (set(memory.limit()), set(memory.swap())) {
        // COMPAT(runc): memory without limit is swap without limit.
        (Some(-1), None) | (_, Some(-1)) => Some("max".to_owned()),
        (_, None) => None,
        (Some(-1), Some(swap)) => Some(swap.to_string()),
        (None, Some(_)) => {
            // COMPAT(runc): its words.
            list.refuse(pointer, "unable to set swap limit without memory limit");
            None
        }
        // The difference of an impossible pair was refused already.
        (Some(limit), Some(swap)) => Some(swap.saturating_sub(limit).to_string()),
    };
    if let Some(swap) = swap {
        // A kernel without swap accounting does both of its own accord.
        let skip = swap == "max" || swap == "0";
        let write = list.push("memory", "memory.swap.max", &swap, pointer);
        if skip {
            write.missing = Missing::Skip;
        }
    }
    if let Some(limit) = set(memory.limit()) {
        list.push("memory", "memory.max", &max_or(limit), "/linux/resources/memory/limit");
    }
    if let Some(reservation) = set(memory.reservation()) {
        let pointer = "/linux/resources/memory/reservation";
        list.push("memory", "memory.low", &max_or(reservation), pointer);
    }
    if memory.swappiness().is_some() {
        list.unsupported(
            "/linux/resources/memory/swappiness",
            "cgroup v2 has no swappiness of a cgroup",
        );
    }
    if memory.disable_oom_killer() == Some(true) {
        list.unsupported(
            "/linux/resources/memory/disableOOMKiller",
            "cgroup v2 can't disable the OOM killer",
        );
    }
}

fn cpu(cpu: &LinuxCpu, so_far: (&str, &str), list: &mut List) {
    if let Some(idle) = cpu.idle() {
        list.push("cpu", "cpu.idle", &idle, "/linux/resources/cpu/idle");
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        list.push("cpu", "cpu.weight", &weight_of(shares), "/linux/resources/cpu/shares");
    }
    if let Some(burst) = cpu.burst() {
        // Waits for a quota that allows it.
        list.push("cpu", "cpu.max.burst", &burst, "/linux/resources/cpu/burst").retry = true;
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let pointer = if quota.is_some() { "quota" } else { "period" };
        // COMPAT(runc): one that is not named stays as it is.
        let quota = match quota {
            Some(quota) => max_or(quota.max(-1)),
            None => so_far.0.to_owned(),
        };
        let period = period.map_or(so_far.1.to_owned(), |period| period.to_string());
        let value = format!("{quota} {period}");
        list.push("cpu", QUOTA, &value, format!("/linux/resources/cpu/{pointer}"));
    }
    let realtime = [
        ("/linux/resources/cpu/realtimeRuntime", cpu.realtime_runtime().is_some_and(|v| v != 0)),
        ("/linux/resources/cpu/realtimePeriod", cpu.realtime_period().is_some_and(|v| v != 0)),
    ];
    for (pointer, _) in realtime.into_iter().filter(|(_, set)| *set) {
        list.unsupported(pointer, "cgroup v2 has no realtime bandwidth");
    }
}

/// `cpu.weight` (1 to 10000, usually 100) for `cpu.shares` (2 to 262144, usually
/// 1024): a curve through the least, the usual and the most of both.
///
/// COMPAT(runc): the curve that runc, crun and systemd's users agreed on in 2025,
/// opencontainers/cgroups v0.0.3.
fn weight_of(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// Files that move, end or stop processes, on the host too: a process that is written to
/// the first one is the container's then, and is killed with it.
const DEEDS: [&str; 4] = ["cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze"];

fn unified(resources: &LinuxResources, list: &mut List) {
    let mut keys: Vec<_> = resources.unified().iter().flatten().collect();
    keys.sort();
    for (key, value) in keys {
        let pointer = format!("/linux/resources/unified/{}", escape(key));
        if DEEDS.contains(&&**key) {
            list.refuse(pointer, format!("unified resource {key:?} is no limit"));
            continue;
        }
        // COMPAT(runc): its words, twice.
        if key.contains('/') || key.contains('\0') {
            let text = format!("unified resource {key:?} must be a file name (no slashes)");
            list.refuse(pointer, text);
            continue;
        }
        let Some((controller, name)) = key.split_once('.') else {
            let text = format!("unified resource {key:?} must be in the form CONTROLLER.PARAMETER");
            list.refuse(pointer, text);
            continue;
        };
        if controller.is_empty() || name.is_empty() {
            let text = format!("unified resource {key:?} must be in the form CONTROLLER.PARAMETER");
            list.refuse(pointer, text);
            continue;
        }
        // Some files take one line at a time.
        for line in value.split_inclusive('\n') {
            let write = list.push("", key.clone(), &line, pointer.clone());
            write.controller = controller.to_owned().into();
        }
    }
}

/// A quota without a period keeps the last one. The kernel knows it, systemd has to
/// be told.
fn same_period(so_far: &str, list: &mut List) {
    let mut last = so_far.to_owned();
    for write in list.writes.iter_mut().filter(|write| write.file == QUOTA) {
        match write.value.split_whitespace().collect::<Vec<_>>()[..] {
            [quota] => write.value = format!("{quota} {last}"),
            [_, period] => last = period.to_owned(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_agreed_curve() {
        let table = [(1, 1), (2, 1), (1024, 100), (262_144, 10_000), (300_000, 10_000)];
        for (shares, weight) in table {
            assert_eq!(weight_of(shares), weight, "{shares}");
        }
        let mut last = 0;
        for shares in 1..=262_144 {
            let weight = weight_of(shares);
            assert!(weight >= last && (1..=10_000).contains(&weight), "{shares}: {weight}");
            last = weight;
        }
    }
}
