//! What a process can tell of itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::utsname::uname;
use nix::unistd;
use serde_json::{Map, Value, json};

use super::mountinfo;

/// Everything at once.
pub(crate) fn report() -> Map<String, Value> {
    let mut document = Map::new();
    let mut add = |name: &str, value: Value| drop(document.insert(name.to_owned(), value));
    let proc = "/proc/self";
    let status = status(proc);
    let field = |name: &str| status.get(name).cloned().unwrap_or_default();
    add("args", json!(std::env::args().collect::<Vec<_>>()));
    add("env", environment());
    add("cwd", json!(std::env::current_dir().ok()));
    add("pid", json!(unistd::getpid().as_raw()));
    add("parent", json!(unistd::getppid().as_raw()));
    add("session", json!(unistd::getsid(None).ok().map(unistd::Pid::as_raw)));
    add("uid", numbers(&field("Uid")));
    add("gid", numbers(&field("Gid")));
    add("groups", numbers(&field("Groups")));
    add("umask", json!(field("Umask").trim_start_matches('0')));
    add("capabilities", capabilities(&status));
    add("noNewPrivileges", json!(field("NoNewPrivs") == "1"));
    add("seccomp", json!(field("Seccomp").parse::<u8>().unwrap_or_default()));
    add("cpus", json!(field("Cpus_allowed_list")));
    add("nodes", json!(field("Mems_allowed_list")));
    add("blocked", json!(field("SigBlk")));
    add("ignored", json!(field("SigIgn")));
    add("rlimits", rlimits());
    add("namespaces", namespaces(proc));
    add("mounts", mountinfo::mounts());
    add("descriptors", descriptors());
    add("cgroups", lines(proc, "cgroup"));
    add("oomScoreAdj", number(proc, "oom_score_adj"));
    add("personality", line(proc, "personality"));
    add("clocks", clocks(proc));
    add("uidMap", map(proc, "uid_map"));
    add("gidMap", map(proc, "gid_map"));
    add("setgroups", line(proc, "setgroups"));
    add("scheduler", scheduler(proc));
    add("memoryPolicy", memory_policy(proc));
    add("label", line(proc, "attr/current"));
    add("interfaces", interfaces());
    if let Ok(names) = uname() {
        add("hostname", json!(names.nodename().to_string_lossy()));
        add("domainname", json!(names.domainname().to_string_lossy()));
        add("machine", json!(names.machine().to_string_lossy()));
    }
    document
}

/// Which namespaces a process is in, by its folder in /proc.
pub(crate) fn namespaces(proc: &str) -> Value {
    let kinds = [
        ("cgroup", "cgroup"),
        ("ipc", "ipc"),
        ("mount", "mnt"),
        ("network", "net"),
        ("pid", "pid"),
        ("time", "time"),
        ("user", "user"),
        ("uts", "uts"),
    ];
    let read = |file: &str| {
        let link = fs::read_link(format!("{proc}/ns/{file}")).ok()?;
        Some(link.to_string_lossy().into_owned())
    };
    kinds.iter().map(|(name, file)| ((*name).to_owned(), json!(read(file)))).collect()
}

fn text(proc: &str, file: &str) -> Option<String> {
    fs::read_to_string(format!("{proc}/{file}")).ok()
}

fn line(proc: &str, file: &str) -> Value {
    json!(text(proc, file).map(|text| text.trim_end_matches(['\n', '\0']).to_owned()))
}

fn lines(proc: &str, file: &str) -> Value {
    json!(text(proc, file).unwrap_or_default().lines().collect::<Vec<_>>())
}

fn number(proc: &str, file: &str) -> Value {
    json!(text(proc, file).and_then(|text| text.trim().parse::<i64>().ok()))
}

/// /proc/PID/status as a map.
fn status(proc: &str) -> BTreeMap<String, String> {
    let text = text(proc, "status").unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn numbers(text: &str) -> Value {
    json!(text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()).collect::<Vec<_>>())
}

/// In the order and the number in which they are there, duplicates too.
fn environment() -> Value {
    let raw = fs::read("/proc/self/environ").unwrap_or_default();
    let text = String::from_utf8_lossy(&raw);
    json!(text.split_terminator('\0').collect::<Vec<_>>())
}

