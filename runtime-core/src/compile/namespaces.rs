//! Namespaces: which are made, which are joined, by whom and in what order.
//!
//! Decides what the launcher's clone makes by itself and what the stage must
//! make after it has joined something. Knows nothing of what is done inside them.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, LinuxTimeOffset, Process};
use orlop_init::op::{GROUPS_IF_LET, GROUPS_LEFT, GROUPS_SET};

use super::{Context, Options, net_devices, resctrl, scheduling};
use crate::error::Error;
use crate::host::HostFacts;
use crate::plan::{Builder, Extent, Fill, Gate, Maps, Op, Slot};

/// `CLONE_NEW*` of each kind, as the kernel numbers them.
pub(super) const MOUNT: u32 = LinuxNamespaceType::Mount as u32;
pub(super) const CGROUP: u32 = LinuxNamespaceType::Cgroup as u32;
pub(super) const UTS: u32 = LinuxNamespaceType::Uts as u32;
pub(super) const IPC: u32 = LinuxNamespaceType::Ipc as u32;
pub(super) const USER: u32 = LinuxNamespaceType::User as u32;
pub(super) const PID: u32 = LinuxNamespaceType::Pid as u32;
pub(super) const NETWORK: u32 = LinuxNamespaceType::Network as u32;
pub(super) const TIME: u32 = LinuxNamespaceType::Time as u32;

/// CAP_SETGID and CAP_SETUID (capabilities(7)): who may write any id map.
const SETGID: u32 = 6;
const SETUID: u32 = 7;
/// Most lines in a map (user_namespaces(7)).
const MOST_EXTENTS: usize = 340;

/// The namespaces of a container.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    new: u32,
    joined: Vec<Joined>,
}

#[derive(Debug)]
struct Joined {
    kind: u32,
    path: PathBuf,
    index: usize,
}

impl Namespaces {
    /// Sorts what the config lists; what is wrong with it is [`validate`]'s.
    pub(super) fn new(linux: &Linux) -> Self {
        let mut namespaces = Self::default();
        for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
            let kind = namespace.typ() as u32;
            // COMPAT(runc): an empty path is no path.
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                Some(path) => namespaces.joined.push(Joined { kind, path: path.clone(), index }),
                None => namespaces.new |= kind,
            }
        }
        namespaces
    }

    /// Whether the container gets a new one of this kind.
    pub(super) fn is_new(&self, kind: u32) -> bool {
        self.new & kind != 0
    }

    /// Whether the container joins an existing one of this kind.
    pub(super) fn joins(&self, kind: u32) -> bool {
        self.joined_kinds() & kind != 0
    }

    /// Whether the container is not in the runtime's own namespace of this kind.
    pub(super) fn has(&self, kind: u32) -> bool {
        self.is_new(kind) || self.joins(kind)
    }

    /// Whether the container is not in the runtime's own user namespace.
    pub(super) fn user(&self) -> bool {
        self.has(USER)
    }

    /// Whether nobody else is in the container's mount namespace.
    pub(super) fn own_mounts(&self) -> bool {
        self.is_new(MOUNT)
    }

    fn joined_kinds(&self) -> u32 {
        self.joined.iter().fold(0, |kinds, joined| kinds | joined.kind)
    }

    /// Whether the clone makes the user namespace, so that the stage has no
    /// privilege outside from its first instruction on.
    pub(super) fn born_unprivileged(&self) -> bool {
        self.is_new(USER) && self.joined.is_empty()
    }
}

