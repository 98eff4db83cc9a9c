//! Network devices of the host that become the container's: which may be asked for.
//! The launcher moves them, while the stage waits.

use std::collections::HashSet;

use super::{Context, namespaces};
use crate::bundle::escape;
use crate::error::Error;
use crate::plan::{Builder, NetDevice};

const AT: &str = "/linux/netDevices";
/// Longest name (netdevice(7), `IFNAMSIZ` with its NUL).
const LONGEST: usize = 15;

/// COMPAT(runc): the texts, but for that of a name twice.
pub(super) fn validate(plan: &mut Builder, context: &Context) {
    let devices = devices(context);
    if devices.is_empty() {
        return;
    }
    if !context.is_private(namespaces::NETWORK) {
        let what = "unable to move network devices without a NET namespace";
        plan.error(Error::config(AT, what));
    }
    if context.host.rootless() {
        let what = "network devices are not supported for rootless containers";
        plan.error(Error::unsupported(AT, what));
    }
    let mut names = HashSet::new();
    for NetDevice { name, inside, pointer } in &devices {
        let below = format!("{pointer}/name");
        let mut valid = |is: bool, name: &str, pointer: &str| {
            if !is {
                let what = format!("invalid network device name {name:?}");
                plan.error(Error::config(pointer, what));
            }
        };
        valid(is_name(name) && !name.contains('%'), name, pointer);
        if inside != name {
            valid(is_name(inside) && is_counted(inside), inside, &below);
        }
        if !inside.contains('%') && !names.insert(inside) {
            let what = format!("two network devices are to be named {inside:?}");
            plan.error(Error::config(below, what));
        }
    }
}

/// In the order of their names: that of a JSON object says nothing.
pub(super) fn devices(context: &Context) -> Vec<NetDevice> {
    let listed = context.linux.net_devices().iter().flatten();
    let mut devices: Vec<_> = listed
        .map(|(name, device)| {
            let new = device.name().clone().filter(|new| !new.is_empty());
            NetDevice {
                name: name.clone(),
                inside: new.unwrap_or_else(|| name.clone()),
                pointer: format!("{AT}/{}", escape(name)),
            }
        })
        .collect();
    devices.sort_by(|one, other| one.name.cmp(&other.name));
    devices
}

/// SPEC: a name may have a `%d`, for which the kernel puts a number. It takes no other `%`
/// (net/core/dev.c, `__dev_alloc_name`), and a device that is there has none.
fn is_counted(name: &str) -> bool {
    name.split_once('%').is_none_or(|(_, rest)| rest.starts_with('d') && !rest.contains('%'))
}

/// net/core/dev.c (`dev_valid_name`)
fn is_name(name: &str) -> bool {
    let bad = |c: u8| matches!(c, b'/' | b':' | b'\x0b') || c.is_ascii_whitespace();
    (1..=LONGEST).contains(&name.len()) && name != "." && name != ".." && !name.bytes().any(bad)
}
