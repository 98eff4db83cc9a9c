//! Capabilities: names to bits, and what of them this host can give.

use std::str::FromStr;

use oci_spec::runtime::{Capabilities, LinuxCapabilities};

use super::Context;
use crate::error::Error;
use crate::plan::Builder;

/// The five sets, one bit a capability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sets {
    pub(super) bounding: u64,
    pub(super) effective: u64,
    pub(super) permitted: u64,
    pub(super) inheritable: u64,
    pub(super) ambient: u64,
}

/// What the process gets. No section means no capabilities at all.
///
/// COMPAT(runc): what the host can't give is left out with one warning; so are
/// ambient ones that are not inheritable, which the kernel would refuse.
pub(super) fn sets(
    plan: &mut Builder,
    context: &Context,
    wanted: Option<&LinuxCapabilities>,
    pointer: &str,
) -> Sets {
    let Some(wanted) = wanted else { return Sets::default() };
    let mut sets = Sets {
        bounding: bits(wanted.bounding()),
        effective: bits(wanted.effective()),
        permitted: bits(wanted.permitted()),
        inheritable: bits(wanted.inheritable()),
        ambient: bits(wanted.ambient()),
    };
    let all = sets.bounding | sets.effective | sets.permitted | sets.inheritable | sets.ambient;
    let available = available(context);
    if all & !available != 0 {
        let names = names(all & !available);
        plan.warn(format!("ignoring unknown or unavailable capabilities: [{names}]"));
    }
    for set in [
        &mut sets.bounding,
        &mut sets.effective,
        &mut sets.permitted,
        &mut sets.inheritable,
        &mut sets.ambient,
    ] {
        *set &= available;
    }
    let raisable = sets.inheritable & sets.permitted;
    if sets.ambient & !raisable != 0 {
        // COMPAT(runc): the first words.
        let names = names(sets.ambient & !raisable);
        let names = names.replace(' ', ", ");
        plan.warn(format!("can't raise ambient capability {names}: not inheritable and permitted"));
        sets.ambient &= raisable;
    }
    // The kernel refuses the whole call for these two; say which, and where.
    if sets.effective & !sets.permitted != 0 {
        let names = names(sets.effective & !sets.permitted);
        let what = format!("effective capabilities that are not permitted: [{names}]");
        plan.error(Error::config(format!("{pointer}/effective"), what));
    }
    if sets.inheritable & !sets.bounding != 0 {
        let names = names(sets.inheritable & !sets.bounding);
        let what = format!("inheritable capabilities outside the bounding set: [{names}]");
        plan.error(Error::config(format!("{pointer}/inheritable"), what));
    }
    sets
}

/// A new user namespace gives all that the kernel knows; otherwise nothing can
/// be had that the caller's bounding set has lost.
fn available(context: &Context) -> u64 {
    let known = u64::MAX >> 63_u32.saturating_sub(context.host.last_capability);
    if context.namespaces.user() { known } else { known & context.host.bounding }
}

fn bits(wanted: &Option<Capabilities>) -> u64 {
    wanted.iter().flatten().fold(0, |bits, capability| {
        let name = format!("CAP_{capability}");
        // Both lists are the kernel's; a name that only one has gets no bit.
        bits | caps::Capability::from_str(&name).map_or(0, |capability| capability.bitmask())
    })
}

fn names(bits: u64) -> String {
    let mut known: Vec<_> = caps::all().into_iter().collect();
    known.sort_by_key(caps::Capability::index);
    let names: Vec<String> = known
        .into_iter()
        .filter(|capability| bits & capability.bitmask() != 0)
        .map(|capability| capability.to_string())
        .collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;

    use super::*;

    #[test]
    fn names_become_the_kernels_bits() {
        let wanted: Capabilities =
            [Capability::Chown, Capability::SysAdmin, Capability::Bpf].into();
        assert_eq!(bits(&Some(wanted)), 1 | 1 << 21 | 1 << 39);
        assert_eq!(names(1 | 1 << 21), "CAP_CHOWN CAP_SYS_ADMIN");
    }

    #[test]
    fn every_name_of_the_spec_has_a_bit() {
        let all = caps::all().len();
        let each: Capabilities = caps::all()
            .into_iter()
            .map(|capability| {
                let name = capability.to_string();
                serde_json::from_value(name.into()).expect("the spec knows every capability")
            })
            .collect();
        assert_eq!(bits(&Some(each)).count_ones() as usize, all);
    }
}
