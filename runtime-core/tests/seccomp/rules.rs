//! One rule at a time: actions, operators, how rules go together, flags.

use orlop::compile::seccomp::{Machine, compile_for};
use serde_json::{Value, json};

use crate::profiles::{agree, compile};
use crate::reference::{Abi, ENOSYS, KILL_PROCESS, number};
use crate::simulator::{self, Data};

const ALLOW: u32 = 0x7fff_0000;
const TRAP: u32 = 0x0003_0000;
const EPERM: u32 = 0x0005_0001;

/// What a profile answers to `name` with these arguments.
fn ask(profile: &Value, abi: Abi, name: &str, args: &[u64]) -> u32 {
    let machine = match abi {
        Abi::X86_64 | Abi::X86 | Abi::X32 => Machine::X86_64,
        Abi::Aarch64 | Abi::Arm => Machine::Aarch64,
        Abi::Riscv64 => Machine::Riscv64,
    };
    let mut data = Data { nr: number(abi, name).unwrap(), arch: abi.audit(), ..Data::default() };
    data.args[..args.len()].copy_from_slice(args);
    simulator::Machine::new(&compile(machine, profile).program).run(&data).0
}

fn number_answer(profile: &Value, nr: u32) -> u32 {
    let data = Data { nr, arch: Abi::X86_64.audit(), ..Data::default() };
    simulator::Machine::new(&compile(Machine::X86_64, profile).program).run(&data).0
}

/// A profile that refuses all but what these rules say.
fn refusing(rules: &Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules })
}

#[test]
fn each_action_has_the_kernels_value() {
    let cases = [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
        ("SCMP_ACT_TRAP", None, 0x0003_0000),
        ("SCMP_ACT_ERRNO", None, 0x0005_0001),
        ("SCMP_ACT_ERRNO", Some(0), 0x0005_0000),
        ("SCMP_ACT_ERRNO", Some(4095), 0x0005_0fff),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_TRACE", Some(65535), 0x7ff0_ffff),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
        ("SCMP_ACT_ALLOW", None, 0x7fff_0000),
        ("SCMP_ACT_NOTIFY", None, 0x7fc0_0000),
    ];
    for (action, errno, value) in cases {
        let rule = json!({ "names": ["mkdir"], "action": action, "errnoRet": errno });
        let mut profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 7,
            "listenerPath": "/run/agent.sock", "syscalls": [rule],
        });
        assert_eq!(ask(&profile, Abi::X86_64, "mkdir", &[]), value, "{action}");
        assert_eq!(ask(&profile, Abi::X86_64, "chdir", &[]), 0x0005_0007, "{action}");
        if action != "SCMP_ACT_NOTIFY" {
            profile = json!({ "defaultAction": action, "defaultErrnoRet": errno });
            assert_eq!(ask(&profile, Abi::X86_64, "mkdir", &[]), value, "default {action}");
        }
    }
}

#[test]
fn each_operator_compares_64_bits() {
    const V: u64 = 0x12_8000_0000;
    type Holds = fn(u64) -> bool;
    let operators: [(&str, Holds); 7] = [
        ("SCMP_CMP_NE", |a| a != V),
        ("SCMP_CMP_LT", |a| a < V),
        ("SCMP_CMP_LE", |a| a <= V),
        ("SCMP_CMP_EQ", |a| a == V),
        ("SCMP_CMP_GE", |a| a >= V),
        ("SCMP_CMP_GT", |a| a > V),
        ("SCMP_CMP_MASKED_EQ", |a| a & V == 0x10_0000_0000),
    ];
    for (op, holds) in operators {
        for index in 0..6 {
            let profile = refusing(&json!([{
                "names": ["lseek"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": index, "value": V, "valueTwo": 0x10_0000_0000_u64, "op": op }],
            }]));
            for actual in [
                0,
                1,
                V,
                V - 1,
                V + 1,
                V & 0xffff_ffff,
                V ^ (1 << 32),
                V + (1 << 32),
                0x10_0000_0000,
                0x10_0000_0001,
                0x11_7fff_ffff,
                0x12_0000_0000,
                u64::MAX,
            ] {
                let mut args = [0x5555_5555_5555_5555; 6];
                args[index] = actual;
                let want = if holds(actual) { ALLOW } else { EPERM };
                let got = ask(&profile, Abi::X86_64, "lseek", &args);
                assert_eq!(got, want, "{op} of argument {index}, {actual:#x}");
            }
        }
    }
}

#[test]
fn abis_of_32_bits_compare_low_halves() {
    let mut profile = refusing(&json!([{
        "names": ["personality"], "action": "SCMP_ACT_ALLOW",
        "args": [{ "index": 0, "value": u64::MAX, "op": "SCMP_CMP_EQ" }],
    }]));
    profile["architectures"] = json!(["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"]);
    for abi in [Abi::X86, Abi::X32, Abi::Arm] {
        assert_eq!(ask(&profile, abi, "personality", &[0xffff_ffff]), ALLOW);
    }
    for abi in [Abi::X86_64, Abi::Aarch64] {
        assert_eq!(ask(&profile, abi, "personality", &[0xffff_ffff]), EPERM);
        assert_eq!(ask(&profile, abi, "personality", &[u64::MAX]), ALLOW);
    }
}

#[test]
fn comparisons_of_different_arguments_must_all_hold() {
    let profile = refusing(&json!([{
        "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
            { "index": 0, "value": 2, "op": "SCMP_CMP_EQ" },
            { "index": 1, "value": 1, "op": "SCMP_CMP_EQ" },
        ],
    }]));
    assert_eq!(ask(&profile, Abi::X86_64, "socket", &[2, 1]), ALLOW);
    assert_eq!(ask(&profile, Abi::X86_64, "socket", &[2, 2]), EPERM);
    assert_eq!(ask(&profile, Abi::X86_64, "socket", &[1, 1]), EPERM);
}

