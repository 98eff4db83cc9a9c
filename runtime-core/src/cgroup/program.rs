//! The device program of cgroup v2: PURE.
//!
//! The kernel runs it whenever a process of the cgroup makes or opens a device
//! node: 1 permits, 0 refuses. It looks at the exceptions from the last to the
//! first and keeps, in r3, the accesses that none has decided yet. Neighbours
//! that speak about the same kind of node or the same major number share the
//! comparison.

use super::devices::{ALL, Node, Rule, Rules, too_many};
use crate::error::Result;

// include/uapi/linux/bpf_common.h and bpf.h; the numbers are operation | class.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP: u8 = 0x05;
const JUMP_EQUAL: u8 = 0x16;
const JUMP_UNEQUAL: u8 = 0x56;
const JUMP_ANY_BIT: u8 = 0x46;
const EXIT: u8 = 0x95;

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const NODE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Where a jump goes that is not placed yet.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Label(usize);

struct Program {
    instructions: Vec<u64>,
    /// The instruction behind each label, once that is known.
    labels: Vec<usize>,
    jumps: Vec<(usize, Label)>,
}

/// The program for `rules`, eight bytes an instruction.
///
/// # Errors
/// More rules than a jump can pass over.
pub(super) fn compile(rules: &Rules) -> Result<Vec<u64>> {
    let mut program =
        Program { instructions: Vec::with_capacity(64), labels: Vec::new(), jumps: Vec::new() };
    let (permit, refuse) = (program.label(), program.label());
    // struct bpf_cgroup_dev_ctx: access in the upper half of the first word.
    program.push(LOAD_WORD, NODE, CONTEXT, 0, 0);
    program.push(LOAD_WORD, MAJOR, CONTEXT, 4, 0);
    program.push(LOAD_WORD, MINOR, CONTEXT, 8, 0);
    program.push(MOVE_REGISTER, ACCESS, NODE, 0, 0);
    program.push(SHIFT_RIGHT, ACCESS, 0, 0, 16);
    program.push(AND, NODE, 0, 0, 0xffff);
    let last_first: Vec<&Rule> = rules.exceptions.iter().rev().collect();
    for same_node in last_first.chunk_by(|a, b| a.devices.node == b.devices.node) {
        let next = program.label();
        let number = if same_node[0].devices.node == Node::Block { 1 } else { 2 };
        program.jump(JUMP_UNEQUAL, NODE, number, next);
        for same_major in same_node.chunk_by(|a, b| a.devices.major == b.devices.major) {
            program.major(same_major, permit, refuse);
        }
        program.place(next);
    }
    // What is undecided follows the default; the other end comes behind it.
    let ends = if rules.allow { [(permit, 1), (refuse, 0)] } else { [(refuse, 0), (permit, 1)] };
    for (index, (label, value)) in ends.into_iter().enumerate() {
        // The kernel refuses a program with code that nothing reaches.
        if index == 1 && program.jumps.iter().all(|&(_, to)| to != label) {
            break;
        }
        program.place(label);
        program.push(MOVE, RESULT, 0, 0, value);
        program.push(EXIT, 0, 0, 0, 0);
    }
    program.finish()
}

impl Program {
    fn push(&mut self, code: u8, to: u8, from: u8, offset: u16, value: u32) {
        let registers = to | from << 4;
        self.instructions.push(
            u64::from(code)
                | u64::from(registers) << 8
                | u64::from(offset) << 16
                | u64::from(value) << 32,
        );
    }

    fn label(&mut self) -> Label {
        self.labels.push(0);
        Label(self.labels.len() - 1)
    }

    fn place(&mut self, label: Label) {
        self.labels[label.0] = self.instructions.len();
    }

    fn jump(&mut self, code: u8, register: u8, value: u32, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(code, register, 0, 0, value);
    }

    /// Rules about one kind of node with one major number, or with every one.
    fn major(&mut self, rules: &[&Rule], permit: Label, refuse: Label) {
        let verdict = |rule: &Rule| if rule.allow { permit } else { refuse };
        let Some(major) = rules[0].devices.major else {
            return self.minors(rules, permit, refuse);
        };
        if let [rule] = rules
            && rule.devices.minor.is_none()
            && rule.access == ALL
        {
            return self.jump(JUMP_EQUAL, MAJOR, major, verdict(rule));
        }
        let next = self.label();
        self.jump(JUMP_UNEQUAL, MAJOR, major, next);
        self.minors(rules, permit, refuse);
        self.place(next);
    }

    fn minors(&mut self, rules: &[&Rule], permit: Label, refuse: Label) {
        for rule in rules {
            let verdict = if rule.allow { permit } else { refuse };
            match (rule.devices.minor, rule.access == ALL) {
                (Some(minor), true) => self.jump(JUMP_EQUAL, MINOR, minor, verdict),
                (None, true) => self.jump(JUMP, 0, 0, verdict),
                (Some(minor), false) => {
                    let next = self.label();
                    self.jump(JUMP_UNEQUAL, MINOR, minor, next);
                    self.decide(rule, verdict);
                    self.place(next);
                }
                (None, false) => self.decide(rule, verdict),
            }
        }
    }

    /// Decides a part of the accesses: one refused is enough to refuse, and
    /// nothing left undecided is enough to permit.
    fn decide(&mut self, rule: &Rule, verdict: Label) {
        let access = u32::from(rule.access);
        if rule.allow {
            self.push(AND, ACCESS, 0, 0, !access);
            self.jump(JUMP_EQUAL, ACCESS, 0, verdict);
        } else {
            self.jump(JUMP_ANY_BIT, ACCESS, access, verdict);
        }
    }

    fn finish(mut self) -> Result<Vec<u64>> {
        for (from, label) in &self.jumps {
            let offset = self.labels[label.0] - from - 1;
            let offset = i16::try_from(offset).map_err(|_| too_many())?;
            self.instructions[*from] |= u64::from(offset as u16) << 16;
        }
        Ok(self.instructions)
    }
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
