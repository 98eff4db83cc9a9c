//! Statistics of a cgroup v2: which file has which number.

use super::text::{Files, block_keys, number, pressure};
use super::{
    BlockIo, Cpu, CpuUsage, HugePages, Memory, MemoryUse, Pids, Stats, Throttling, huge_page_sizes,
};
use crate::cgroup::directory::Directory;
use crate::error::Result;

const BYTES: [(&str, &str); 2] = [("rbytes", "Read"), ("wbytes", "Write")];
const REQUESTS: [(&str, &str); 2] = [("rios", "Read"), ("wios", "Write")];

/// What the kernel counts for a cgroup; a controller that is not there counts nothing.
pub(in crate::cgroup) fn stats(cgroup: &Directory) -> Result<Stats> {
    let files = &Files(cgroup);
    let mut stats = Stats {
        unified: true,
        cpu: cpu(files)?,
        memory: memory(files)?,
        pids: pids(files)?,
        blkio: block_io(files)?,
        rdma: files.rdma()?,
        ..Stats::default()
    };
    for size in huge_page_sizes() {
        if let Some(pages) = huge(files, &size)? {
            stats.hugetlb.insert(size, pages);
        }
    }
    Ok(stats)
}

fn cpu(files: &Files<'_>) -> Result<Cpu> {
    let table = files.table("cpu.stat")?.unwrap_or_default();
    let of = |key: &str| table.get(key).copied().unwrap_or(0);
    let nanoseconds = |key: &str| of(key).saturating_mul(1000);
    Ok(Cpu {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: of("nr_periods"),
            throttled_periods: of("nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
            bursts: of("nr_bursts"),
            burst_time: nanoseconds("burst_usec"),
        },
        psi: files.parse("cpu.pressure", pressure)?,
    })
}

fn memory(files: &Files<'_>) -> Result<Memory> {
    // The pressure is told of every cgroup, whatever its controllers.
    let psi = files.parse("memory.pressure", pressure)?;
    let Some(raw) = files.table("memory.stat")? else {
        return Ok(Memory { psi, ..Memory::default() });
    };
    let usage = memory_use(files, "memory")?;
    // COMPAT(runc): both together, as v1 counts; the most of a sum is not known.
    let swap_alone = memory_use(files, "memory.swap")?;
    let swap = MemoryUse {
        limit: swap_alone.limit.saturating_add(usage.limit),
        usage: swap_alone.usage.saturating_add(usage.usage),
        ..MemoryUse::default()
    };
    Ok(Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap,
        raw,
        swap_alone,
        events: files.table("memory.events")?.unwrap_or_default(),
        psi,
        ..Memory::default()
    })
}

/// KERNEL(<5.19): the most that there was is not counted.
fn memory_use(files: &Files<'_>, of: &str) -> Result<MemoryUse> {
    Ok(MemoryUse {
        limit: files.number(&format!("{of}.max"))?,
        usage: files.number(&format!("{of}.current"))?,
        max: files.number(&format!("{of}.peak"))?,
        failcnt: 0,
    })
}

fn pids(files: &Files<'_>) -> Result<Pids> {
    let limit = match files.number("pids.max")? {
        u64::MAX => 0,
        limit => limit,
    };
    let current = match files.parse("pids.current", number)? {
        Some(current) => current,
        // Without the controller: the processes alone.
        None => files.text("cgroup.procs")?.unwrap_or_default().lines().count() as u64,
    };
    Ok(Pids { current, limit })
}

fn block_io(files: &Files<'_>) -> Result<BlockIo> {
    let both = |text: &str| Some((block_keys(text, &BYTES)?, block_keys(text, &REQUESTS)?));
    let (bytes, requests) = files.parse("io.stat", both)?.unwrap_or_default();
    Ok(BlockIo {
        io_service_bytes_recursive: bytes,
        io_serviced_recursive: requests,
        psi: files.parse("io.pressure", pressure)?,
        ..BlockIo::default()
    })
}

/// KERNEL(<5.7): reservations are not counted.
fn huge(files: &Files<'_>, size: &str) -> Result<Option<HugePages>> {
    let mut usage = None;
    for kind in [".rsvd", ""] {
        let file = format!("hugetlb.{size}{kind}.current");
        usage = usage.or(files.parse(&file, number)?);
    }
    let Some(usage) = usage else { return Ok(None) };
    let events = files.table(&format!("hugetlb.{size}.events"))?.unwrap_or_default();
    Ok(Some(HugePages { usage, max: 0, failcnt: events.get("max").copied().unwrap_or(0) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::stats::Rdma;

    #[test]
    fn swap_and_memory_are_told_alone_and_together() {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("cpu.stat", "usage_usec 7\nnr_bursts 2\nburst_usec 3\n"),
            ("memory.stat", "anon 1\nfile 2\n"),
            ("memory.current", "100\n"),
            ("memory.max", "1000\n"),
            ("memory.swap.current", "20\n"),
            ("memory.swap.max", "max\n"),
            ("memory.events", "low 0\noom_kill 4\n"),
            ("rdma.max", "a hca_handle=5 hca_object=max\nb hca_handle=max hca_object=max\n"),
            ("rdma.current", "a hca_handle=1 hca_object=2\n"),
        ] {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        let cgroup = Directory::open(folder.path().to_owned()).unwrap();
        let found = stats(&cgroup).unwrap();
        assert_eq!((found.cpu.throttling.bursts, found.cpu.throttling.burst_time), (2, 3000));
        let memory = &found.memory;
        assert_eq!((memory.usage.usage, memory.usage.limit), (100, 1000));
        assert_eq!((memory.swap_alone.usage, memory.swap_alone.limit), (20, u64::MAX));
        assert_eq!((memory.swap.usage, memory.swap.limit), (120, u64::MAX));
        assert_eq!(memory.events["oom_kill"], 4);
        let device =
            |device: &str, handles, objects| Rdma { device: device.to_owned(), handles, objects };
        let max = u64::MAX;
        assert_eq!(found.rdma, [device("a", (1, 5), (2, max)), device("b", (0, max), (0, max))]);
        // What has no name in runc's statistics is not written.
        let written = serde_json::to_value(&found).unwrap();
        assert!(written["memory"].get("events").is_none() && written.get("rdma").is_none());
    }

    #[test]
    fn pressure_needs_no_controller() {
        let folder = tempfile::tempdir().unwrap();
        let some = "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        std::fs::write(folder.path().join("memory.pressure"), some).unwrap();
        let found = stats(&Directory::open(folder.path().to_owned()).unwrap()).unwrap();
        assert!(found.memory.psi.is_some() && found.memory.raw.is_empty());
    }
}