#[test]
fn of_comparisons_of_one_argument_any_is_enough() {
    let profile = refusing(&json!([{
        "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
            { "index": 0, "value": 2, "op": "SCMP_CMP_EQ" },
            { "index": 0, "value": 10, "op": "SCMP_CMP_EQ" },
        ],
    }]));
    for (family, want) in [(2, ALLOW), (10, ALLOW), (1, EPERM), (40, EPERM)] {
        assert_eq!(ask(&profile, Abi::X86_64, "socket", &[family]), want);
    }
}

#[test]
fn several_rules_for_a_call() {
    let when = |value: u64| json!([{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }]);
    let allow = |args: Value| json!({ "names": ["dup"], "action": "SCMP_ACT_ALLOW", "args": args });
    let trap = |args: Value| json!({ "names": ["dup"], "action": "SCMP_ACT_TRAP", "args": args });
    let none = Value::Null;
    let cases = [
        ("conditions are ored", json!([allow(when(1)), allow(when(2))]), [EPERM, ALLOW, ALLOW]),
        ("the first that matches", json!([allow(when(1)), trap(when(1))]), [EPERM, ALLOW, EPERM]),
        ("each its action", json!([allow(when(1)), trap(when(2))]), [EPERM, ALLOW, TRAP]),
        ("unconditional last", json!([allow(when(1)), trap(none.clone())]), [TRAP; 3]),
        ("unconditional first", json!([trap(none.clone()), allow(when(1))]), [TRAP; 3]),
        ("two unconditional", json!([trap(none.clone()), allow(none.clone())]), [TRAP; 3]),
        (
            "the default action decides nothing",
            json!([{ "names": ["dup"], "action": "SCMP_ACT_ERRNO" }, allow(when(1))]),
            [EPERM, ALLOW, EPERM],
        ),
    ];
    for (what, rules, want) in cases {
        let profile = refusing(&rules);
        let got = [0, 1, 2].map(|value| ask(&profile, Abi::X86_64, "dup", &[value]));
        assert_eq!(got, want, "{what}");
    }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let mut profile = refusing(&json!([{ "names": ["read", "dup"], "action": "SCMP_ACT_ALLOW" }]));
    let dup = number(Abi::X86_64, "dup").unwrap();
    assert_eq!(number_answer(&profile, dup), ALLOW);
    assert_eq!(number_answer(&profile, dup - 1), EPERM);
    for newer in [dup + 1, 9999, 0x4000_0000, u32::MAX] {
        assert_eq!(number_answer(&profile, newer), ENOSYS);
    }
    for permits in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        profile["defaultAction"] = permits.into();
        profile["syscalls"][0]["action"] = "SCMP_ACT_TRAP".into();
        let default = number_answer(&profile, dup - 1);
        assert_eq!(number_answer(&profile, 9999), default, "{permits}");
    }
    profile = refusing(&json!([]));
    assert_eq!(number_answer(&profile, 9999), EPERM, "nothing named, nothing newer");
}

#[test]
fn x32_can_not_be_used_to_pass_a_rule() {
    let x32 = 1 << 30;
    let rules = json!([{ "names": ["mkdir"], "action": "SCMP_ACT_TRAP" }]);
    let mut profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
    let mkdir = number(Abi::X86_64, "mkdir").unwrap();
    assert_eq!(number_answer(&profile, mkdir), TRAP);
    assert_eq!(number_answer(&profile, mkdir | x32), KILL_PROCESS);
    assert_eq!(number_answer(&profile, u32::MAX), ALLOW, "a tracer skips the call");
    profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]);
    assert_eq!(number_answer(&profile, mkdir | x32), TRAP);
    assert_eq!(number_answer(&profile, 1 | x32), ALLOW);
}

