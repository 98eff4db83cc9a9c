//! What a task has used, as containerd's clients read it: the library's numbers in the
//! messages of either version of cgroups.

use std::collections::BTreeMap;

use orlop::cgroup::{BlockEntry, MemoryUse, Pressure, Rdma, Stall, Stats};
use prost::Message;

use crate::messages::{Any, metrics_v1 as v1, metrics_v2 as v2};

pub(crate) fn metrics(stats: &Stats) -> Any {
    let (name, value) = match stats.unified {
        true => ("io.containerd.cgroups.v2.Metrics", of_v2(stats).encode_to_vec()),
        false => ("io.containerd.cgroups.v1.Metrics", of_v1(stats).encode_to_vec()),
    };
    Any { type_url: name.to_owned(), value }
}

fn of_v2(stats: &Stats) -> v2::Metrics {
    let cpu = &stats.cpu;
    let micro = |nanoseconds: u64| nanoseconds / 1000;
    let event = |name| of(&stats.memory.events, name);
    v2::Metrics {
        pids: Some(pids(stats)),
        cpu: Some(v2::CpuStat {
            usage_usec: micro(cpu.usage.total),
            user_usec: micro(cpu.usage.user),
            system_usec: micro(cpu.usage.kernel),
            nr_periods: cpu.throttling.periods,
            nr_throttled: cpu.throttling.throttled_periods,
            throttled_usec: micro(cpu.throttling.throttled_time),
            psi: pressure(cpu.psi.as_ref()),
            nr_bursts: cpu.throttling.bursts,
            burst_usec: micro(cpu.throttling.burst_time),
        }),
        memory: Some(memory_v2(stats)),
        rdma: Some(rdma(&stats.rdma)),
        io: Some(v2::IoStat { usage: devices(stats), psi: pressure(stats.blkio.psi.as_ref()) }),
        hugetlb: stats.hugetlb.iter().map(|(size, pages)| huge_v2(size, *pages)).collect(),
        memory_events: Some(v2::MemoryEvents {
            low: event("low"),
            high: event("high"),
            max: event("max"),
            oom: event("oom"),
            oom_kill: event("oom_kill"),
            oom_group_kill: event("oom_group_kill"),
        }),
    }
}

