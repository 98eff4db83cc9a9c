//! What each system call number of an ABI gets: the profile's rules laid over
//! the numbers, then folded into segments of equal verdict.
//!
//! Decides how several rules for one call go together, what the calls that are
//! newer than the profile get, and what happens behind `socketcall` and `ipc`.
//! Knows no BPF.
//!
//! Several rules for a call: one without arguments wins over all others, the
//! first of such; else the rules are tried in the order of the profile, the first
//! that matches decides, and if none does, the default action.
//! COMPAT(runc): libseccomp, too, drops the conditional rules of a call that has
//! an unconditional one and keeps the first unconditional. Where conditional rules
//! of different actions overlap it has no order; ours is the profile's.

use std::collections::BTreeMap;

use super::abi::{ARM_PRIVATE, Abi, X32_BIT};
use super::profile::{self, ENOSYS, KILL_PROCESS, Profile, When};
use super::table::{Call, Multiplexer, ORDINARY, SLOTS};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The filter returns this value.
    Return(u32),
    /// The rules of the chain decide, and if none matches, `otherwise`.
    Chain { chain: u32, narrow: bool, otherwise: Otherwise },
    /// The call's first argument is a call's number of its own.
    Multiplexer(Multiplexer),
}

/// What follows a chain whose rules don't match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Otherwise {
    Default,
    Multiplexer(Multiplexer),
}

/// From this number up to the next segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<T> {
    pub(super) start: u32,
    pub(super) verdict: T,
}

/// Chains of conditional rules, shared by all calls that have the same.
#[derive(Default)]
pub(super) struct Chains {
    /// The chain before the last rule, and the rule.
    links: Vec<(Option<u32>, u32)>,
    known: BTreeMap<(Option<u32>, u32), u32>,
}

impl Chains {
    fn add(&mut self, before: Option<u32>, rule: u32) -> u32 {
        *self.known.entry((before, rule)).or_insert_with(|| {
            self.links.push((before, rule));
            self.links.len() as u32 - 1
        })
    }

