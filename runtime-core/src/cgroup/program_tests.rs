//! The v2 program in a small interpreter of eBPF, against the rules themselves.

use proptest::prelude::*;

use super::super::devices::{MKNOD, READ, WRITE};
use super::*;

/// Runs a program as the kernel would; the verifier's rules that matter here
/// are assertions.
fn run(program: &[u64], node: Node, major: u32, minor: u32, access: u8) -> bool {
    let number = if node == Node::Block { 1 } else { 2 };
    let context = [number | u32::from(access) << 16, major, minor];
    let mut registers: [Option<u32>; 11] = [None; 11];
    let mut at = 0;
    loop {
        let word = program[at];
        let code = word as u8;
        let to = (word >> 8 & 15) as usize;
        let from = (word >> 12 & 15) as usize;
        let offset = (word >> 16) as u16 as i16;
        let value = (word >> 32) as u32;
        assert!(offset >= 0, "a jump back");
        at += 1;
        let held = |register: usize| registers[register].expect("a register that was never set");
        let jump = match code {
            LOAD_WORD => {
                assert_eq!(from, 1);
                registers[to] = Some(context[offset as usize / 4]);
                continue;
            }
            MOVE => {
                registers[to] = Some(value);
                continue;
            }
            MOVE_REGISTER => {
                registers[to] = Some(held(from));
                continue;
            }
            AND => {
                registers[to] = Some(held(to) & value);
                continue;
            }
            SHIFT_RIGHT => {
                registers[to] = Some(held(to) >> value);
                continue;
            }
            EXIT => return held(0) == 1,
            JUMP => true,
            JUMP_EQUAL => held(to) == value,
            JUMP_UNEQUAL => held(to) != value,
            JUMP_ANY_BIT => held(to) & value != 0,
            other => panic!("unknown instruction {other:#x}"),
        };
        if jump {
            at += offset as usize;
        }
    }
}

/// Every instruction can be reached, or the kernel refuses the program.
fn all_reached(program: &[u64]) -> bool {
    let (mut seen, mut next) = (vec![false; program.len()], vec![0]);
    while let Some(at) = next.pop() {
        if std::mem::replace(&mut seen[at], true) {
            continue;
        }
        let word = program[at];
        let target = at + 1 + (word >> 16) as u16 as usize;
        match word as u8 {
            EXIT => {}
            JUMP => next.push(target),
            JUMP_EQUAL | JUMP_UNEQUAL | JUMP_ANY_BIT => next.extend([at + 1, target]),
            _ => next.push(at + 1),
        }
    }
    seen.into_iter().all(|seen| seen)
}

fn rules(json: &str) -> Rules {
    Rules::new(&serde_json::from_str::<Vec<_>>(json).unwrap(), &[]).unwrap()
}

