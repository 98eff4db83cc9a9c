//! Resource limits, and who may set them.

use oci_spec::runtime::{PosixRlimitType as Type, Process};

use super::Context;
use crate::error::Error;
use crate::plan::{Builder, Limit, Op};

/// SPEC: the same type twice is an error. The kernel refuses a soft limit above
/// the hard one.
pub(super) fn validate(plan: &mut Builder, process: &Process) {
    let limits = process.rlimits().as_deref().unwrap_or_default();
    for (index, limit) in limits.iter().enumerate() {
        let pointer = format!("/process/rlimits/{index}");
        let name = limit.typ();
        if limits.iter().take(index).any(|earlier| earlier.typ() == name) {
            plan.error(Error::config(&pointer, format!("rlimit {name} is given twice")));
        }
        if limit.soft() > limit.hard() {
            let (soft, hard) = (limit.soft(), limit.hard());
            let what = format!("soft limit {soft} of {name} is above the hard limit {hard}");
            plan.error(Error::config(&pointer, what));
        }
    }
}

/// Sets the limits, late: a small one for open files hinders the stage too.
///
/// Raising a hard limit needs CAP_SYS_RESOURCE in the first user namespace, which
/// the stage has lost once it is in another. The launcher has not.
pub(super) fn limits(plan: &mut Builder, context: &Context, process: &Process) {
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        let (resource, soft, hard) = (number(limit.typ()), limit.soft(), limit.hard());
        if context.namespaces.user() {
            plan.outside().limits.push(Limit { resource, soft, hard });
        } else {
            let doing = format!("error setting rlimit {}", limit.typ());
            let op = Op::ResourceLimit { resource, soft, hard };
            plan.push(op, format!("/process/rlimits/{index}"), doing);
        }
    }
}

/// As the kernel numbers them (getrlimit(2)).
fn number(limit: Type) -> u32 {
    match limit {
        Type::RlimitCpu => libc::RLIMIT_CPU,
        Type::RlimitFsize => libc::RLIMIT_FSIZE,
        Type::RlimitData => libc::RLIMIT_DATA,
        Type::RlimitStack => libc::RLIMIT_STACK,
        Type::RlimitCore => libc::RLIMIT_CORE,
        Type::RlimitRss => libc::RLIMIT_RSS,
        Type::RlimitNproc => libc::RLIMIT_NPROC,
        Type::RlimitNofile => libc::RLIMIT_NOFILE,
        Type::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        Type::RlimitAs => libc::RLIMIT_AS,
        Type::RlimitLocks => libc::RLIMIT_LOCKS,
        Type::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        Type::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        Type::RlimitNice => libc::RLIMIT_NICE,
        Type::RlimitRtprio => libc::RLIMIT_RTPRIO,
        Type::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}