/// Refuses what can't work.
pub(super) fn validate(plan: &mut Builder, context: &Context) {
    let Context { linux, host, namespaces, .. } = context;
    let mut seen = 0;
    for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let pointer = format!("/linux/namespaces/{index}");
        let kind = namespace.typ() as u32;
        if seen & kind != 0 {
            // COMPAT(runc): the first four words.
            let name = namespace.typ().to_string();
            plan.error(Error::config(
                &pointer,
                format!("malformed spec file: duplicated ns {name:?}"),
            ));
        }
        seen |= kind;
        if let Some(path) = namespace.path()
            && !path.as_os_str().is_empty()
            && !path.is_absolute()
        {
            let what = format!("namespace path {path:?} must be absolute");
            plan.error(Error::config(format!("{pointer}/path"), what));
        }
    }
    if !host.may_mount() && !namespaces.user() {
        // COMPAT(runc): the text.
        let what = "rootless container requires user namespaces";
        plan.error(Error::config("/linux/namespaces", what));
    }
    validate_maps(plan, context);
    time_offsets(plan, context);
}

/// Makes and joins all namespaces, and is root in them afterwards.
///
/// The clone makes what it can, because a namespace costs nothing there. Two
/// things it can't do: make one after something was joined, and make a user
/// namespace from which something outside is still to be joined. A process that
/// has joined a pid namespace is not in it; its child is.
pub(super) fn enter(plan: &mut Builder, context: &Context) {
    let Context { options, namespaces, .. } = context;
    let new = namespaces.new;
    // A cgroup namespace is rooted where its maker is, and the clone reaches the
    // cgroup of one hierarchy only.
    let by_clone = by_writing(options, true).is_empty() && !options.placed;
    let late_cgroup = if by_clone { 0 } else { CGROUP };
    // The directory of its message queues is its maker's, and the clone has no id of the
    // user namespace yet: it would be nobody's, whom the kernel lets nobody label.
    let late_ipc = if new & USER != 0 { IPC } else { 0 };
    let in_clone = if namespaces.joins(USER) || new & USER != 0 && !namespaces.joined.is_empty() {
        0
    } else {
        new & !TIME & !late_cgroup & !late_ipc
    };
    let rest = new & !in_clone;
    plan.outside().clone_flags = in_clone;
    let list = "/linux/namespaces";

    join_cgroups(plan, context, true);
    resctrl::join(plan, context);
    join_listed(plan, namespaces);
    if rest & USER != 0 {
        plan.push(Op::Unshare { kinds: USER }, list, "making a user namespace");
    }
    if new & USER != 0 {
        map_ids(plan, context);
    }
    let now = rest & !(USER | PID);
    if now != 0 {
        plan.push(Op::Unshare { kinds: now }, list, "making namespaces");
    }
    plan.outside().time_offsets = time_offsets_text(context);
    plan.outside().net_devices = net_devices::devices(context);
    if plan.outside().time_offsets.is_some() || !plan.outside().net_devices.is_empty() {
        plan.push(Op::WaitFor { gate: Gate::Attached }, "", "waiting for the runtime");
    }
    if new & TIME != 0 {
        plan.push(Op::EnterTime {}, list, "entering the time namespace");
    }
    if rest & PID != 0 || namespaces.joins(PID) {
        plan.push(Op::CloneInit { kinds: rest & PID }, list, "going on in the pid namespace");
    }
    // Only now: an unprivileged launcher can't write the files of a process
    // that is hidden, and changing ids may have made it visible again.
    plan.push(Op::Undumpable {}, "", "hiding the init process");
}

/// Cgroups come first: what the stage allocates from here on is the container's,
/// and the files are opened by the launcher, whose privileges count.
fn join_cgroups(plan: &mut Builder, context: &Context, by_clone: bool) {
    if context.options.placed {
        let doing = "waiting to be in the cgroup";
        plan.push(Op::WaitFor { gate: Gate::Placed }, "/linux/cgroupsPath", doing);
        return;
    }
    let writes = by_writing(context.options, by_clone);
    plan.outside().into_cgroup = writes.len() < context.options.cgroups.len();
    if writes.is_empty() {
        return;
    }
    let slots: Vec<u32> =
        writes.into_iter().map(|index| plan.slot(Fill::CgroupProcs { index }).0).collect();
    let slots = plan.words(&slots);
    plan.push(Op::JoinCgroups { slots }, "/linux/cgroupsPath", "joining the cgroups");
}