fn memory_v2(stats: &Stats) -> v2::MemoryStat {
    let memory = &stats.memory;
    let raw = |name: &str| of(&memory.raw, name);
    let both =
        |name: &str| raw(&format!("{name}_anon")).saturating_add(raw(&format!("{name}_file")));
    v2::MemoryStat {
        anon: raw("anon"),
        file: raw("file"),
        kernel_stack: raw("kernel_stack"),
        slab: raw("slab"),
        sock: raw("sock"),
        shmem: raw("shmem"),
        file_mapped: raw("file_mapped"),
        file_dirty: raw("file_dirty"),
        file_writeback: raw("file_writeback"),
        anon_thp: raw("anon_thp"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        slab_reclaimable: raw("slab_reclaimable"),
        slab_unreclaimable: raw("slab_unreclaimable"),
        pgfault: raw("pgfault"),
        pgmajfault: raw("pgmajfault"),
        // KERNEL(5.9): one number became two; clients still read the one.
        workingset_refault: both("workingset_refault"),
        workingset_activate: both("workingset_activate"),
        workingset_nodereclaim: raw("workingset_nodereclaim"),
        pgrefill: raw("pgrefill"),
        pgscan: raw("pgscan"),
        pgsteal: raw("pgsteal"),
        pgactivate: raw("pgactivate"),
        pgdeactivate: raw("pgdeactivate"),
        pglazyfree: raw("pglazyfree"),
        pglazyfreed: raw("pglazyfreed"),
        thp_fault_alloc: raw("thp_fault_alloc"),
        thp_collapse_alloc: raw("thp_collapse_alloc"),
        usage: memory.usage.usage,
        usage_limit: memory.usage.limit,
        swap_usage: memory.swap_alone.usage,
        swap_limit: memory.swap_alone.limit,
        max_usage: memory.usage.max,
        swap_max_usage: memory.swap_alone.max,
        psi: pressure(memory.psi.as_ref()),
        workingset_refault_anon: raw("workingset_refault_anon"),
        workingset_refault_file: raw("workingset_refault_file"),
        workingset_activate_anon: raw("workingset_activate_anon"),
        workingset_activate_file: raw("workingset_activate_file"),
    }
}

fn of(table: &BTreeMap<String, u64>, name: &str) -> u64 {
    table.get(name).copied().unwrap_or(0)
}

fn pressure(pressure: Option<&Pressure>) -> Option<v2::PressureStats> {
    let data = |Stall { avg10, avg60, avg300, total }| {
        Some(v2::PressureData { avg10, avg60, avg300, total })
    };
    pressure.map(|all| v2::PressureStats { some: data(all.some), full: data(all.full) })
}

/// The same message for both versions.
fn pids(stats: &Stats) -> v2::PidsStat {
    v2::PidsStat { current: stats.pids.current, limit: stats.pids.limit }
}

fn rdma(devices: &[Rdma]) -> v2::RdmaStat {
    let entry = |device: &Rdma, handles, objects| v2::RdmaEntry {
        device: device.device.clone(),
        hca_handles: short(handles),
        hca_objects: short(objects),
    };
    let used = |device: &Rdma| entry(device, device.handles.0, device.objects.0);
    let most = |device: &Rdma| entry(device, device.handles.1, device.objects.1);
    v2::RdmaStat {
        current: devices.iter().map(used).collect(),
        limit: devices.iter().map(most).collect(),
    }
}

/// No limit is the largest number.
fn short(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn huge_v2(size: &str, pages: orlop::cgroup::HugePages) -> v2::HugeTlbStat {
    v2::HugeTlbStat {
        current: pages.usage,
        max: pages.max,
        pagesize: size.to_owned(),
        failcnt: pages.failcnt,
    }
}

/// The entries of a device together.
fn devices(stats: &Stats) -> Vec<v2::IoEntry> {
    let mut devices: BTreeMap<(u64, u64), v2::IoEntry> = BTreeMap::new();
    let blkio = &stats.blkio;
    let bytes = blkio.io_service_bytes_recursive.iter().map(|entry| (true, entry));
    let requests = blkio.io_serviced_recursive.iter().map(|entry| (false, entry));
    for (is_bytes, entry) in bytes.chain(requests) {
        let BlockEntry { major, minor, value, .. } = *entry;
        let device = devices.entry((major, minor)).or_default();
        (device.major, device.minor) = (major, minor);
        match (is_bytes, entry.op.as_str()) {
            (true, "Read") => device.rbytes = value,
            (true, "Write") => device.wbytes = value,
            (false, "Read") => device.rios = value,
            (false, "Write") => device.wios = value,
            _ => {}
        }
    }
    devices.into_values().collect()
}

fn of_v1(stats: &Stats) -> v1::Metrics {
    let (cpu, throttling) = (&stats.cpu.usage, &stats.cpu.throttling);
    let event = |name| of(&stats.memory.events, name);
    let huge = |(size, pages): (&String, &orlop::cgroup::HugePages)| v1::HugetlbStat {
        usage: pages.usage,
        max: pages.max,
        failcnt: pages.failcnt,
        pagesize: size.clone(),
    };
    v1::Metrics {
        hugetlb: stats.hugetlb.iter().map(huge).collect(),
        pids: Some(pids(stats)),
        cpu: Some(v1::CpuStat {
            usage: Some(v1::CpuUsage {
                total: cpu.total,
                kernel: cpu.kernel,
                user: cpu.user,
                per_cpu: cpu.percpu.clone(),
            }),
            throttling: Some(v1::Throttle {
                periods: throttling.periods,
                throttled_periods: throttling.throttled_periods,
                throttled_time: throttling.throttled_time,
            }),
        }),
        memory: Some(memory_v1(stats)),
        blkio: Some(block_v1(stats)),
        rdma: Some(rdma(&stats.rdma)),
        memory_oom_control: Some(v1::MemoryOomControl {
            oom_kill_disable: event("oom_kill_disable"),
            under_oom: event("under_oom"),
            oom_kill: event("oom_kill"),
        }),
    }
}

fn memory_v1(stats: &Stats) -> v1::MemoryStat {
    let memory = &stats.memory;
    let raw = |name| of(&memory.raw, name);
    let entry = |MemoryUse { limit, usage, max, failcnt }| {
        Some(v1::MemoryEntry { limit, usage, max, failcnt })
    };
    v1::MemoryStat {
        cache: raw("cache"),
        rss: raw("rss"),
        rss_huge: raw("rss_huge"),
        mapped_file: raw("mapped_file"),
        dirty: raw("dirty"),
        writeback: raw("writeback"),
        pg_pg_in: raw("pgpgin"),
        pg_pg_out: raw("pgpgout"),
        pg_fault: raw("pgfault"),
        pg_maj_fault: raw("pgmajfault"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        hierarchical_memory_limit: raw("hierarchical_memory_limit"),
        hierarchical_swap_limit: raw("hierarchical_memsw_limit"),
        total_cache: raw("total_cache"),
        total_rss: raw("total_rss"),
        total_rss_huge: raw("total_rss_huge"),
        total_mapped_file: raw("total_mapped_file"),
        total_dirty: raw("total_dirty"),
        total_writeback: raw("total_writeback"),
        total_pg_pg_in: raw("total_pgpgin"),
        total_pg_pg_out: raw("total_pgpgout"),
        total_pg_fault: raw("total_pgfault"),
        total_pg_maj_fault: raw("total_pgmajfault"),
        total_inactive_anon: raw("total_inactive_anon"),
        total_active_anon: raw("total_active_anon"),
        total_inactive_file: raw("total_inactive_file"),
        total_active_file: raw("total_active_file"),
        total_unevictable: raw("total_unevictable"),
        usage: entry(memory.usage),
        swap: entry(memory.swap),
        kernel: entry(memory.kernel),
        kernel_tcp: entry(memory.kernel_tcp),
    }
}

fn block_v1(stats: &Stats) -> v1::BlkIoStat {
    let entries = |entries: &[BlockEntry]| {
        let entry = |BlockEntry { major, minor, op, value }: &BlockEntry| v1::BlkIoEntry {
            op: op.clone(),
            device: String::new(),
            major: *major,
            minor: *minor,
            value: *value,
        };
        entries.iter().map(entry).collect()
    };
    let blkio = &stats.blkio;
    v1::BlkIoStat {
        io_service_bytes_recursive: entries(&blkio.io_service_bytes_recursive),
        io_serviced_recursive: entries(&blkio.io_serviced_recursive),
        io_queued_recursive: entries(&blkio.io_queued_recursive),
        io_service_time_recursive: entries(&blkio.io_service_time_recursive),
        io_wait_time_recursive: entries(&blkio.io_wait_time_recursive),
        io_merged_recursive: entries(&blkio.io_merged_recursive),
        io_time_recursive: entries(&blkio.io_time_recursive),
        sectors_recursive: entries(&blkio.sectors_recursive),
    }
}
