//! The config's mounts: which op makes each, and which are refused.
//!
//! Decides the kind of every mount, where its source is opened, and what may be
//! mounted on or below /proc. What an option means is `mount_options.rs`, what
//! cgroup mounts look like is `cgroups.rs`; whether a path exists is known to
//! the stage alone.

use std::path::Path;

use oci_spec::runtime::Mount;
use orlop_init::op::{
    BELOW_COPY, BELOW_MODE, BIND_INSIDE, BIND_LOCKED, BIND_MAPPED, BIND_RECURSIVE,
    FALLBACK_WRITABLE, PROPAGATION_RECURSIVE,
};
use orlop_init::sys::abi::{
    CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWPID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY,
};

use super::mount_options::{Attributes, MountOptions};
use super::{Context, binds, cgroups, rootfs};
use crate::error::{Error, Result};
use crate::plan::{Builder, Op, Place, Slot, Target};

/// What LXCFS and checkpointing cover in /proc; everything else there could make
/// programs, and us, believe what is not so (CVE-2019-16884).
const COVERED_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// File systems of the kernel's own, where `ro` is a matter of the mount alone:
/// the file system may be shared with others.
const VIRTUAL: [&str; 16] = [
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "hugetlbfs",
    "mqueue",
    "proc",
    "pstore",
    "securityfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// File systems that SELinux labels by itself, not by a mount option.
const UNLABELLED: [&str; 5] = ["cgroup", "cgroup2", MQUEUE, "proc", "sysfs"];

/// One for each IPC namespace, made with it: options of a mount come too late.
const MQUEUE: &str = "mqueue";

/// Longest value of a file system's option that fsconfig(2) takes.
const LABEL_MAX: usize = 255;

/// One entry of `mounts`, read.
pub(super) struct Entry<'a> {
    /// Its JSON pointer.
    pub(super) pointer: String,
    /// Where in the container, cleaned.
    pub(super) at: String,
    /// `bind`, or the file system's type; may be empty in a remount.
    pub(super) fs_type: &'a str,
    /// As the config has it.
    pub(super) source: &'a Path,
    /// What its options mean.
    pub(super) options: MountOptions,
    pub(super) mount: &'a Mount,
}

/// A file system to be made.
pub(super) struct New<'a> {
    pub(super) fs_type: &'a str,
    pub(super) source: &'a str,
    pub(super) data: Vec<(String, String)>,
    pub(super) attributes: u64,
    pub(super) at: &'a str,
    pub(super) target: Target,
    pub(super) keep: bool,
    pub(super) below: u32,
    /// What of the host is bound instead when the kernel refuses; may be empty.
    pub(super) fallback: &'a str,
    /// What SELinux calls its directory, where no option says it; may be empty.
    pub(super) label: &'a str,
}

/// A tree of the host to be bound.
pub(super) struct HostTree<'a> {
    pub(super) path: &'a str,
    pub(super) recursive: bool,
    pub(super) top: Attributes,
    pub(super) all: Attributes,
    pub(super) target: Target,
    /// Whether what the host has restricted stays so.
    pub(super) locked: bool,
    /// Whether the path is one in the root.
    pub(super) inside: bool,
    /// Whether the launcher maps the ids of what the stage has opened.
    pub(super) mapped: bool,
}

/// Makes the mounts in the config's order. Returns them as they were read, for what
/// comes after them.
pub(super) fn mounts<'a>(plan: &mut Builder, context: &Context<'a>) -> Vec<Entry<'a>> {
    if label(context).is_some() && !context.host.selinux {
        let what = "the label of mounts needs SELinux, which is off here";
        plan.error(Error::unsupported("/linux/mountLabel", what));
    }
    let written = context.linux.mount_label().as_deref().unwrap_or_default();
    if written.len() > LABEL_MAX {
        let what = format!("the label is longer than {LABEL_MAX} bytes");
        plan.error(Error::config("/linux/mountLabel", what));
    }
    let mut entries = Vec::new();
    let listed = context.spec.mounts().iter().flatten().enumerate();
    let listed = listed.map(|(index, mount)| (format!("/mounts/{index}"), mount));
    let own = context.notify.map(|mount| (String::new(), mount));
    for (pointer, mount) in listed.chain(own) {
        let read = Entry::read(context, mount, pointer);
        let result = read.and_then(|entry| {
            warn(plan, &entry);
            let result = compile(plan, context, &entry);
            entries.push(entry);
            result
        });
        if let Err(error) = result {
            plan.error(error);
        }
    }
    entries
}

