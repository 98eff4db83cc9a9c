//! How the kernel schedules the process: policy, priorities, processors, memory
//! nodes, and the execution domain.

use oci_spec::runtime::{
    IOPriorityClass, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain,
    LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy, MemoryPolicyFlagType as NodeFlag,
    MemoryPolicyModeType as Mode, Process, Scheduler,
};

use super::Context;
use crate::error::Error;
use crate::plan::{Builder, Op};

/// Most processors or nodes that a list may name: beyond what any kernel has.
const MOST_BITS: usize = 1 << 16;

/// COMPAT(runc): the texts name the same fields.
pub(super) fn validate(plan: &mut Builder, process: &Process) {
    if let Some(scheduler) = process.scheduler() {
        validate_scheduler(plan, scheduler);
    }
    if let Some(priority) = process.io_priority()
        && !(0..=7).contains(&priority.priority())
    {
        let what = format!("invalid ioPriority.Priority: {}", priority.priority());
        plan.error(Error::config("/process/ioPriority/priority", what));
    }
    if let Some(affinity) = process.exec_cpu_affinity() {
        for (name, list) in
            [("initial", affinity.initial()), ("final", affinity.cpu_affinity_final())]
        {
            if list.as_deref().is_some_and(|list| mask_of(list).is_none()) {
                let what = format!("bad CPUAffinity.{name}: not a list of processors");
                plan.error(Error::config(format!("/process/execCPUAffinity/{name}"), what));
            }
        }
    }
}

fn validate_scheduler(plan: &mut Builder, scheduler: &Scheduler) {
    let policy = *scheduler.policy();
    let mut refuse = |bad: bool, field: &str, what: String| {
        if bad {
            plan.error(Error::config(format!("/process/scheduler/{field}"), what));
        }
    };
    refuse(policy == Policy::SchedIso, "policy", "invalid scheduler policy: SCHED_ISO".into());
    let nice = scheduler.nice().unwrap_or(0);
    refuse(!(-20..=19).contains(&nice), "nice", format!("invalid scheduler.nice: {nice}"));
    let priority = scheduler.priority().unwrap_or(0);
    let range = match policy {
        Policy::SchedFifo | Policy::SchedRr => 1..=99,
        _ => 0..=0,
    };
    refuse(
        !range.contains(&priority),
        "priority",
        format!("invalid scheduler.priority: {priority} with {policy}"),
    );
    let times = [
        ("runtime", scheduler.runtime()),
        ("deadline", scheduler.deadline()),
        ("period", scheduler.period()),
    ];
    for (field, time) in times {
        let misplaced = policy != Policy::SchedDeadline && time.is_some_and(|time| time != 0);
        refuse(misplaced, field, format!("scheduler.{field} is for SCHED_DEADLINE only"));
    }
    for (index, flag) in scheduler.flags().iter().flatten().enumerate() {
        // The kernel wants a clamp with these, for which the spec has no field.
        let clamp = matches!(flag, Flag::SchedFlagUtilClampMin | Flag::SchedFlagUtilClampMax);
        let what = format!("scheduler flag {flag} needs a value that the spec does not have");
        refuse(clamp, &format!("flags/{index}"), what);
    }
}

/// Everything for the program, while the capabilities for it (CAP_SYS_NICE) are
/// still there.
pub(super) fn schedule(plan: &mut Builder, context: &Context, process: &Process) {
    if let Some(personality) = context.linux.personality() {
        persona(plan, personality);
    }
    if let Some(policy) = context.linux.memory_policy() {
        memory_policy(plan, policy);
    }
    if let Some(wanted) = process.scheduler() {
        plan.push(scheduler(wanted), "/process/scheduler", "setting the scheduler");
    }
    if let Some(wanted) = process.io_priority() {
        let class = match wanted.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = u32::try_from(wanted.priority()).unwrap_or_default();
        let priority = class << 13 | level;
        plan.push(Op::IoPriority { priority }, "/process/ioPriority", "setting the I/O priority");
    }
    // SPEC: for exec only; and in the cgroup, where the process is by now.
    let wanted = if context.first { None } else { process.exec_cpu_affinity().as_ref() };
    match wanted {
        Some(wanted) => {
            let list = wanted.cpu_affinity_final().as_ref();
            affinity(plan, list, "/process/execCPUAffinity/final");
        }
        // COMPAT(runc): those of the cgroup, however few the caller was told to use.
        None => {
            let op = Op::Affinity { mask: plan.bytes(&[]) };
            plan.push(op, "", "using every processor of the cgroup");
        }
    }
}

