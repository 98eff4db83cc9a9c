//! Size and speed, to be looked at: `cargo test --release --test seccomp figures
//! -- --ignored --nocapture`.

use std::time::Instant;

use orlop::compile::seccomp::{Machine, compile_for};

use crate::profiles::{compile, docker};
use crate::reference::{Abi, number};
use crate::simulator::{self, Data};

#[test]
#[ignore = "prints figures, asserts nothing"]
fn figures() {
    let profile = docker();
    let filter = compile(Machine::X86_64, &profile);
    let program = simulator::Machine::new(&filter.program);
    println!("instructions for docker's profile: {}", program.len());
    let steps = (0..470)
        .map(|nr| program.run(&Data { nr, arch: Abi::X86_64.audit(), ..Data::default() }).1);
    let (most, sum) = steps.fold((0, 0), |(most, sum), n| (most.max(n), sum + n));
    println!("instructions run per x86_64 call: {most} at most, {} on average", sum / 470);
    for name in ["read", "futex", "clone", "personality", "mount"] {
        let nr = number(Abi::X86_64, name).unwrap();
        let data = Data { nr, arch: Abi::X86_64.audit(), ..Data::default() };
        println!("  {name}: {}", program.run(&data).1);
    }
    let seccomp = serde_json::from_value(profile).unwrap();
    let mut times: Vec<_> = (0..2000)
        .map(|_| {
            let start = Instant::now();
            let filter = compile_for(Machine::X86_64, &seccomp, "/linux/seccomp");
            let time = start.elapsed();
            assert!(filter.is_ok());
            time
        })
        .collect();
    let first = times[0];
    times.sort_unstable();
    println!("compile: first {first:?}, median {:?}, p99 {:?}", times[1000], times[1980]);
}