/// Makes those read-only in which other mounts and devices had to be made before.
pub(super) fn finish(plan: &mut Builder, context: &Context<'_>, entries: &[Entry<'_>]) {
    for entry in entries {
        let wanted = entry.options.top.and(entry.options.all).read_only();
        if !wanted || !entry.read_only_late(context) {
            continue;
        }
        let doing = format!("making {:?} read-only", entry.at);
        // That one, even if a later entry is mounted over it.
        let made = plan.made(&entry.pointer, &entry.at);
        let Place { at, under, below } = match made {
            Some(place) => place,
            None => plan.place(&entry.at),
        };
        let op = Op::MountAttributes {
            at,
            under,
            below,
            recursive: 0,
            set: MOUNT_ATTR_RDONLY,
            clear: 0,
            propagation: 0,
        };
        plan.push(op, entry.pointer.clone(), doing);
    }
}

impl<'a> Entry<'a> {
    /// Whether it is a tree of the host, put at `path` as it is there.
    pub(super) fn binds(&self, path: &str) -> bool {
        self.at == path && self.is_bind() && !self.options.remount
    }

    pub(super) fn read(context: &Context<'a>, mount: &'a Mount, pointer: String) -> Result<Self> {
        let at = place(context, mount, &format!("{pointer}/destination"))?;
        let fs_type = mount.typ().as_deref().unwrap_or_default();
        rootfs::text(Path::new(fs_type), || format!("{pointer}/type"))?;
        let options = mount.options().as_deref().unwrap_or_default();
        for (index, option) in options.iter().enumerate() {
            rootfs::text(Path::new(option), || format!("{pointer}/options/{index}"))?;
        }
        let options = MountOptions::parse(options.iter().map(String::as_str));
        let source = mount.source().as_deref().unwrap_or(Path::new(""));
        // SPEC: with the option "bind" or "rbind" the type is a dummy.
        let fs_type = if options.bind.is_some() { "bind" } else { fs_type };
        Ok(Self { pointer, at, fs_type, source, options, mount })
    }

    pub(super) fn is_bind(&self) -> bool {
        self.fs_type == "bind"
    }

    fn keeps_proc(&self) -> bool {
        let attributes = self.options.top.and(self.options.all);
        self.fs_type == "proc"
            && self.at == "/proc"
            && !self.options.remount
            && !attributes.read_only()
            && !self.options.data.iter().any(|(key, _)| key == "subset")
    }

    fn read_only_late(&self, context: &Context<'_>) -> bool {
        let built_on = self.fs_type == "tmpfs" || self.at == "/dev";
        let hierarchies = self.fs_type == "cgroup" && !context.unified();
        !self.is_bind() && !self.options.remount && (built_on || hierarchies)
    }

    /// Attributes of a new mount: there is nothing below it yet.
    pub(super) fn attributes(&self) -> u64 {
        self.options.top.and(self.options.all).set
    }

    /// An error about this entry.
    pub(super) fn error(&self, field: &str, what: impl Into<String>) -> Error {
        Error::config(format!("{}{field}", self.pointer), what.into())
    }