/// The hierarchies that the stage joins by a write: those of cgroup v1, and
/// cgroup v2 where the clone shall not do it.
fn by_writing(options: &Options, by_clone: bool) -> Vec<usize> {
    let each = options.cgroups.iter().enumerate();
    let written = each.filter(|(_, cgroup)| !by_clone || !cgroup.controllers.is_empty());
    written.map(|(index, _)| index).collect()
}

fn join_listed(plan: &mut Builder, namespaces: &Namespaces) {
    if namespaces.joined.is_empty() {
        return;
    }
    // Others live there already, and may look at whoever comes in.
    plan.push(Op::Undumpable {}, "", "hiding the init process");
    let mut pairs = Vec::new();
    for joined in &namespaces.joined {
        let Joined { kind, ref path, index } = *joined;
        let fill = Fill::Namespace { path: path.clone(), kind, index };
        pairs.extend([plan.slot(fill).0, kind]);
    }
    let pointer = match namespaces.joined.as_slice() {
        [only] => format!("/linux/namespaces/{}", only.index),
        _ => "/linux/namespaces".to_owned(),
    };
    let paths: Vec<String> =
        namespaces.joined.iter().map(|joined| format!("{:?}", joined.path)).collect();
    let doing = format!("joining {}", paths.join(", "));
    let pairs = plan.words(&pairs);
    plan.push(Op::Join { namespaces: pairs }, pointer, doing);
}

fn map_ids(plan: &mut Builder, context: &Context) {
    let Context { linux, host, .. } = context;
    let deny_setgroups = setgroups_denied(context);
    let extents = |mappings: &Option<Vec<LinuxIdMapping>>| {
        mappings.iter().flatten().map(extent).collect::<Vec<_>>()
    };
    let (uid, gid) = (extents(linux.uid_mappings()), extents(linux.gid_mappings()));
    let uid_by = mapper(host, Ids::User, linux.uid_mappings());
    let gid_by = mapper(host, Ids::Group, linux.gid_mappings());
    plan.outside().maps = Some(Maps { uid, gid, uid_by, gid_by, deny_setgroups });
    let wait = "waiting for the maps of the user namespace";
    plan.push(Op::WaitFor { gate: Gate::Mapped }, "/linux/uidMappings", wait);
    let groups = set_groups(context);
    plan.push(Op::BecomeRoot { groups }, "", "becoming root of the user namespace");
}

/// As runc has it, before any hook; a namespace that is joined is somebody else's.
pub(super) fn loopback(plan: &mut Builder, context: &Context) {
    if context.namespaces.is_new(NETWORK) {
        let doing = "bringing up the loopback device";
        plan.push(Op::Loopback {}, "/linux/namespaces", doing);
    }
}

pub(super) fn extent(mapping: &LinuxIdMapping) -> Extent {
    Extent { inside: mapping.container_id(), outside: mapping.host_id(), count: mapping.size() }
}

/// Whether the container can't call setgroups(2): it is denied to the caller and
/// all below, or must be, because the kernel lets an unprivileged process map a
/// group only then. newgidmap(1) allows it with the groups that it gives away.
pub(super) fn setgroups_denied(context: &Context) -> bool {
    let Context { host, linux, namespaces, .. } = context;
    let by_itself = || !namespaces.is_new(USER) || Ids::Group.is_own(host, linux.gid_mappings());
    !host.setgroups || namespaces.user() && !Ids::Group.may_map(host) && by_itself()
}

/// How the groups are set. Whether a namespace that is joined by its path denies it is
/// known to those who are in it.
pub(super) fn set_groups(context: &Context) -> u32 {
    match setgroups_denied(context) {
        true => GROUPS_LEFT,
        false if context.namespaces.joins(USER) => GROUPS_IF_LET,
        false => GROUPS_SET,
    }
}

/// One of the two kinds of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    User,
    Group,
}

