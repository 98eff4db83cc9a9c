//! The parts of a program and how they hang together: the jump by architecture,
//! a search for each, the rules of a call.
//!
//! Knows verdicts and writes instructions; decides neither what a call gets nor
//! how a search or a comparison looks.

use super::abi::Abi;
use super::profile::{KILL_PROCESS, Profile, When};
use super::program::{ARCH, FIRST_ARGUMENT, LIMIT, Label, NUMBER, Program};
use super::table::{Call, Multiplexer};
use super::verdict::{Chains, Otherwise, Segments, Verdict, Verdicts};

/// The whole program as seccomp(2) reads it, and what `asked` gets on the native ABI.
/// `calls` are the known names of all rules, each with the index of its rule. `None` if
/// the program gets too long.
pub(super) fn write(
    profile: &Profile<'_>,
    abis: &[Abi],
    calls: &[(Call, u32)],
    asked: Option<Call>,
) -> Option<(Vec<u8>, Option<Verdict>)> {
    let mut program = Program::new();
    let mut answer = None;
    let mut bodies = Bodies { profile, chains: Chains::default(), written: Vec::new() };
    let mut entries = Vec::with_capacity(abis.len());
    // The program is written from its end, so the native ABI, the first one, comes
    // last and ends up close to the start.
    for abi in abis.iter().rev().copied().filter(|abi| *abi != Abi::X32) {
        let verdicts = Verdicts::new(abi, profile, calls, &mut bodies.chains);
        // In the end that of the native one, which comes last.
        answer = asked.and_then(|call| verdicts.of(call));
        let mut segments = Segments::new();
        verdicts.segments(&mut segments);
        // x32 is a part of x86_64's numbers.
        if abi == Abi::X86_64 && abis.contains(&Abi::X32) {
            Verdicts::new(Abi::X32, profile, calls, &mut bodies.chains).segments(&mut segments);
        } else if abi == Abi::X86_64 {
            verdicts.without_x32(&mut segments);
        }
        let found = program.search(&segments.0, &mut |program, &segment| {
            bodies.verdict(program, &verdicts, segment)
        });
        entries.push((abi.audit(), program.load(NUMBER, found)));
    }
    let mut next = program.returns(KILL_PROCESS);
    for (audit, entry) in entries {
        next = program.if_equal(audit, entry, next);
    }
    program.load(ARCH, next);
    (program.len() <= LIMIT).then(|| (program.finish(), answer))
}

/// What is behind the searches. Calls with the same rules share their body.
struct Bodies<'a> {
    profile: &'a Profile<'a>,
    chains: Chains,
    written: Vec<(Verdict, Label)>,
}

impl Bodies<'_> {
    fn verdict(&mut self, program: &mut Program, of: &Verdicts, verdict: Verdict) -> Label {
        let value = match verdict {
            Verdict::Return(value) => value,
            // It is refused in the end; spare the work.
            _ if program.len() > LIMIT => self.profile.default,
            _ => return self.body(program, of, verdict),
        };
        program.returns(value)
    }

    fn body(&mut self, program: &mut Program, of: &Verdicts, verdict: Verdict) -> Label {
        if let Some((_, label)) = self.written.iter().find(|(known, _)| *known == verdict) {
            return *label;
        }
        let label = match verdict {
            Verdict::Return(value) => program.returns(value),
            Verdict::Multiplexer(which) => multiplexer(program, of, which),
            Verdict::Chain { chain, narrow, otherwise } => {
                let otherwise = match otherwise {
                    Otherwise::Default => program.returns(self.profile.default),
                    Otherwise::Multiplexer(which) => multiplexer(program, of, which),
                };
                self.chain(program, chain, narrow, otherwise)
            }
        };
        self.written.push((verdict, label));
        label
    }

    /// The rules of a chain, the last one first.
    fn chain(&self, program: &mut Program, chain: u32, narrow: bool, otherwise: Label) -> Label {
        let mut next = otherwise;
        for rule in self.chains.rules(chain) {
            let rule = &self.profile.rules[rule as usize];
            let When::Any(alternatives) = &rule.when else { continue };
            for comparisons in alternatives.iter().rev() {
                next = program.guard(&comparisons.body(narrow), rule.value, next);
            }
        }
        next
    }
}

/// A search over the number that the first argument is.
fn multiplexer(program: &mut Program, of: &Verdicts, which: Multiplexer) -> Label {
    let found =
        program.search(&of.multiplexed(which).0, &mut |program, &value| program.returns(value));
    let found = match which {
        Multiplexer::Socketcall => found,
        // The high half is a version that the kernel cuts off (ipc(2)).
        Multiplexer::Ipc => program.mask(0xffff, found),
    };
    program.load(FIRST_ARGUMENT, found)
}