    /// Where the mount goes, and what may be done about it.
    pub(super) fn target(&self, make: Target) -> Result<Target> {
        if self.at == "/proc" {
            return match self.fs_type {
                "proc" => Ok(make.and(Target::NO_SYMLINK)),
                "bind" => Ok(make.and(Target::NO_SYMLINK).and(Target::FROM_PROC)),
                _ => Err(self.error("/destination", "only a procfs may be mounted on \"/proc\"")),
            };
        }
        if self.at.starts_with("/proc/") {
            if COVERED_PROC.contains(&self.at.as_str()) {
                return Ok(Target::IN_PROC);
            }
            let what = format!("the mount point {:?} is inside \"/proc\"", self.at);
            return Err(self.error("/destination", what));
        }
        // A link at /sys or in front of a procfs would lead to another container's
        // or to a decoy (CVE-2023-28642).
        let strict = self.at == "/sys" || matches!(self.fs_type, "proc" | "sysfs");
        Ok(if strict { make.and(Target::NO_SYMLINK) } else { make })
    }

    fn source_text(&self) -> Result<&'a str> {
        rootfs::text(self.source, || format!("{}/source", self.pointer))
    }
}

/// Where in the container a mount goes, cleaned.
pub(super) fn place(context: &Context<'_>, mount: &Mount, pointer: &str) -> Result<String> {
    let destination = rootfs::text(mount.destination(), || pointer.to_owned())?;
    let Some(at) = rootfs::clean(destination) else {
        let what = format!("the mount point {destination:?} is the root itself");
        return Err(Error::config(pointer, what));
    };
    // COMPAT(runc): a path of the host that leads into the root is one in the root.
    Ok(rootfs::inside(context, &at).unwrap_or(at))
}

fn warn(plan: &mut Builder, entry: &Entry<'_>) {
    let destination = entry.mount.destination();
    let Entry { pointer, at, options, .. } = entry;
    if !destination.is_absolute() {
        // COMPAT(runc): refused by the spec, taken by everyone.
        plan.warn(format!(
            "{pointer}: the mount point {destination:?} is not absolute, using {at:?}"
        ));
    }
    for option in &options.without_effect {
        plan.warn(format!("{pointer}: the kernel decides about {option:?} by itself"));
    }
    if entry.is_bind() {
        for option in &options.superblock {
            plan.warn(format!("{pointer}: {option:?} has no effect on a bind mount"));
        }
    }
}

fn compile(plan: &mut Builder, context: &Context<'_>, entry: &Entry<'_>) -> Result<()> {
    let ids = binds::id_mapping(plan, context, entry)?;
    if entry.options.copy_up && entry.fs_type != "tmpfs" {
        return Err(entry.error("/options", "\"tmpcopyup\" is for a tmpfs only"));
    }
    if entry.options.remount {
        if ids.is_some() {
            return Err(entry.error("", "a mount that is there can't get ids of its own"));
        }
        if entry.options.copy_up {
            return Err(entry.error("/options", "\"tmpcopyup\" is for a new tmpfs only"));
        }
        return remount(plan, entry);
    }
    let user = context.namespaces.user();
    match entry.fs_type {
        "bind" => binds::bind(plan, context, entry, ids),
        _ if ids.is_some() => Err(entry.error("", "only a bind mount can have ids of its own")),
        "" => Err(entry.error("", format!("the mount on {:?} has no type", entry.at))),
        "cgroup" => cgroups::mount(plan, context, entry),
        "cgroup2" if context.unified() => cgroups::mount(plan, context, entry),
        // A sysfs shows a network namespace, a message queue file system an IPC
        // namespace: only their owner may mount them (runc issue 3672).
        "sysfs" if user && !context.namespaces.has(CLONE_NEWNET) => {
            host(plan, context, entry, "/sys")
        }
        MQUEUE if user && !context.namespaces.has(CLONE_NEWIPC) => {
            host(plan, context, entry, "/dev/mqueue")
        }
        _ => new(plan, context, entry),
    }
}