impl Ids {
    fn name(self) -> &'static str {
        match self {
            Self::User => "uid",
            Self::Group => "gid",
        }
    }

    /// Whether the caller may map any that it has.
    fn may_map(self, host: &HostFacts) -> bool {
        let capability = match self {
            Self::User => SETUID,
            Self::Group => SETGID,
        };
        host.capabilities >> capability & 1 == 1
    }

    /// Whether the caller's own one is all that is mapped: anybody may do that.
    fn is_own(self, host: &HostFacts, mappings: &Option<Vec<LinuxIdMapping>>) -> bool {
        let own = match self {
            Self::User => host.euid,
            Self::Group => host.egid,
        };
        let mappings = mappings.as_deref().unwrap_or_default();
        matches!(mappings, [one] if one.size() == 1 && one.host_id() == own)
    }

    fn mapper(self, host: &HostFacts) -> Option<&Path> {
        match self {
            Self::User => host.id_mappers.uid.as_deref(),
            Self::Group => host.id_mappers.gid.as_deref(),
        }
    }
}

/// The program that must write a map.
fn mapper(host: &HostFacts, ids: Ids, mappings: &Option<Vec<LinuxIdMapping>>) -> Option<PathBuf> {
    let by_itself = ids.may_map(host) || ids.is_own(host, mappings);
    if by_itself { None } else { ids.mapper(host).map(Path::to_path_buf) }
}

/// Joins the namespaces of a running container, for `exec`.
pub(super) fn join_container(plan: &mut Builder, context: &Context, process: &Process) {
    let affinity = process.exec_cpu_affinity().as_ref();
    let initial = affinity.and_then(|affinity| affinity.initial().as_ref());
    // SPEC: the initial affinity holds before the process is in the cgroup; the
    // clone would already have put it there.
    let by_clone = initial.is_none();
    scheduling::affinity(plan, initial, "/process/execCPUAffinity/initial");
    join_cgroups(plan, context, by_clone);
    resctrl::join(plan, context);
    join(plan, context);
}

/// The namespaces alone.
pub(super) fn join(plan: &mut Builder, context: &Context) {
    let namespaces = &context.namespaces;
    // One call: what the container had joined from outside is still ours to join,
    // because the kernel asks with the privileges that we have before it.
    let kinds = namespaces.new | namespaces.joined_kinds();
    if kinds != 0 {
        let doing = "joining the container's namespaces";
        let op = Op::JoinProcess { slot: Slot::TARGET, kinds };
        plan.push(op, "/linux/namespaces", doing);
    }
    if namespaces.has(PID) {
        let doing = "going on in the pid namespace";
        plan.push(Op::CloneInit { kinds: 0 }, "/linux/namespaces", doing);
    }
    plan.push(Op::Undumpable {}, "", "hiding the process");
}

fn validate_maps(plan: &mut Builder, context: &Context) {
    let Context { linux, host, namespaces, .. } = context;
    for (ids, all) in [(Ids::User, linux.uid_mappings()), (Ids::Group, linux.gid_mappings())] {
        let name = ids.name();
        let pointer = format!("/linux/{name}Mappings");
        let mappings = all.as_deref().unwrap_or_default();
        if !namespaces.user() {
            if !mappings.is_empty() {
                // COMPAT(runc): they are nobody's.
                plan.warn(format!("{pointer}: ignored, since there is no user namespace"));
            }
            continue;
        }
        if namespaces.joins(USER) {
            // COMPAT(runc): engines give the maps of the namespace along with its
            // path. Those of the namespace hold; nothing is written.
            continue;
        }
        if mappings.is_empty() {
            plan.error(Error::config(&pointer, format!("no {name} mappings found")));
            continue;
        }
        validate_extents(plan, &pointer, name, mappings);
        let root = |mapping: &LinuxIdMapping| mapping.container_id() == 0 && mapping.size() > 0;
        if mappings.len() <= MOST_EXTENTS && !mappings.iter().any(root) {
            // COMPAT(runc): the text.
            plan.error(Error::config(&pointer, format!("no mapping found for {name} 0")));
        }
        if !ids.may_map(host) && !ids.is_own(host, all) && ids.mapper(host).is_none() {
            let what =
                format!("mapping other {name}s than one's own takes new{name}map: not in $PATH");
            let error = Error::unsupported(&pointer, what);
            plan.error(error.hint("it is in the package uidmap or shadow-utils"));
        }
    }
}

