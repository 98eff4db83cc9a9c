//! BPF: segments of verdicts become a program that finds a number's verdict by
//! binary search.
//!
//! Decides how the program is laid out. Knows no system call and no profile.
//!
//! The program is written from its end to its start, because a jump of BPF only
//! goes forward: where it leads is then known when it is written. A conditional
//! jump reaches 255 instructions; what is further away gets a stepping stone, a
//! copy of the `ret` that is there or a long jump.
//!
//! The kernel runs a new filter once for each call of its own, without arguments,
//! and remembers those that are allowed in any case (Linux 5.11). It follows only
//! loads of `nr` and `arch`, comparisons with constants, `and` and `ret`: all that
//! is used before the first argument is looked at.

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD};
use libc::{BPF_RET, BPF_W};
use seccompiler::sock_filter;

use super::verdict::Segment;

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;
/// Low half of the first argument, on the little-endian machines that we know.
pub(super) const FIRST_ARGUMENT: u32 = 16;

/// The most instructions that the kernel takes (`BPF_MAXINSNS`).
pub(super) const LIMIT: usize = 4096;

/// An instruction that is written already: how many were written before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program in the making, last instruction first.
pub(super) struct Program {
    reversed: Vec<sock_filter>,
    /// Where each value is returned, at the lowest distance.
    returns: Vec<(u32, Label)>,
}

impl Program {
    pub(super) fn new() -> Self {
        Self { reversed: Vec::with_capacity(512), returns: Vec::new() }
    }

    /// An instruction that returns this value.
    pub(super) fn returns(&mut self, value: u32) -> Label {
        match self.returns.iter().find(|(known, _)| *known == value) {
            Some((_, label)) if self.reaches(*label) => *label,
            _ => self.push_return(value),
        }
    }