/// Bits in hexadecimal, one string a set: names are the case's business.
fn capabilities(status: &BTreeMap<String, String>) -> Value {
    let sets = [
        ("inheritable", "CapInh"),
        ("permitted", "CapPrm"),
        ("effective", "CapEff"),
        ("bounding", "CapBnd"),
        ("ambient", "CapAmb"),
    ];
    let names = |field: &str| {
        let bits = status.get(field).and_then(|text| u64::from_str_radix(text, 16).ok())?;
        Some(
            (0..64_usize)
                .filter(|bit| bits & (1 << bit) != 0)
                .map(|bit| CAPABILITIES.get(bit).map_or(format!("{bit}"), |n| format!("CAP_{n}")))
                .collect::<Vec<_>>(),
        )
    };
    sets.iter().map(|(name, field)| ((*name).to_owned(), json!(names(field)))).collect()
}

/// By their number, capabilities(7).
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn rlimits() -> Value {
    let kinds = [
        ("RLIMIT_AS", Resource::RLIMIT_AS),
        ("RLIMIT_CORE", Resource::RLIMIT_CORE),
        ("RLIMIT_CPU", Resource::RLIMIT_CPU),
        ("RLIMIT_DATA", Resource::RLIMIT_DATA),
        ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
        ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
        ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
        ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
        ("RLIMIT_NICE", Resource::RLIMIT_NICE),
        ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
        ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
        ("RLIMIT_RSS", Resource::RLIMIT_RSS),
        ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
        ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
        ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
        ("RLIMIT_STACK", Resource::RLIMIT_STACK),
    ];
    let read = |kind| {
        let (soft, hard) = getrlimit(kind).ok()?;
        Some(json!({ "soft": soft, "hard": hard }))
    };
    kinds.iter().map(|(name, kind)| ((*name).to_owned(), json!(read(*kind)))).collect()
}

/// Open files by number, but for the one that lists them.
fn descriptors() -> Value {
    let folder = Path::new("/proc/self/fd");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut open = Map::new();
    for entry in entries {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        if !target.starts_with("/proc/") || !target.ends_with("/fd") {
            open.insert(entry.file_name().to_string_lossy().into_owned(), json!(target));
        }
    }
    Value::Object(open)
}

/// Seconds and nanoseconds by which a time namespace shifts each clock.
fn clocks(proc: &str) -> Value {
    let text = text(proc, "timens_offsets").unwrap_or_default();
    let mut clocks = Map::new();
    for line in text.lines() {
        if let [name, secs, nanosecs] = line.split_whitespace().collect::<Vec<_>>()[..] {
            let number = |text: &str| text.parse::<i64>().ok();
            let offset = json!({ "secs": number(secs), "nanosecs": number(nanosecs) });
            clocks.insert(name.to_owned(), offset);
        }
    }
    Value::Object(clocks)
}

/// `[[inside, outside, size], …]`
fn map(proc: &str, file: &str) -> Value {
    let text = text(proc, file).unwrap_or_default();
    text.lines().map(numbers).collect()
}

/// Fields 18, 19, 40 and 41 of /proc/PID/stat: the last closing bracket ends the
/// second one.
fn scheduler(proc: &str) -> Value {
    let text = text(proc, "stat").unwrap_or_default();
    let fields: Vec<&str> =
        text.rsplit_once(") ").map_or(vec![], |(_, rest)| rest.split(' ').collect());
    let number = |at: usize| fields.get(at - 3).and_then(|word| word.parse::<i64>().ok());
    let policies = [
        "SCHED_OTHER",
        "SCHED_FIFO",
        "SCHED_RR",
        "SCHED_BATCH",
        "ISO",
        "SCHED_IDLE",
        "SCHED_DEADLINE",
    ];
    let policy = number(41).and_then(|policy| policies.get(usize::try_from(policy).ok()?));
    json!({ "policy": policy, "nice": number(19), "priority": number(40) })
}

/// The policy of the process is that of its first mapping.
fn memory_policy(proc: &str) -> Value {
    let text = text(proc, "numa_maps").unwrap_or_default();
    json!(text.lines().next().and_then(|line| line.split(' ').nth(1)))
}

/// Network devices by name: whether they are up, and their addresses.
fn interfaces() -> Value {
    let mut found: BTreeMap<String, (bool, Vec<String>)> = BTreeMap::new();
    for address in getifaddrs().into_iter().flatten() {
        let entry = found.entry(address.interface_name.clone()).or_default();
        entry.0 |= address.flags.contains(InterfaceFlags::IFF_UP);
        let Some(own) = address.address else { continue };
        let v4 = own.as_sockaddr_in().map(|own| own.ip().to_string());
        let v6 = own.as_sockaddr_in6().map(|own| own.ip().to_string());
        entry.1.extend(v4.or(v6));
    }
    found
        .into_iter()
        .map(|(name, (up, addresses))| (name, json!({ "up": up, "addresses": addresses })))
        .collect()
}
