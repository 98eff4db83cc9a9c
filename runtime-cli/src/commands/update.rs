//! `update`: limits of a running container, from flags or from a file.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use orlop::bundle::parse_resources;

use super::{Call, size};

#[derive(Debug, Default, Args)]
pub(super) struct Arguments {
    /// Read linux.resources from this file ("-": stdin); no other flag counts then
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// Period of the CPU limit, in microseconds
    #[arg(long, value_name = "N")]
    cpu_period: Option<u64>,
    /// CPU time in each period, in microseconds; -1 for no limit
    #[arg(long, value_name = "N")]
    cpu_quota: Option<i64>,
    /// Unused CPU time that a period may borrow, in microseconds
    #[arg(long, value_name = "N")]
    cpu_burst: Option<u64>,
    /// Weight of CPU time
    #[arg(long, value_name = "N")]
    cpu_share: Option<u64>,
    /// Period of the real-time limit, in microseconds (cgroup v1)
    #[arg(long, value_name = "N")]
    cpu_rt_period: Option<u64>,
    /// Real-time CPU time in each period, in microseconds (cgroup v1)
    #[arg(long, value_name = "N")]
    cpu_rt_runtime: Option<i64>,
    /// Whether to run only when the CPU is idle: 0 or 1
    #[arg(long, value_name = "N")]
    cpu_idle: Option<i64>,
    /// CPUs to run on
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to allocate from
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory; -1 for no limit
    #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
    memory: Option<i64>,
    /// Memory that is left to the container when it is short
    #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
    memory_reservation: Option<i64>,
    /// Memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
    memory_swap: Option<i64>,
    /// Processes and threads; -1 for no limit
    #[arg(long, value_name = "N")]
    pids_limit: Option<i64>,
    /// Kernel memory: without effect
    #[arg(long, hide = true)]
    kernel_memory: Option<String>,
    /// Kernel memory for TCP: without effect
    #[arg(long, hide = true)]
    kernel_memory_tcp: Option<String>,
    /// L3 cache of the container's class of Intel RDT
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Memory bandwidth of the container's class of Intel RDT
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    call.arguments = without_empty(std::mem::take(&mut call.arguments));
    let arguments: Arguments = call.parse()?;
    if arguments.kernel_memory.is_some() || arguments.kernel_memory_tcp.is_some() {
        log::warn!("kernel memory settings are ignored: the kernel has none any more");
    }
    let container = call.open(&arguments.id)?;
    let resources = match &arguments.resources {
        Some(file) => read(file)?,
        None => arguments.resources(),
    };
    let (cache, bandwidth) = (arguments.l3_cache_schema, arguments.mem_bw_schema);
    if cache.is_some() || bandwidth.is_some() {
        container.update_class(cache, bandwidth)?;
        if resources == LinuxResources::default() {
            return Ok(0);
        }
    }
    container.update(&resources)?;
    Ok(0)
}

/// COMPAT(runc): a flag with nothing as its value is none. Each flag has a value here.
fn without_empty(arguments: Vec<OsString>) -> Vec<OsString> {
    let flag = |bytes: &[u8]| bytes.len() > 1 && bytes[0] == b'-' && !bytes.contains(&b'=');
    let mut kept: Vec<OsString> = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let bytes = argument.as_encoded_bytes();
        if argument.is_empty() && kept.last().is_some_and(|last| flag(last.as_encoded_bytes())) {
            kept.pop();
        } else if !bytes.strip_suffix(b"=").is_some_and(flag) {
            kept.push(argument);
        }
    }
    kept
}

fn read(file: &PathBuf) -> anyhow::Result<LinuxResources> {
    let text = match file.to_str() {
        Some("-") => super::text(Ok(std::io::stdin()), file)?,
        _ => super::text_of(file)?,
    };
    parse_resources(&text).with_context(|| format!("reading the limits in {file:?}"))
}

impl Arguments {
    /// What the flags say; a part without any flag stays absent.
    fn resources(&self) -> LinuxResources {
        let mut resources = LinuxResources::default();
        let mut memory = LinuxMemory::default();
        memory.set_limit(self.memory).set_swap(self.memory_swap);
        memory.set_reservation(self.memory_reservation);
        let mut cpu = LinuxCpu::default();
        cpu.set_period(self.cpu_period).set_quota(self.cpu_quota).set_burst(self.cpu_burst);
        cpu.set_shares(self.cpu_share).set_idle(self.cpu_idle);
        cpu.set_realtime_period(self.cpu_rt_period).set_realtime_runtime(self.cpu_rt_runtime);
        cpu.set_cpus(self.cpuset_cpus.clone()).set_mems(self.cpuset_mems.clone());
        let mut block_io = LinuxBlockIo::default();
        // COMPAT(runc): 0 is no weight.
        block_io.set_weight(self.blkio_weight.filter(|weight| *weight != 0));
        let pids = self.pids_limit.map(|limit| {
            let mut pids = LinuxPids::default();
            pids.set_limit(limit);
            pids
        });
        resources.set_memory(said(memory)).set_cpu(said(cpu)).set_block_io(said(block_io));
        resources.set_pids(pids);
        resources
    }
}

/// `part`, if it says anything.
fn said<T: Default + PartialEq>(part: T) -> Option<T> {
    Some(part).filter(|part| *part != T::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> anyhow::Result<Arguments> {
        let words = line.split(' ').map(|word| word.trim_matches('"').into()).collect();
        let command = Arguments::augment_args(clap::Command::new("update"));
        crate::args::parse(command, without_empty(words))
    }

    fn resources(line: &str) -> LinuxResources {
        parsed(line).unwrap().resources()
    }

    #[test]
    fn flags_become_resources() {
        let found = resources(
            "--memory 1m --memory-swap=-1 --memory-reservation 512k --cpu-quota -1 \
             --cpu-period 100000 --cpu-share 2 --cpu-burst 3 --cpu-idle 1 --cpu-rt-period 4 \
             --cpu-rt-runtime 5 --cpuset-cpus 0-1 --cpuset-mems 0 --pids-limit -1 \
             --blkio-weight 500 x",
        );
        let wanted: LinuxResources = serde_json::from_str(
            r#"{"memory": {"limit": 1048576, "swap": -1, "reservation": 524288},
                "cpu": {"quota": -1, "period": 100000, "shares": 2, "burst": 3, "idle": 1,
                        "realtimePeriod": 4, "realtimeRuntime": 5, "cpus": "0-1", "mems": "0"},
                "pids": {"limit": -1}, "blockIO": {"weight": 500}}"#,
        )
        .unwrap();
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_is_not_said_is_absent() {
        assert_eq!(resources("x"), LinuxResources::default());
        assert_eq!(resources("--blkio-weight 0 x"), LinuxResources::default());
        assert!(resources("--pids-limit 0 x").pids().is_some());
        let line = r#"--memory "" --cpu-quota= --pids-limit "" -r "" --cpuset-cpus "" x"#;
        assert_eq!(resources(line), LinuxResources::default());
        assert!(parsed(line).unwrap().resources.is_none());
        assert!(parsed(r#"--memory 1m """#).is_ok_and(|arguments| arguments.id.is_empty()));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for line in ["--memory lots x", "--cpu-period -1 x", "--pids-limit 1.5 x", "--memory"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
