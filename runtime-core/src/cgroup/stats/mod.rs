//! What the processes of a cgroup have used, and how often they were held back.
//!
//! The same numbers for both versions of cgroups. Decides what they mean; knows no
//! file: `v1.rs` and `v2.rs` read them, `text.rs` knows how such files are written.
//!
//! COMPAT(runc): the names, and what is left out when it is nothing, are those of the
//! statistics that `runc events` prints, which engines read. What it has no name for is
//! not written: fields that say so are for callers of the library.

mod text;
pub(super) mod v1;
pub(super) mod v2;

use std::collections::BTreeMap;

use serde::Serialize;

/// Statistics of a cgroup and of all below it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Whether they are of a cgroup v2. Not written.
    #[serde(skip)]
    pub unified: bool,
    /// Time of the processors.
    pub cpu: Cpu,
    /// Which processors and memory nodes; v1 only.
    pub cpuset: CpuSet,
    /// Memory, in bytes.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub blkio: BlockIo,
    /// Huge pages, by their size (`2MB`).
    pub hugetlb: BTreeMap<String, HugePages>,
    /// Devices for remote DMA: what is used, and the most that may be. Not written.
    #[serde(skip)]
    pub rdma: Vec<Rdma>,
}

/// Time of the processors.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// What was used.
    pub usage: CpuUsage,
    /// How often a quota was used up.
    #[serde(skip_serializing_if = "is_nothing")]
    pub throttling: Throttling,
    /// How long tasks waited for a processor; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Time in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// All of it.
    #[serde(skip_serializing_if = "is_nothing")]
    pub total: u64,
    /// The same for each processor; v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, for each processor; v1 only.
    #[serde(rename = "percpu_kernel", skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In programs, for each processor; v1 only.
    #[serde(rename = "percpu_user", skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
}

/// How often a quota was used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which anything ran.
    #[serde(skip_serializing_if = "is_nothing")]
    pub periods: u64,
    /// Those in which the quota did not last.
    #[serde(skip_serializing_if = "is_nothing")]
    pub throttled_periods: u64,
    /// For how long all in all, in nanoseconds.
    #[serde(skip_serializing_if = "is_nothing")]
    pub throttled_time: u64,
    /// Periods with more than the quota (`cpu.max.burst`); v2 only. Not written.
    #[serde(skip)]
    pub bursts: u64,
    /// By how much all in all, in nanoseconds. Not written.
    #[serde(skip)]
    pub burst_time: u64,
}

/// The files of a v1 cpuset (cpuset(7)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuSet {
    /// Numbers of the processors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// 1: no other set has them.
    pub cpu_exclusive: u64,
    /// Numbers of the memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// 1: the kernel's own memory comes from them too.
    pub mem_hardwall: u64,
    /// 1: no other set has them.
    pub mem_exclusive: u64,
    /// 1: memory moves when the set changes.
    pub memory_migrate: u64,
    /// 1: the page cache is spread over the nodes.
    pub memory_spread_page: u64,
    /// 1: the kernel's objects are.
    pub memory_spread_slab: u64,
    /// How hard it is to find memory there.
    pub memory_pressure: u64,
    /// 1: tasks are moved between the processors.
    pub sched_load_balance: u64,
    /// How far; -1 is the system's default.
    pub sched_relax_domain_level: i64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    /// The page cache.
    #[serde(skip_serializing_if = "is_nothing")]
    pub cache: u64,
    /// All of it.
    #[serde(skip_serializing_if = "is_nothing")]
    pub usage: MemoryUse,
    /// Memory and swap together.
    #[serde(skip_serializing_if = "is_nothing")]
    pub swap: MemoryUse,
    /// The kernel's own; v1 only.
    #[serde(skip_serializing_if = "is_nothing")]
    pub kernel: MemoryUse,
    /// Buffers of TCP; v1 only.
    #[serde(rename = "kernelTCP", skip_serializing_if = "is_nothing")]
    pub kernel_tcp: MemoryUse,
    /// `memory.stat` as the kernel has it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Swap alone; v2 only. Not written.
    #[serde(skip)]
    pub swap_alone: MemoryUse,
    /// How often the limits were met, and processes ended: `memory.events` (v2) or
    /// `memory.oom_control` (v1) as the kernel has it. Not written.
    #[serde(skip)]
    pub events: BTreeMap<String, u64>,
    /// How long tasks waited for memory; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// A count of bytes with its limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// The most that there may be; `u64::MAX` for no limit.
    pub limit: u64,
    /// What there is.
    #[serde(skip_serializing_if = "is_nothing")]
    pub usage: u64,
    /// The most that there was.
    #[serde(skip_serializing_if = "is_nothing")]
    pub max: u64,
    /// How often the limit was met; v1 only.
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// How many there are.
    #[serde(skip_serializing_if = "is_nothing")]
    pub current: u64,
    /// How many there may be, 0 for any number.
    #[serde(skip_serializing_if = "is_nothing")]
    pub limit: u64,
}

/// Block devices: one entry for each and each direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockEntry>,
    /// Requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockEntry>,
    /// Requests that wait; v1 with BFQ only, as all below.
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlockEntry>,
    /// Time in the device, in nanoseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlockEntry>,
    /// Time in the queue, in nanoseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlockEntry>,
    /// Requests that became part of others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlockEntry>,
    /// Time that a device was the cgroup's own, in milliseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlockEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlockEntry>,
    /// How long tasks waited for devices; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One number of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlockEntry {
    /// The device's major number.
    #[serde(skip_serializing_if = "is_nothing")]
    pub major: u64,
    /// The device's minor number.
    #[serde(skip_serializing_if = "is_nothing")]
    pub minor: u64,
    /// `Read`, `Write` and so on; empty where it is one number for all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The number.
    #[serde(skip_serializing_if = "is_nothing")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// What there is.
    #[serde(skip_serializing_if = "is_nothing")]
    pub usage: u64,
    /// The most that there was; v1 only.
    #[serde(skip_serializing_if = "is_nothing")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// A device for remote DMA; `u64::MAX` for no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rdma {
    /// Its name.
    pub device: String,
    /// Handles, and the most of them.
    pub handles: (u64, u64),
    /// Objects, and the most of them.
    pub objects: (u64, u64),
}

/// How long tasks stood still for want of something (Linux, accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one of them.
    pub some: Stall,
    /// All of them at once.
    pub full: Stall,
}

/// Shares of the time in per cent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stall {
    /// Of the last ten seconds.
    pub avg10: f64,
    /// Of the last minute.
    pub avg60: f64,
    /// Of the last five minutes.
    pub avg300: f64,
    /// All in all, in microseconds.
    pub total: u64,
}

fn is_nothing<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The sizes of huge pages that this machine has, as files of cgroups name them.
fn huge_page_sizes() -> Vec<String> {
    let Ok(folders) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let name = |folder: std::fs::DirEntry| {
        let name = folder.file_name().into_string().ok()?;
        size_name(name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?)
    };
    let mut sizes: Vec<String> = folders.filter_map(|folder| name(folder.ok()?)).collect();
    sizes.sort();
    sizes
}

/// A size in KiB as `hugetlb_cgroup.c` writes it.
fn size_name(kilobytes: u64) -> Option<String> {
    Some(match kilobytes {
        0 => return None,
        size if size % (1 << 20) == 0 => format!("{}GB", size >> 20),
        size if size % (1 << 10) == 0 => format!("{}MB", size >> 10),
        size => format!("{size}KB"),
    })
}
