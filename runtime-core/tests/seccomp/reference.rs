//! A naive reading of a profile: for one call, walk all rules of the JSON.
//!
//! It shares nothing with the compiler, not even the table of numbers.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::simulator::Data;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
}

pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
pub(crate) const ENOSYS: u32 = 0x0005_0026;
const X32_BIT: u32 = 1 << 30;

impl Abi {
    pub(crate) const ALL: [Self; 6] =
        [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm, Self::Riscv64];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
            Self::Riscv64 => "SCMP_ARCH_RISCV64",
        }
    }

    pub(crate) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
        }
    }

    fn has_32_bits(self) -> bool {
        matches!(self, Self::X86 | Self::X32 | Self::Arm)
    }
}

/// Name → number on each ABI, x32's with bit 30.
pub(crate) static NUMBERS: LazyLock<HashMap<&'static str, [Option<u32>; 6]>> =
    LazyLock::new(|| {
        include_str!("../data/syscalls.tsv")
            .lines()
            .skip(1)
            .map(|line| {
                let mut fields = line.split('\t');
                let name = fields.next().unwrap();
                let numbers: Vec<_> = fields.map(|field| field.parse().ok()).collect();
                (name, numbers.try_into().unwrap())
            })
            .collect()
    });

pub(crate) fn number(abi: Abi, name: &str) -> Option<u32> {
    NUMBERS.get(name)?[abi as usize]
}

/// The value of an action.
fn value(action: &Value, errno: &Value) -> u32 {
    let data = errno.as_u64().unwrap_or(1) as u32;
    match action.as_str().unwrap() {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | data,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | data,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        other => panic!("{other}"),
    }
}

fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object[key].as_array().map_or(&[], Vec::as_slice)
}

fn holds(arg: &Value, data: &Data, abi: Abi) -> bool {
    let cut = |value: u64| if abi.has_32_bits() { u64::from(value as u32) } else { value };
    let actual = cut(data.args[arg["index"].as_u64().unwrap() as usize]);
    let value = cut(arg["value"].as_u64().unwrap());
    let two = cut(arg["valueTwo"].as_u64().unwrap_or(0));
    match arg["op"].as_str().unwrap() {
        "SCMP_CMP_NE" => actual != value,
        "SCMP_CMP_LT" => actual < value,
        "SCMP_CMP_LE" => actual <= value,
        "SCMP_CMP_EQ" => actual == value,
        "SCMP_CMP_GE" => actual >= value,
        "SCMP_CMP_GT" => actual > value,
        "SCMP_CMP_MASKED_EQ" => actual & value == two & value,
        other => panic!("{other}"),
    }
}

fn matches(rule: &Value, data: &Data, abi: Abi) -> bool {
    let args = list(rule, "args");
    let mut indexes: Vec<_> = args.iter().map(|arg| arg["index"].as_u64()).collect();
    indexes.sort_unstable();
    indexes.dedup();
    if indexes.len() < args.len() {
        args.iter().any(|arg| holds(arg, data, abi))
    } else {
        args.iter().all(|arg| holds(arg, data, abi))
    }
}

/// The call that a multiplexer of x86 stands for.
fn behind(name: &str, data: &Data) -> &'static [&'static str] {
    const SOCKET: [&str; 21] = [
        "",
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    let low = data.args[0] as u32;
    match (name, low, low & 0xffff) {
        ("socketcall", number @ 1..=20, _) => &SOCKET[number as usize..=number as usize],
        ("ipc", _, 1) => &["semop"],
        ("ipc", _, 2) => &["semget"],
        ("ipc", _, 3) => &["semctl"],
        ("ipc", _, 4) => &["semtimedop"],
        ("ipc", _, 11) => &["msgsnd"],
        ("ipc", _, 12) => &["msgrcv"],
        ("ipc", _, 13) => &["msgget"],
        ("ipc", _, 14) => &["msgctl"],
        ("ipc", _, 21) => &["shmat"],
        ("ipc", _, 22) => &["shmdt"],
        ("ipc", _, 23) => &["shmget"],
        ("ipc", _, 24) => &["shmctl"],
        _ => &[],
    }
}

pub(crate) struct Reference<'a> {
    profile: &'a Value,
    abis: &'a [Abi],
    default: u32,
    /// By ABI: names of each number, and the newest number named.
    names: HashMap<(u8, u32), Vec<&'static str>>,
    newest: HashMap<u8, u32>,
}

