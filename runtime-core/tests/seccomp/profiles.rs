//! Whole profiles: each number of each ABI, with arguments around the boundaries.

use orlop::compile::seccomp::{Filter, Machine, compile_for};
use serde_json::{Value, json};

use crate::reference::{Abi, Reference};
use crate::simulator::{self, Data};

pub(crate) fn docker() -> Value {
    let config: Value =
        serde_json::from_str(include_str!("../data/docker-20.10/config.json")).unwrap();
    config["linux"]["seccomp"].clone()
}

pub(crate) fn compile(machine: Machine, profile: &Value) -> Filter {
    let seccomp = serde_json::from_value(profile.clone()).unwrap();
    compile_for(machine, &seccomp, "/linux/seccomp").unwrap_or_else(|errors| {
        panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })
}

/// Numbers worth a look: all that exist, gaps, the private ones, the extremes.
pub(crate) fn numbers() -> impl Iterator<Item = u32> {
    const X32: u32 = 1 << 30;
    let edges = [0xeffff, 0xf0010, 0xf0011, X32 - 1, 1 << 31, u32::MAX - 1, u32::MAX];
    (0..1100).chain(X32..X32 + 1100).chain(0xf0000..0xf0010).chain(edges)
}

/// Values of arguments: those that the profile names, their neighbours, and the
/// same with other high halves.
pub(crate) fn values(profile: &Value) -> Vec<u64> {
    let mut values = vec![0, 1, 2, 21, 0x10001, u64::MAX];
    for rule in profile["syscalls"].as_array().into_iter().flatten() {
        for arg in rule["args"].as_array().into_iter().flatten() {
            for key in ["value", "valueTwo"] {
                let Some(value) = arg[key].as_u64() else { continue };
                let near = [value, value.wrapping_sub(1), value.wrapping_add(1), !value];
                values.extend(near);
                values.extend(near.map(|value| value ^ (1 << 32)));
                values.extend(near.map(|value| value & 0xffff_ffff));
            }
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// Compares the program with the naive reading over all numbers, each with all
/// values in each argument that the profile looks at.
pub(crate) fn agree(machine: Machine, profile: &Value, abis: &[Abi]) {
    let filter = compile(machine, profile);
    let program = simulator::Machine::new(&filter.program);
    let reference = Reference::new(profile, abis);
    let values = values(profile);
    let archs = Abi::ALL.map(Abi::audit).into_iter().chain([0, 0x0000_00f3]);
    for arch in archs {
        for nr in numbers() {
            for (at, value) in values.iter().enumerate() {
                // The other arguments wander along, so that rules with several
                // comparisons meet all kinds of pairs.
                let args =
                    std::array::from_fn(|n| values[(at + n * (nr as usize + 1)) % values.len()]);
                let mut data = Data { nr, arch, ip: 0xdead_beef, args };
                data.args[0] = *value;
                let (got, want) = (program.run(&data).0, reference.verdict(&data));
                assert_eq!(got, want, "{data:x?}: got {got:#x}, want {want:#x}");
            }
        }
    }
}

#[test]
fn dockers_profile_on_x86_64() {
    agree(Machine::X86_64, &docker(), &[Abi::X86_64, Abi::X86, Abi::X32]);
}

#[test]
fn dockers_profile_on_the_other_machines() {
    let mut profile = docker();
    profile["architectures"] = Abi::ALL.iter().map(|abi| abi.name()).collect();
    agree(Machine::Aarch64, &profile, &[Abi::Aarch64, Abi::Arm]);
    agree(Machine::Riscv64, &profile, &[Abi::Riscv64]);
}

#[test]
fn a_profile_without_architectures_is_for_the_native_one() {
    let mut profile = docker();
    profile.as_object_mut().unwrap().remove("architectures");
    agree(Machine::X86_64, &profile, &[Abi::X86_64]);
    profile["architectures"] = json!(["SCMP_ARCH_X86", "SCMP_ARCH_S390X"]);
    agree(Machine::X86_64, &profile, &[Abi::X86_64, Abi::X86]);
    profile["architectures"] = json!(["SCMP_ARCH_NATIVE"]);
    agree(Machine::Aarch64, &profile, &[Abi::Aarch64]);
}
