//! Device nodes: the default ones, those of the config, and the links in /dev.
//!
//! Decides which nodes there are and whether they are made or bound from the
//! host. Knows nothing of the device cgroup, which is the cgroup manager's.

use std::collections::HashSet;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use orlop_init::op::{DEVICE_BOUND, DEVICE_MADE, DEVICE_NEVER_BOUND};
use orlop_init::sys::abi::{S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT};

use super::mounts::Entry;
use super::{Context, rootfs};
use crate::error::Error;
use crate::plan::{Builder, Op};

/// CAP_MKNOD (capabilities(7)).
const MKNOD: u32 = 27;
/// Bits of a device's major and minor number in the kernel.
const MAJOR_BITS: u32 = 12;
const MINOR_BITS: u32 = 20;

/// SPEC: config-linux.md, "Default Devices"; all of them character devices.
pub(super) const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// SPEC: runtime-linux.md, "Dev symbolic links"; `core` is there in every
/// runtime.
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
];

struct Node {
    pointer: String,
    at: String,
    mode: u32,
    number: (u32, u32),
    owner: (u32, u32),
}

/// Makes the nodes and links.
pub(super) fn devices(plan: &mut Builder, context: &Context<'_>, mounts: &[Entry<'_>]) {
    if mounts.iter().any(|mount| mount.binds("/dev")) {
        // COMPAT(runc): the host's own /dev has what it has.
        if context.linux.devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
            plan.warn("/linux/devices: ignored, since /dev is a bind mount");
        }
        return;
    }
    let mounted: HashSet<&str> = mounts.iter().map(|mount| mount.at.as_str()).collect();
    let mut nodes: Vec<Node> = Vec::new();
    let mut named: HashSet<String> = HashSet::new();
    for (index, device) in context.linux.devices().iter().flatten().enumerate() {
        match node(device, format!("/linux/devices/{index}")) {
            // COMPAT(runc): the terminals are the container's own, by a link.
            Ok(node) if node.at == "/dev/ptmx" => {}
            // COMPAT(runc): the first one is there, or what is mounted.
            Ok(node) if named.contains(&node.at) || mounted.contains(node.at.as_str()) => {
                let Node { pointer, at, .. } = &node;
                plan.warn(format!("{pointer}: ignored, since {at:?} is there already"));
                named.insert(node.at);
            }
            Ok(node) => {
                named.insert(node.at.clone());
                nodes.push(node);
            }
            Err(error) => plan.error(error),
        }
    }
    let defaults = DEFAULT.iter().filter(|(at, _, _)| !named.contains(*at)).map(|device| Node {
        pointer: String::new(),
        at: device.0.to_owned(),
        mode: S_IFCHR | 0o666,
        number: (device.1, device.2),
        owner: (0, 0),
    });
    // The default ones first, as a person expects them; order has no effect.
    let nodes: Vec<Node> = defaults.collect::<Vec<_>>().into_iter().chain(nodes).collect();
    for node in nodes.iter().filter(|node| !mounted.contains(node.at.as_str())) {
        make(plan, context, node);
    }
    links(plan, |at| named.contains(at) || mounted.contains(at));
}

fn links(plan: &mut Builder, taken: impl Fn(&str) -> bool) {
    // An image may bring a node of the host's; the terminals are in our own devpts.
    let ptmx = ("/dev/ptmx", "pts/ptmx", 1);
    for (at, to, replace) in LINKS.map(|(at, to)| (at, to, 0)).into_iter().chain([ptmx]) {
        if taken(at) {
            continue;
        }
        let doing = format!("linking {at:?} to {to:?}");
        let op = Op::Symlink { at: plan.str(at), to: plan.str(to), replace };
        plan.push(op, "", doing);
    }
}

fn make(plan: &mut Builder, context: &Context<'_>, node: &Node) {
    let host = context.host;
    let may_make = !context.namespaces.user()
        && !host.in_user_namespace
        && (host.capabilities & host.bounding) >> MKNOD & 1 == 1;
    let bind = match node.mode & S_IFMT {
        _ if !rootfs::takes_mounts(context) => DEVICE_NEVER_BOUND,
        // Nobody is denied a FIFO.
        S_IFIFO => DEVICE_MADE,
        _ if may_make => DEVICE_MADE,
        _ => DEVICE_BOUND,
    };
    let verb = if bind == DEVICE_BOUND { "binding" } else { "making" };
    let doing = format!("{verb} the device {:?}", node.at);
    let op = Op::Device {
        at: plan.str(&node.at),
        mode: node.mode,
        major: node.number.0,
        minor: node.number.1,
        uid: node.owner.0,
        gid: node.owner.1,
        bind,
    };
    plan.push(op, node.pointer.clone(), doing);
}

fn node(device: &LinuxDevice, pointer: String) -> Result<Node, Error> {
    let path = rootfs::text(device.path(), || format!("{pointer}/path"))?;
    if !path.starts_with('/') {
        let what = format!("the device's path {path:?} is not absolute");
        return Err(Error::config(format!("{pointer}/path"), what));
    }
    let at = rootfs::clean(path).ok_or_else(|| {
        Error::config(format!("{pointer}/path"), format!("the device {path:?} would be the root"))
    })?;
    let kind = match device.typ() {
        LinuxDeviceType::B => S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => S_IFCHR,
        LinuxDeviceType::P => S_IFIFO,
        LinuxDeviceType::A => {
            let what = format!("the device {at:?} can't be of type \"a\"");
            return Err(Error::config(format!("{pointer}/type"), what));
        }
    };
    let number = |value: i64, bits: u32, name: &str| match u32::try_from(value) {
        _ if kind == S_IFIFO => Ok(0),
        Ok(number) if number >> bits == 0 => Ok(number),
        _ => Err(Error::config(
            format!("{pointer}/{name}"),
            format!("the device {at:?} can't have the {name} number {value}"),
        )),
    };
    let owner = |id: Option<u32>, name: &str| match id {
        // chown(2) takes it for "leave as it is".
        Some(u32::MAX) => Err(Error::config(
            format!("{pointer}/{name}"),
            format!("the device {at:?} can't belong to the {name} {}", u32::MAX),
        )),
        id => Ok(id.unwrap_or(0)),
    };
    Ok(Node {
        mode: kind | device.file_mode().unwrap_or(0o666) & 0o7777,
        number: (
            number(device.major(), MAJOR_BITS, "major")?,
            number(device.minor(), MINOR_BITS, "minor")?,
        ),
        owner: (owner(device.uid(), "uid")?, owner(device.gid(), "gid")?),
        at,
        pointer,
    })
}