impl<'a> Reference<'a> {
    /// `abis` are those that the machine runs and the profile names.
    pub(crate) fn new(profile: &'a Value, abis: &'a [Abi]) -> Self {
        let default = value(&profile["defaultAction"], &profile["defaultErrnoRet"]);
        let mut names: HashMap<_, Vec<_>> = HashMap::new();
        let mut newest = HashMap::new();
        let named: Vec<_> = list(profile, "syscalls")
            .iter()
            .flat_map(|rule| list(rule, "names"))
            .map(|name| name.as_str().unwrap())
            .collect();
        for abi in Abi::ALL {
            for (name, numbers) in NUMBERS.iter() {
                let Some(number) = numbers[abi as usize] else { continue };
                names.entry((abi as u8, number)).or_default().push(*name);
                let ordinary = match abi {
                    Abi::X32 => !(512..548).contains(&(number & !X32_BIT)),
                    Abi::Arm => number < 0xf0000,
                    _ => true,
                };
                if ordinary && named.contains(name) {
                    let entry = newest.entry(abi as u8).or_insert(number);
                    *entry = number.max(*entry);
                }
            }
        }
        Self { profile, abis, default, names, newest }
    }

    pub(crate) fn verdict(&self, data: &Data) -> u32 {
        let permits = matches!(self.default >> 16, 0x7ff0 | 0x7ffc | 0x7fff);
        let stub = |abi: Abi| self.newest.get(&(abi as u8)).filter(|_| !permits).copied();
        let mut abi = Abi::ALL.into_iter().find(|abi| abi.audit() == data.arch);
        if abi == Some(Abi::X86_64) && data.nr >= X32_BIT && self.abis.contains(&Abi::X32) {
            abi = Some(Abi::X32);
        }
        let Some(abi) = abi.filter(|abi| self.abis.contains(abi)) else { return KILL_PROCESS };
        if abi == Abi::X86_64 && data.nr >= X32_BIT {
            // The profile is for x86_64 without x32.
            return match (stub(abi), data.nr) {
                (Some(_), _) => ENOSYS,
                (None, u32::MAX) => self.default,
                (None, _) => KILL_PROCESS,
            };
        }
        let none = Vec::new();
        let names = self.names.get(&(abi as u8, data.nr)).unwrap_or(&none);
        if let Some(value) = self.by_rules(names, data, abi) {
            return value;
        }
        if abi == Abi::X86
            && let Some(inner) = names.iter().map(|name| behind(name, data)).find(|n| !n.is_empty())
            && let Some(value) = self.multiplexed(inner)
        {
            return value;
        }
        let reserved = match abi {
            Abi::X32 => (512..548).contains(&(data.nr & !X32_BIT)),
            Abi::Arm => (0xf0000..0xf0010).contains(&data.nr),
            _ => false,
        };
        match stub(abi) {
            Some(newest) if data.nr > newest && !reserved && !self.is_named(names) => ENOSYS,
            _ => self.default,
        }
    }

    fn rules(&self) -> impl Iterator<Item = (&Value, u32)> {
        list(self.profile, "syscalls")
            .iter()
            .map(|rule| (rule, value(&rule["action"], &rule["errnoRet"])))
            .filter(|(_, value)| *value != self.default)
    }

    fn names(rule: &Value, names: &[&str]) -> bool {
        list(rule, "names").iter().any(|name| names.contains(&name.as_str().unwrap()))
    }

    /// Whether a rule with arguments speaks of the call.
    fn is_named(&self, names: &[&str]) -> bool {
        self.rules().any(|(rule, _)| Self::names(rule, names))
    }

    fn by_rules(&self, names: &[&str], data: &Data, abi: Abi) -> Option<u32> {
        let mut about = self.rules().filter(|(rule, _)| Self::names(rule, names));
        let plain = |rule: &Value| list(rule, "args").is_empty();
        let unconditional = self.rules().find(|(rule, _)| Self::names(rule, names) && plain(rule));
        unconditional.or_else(|| about.find(|(rule, _)| matches(rule, data, abi))).map(|r| r.1)
    }

    /// What the rules for a call say of it when its arguments can't be seen.
    fn multiplexed(&self, inner: &[&str]) -> Option<u32> {
        let strictness = |value: u32| (value & 0xffff_0000) as i32;
        let about = || self.rules().filter(|(rule, _)| Self::names(rule, inner));
        about()
            .find(|(rule, _)| list(rule, "args").is_empty())
            .or_else(|| about().find(|rule| strictness(rule.1) <= strictness(self.default)))
            .map(|rule| rule.1)
    }
}
