//! Profiles that nobody would write, against the naive reading.

use orlop::compile::seccomp::{Machine, compile_for};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::profiles::{agree, numbers, values};
use crate::reference::{Abi, NUMBERS, Reference};
use crate::simulator::{self, Data};

const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

fn action(last: usize) -> impl Strategy<Value = (&'static str, Option<u32>)> {
    (select(&ACTIONS[..last]), prop::option::of(0..4096_u32)).prop_map(|(action, errno)| {
        (action, errno.filter(|_| matches!(action, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE")))
    })
}

fn arg() -> impl Strategy<Value = Value> {
    let value = || prop_oneof![0..4_u64, any::<u32>().prop_map(u64::from), any::<u64>()];
    (0..6_u8, value(), value(), select(&OPERATORS[..])).prop_map(|(index, value, two, op)| {
        json!({ "index": index, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{op}") })
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let mut pool: Vec<&str> =
        NUMBERS.keys().copied().filter(|name| !matches!(*name, "read" | "write")).collect();
    pool.push("frobnicate");
    pool.sort_unstable();
    // A few names come again and again, so that rules meet.
    let often = vec!["socket", "socketcall", "ipc", "semget", "clone", "dup", "rt_sigaction"];
    let name = prop_oneof![1 => select(often), 4 => select(pool)];
    let args = prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(arg(), 1..4)];
    (prop::collection::vec(name, 1..30), action(ACTIONS.len()), args).prop_map(
        |(names, (action, errno), args)| {
            json!({ "names": names, "action": action, "errnoRet": errno, "args": args })
        },
    )
}

fn profile() -> impl Strategy<Value = (Value, Machine, Vec<Abi>)> {
    let rules = prop::collection::vec(rule(), 0..40);
    let archs = prop::sample::subsequence(Abi::ALL.to_vec(), 0..=6);
    let machine = select(vec![Machine::X86_64, Machine::Aarch64, Machine::Riscv64]);
    (action(8), rules, archs, machine).prop_map(|((action, errno), rules, archs, machine)| {
        let own: &[Abi] = match machine {
            Machine::X86_64 => &[Abi::X86_64, Abi::X86, Abi::X32],
            Machine::Aarch64 => &[Abi::Aarch64, Abi::Arm],
            Machine::Riscv64 => &[Abi::Riscv64],
        };
        let covered =
            own.iter().copied().filter(|abi| *abi == own[0] || archs.contains(abi)).collect();
        let names: Vec<_> = archs.iter().map(|abi| abi.name()).collect();
        let profile = json!({
            "defaultAction": action, "defaultErrnoRet": errno, "architectures": names,
            "listenerPath": "/run/agent.sock", "syscalls": rules,
        });
        (profile, machine, covered)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_profiles((profile, machine, abis) in profile(), seed in any::<u64>()) {
        let seccomp = serde_json::from_value(profile.clone()).unwrap();
        let filter = compile_for(machine, &seccomp, "").unwrap();
        let program = simulator::Machine::new(&filter.program);
        let reference = Reference::new(&profile, &abis);
        let values = values(&profile);
        let mut state = seed | 1;
        let mut pick = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            values[(state >> 33) as usize % values.len()]
        };
        for abi in Abi::ALL {
            for nr in numbers() {
                for _ in 0..3 {
                    let args = std::array::from_fn(|_| pick());
                    let data = Data { nr, arch: abi.audit(), ip: 1, args };
                    prop_assert_eq!(program.run(&data).0, reference.verdict(&data), "{:x?}", data);
                }
            }
        }
    }
}

/// Each call with an answer of its own: no two numbers share a segment, and all
/// jumps are long.
#[test]
fn a_different_answer_for_each_call() {
    let mut names: Vec<_> = NUMBERS.keys().copied().collect();
    names.sort_unstable();
    let rules: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, name)| json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": n + 2 }))
        .collect();
    let archs: Vec<_> = Abi::ALL.iter().map(|abi| abi.name()).collect();
    let profile =
        json!({ "defaultAction": "SCMP_ACT_KILL", "architectures": archs, "syscalls": rules });
    agree(Machine::X86_64, &profile, &[Abi::X86_64, Abi::X86, Abi::X32]);
    agree(Machine::Aarch64, &profile, &[Abi::Aarch64, Abi::Arm]);
}