/// A new file system.
fn new(plan: &mut Builder, context: &Context<'_>, entry: &Entry<'_>) -> Result<()> {
    let Entry { fs_type, options, .. } = entry;
    let mut data: Vec<(String, String)> = Vec::new();
    data.extend(options.superblock.iter().map(|flag| flag_of(flag)));
    let mut attributes = entry.attributes();
    if options.top.read_only() && !VIRTUAL.contains(fs_type) {
        data.push(flag_of("ro")); // as mount(2) does with MS_RDONLY: not even its owner writes
    }
    if entry.read_only_late(context) {
        attributes &= !MOUNT_ATTR_RDONLY;
    }
    data.extend(options.data.iter().cloned());
    let label = label(context);
    if let Some(label) = label
        && !UNLABELLED.contains(fs_type)
        && !options.data.iter().any(|(key, _)| key == "context")
    {
        data.push(("context".to_owned(), label.to_owned()));
    }
    let mut below = 0;
    if *fs_type == "tmpfs" && !options.data.iter().any(|(key, _)| key == "mode") {
        below |= BELOW_MODE;
    }
    if options.copy_up {
        below |= BELOW_COPY;
    }
    // Of the host's nothing can be had in another way than it is there.
    let fallback = if data.is_empty() { fallback(context, fs_type) } else { "" };
    if fallback == "/proc" {
        below |= FALLBACK_WRITABLE;
    }
    let queues = *fs_type == MQUEUE && context.namespaces.has(CLONE_NEWIPC);
    let new = New {
        fs_type,
        source: entry.source_text()?,
        data,
        attributes,
        at: &entry.at,
        target: entry.target(Target::DIR)?,
        keep: entry.keeps_proc(),
        below,
        fallback,
        // COMPAT(runc): the directory alone. The host's own is not ours to label.
        label: label.filter(|_| queues).unwrap_or_default(),
    };
    push_new(plan, entry, &new);
    Ok(())
}

/// What of the host shows the same as a file system that a user namespace may not
/// be let mount: whose a joined network namespace is, and what is masked in the
/// one that is mounted here, only the kernel knows.
fn fallback(context: &Context<'_>, fs_type: &str) -> &'static str {
    if !context.namespaces.user() && !context.host.in_user_namespace {
        return "";
    }
    match fs_type {
        "sysfs" => "/sys",
        // It shows a pid namespace: that of the caller is in its own.
        "proc" if !context.namespaces.has(CLONE_NEWPID) => "/proc",
        _ => "",
    }
}

/// The label of new file systems.
pub(super) fn label<'a>(context: &Context<'a>) -> Option<&'a str> {
    let label = context.linux.mount_label().as_deref()?;
    (1..=LABEL_MAX).contains(&label.len()).then_some(label)
}

pub(super) fn flag_of(flag: &str) -> (String, String) {
    (flag.to_owned(), String::new())
}

/// Appends a mount of a new file system that belongs to `entry`.
pub(super) fn push_new(plan: &mut Builder, entry: &Entry<'_>, new: &New<'_>) {
    let doing = format!("mounting {} on {:?}", new.fs_type, new.at);
    let op = Op::Mount {
        fs_type: plan.str(new.fs_type),
        source: plan.str(new.source),
        options: plan.strs(new.data.iter().flat_map(|(key, value)| [key, value])),
        attributes: new.attributes as u32, // mount attributes of fsmount(2): 32 bits
        propagation: entry.options.propagation.first().map_or(0, |(kind, _)| *kind),
        at: plan.str(new.at),
        target: new.target,
        keep: new.keep.into(),
        below: new.below,
        fallback: plan.str(new.fallback),
        hold: 0,
        label: plan.str(new.label),
    };
    plan.push(op, entry.pointer.clone(), doing);
    propagate(plan, entry, new.at, 1);
}

/// The kinds of propagation from the `first` on, of the mount that is at a place by now.
fn propagate(plan: &mut Builder, entry: &Entry<'_>, at: &str, first: usize) {
    for (kind, recursive) in entry.options.propagation.iter().skip(first) {
        let doing = format!("setting the propagation of {at:?}");
        let Place { at, under, below } = plan.place(at);
        let op = Op::MountAttributes {
            at,
            under,
            below,
            recursive: u32::from(*recursive),
            set: 0,
            clear: 0,
            propagation: *kind,
        };
        plan.push(op, entry.pointer.clone(), doing);
    }
}