#[test]
fn multiplexers_of_x86_follow_the_rules_of_their_calls() {
    let x86 = json!(["SCMP_ARCH_X86"]);
    let family = json!([{ "index": 0, "value": 40, "op": "SCMP_CMP_NE" }]);
    let mut profile = refusing(&json!([
        { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": family },
        { "names": ["connect", "semop"], "action": "SCMP_ACT_ALLOW" },
    ]));
    profile["architectures"] = x86.clone();
    let ask = |profile: &Value, name, first| ask(profile, Abi::X86, name, &[first]);
    assert_eq!(ask(&profile, "socketcall", 3), ALLOW, "connect");
    assert_eq!(ask(&profile, "socketcall", 1), EPERM, "the family can't be seen");
    assert_eq!(ask(&profile, "socketcall", 2), EPERM, "bind");
    assert_eq!(ask(&profile, "ipc", 1), ALLOW, "semop");
    assert_eq!(ask(&profile, "ipc", 0x3_0001), ALLOW, "semop of another version");
    assert_eq!(ask(&profile, "ipc", 2), EPERM, "semget");
    agree(Machine::X86_64, &profile, &[Abi::X86_64, Abi::X86]);

    let mut profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": x86, "syscalls": [
        { "names": ["socket"], "action": "SCMP_ACT_TRAP", "args": family },
        { "names": ["socketcall"], "action": "SCMP_ACT_LOG",
          "args": [{ "index": 0, "value": 5, "op": "SCMP_CMP_GE" }] },
    ]});
    assert_eq!(ask(&profile, "socketcall", 1), TRAP, "a rule must not be passed");
    assert_eq!(ask(&profile, "socketcall", 2), ALLOW);
    assert_eq!(ask(&profile, "socketcall", 7), 0x7ffc_0000);
    agree(Machine::X86_64, &profile, &[Abi::X86_64, Abi::X86]);
    profile["syscalls"][1].as_object_mut().unwrap().remove("args");
    assert_eq!(ask(&profile, "socketcall", 1), 0x7ffc_0000, "its own rule wins");
}

#[test]
fn flags() {
    let cases = [
        (Value::Null, false, 4),
        (json!([]), false, 0),
        (json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]), false, 2),
        (json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]), false, 4),
        (json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), false, 0),
        (Value::Null, true, 4 | 8),
        (json!([]), true, 8),
        (json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), true, 8 | 32),
    ];
    for (flags, notify, want) in cases {
        let action = if notify { "SCMP_ACT_NOTIFY" } else { "SCMP_ACT_ERRNO" };
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "flags": flags,
            "listenerPath": "/run/agent.sock", "listenerMetadata": "x",
            "syscalls": [{ "names": ["mkdir"], "action": action }],
        });
        let filter = compile(Machine::X86_64, &profile);
        assert_eq!((filter.flags, filter.notify), (want, notify), "{profile}");
    }
}

#[test]
fn unknown_names_are_a_warning() {
    let profile = refusing(&json!([
        { "names": ["read", "frobnicate", "set_tls"], "action": "SCMP_ACT_ALLOW" },
        // The names of other machines, which every engine's profile has, are none.
        { "names": ["cachectl", "s390_sthyi", "swapcontext", "timerfd"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["mkdri"], "action": "SCMP_ACT_TRAP" },
    ]));
    let seccomp = serde_json::from_value(profile).unwrap();
    let filter = compile_for(Machine::X86_64, &seccomp, "/linux/seccomp").unwrap();
    assert_eq!(
        filter.warnings,
        ["/linux/seccomp: ignoring unknown system calls \"frobnicate\", \"mkdri\""]
    );
}

/// What depends on the arguments depends on the program; a tracer or an agent may let it be.
#[test]
fn a_profile_under_which_nothing_is_executed_says_so() {
    let execve = |action: &str, args: &Value| {
        let names = ["execveat", "execve"];
        json!({ "names": names, "action": action, "errnoRet": null, "args": args })
    };
    let some = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }]);
    let (allow, errno) = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO");
    let (whole, first) = (Some("/x"), Some("/x/syscalls/0"));
    for (default, rules, place) in [
        (errno, vec![], whole),
        ("SCMP_ACT_TRAP", vec![], whole),
        ("SCMP_ACT_KILL", vec![], whole),
        ("SCMP_ACT_KILL_PROCESS", vec![], whole),
        (errno, vec![execve(errno, &json!([]))], whole),
        (errno, vec![execve(allow, &json!([]))], None),
        (errno, vec![execve(allow, &some)], None),
        (errno, vec![execve("SCMP_ACT_TRACE", &json!([]))], None),
        ("SCMP_ACT_TRACE", vec![], None),
        ("SCMP_ACT_LOG", vec![], None),
        (allow, vec![], None),
        (allow, vec![execve("SCMP_ACT_TRAP", &json!([]))], first),
        (allow, vec![execve(errno, &some)], None),
        (allow, vec![execve(errno, &some), execve(errno, &json!([]))], Some("/x/syscalls/1")),
        (allow, vec![execve("SCMP_ACT_LOG", &json!([])), execve(errno, &json!([]))], None),
        // Newer than all that the profile names.
        (errno, vec![json!({ "names": ["read"], "action": allow })], whole),
    ] {
        let profile = json!({ "defaultAction": default, "syscalls": rules });
        let seccomp = serde_json::from_value(profile.clone()).unwrap();
        for machine in [Machine::X86_64, Machine::Aarch64, Machine::Riscv64] {
            let found = compile_for(machine, &seccomp, "/x").unwrap();
            assert_eq!(found.refuses_programs.as_deref(), place, "{profile} {machine:?}");
        }
    }
}