#[test]
fn the_usual_program_is_short() {
    let program = compile(&rules(r#"[{"allow":false,"access":"rwm"}]"#)).unwrap();
    assert!(program.len() <= 28, "{} instructions", program.len());
    assert!(all_reached(&program));
    let table = [
        (Node::Char, 1, 3, ALL, true),
        (Node::Char, 1, 4, MKNOD, true),
        (Node::Char, 1, 4, MKNOD | READ, false),
        (Node::Char, 5, 2, READ | WRITE, true),
        (Node::Char, 5, 1, READ, false),
        (Node::Char, 136, 77, READ | WRITE, true),
        (Node::Block, 8, 0, MKNOD, true),
        (Node::Block, 8, 0, READ, false),
        (Node::Block, 1, 3, READ, false),
    ];
    for (node, major, minor, access, permitted) in table {
        let ran = run(&program, node, major, minor, access);
        assert_eq!(ran, permitted, "{node:?} {major}:{minor} {access}");
    }
}

#[test]
fn a_program_without_exceptions_is_its_default() {
    for allow in [false, true] {
        let program = compile(&Rules { allow, exceptions: Vec::new() }).unwrap();
        assert!(all_reached(&program));
        assert_eq!(run(&program, Node::Char, 1, 1, READ), allow);
    }
}

#[test]
fn numbers_beyond_a_signed_integer_are_compared_as_they_are() {
    let rules = rules(r#"[{"allow":true,"type":"c","major":4294967295,"access":"rwm"}]"#);
    let program = compile(&rules).unwrap();
    assert!(run(&program, Node::Char, u32::MAX, 0, ALL));
    assert!(!run(&program, Node::Char, u32::MAX - 1, 0, READ));
}

#[test]
fn more_rules_than_a_jump_can_pass_are_refused() {
    let rule =
        |minor| format!(r#"{{"allow":true,"type":"b","major":7,"minor":{minor},"access":"r"}}"#);
    let many: Vec<String> = (0..12_000).map(rule).collect();
    let error = compile(&rules(&format!("[{}]", many.join(",")))).unwrap_err();
    assert!(error.to_string().contains("too many device rules"), "{error}");
}

fn any_rule() -> impl Strategy<Value = String> {
    let kind = prop_oneof![Just("a"), Just("b"), Just("c")];
    let number = prop_oneof![Just(None), (0u32..4).prop_map(Some)];
    let access = prop_oneof![Just("r"), Just("w"), Just("m"), Just("rw"), Just("rm"), Just("rwm")];
    (any::<bool>(), kind, number.clone(), number, access).prop_map(
        |(allow, kind, major, minor, access)| {
            let field = |name, value: Option<u32>| {
                value.map_or(String::new(), |value| format!(r#""{name}":{value},"#))
            };
            let (major, minor) = (field("major", major), field("minor", minor));
            format!(r#"{{"allow":{allow},"type":"{kind}",{major}{minor}"access":"{access}"}}"#)
        },
    )
}

/// The rules as the specification has them: in order, the last that speaks
/// about a device and an access holds.
fn by_the_book(
    listed: &[oci_spec::runtime::LinuxDeviceCgroup],
    asked: (Node, u32, u32),
    access: u8,
) -> bool {
    use oci_spec::runtime::LinuxDeviceType as Type;
    let (node, major, minor) = asked;
    let spoken = |rule: &oci_spec::runtime::LinuxDeviceCgroup, letter| {
        let kind = match rule.typ().unwrap_or_default() {
            Type::B => node == Node::Block,
            Type::C => node == Node::Char,
            _ => true,
        };
        kind && rule.major().is_none_or(|n| n == i64::from(major))
            && rule.minor().is_none_or(|n| n == i64::from(minor))
            && rule.access().as_ref().is_some_and(|letters| letters.contains(letter))
    };
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')].into_iter().all(|(bit, letter)| {
        let default = node == Node::Char && major == 1 && minor == 3 || letter == 'm';
        access & bit == 0
            || default
            || listed.iter().rev().find(|r| spoken(r, letter)).is_some_and(|r| r.allow())
    })
}

proptest! {
    #[test]
    fn program_list_and_specification_agree(
        listed in proptest::collection::vec(any_rule(), 0..8),
    ) {
        let json = format!("[{}]", listed.join(","));
        let listed: Vec<oci_spec::runtime::LinuxDeviceCgroup> = serde_json::from_str(&json).unwrap();
        let rules = Rules::new(&listed, &[]).unwrap();
        let program = compile(&rules).unwrap();
        prop_assert!(all_reached(&program), "unreachable code for {json}");
        for node in [Node::Block, Node::Char] {
            for (major, minor) in (0..5).flat_map(|a| (0..4).map(move |b| (a, b))) {
                // The other default devices are not in the book's short list.
                if node == Node::Char && major == 1 && minor > 3 {
                    continue;
                }
                for access in 1..=ALL {
                    let wanted = by_the_book(&listed, (node, major, minor), access);
                    let asked = format!("{node:?} {major}:{minor} {access} of {json}");
                    prop_assert_eq!(rules.permits(node, major, minor, access), wanted, "{}", asked);
                    prop_assert_eq!(run(&program, node, major, minor, access), wanted, "{}", asked);
                }
            }
        }
    }
}