/// A host's tree in place of a file system that the container may not mount:
/// nothing in it may be changed.
fn host(plan: &mut Builder, context: &Context<'_>, entry: &Entry<'_>, path: &str) -> Result<()> {
    if let Some((key, _)) = entry.options.data.first() {
        let what = format!("{key:?} can't be had: the host's {path:?} is bound here");
        return Err(entry.error("/options", what));
    }
    for option in &entry.options.superblock {
        plan.warn(format!("{}: {option:?} has no effect on a bind mount", entry.pointer));
    }
    let strict = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let strict = if path == "/sys" { strict | MOUNT_ATTR_RDONLY } else { strict };
    let tree = HostTree {
        path,
        recursive: true,
        top: entry.options.top,
        all: entry.options.all.and(Attributes { set: strict, clear: 0 }),
        target: entry.target(Target::DIR)?,
        locked: false,
        inside: false,
        mapped: false,
    };
    let slot = binds::stand_in(plan, context, path, true);
    push_tree(plan, entry, &entry.at, slot, &tree);
    Ok(())
}

/// Appends a bind mount that belongs to `entry`.
pub(super) fn push_tree(
    plan: &mut Builder,
    entry: &Entry<'_>,
    at: &str,
    slot: Slot,
    tree: &HostTree<'_>,
) {
    let (propagation, reach) = match entry.options.propagation.first() {
        Some((kind, true)) => (*kind, PROPAGATION_RECURSIVE),
        Some((kind, false)) => (*kind, 0),
        None => (0, 0),
    };
    let recursive = if tree.recursive { BIND_RECURSIVE } else { 0 };
    let locked = if tree.locked { BIND_LOCKED } else { 0 };
    let inside = if tree.inside { BIND_INSIDE } else { 0 };
    let mapped = if tree.mapped { BIND_MAPPED } else { 0 };
    let doing = format!("binding {:?} on {at:?}", tree.path);
    let op = Op::Bind {
        slot,
        source: plan.str(tree.path),
        flags: recursive | reach | locked | inside | mapped,
        set: tree.top.set,
        clear: tree.top.clear,
        all_set: tree.all.set,
        all_clear: tree.all.clear,
        propagation,
        at: plan.str(at),
        target: tree.target,
        hold: 0,
    };
    plan.push(op, entry.pointer.clone(), doing);
    propagate(plan, entry, at, 1);
}

/// Whether the container's root is somebody else on the host.
pub(super) fn unprivileged(context: &Context<'_>) -> bool {
    context.namespaces.user() || context.host.rootless()
}

/// Changes the mount that is there: its own attributes, and without `bind` the
/// file system too.
fn remount(plan: &mut Builder, entry: &Entry<'_>) -> Result<()> {
    let Entry { at, options, pointer, .. } = entry;
    let doing = format!("remounting {at:?}");
    let Place { at, under, below } = plan.place(at);
    if options.bind.is_none() {
        let mut data: Vec<_> = options.superblock.iter().map(|flag| flag_of(flag)).collect();
        if !entry.fs_type.is_empty() && !VIRTUAL.contains(&entry.fs_type) {
            let changed = (options.top.set | options.top.clear) & MOUNT_ATTR_RDONLY != 0;
            let flag = if options.top.read_only() { "ro" } else { "rw" };
            data.extend(changed.then(|| flag_of(flag)));
        }
        data.extend(options.data.iter().cloned());
        if !data.is_empty() {
            let options = plan.strs(data.iter().flat_map(|(key, value)| [key, value]));
            plan.push(
                Op::Reconfigure { at, under, below, options },
                pointer.clone(),
                doing.clone(),
            );
        }
    } else if !options.data.is_empty() {
        let what = "bind mounts cannot have any filesystem-specific options applied";
        return Err(entry.error("/options", what));
    }
    for (Attributes { set, clear }, recursive) in [(options.top, 0), (options.all, 1)] {
        if set | clear != 0 {
            let op =
                Op::MountAttributes { at, under, below, recursive, set, clear, propagation: 0 };
            plan.push(op, pointer.clone(), doing.clone());
        }
    }
    propagate(plan, entry, &entry.at, 0);
    Ok(())
}
