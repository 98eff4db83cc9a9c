//! Statistics of cgroups v1: which hierarchy's file has which number.

use super::text::{Files, block_entries, list, numbers};
use super::{BlockIo, CpuSet, HugePages, Memory, MemoryUse, Pids, Stats, huge_page_sizes};
use crate::cgroup::directory::Directory;
use crate::error::Result;

/// Ticks of `cpuacct.stat` in a second (`USER_HZ`, the same on every machine).
const TICKS: u64 = 100;

/// Whether anything is counted in the hierarchy of these controllers.
pub(in crate::cgroup) fn counts(controllers: &[String]) -> bool {
    let counting = ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "rdma", "hugetlb"];
    controllers.iter().any(|controller| counting.contains(&controller.as_str()))
}

/// Adds what the kernel counts in the hierarchy of these controllers.
pub(in crate::cgroup) fn add(
    cgroup: &Directory,
    controllers: &[String],
    stats: &mut Stats,
) -> Result<()> {
    let files = &Files(cgroup);
    for controller in controllers {
        match controller.as_str() {
            "cpu" => throttling(files, stats)?,
            "cpuacct" => cpu(files, stats)?,
            "cpuset" => stats.cpuset = cpuset(files)?,
            "memory" => stats.memory = memory(files)?,
            "pids" => stats.pids = pids(files)?,
            "blkio" => stats.blkio = block_io(files)?,
            "rdma" => stats.rdma = files.rdma()?,
            "hugetlb" => {
                for size in huge_page_sizes() {
                    let of = |name: &str| files.number(&format!("hugetlb.{size}.{name}"));
                    let (usage, max) = (of("usage_in_bytes")?, of("max_usage_in_bytes")?);
                    let pages = HugePages { usage, max, failcnt: of("failcnt")? };
                    stats.hugetlb.insert(size, pages);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn throttling(files: &Files<'_>, stats: &mut Stats) -> Result<()> {
    let table = files.table("cpu.stat")?.unwrap_or_default();
    let of = |key: &str| table.get(key).copied().unwrap_or(0);
    let throttling = &mut stats.cpu.throttling;
    throttling.periods = of("nr_periods");
    throttling.throttled_periods = of("nr_throttled");
    throttling.throttled_time = of("throttled_time");
    Ok(())
}

fn cpu(files: &Files<'_>, stats: &mut Stats) -> Result<()> {
    let table = files.table("cpuacct.stat")?.unwrap_or_default();
    let nanoseconds =
        |key: &str| table.get(key).copied().unwrap_or(0).saturating_mul(1_000_000_000 / TICKS);
    let usage = &mut stats.cpu.usage;
    (usage.user, usage.kernel) = (nanoseconds("user"), nanoseconds("system"));
    usage.total = files.number("cpuacct.usage")?;
    usage.percpu = files.parse("cpuacct.usage_percpu", numbers)?.unwrap_or_default();
    let rows = files.parse("cpuacct.usage_all", |text| {
        text.lines().skip(1).map(numbers).collect::<Option<Vec<_>>>()
    })?;
    // A header, and a line for each processor: its number, user, system.
    let column = |index: usize| {
        let rows = rows.iter().flatten();
        rows.filter_map(|row| row.get(index).copied()).collect()
    };
    (usage.percpu_user, usage.percpu_kernel) = (column(1), column(2));
    Ok(())
}

fn cpuset(files: &Files<'_>) -> Result<CpuSet> {
    let of = |name: &str| files.number(&format!("cpuset.{name}"));
    let level = |text: &str| text.trim_end().parse().ok();
    Ok(CpuSet {
        cpus: files.parse("cpuset.cpus", list)?.unwrap_or_default(),
        cpu_exclusive: of("cpu_exclusive")?,
        mems: files.parse("cpuset.mems", list)?.unwrap_or_default(),
        mem_hardwall: of("mem_hardwall")?,
        mem_exclusive: of("mem_exclusive")?,
        memory_migrate: of("memory_migrate")?,
        memory_spread_page: of("memory_spread_page")?,
        memory_spread_slab: of("memory_spread_slab")?,
        memory_pressure: of("memory_pressure")?,
        sched_load_balance: of("sched_load_balance")?,
        sched_relax_domain_level: files
            .parse("cpuset.sched_relax_domain_level", level)?
            .unwrap_or(0),
    })
}

fn memory(files: &Files<'_>) -> Result<Memory> {
    let Some(raw) = files.table("memory.stat")? else { return Ok(Memory::default()) };
    let of = |name: &str| {
        let number = |file: &str| files.number(&format!("{name}.{file}"));
        Ok::<_, crate::Error>(MemoryUse {
            limit: number("limit_in_bytes")?,
            usage: number("usage_in_bytes")?,
            max: number("max_usage_in_bytes")?,
            failcnt: number("failcnt")?,
        })
    };
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: of("memory")?,
        swap: of("memory.memsw")?,
        kernel: of("memory.kmem")?,
        kernel_tcp: of("memory.kmem.tcp")?,
        raw,
        events: files.table("memory.oom_control")?.unwrap_or_default(),
        ..Memory::default()
    })
}

fn pids(files: &Files<'_>) -> Result<Pids> {
    let limit = match files.number("pids.max")? {
        u64::MAX => 0,
        limit => limit,
    };
    Ok(Pids { current: files.number("pids.current")?, limit })
}

/// The first of these that the kernel has: BFQ's with all that it counts, BFQ's, what
/// the limits count with what is below, and without.
fn block_io(files: &Files<'_>) -> Result<BlockIo> {
    let of = |file: &str| files.parse(&format!("blkio.{file}"), block_entries);
    let mut stats = BlockIo::default();
    for prefix in ["bfq.io_", "throttle.io_"] {
        for suffix in ["_recursive", ""] {
            let (bytes, requests) = (
                of(&format!("{prefix}service_bytes{suffix}"))?,
                of(&format!("{prefix}serviced{suffix}"))?,
            );
            if let (Some(bytes), Some(requests)) = (bytes, requests)
                && !(bytes.is_empty() && requests.is_empty())
            {
                stats.io_service_bytes_recursive = bytes;
                stats.io_serviced_recursive = requests;
                if prefix == "bfq.io_" {
                    let more = |name: &str| Ok(of(&format!("bfq.{name}"))?.unwrap_or_default());
                    stats.io_queued_recursive = more("io_queued_recursive")?;
                    stats.io_service_time_recursive = more("io_service_time_recursive")?;
                    stats.io_wait_time_recursive = more("io_wait_time_recursive")?;
                    stats.io_merged_recursive = more("io_merged_recursive")?;
                    stats.io_time_recursive = more("time_recursive")?;
                    stats.sectors_recursive = more("sectors_recursive")?;
                }
                return Ok(stats);
            }
        }
    }
    Ok(stats)
}