/// The processors of a list, if there is one.
pub(super) fn affinity(plan: &mut Builder, list: Option<&String>, pointer: &str) {
    let Some(mask) = list.and_then(|list| mask_of(list)) else { return };
    let mask = plan.bytes(&mask);
    plan.push(Op::Affinity { mask }, pointer.to_owned(), "setting the CPU affinity");
}

fn scheduler(wanted: &Scheduler) -> Op {
    let policy = match wanted.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let flags = wanted.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                Flag::SchedResetOnFork => 0x01,
                Flag::SchedFlagReclaim => 0x02,
                Flag::SchedFlagDLOverrun => 0x04,
                Flag::SchedFlagKeepPolicy => 0x08,
                Flag::SchedFlagKeepParams => 0x10,
                Flag::SchedFlagUtilClampMin => 0x20,
                Flag::SchedFlagUtilClampMax => 0x40,
            }
    });
    Op::Scheduler {
        policy,
        nice: wanted.nice().unwrap_or(0),
        priority: wanted.priority().and_then(|level| level.try_into().ok()).unwrap_or(0),
        flags,
        runtime: wanted.runtime().unwrap_or(0),
        deadline: wanted.deadline().unwrap_or(0),
        period: wanted.period().unwrap_or(0),
    }
}

/// SPEC: no flags are defined yet.
fn persona(plan: &mut Builder, wanted: &LinuxPersonality) {
    if wanted.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        let what = "personality flags are not supported";
        plan.error(Error::unsupported("/linux/personality/flags", what));
    }
    let persona = match wanted.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    };
    plan.push(Op::Personality { persona }, "/linux/personality", "setting the personality");
}

/// set_mempolicy(2)
fn memory_policy(plan: &mut Builder, wanted: &LinuxMemoryPolicy) {
    let mode = match wanted.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let flags = wanted.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                NodeFlag::MpolFNumaBalancing => 1 << 13,
                NodeFlag::MpolFRelativeNodes => 1 << 14,
                NodeFlag::MpolFStaticNodes => 1 << 15,
            }
    });
    let list = wanted.nodes().as_deref().unwrap_or_default();
    let nodes = if list.is_empty() { Some(Vec::new()) } else { mask_of(list) };
    let takes_none = matches!(wanted.mode(), Mode::MpolDefault | Mode::MpolLocal);
    let Some(mut nodes) = nodes else {
        let what = format!("invalid memory policy nodes {list:?}: not a list of memory nodes");
        plan.error(Error::config("/linux/memoryPolicy/nodes", what));
        return;
    };
    if takes_none && !nodes.is_empty() {
        let count: u32 = nodes.iter().map(|byte| byte.count_ones()).sum();
        let mode = wanted.mode();
        let what = format!("invalid memory policy: {mode} mode requires 0 nodes but got {count}");
        plan.error(Error::config("/linux/memoryPolicy/nodes", what));
    } else if nodes.is_empty() && !takes_none && wanted.mode() != Mode::MpolPreferred {
        let what = format!("invalid memory policy: {} mode needs nodes", wanted.mode());
        plan.error(Error::config("/linux/memoryPolicy/nodes", what));
    }
    if !nodes.is_empty() {
        nodes.extend([0; 8]); // the kernel does not look at the last bit it is told of
    }
    let nodes = plan.bytes(&nodes);
    let op = Op::MemoryPolicy { mode: mode | flags, nodes };
    plan.push(op, "/linux/memoryPolicy", "setting the memory policy");
}

/// The bits of a list such as `0-3,7`, in whole 64-bit words; `None` when it is
/// no list.
fn mask_of(list: &str) -> Option<Vec<u8>> {
    let mut words: Vec<u64> = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        let length = words.len().max(last / 64 + 1);
        words.resize(length, 0);
        for bit in first..=last {
            *words.get_mut(bit / 64)? |= 1 << (bit % 64);
        }
    }
    Some(words.into_iter().flat_map(u64::to_ne_bytes).collect())
}

fn number(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok().filter(|number| *number < MOST_BITS) } else { None }
}

#[cfg(test)]
mod tests {
    use super::mask_of;

    #[test]
    fn lists_become_bits() {
        assert_eq!(mask_of("0-3,7"), Some(0b1000_1111_u64.to_ne_bytes().to_vec()));
        assert_eq!(mask_of("64").map(|mask| mask.len()), Some(16));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in
            ["", ",", "1-", "-1", "3-1", "x", "1,,2", "70000", "0-99999999999999999999", "+1"]
        {
            assert_eq!(mask_of(bad), None, "{bad:?}");
        }
    }
}