    /// The rules of a chain, the last first.
    pub(super) fn rules(&self, chain: u32) -> impl Iterator<Item = u32> {
        let mut next = Some(chain);
        std::iter::from_fn(move || {
            let (before, rule) = *self.links.get(next? as usize)?;
            next = before;
            Some(rule)
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Default,
    Return(u32),
    Chain(u32),
}

/// The verdicts of one ABI.
pub(super) struct Verdicts {
    abi: Abi,
    default: u32,
    slots: [Slot; SLOTS],
    /// The newest call that the profile names, when calls after it don't exist.
    newest: Option<usize>,
    /// Ordinary slots from here on are all alike.
    end: usize,
    multiplexed: [Multiplexed; 2],
}

impl Verdicts {
    /// Lays the rules over the numbers. `calls` are the names of all rules that
    /// are known, each with the index of its rule.
    pub(super) fn new(
        abi: Abi,
        profile: &Profile<'_>,
        calls: &[(Call, u32)],
        chains: &mut Chains,
    ) -> Self {
        let mut verdicts = Self {
            abi,
            default: profile.default,
            slots: [Slot::Default; SLOTS],
            newest: None,
            end: abi.out_of_order().end.max(Multiplexer::Ipc.slot() + 1),
            multiplexed: [Multiplexed::default(); 2],
        };
        for &(call, index) in calls {
            let rule = &profile.rules[index as usize];
            let plain = matches!(rule.when, When::Always);
            if abi == Abi::X86 && !rule.idle {
                verdicts.multiplex(call, rule.value, plain);
            }
            let Some(slot) = call.slot(abi) else { continue };
            if slot < ORDINARY {
                verdicts.end = verdicts.end.max(slot + 1);
                if !abi.out_of_order().contains(&slot) {
                    verdicts.newest = verdicts.newest.max(Some(slot));
                }
            }
            let place = &mut verdicts.slots[slot];
            *place = match *place {
                now if rule.idle => now,
                now @ Slot::Return(_) => now,
                _ if plain => Slot::Return(rule.value),
                Slot::Chain(before) => Slot::Chain(chains.add(Some(before), index)),
                Slot::Default => Slot::Chain(chains.add(None, index)),
            };
        }
        // COMPAT(runc): a call that is newer than all that the profile names does
        // not exist, so that a C library falls back to what it used before. Not
        // where the default lets calls happen anyway.
        if profile::permits(profile.default) {
            verdicts.newest = None;
        }
        verdicts
    }

    /// The verdicts over all numbers of this ABI.
    pub(super) fn segments(&self, segments: &mut Segments<Verdict>) {
        let base = self.abi.base();
        for slot in 0..self.end {
            segments.push(base + slot as u32, self.verdict(slot));
        }
        segments.push(base + self.end as u32, self.beyond());
        if self.abi == Abi::Arm {
            for slot in ORDINARY..SLOTS {
                segments.push(ARM_PRIVATE + (slot - ORDINARY) as u32, self.verdict(slot));
            }
            segments.push(ARM_PRIVATE + (SLOTS - ORDINARY) as u32, self.beyond());
        }
    }

    /// What a call gets.
    pub(super) fn of(&self, call: Call) -> Option<Verdict> {
        call.slot(self.abi).map(|slot| self.verdict(slot))
    }

    /// What the numbers with bit 30 get that are not x32's: those of a profile for
    /// x86_64 alone.
    pub(super) fn without_x32(&self, segments: &mut Segments<Verdict>) {
        match self.newest {
            // They are above the newest, and answered as a kernel without x32 does.
            Some(_) => segments.push(X32_BIT, Verdict::Return(ENOSYS)),
            None => {
                // A rule for a call must not be passed by its x32 twin.
                segments.push(X32_BIT, Verdict::Return(KILL_PROCESS));
                // -1 is no call: a tracer puts it to have the call skipped.
                segments.push(u32::MAX, Verdict::Return(self.default));
            }
        }
    }

    /// The verdicts over the first argument of a multiplexer.
    pub(super) fn multiplexed(&self, which: Multiplexer) -> Segments<u32> {
        let mut segments = Segments::new();
        let subcalls = &self.multiplexed[which as usize];
        for (number, subcall) in subcalls.0.iter().enumerate() {
            let value = subcall.plain.or(subcall.conditional).unwrap_or(self.default);
            segments.push(number as u32, value);
        }
        segments.push(SUBCALLS as u32, self.default);
        segments
    }

    fn beyond(&self) -> Verdict {
        Verdict::Return(if self.newest.is_some() { ENOSYS } else { self.default })
    }

    fn verdict(&self, slot: usize) -> Verdict {
        // Empty on all but x86.
        let multiplexer = [Multiplexer::Socketcall, Multiplexer::Ipc]
            .into_iter()
            .find(|which| which.slot() == slot && self.multiplexed[*which as usize].is_used());
        match (self.slots[slot], multiplexer) {
            (Slot::Return(value), _) => Verdict::Return(value),
            (Slot::Chain(chain), which) => Verdict::Chain {
                chain,
                narrow: self.abi.narrow(),
                otherwise: which.map_or(Otherwise::Default, Otherwise::Multiplexer),
            },
            (Slot::Default, Some(which)) => Verdict::Multiplexer(which),
            (Slot::Default, None) if self.is_newer(slot) => self.beyond(),
            (Slot::Default, None) => Verdict::Return(self.default),
        }
    }

    fn is_newer(&self, slot: usize) -> bool {
        self.newest.is_some_and(|newest| slot > newest)
            && slot < ORDINARY
            && !self.abi.out_of_order().contains(&slot)
    }

    /// Carries a rule for a call over to the multiplexer that also performs it.
    ///
    /// COMPAT(runc): libseccomp does so, too, and forgets the conditions on the
    /// call's arguments, which are in memory there. We do that only where it makes
    /// the filter stricter: a rule that permits a call with some arguments does not
    /// permit it with all.
    fn multiplex(&mut self, call: Call, value: u32, plain: bool) {
        let Some((which, number)) = call.behind() else { return };
        let subcall = &mut self.multiplexed[which as usize].0[number];
        if plain {
            subcall.plain.get_or_insert(value);
        } else if profile::at_least_as_strict(value, self.default) {
            subcall.conditional.get_or_insert(value);
        }
    }
}

/// Segments in order of their numbers, without neighbours that are equal.
pub(super) struct Segments<T>(pub(super) Vec<Segment<T>>);

impl<T: Copy + PartialEq> Segments<T> {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(256))
    }

    fn push(&mut self, start: u32, verdict: T) {
        if self.0.last().is_none_or(|last| last.verdict != verdict) {
            self.0.push(Segment { start, verdict });
        }
    }
}

/// More calls than a multiplexer has.
const SUBCALLS: usize = 32;

/// What the rules for the calls behind a multiplexer say.
#[derive(Clone, Copy, Default)]
struct Multiplexed([Subcall; SUBCALLS]);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Subcall {
    /// By the first rule without arguments.
    plain: Option<u32>,
    /// By the first rule with arguments that counts without them.
    conditional: Option<u32>,
}

impl Multiplexed {
    fn is_used(&self) -> bool {
        self.0.iter().any(|subcall| *subcall != Subcall::default())
    }
}