/// Refuses a map that the kernel would not take, of a container or of one mount.
pub(super) fn validate_extents(
    plan: &mut Builder,
    pointer: &str,
    name: &str,
    mappings: &[LinuxIdMapping],
) {
    if mappings.len() > MOST_EXTENTS {
        let what = format!("more than {MOST_EXTENTS} {name} mappings: the kernel takes no more");
        plan.error(Error::config(pointer, what));
        return;
    }
    for (index, mapping) in mappings.iter().enumerate() {
        let pointer = format!("{pointer}/{index}");
        if mapping.size() == 0 {
            plan.error(Error::config(&pointer, format!("{name} mapping has size 0")));
        }
        // The last id, 4294967295, means "no id" to the kernel.
        let fits = |first: u32| u64::from(first) + u64::from(mapping.size()) <= u64::from(u32::MAX);
        if !fits(mapping.container_id()) || !fits(mapping.host_id()) {
            let what = format!("{name} mapping goes beyond the last id 4294967294");
            plan.error(Error::config(&pointer, what));
        }
        for earlier in mappings.iter().take(index) {
            let overlap = |first: u32, second: u32| {
                let (first, second) = (u64::from(first), u64::from(second));
                first < second + u64::from(mapping.size())
                    && second < first + u64::from(earlier.size())
            };
            if overlap(earlier.container_id(), mapping.container_id())
                || overlap(earlier.host_id(), mapping.host_id())
            {
                let what = format!("{name} mapping overlaps an earlier one");
                plan.error(Error::config(&pointer, what));
                break;
            }
        }
    }
}

/// Whether an id of the container exists in its user namespace, as far as the
/// config tells: the maps of a joined one are its own.
pub(super) fn is_mapped(
    context: &Context,
    mappings: &Option<Vec<LinuxIdMapping>>,
    id: u32,
) -> bool {
    // One without any mapping has been refused already.
    let mappings = mappings.as_deref().unwrap_or_default();
    !context.namespaces.is_new(USER)
        || mappings.is_empty()
        || mappings.iter().any(|mapping| {
            id.checked_sub(mapping.container_id()).is_some_and(|above| above < mapping.size())
        })
}

fn time_offsets(plan: &mut Builder, context: &Context) {
    let Some(offsets) = context.linux.time_offsets() else { return };
    if offsets.is_empty() {
        return;
    }
    if !context.namespaces.is_new(TIME) {
        let what = "time offsets need a new time namespace";
        plan.error(Error::config("/linux/timeOffsets", what));
    }
    for (clock, offset) in offsets {
        let pointer = format!("/linux/timeOffsets/{}", crate::bundle::escape(clock));
        if clock != "monotonic" && clock != "boottime" {
            let what =
                format!("unknown clock {clock:?}: only monotonic and boottime can be offset");
            plan.error(Error::config(&pointer, what));
        }
        if offset.nanosecs().unwrap_or(0) >= 1_000_000_000 {
            let what = "a second has no more than 999999999 nanoseconds";
            plan.error(Error::config(format!("{pointer}/nanosecs"), what));
        }
    }
}

/// The lines of `/proc/PID/timens_offsets` (time_namespaces(7)).
fn time_offsets_text(context: &Context) -> Option<String> {
    let offsets = context.linux.time_offsets().as_ref()?;
    let line = |clock: &str| {
        let offset: &LinuxTimeOffset = offsets.get(clock)?;
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        Some(format!("{clock} {seconds} {nanoseconds}\n"))
    };
    let text: String = ["monotonic", "boottime"].into_iter().filter_map(line).collect();
    (!text.is_empty()).then_some(text)
}