    /// Goes on at `next` after a load into the accumulator from an offset in
    /// `struct seccomp_data`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.fall_into(next);
        self.push(BPF_LD | BPF_W | BPF_ABS, offset)
    }

    /// Goes on at `next` after masking the accumulator.
    pub(super) fn mask(&mut self, bits: u32, next: Label) -> Label {
        self.fall_into(next);
        self.push(BPF_ALU | BPF_AND | BPF_K, bits)
    }

    /// Goes on at `yes` if the accumulator is `value`, else at `no`.
    pub(super) fn if_equal(&mut self, value: u32, yes: Label, no: Label) -> Label {
        self.branch(BPF_JEQ, value, yes, no)
    }

    /// Instructions that are complete in themselves: they go on behind their end,
    /// where `value` is returned, or one further, at `no`.
    pub(super) fn guard(&mut self, body: &[sock_filter], value: u32, no: Label) -> Label {
        self.fall_into(no);
        self.push_return(value);
        self.reversed.extend(body.iter().rev().cloned());
        self.last()
    }

    /// Finds the segment that the accumulator is in. The first one begins at 0.
    pub(super) fn search<T: PartialEq>(
        &mut self,
        segments: &[Segment<T>],
        leaf: &mut impl FnMut(&mut Self, &T) -> Label,
    ) -> Label {
        let mut clusters = Vec::with_capacity(segments.len());
        let mut rest = segments;
        while !rest.is_empty() {
            let (cluster, after) = rest.split_at(cluster_length(rest));
            clusters.push(cluster);
            rest = after;
        }
        self.tree(&clusters, leaf)
    }

    fn tree<T>(
        &mut self,
        clusters: &[&[Segment<T>]],
        leaf: &mut impl FnMut(&mut Self, &T) -> Label,
    ) -> Label {
        let (low, high) = clusters.split_at(clusters.len() / 2);
        match (low, high) {
            ([], [cluster]) => self.cluster(cluster, leaf),
            (_, [first, ..]) => {
                let yes = self.tree(high, leaf);
                let no = self.tree(low, leaf);
                self.branch(BPF_JGE, first[0].start, yes, no)
            }
            // No segments: nothing to find.
            (_, []) => self.returns(super::profile::KILL_PROCESS),
        }
    }

    /// One verdict, but for some single numbers.
    fn cluster<T>(
        &mut self,
        cluster: &[Segment<T>],
        leaf: &mut impl FnMut(&mut Self, &T) -> Label,
    ) -> Label {
        let mut next = leaf(self, &cluster[0].verdict);
        for hole in cluster.iter().skip(1).step_by(2) {
            let yes = leaf(self, &hole.verdict);
            next = self.branch(BPF_JEQ, hole.start, yes, next);
        }
        next
    }

    /// The program, in the order and the form that seccomp(2) reads.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.reversed.len() * 8);
        for instruction in self.reversed.iter().rev() {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        bytes
    }

    /// How many instructions there are.
    pub(super) fn len(&self) -> usize {
        self.reversed.len()
    }

    fn branch(&mut self, test: u32, value: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes);
        let no = self.near(no);
        // `near` left room for the stone that the other one may have needed.
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        let code = (BPF_JMP | test | BPF_K) as u16;
        self.reversed.push(sock_filter { code, jt, jf, k: value });
        self.last()
    }

    /// `label`, or a stepping stone to it, in reach of a conditional jump.
    fn near(&mut self, label: Label) -> Label {
        if self.reaches(label) { label } else { self.stone(label) }
    }

    /// Makes `label` what the next instruction falls into.
    fn fall_into(&mut self, label: Label) {
        if label != self.last() {
            self.stone(label);
        }
    }

    fn stone(&mut self, label: Label) -> Label {
        let there = &self.reversed[label.0];
        if u32::from(there.code) == BPF_RET | BPF_K {
            return self.push_return(there.k);
        }
        self.push(BPF_JMP | BPF_JA, self.distance(label) as u32)
    }

    fn push_return(&mut self, value: u32) -> Label {
        let label = self.push(BPF_RET | BPF_K, value);
        match self.returns.iter_mut().find(|(known, _)| *known == value) {
            Some(entry) => entry.1 = label,
            None => self.returns.push((value, label)),
        }
        label
    }

    fn push(&mut self, code: u32, k: u32) -> Label {
        self.reversed.push(sock_filter { code: code as u16, jt: 0, jf: 0, k });
        self.last()
    }

    fn last(&self) -> Label {
        Label(self.reversed.len() - 1)
    }

    /// What a jump that is written next skips to get to `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0 - 1
    }

    /// Whether a conditional jump reaches `label` even after one more instruction.
    fn reaches(&self, label: Label) -> bool {
        self.distance(label) < usize::from(u8::MAX)
    }
}

/// How many of the segments go into one cluster: a verdict with up to three single
/// numbers that have another. A comparison for each is one instruction; a search
/// would need two.
fn cluster_length<T: PartialEq>(segments: &[Segment<T>]) -> usize {
    let mut length = 1;
    while length < 7
        && let [hole, after, ..] = &segments[length..]
        && after.start - hole.start == 1
        && after.verdict == segments[0].verdict
    {
        length += 2;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a conditional jump at the start leads: the value returned there.
    fn leads_to(program: &[sock_filter], by: u8) -> u32 {
        let target = &program[1 + usize::from(by)];
        assert_eq!(u32::from(target.code), BPF_RET | BPF_K);
        target.k
    }

    #[test]
    fn jumps_lead_to_their_labels_at_the_edge_of_their_reach() {
        for far in 245..265 {
            for near in 0..=far {
                let mut program = Program::new();
                let first = program.returns(1);
                for _ in near..far {
                    program.load(NUMBER, program.last());
                }
                let second = program.returns(2);
                for _ in 0..near {
                    program.load(NUMBER, program.last());
                }
                for (yes, no, values) in [(first, second, (1, 2)), (second, first, (2, 1))] {
                    let mut program =
                        Program { reversed: program.reversed.clone(), returns: Vec::new() };
                    program.if_equal(7, yes, no);
                    let forward: Vec<_> = program.reversed.iter().rev().cloned().collect();
                    let (jt, jf) = (forward[0].jt, forward[0].jf);
                    assert_eq!((leads_to(&forward, jt), leads_to(&forward, jf)), values);
                }
            }
        }
    }
}
