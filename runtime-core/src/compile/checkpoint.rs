//! What checkpoint and restore need of a config: which mounts come from outside, and
//! the plan that makes the places for them.
//!
//! What CRIU is told of it, and how, is not known here.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use super::mounts::{self, Entry};
use super::namespaces;
use super::{Context, Options, cgroups, devices, in_bundle, keep_fds, linux_of, notify, rootfs};
use crate::error::Error;
use crate::host::HostFacts;
use crate::plan::{Builder, Gate, Op, Plan};

/// What a masked file is covered with.
const NULL: &str = "/dev/null";

/// A mount of the container whose content is the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Where the config wants it, cleaned; in the root it may be behind links.
    pub at: String,
    /// What is mounted there.
    pub source: PathBuf,
    /// Whether nothing can be written through it.
    pub read_only: bool,
    /// What it is.
    pub kind: ExternalKind,
    /// Its JSON pointer.
    pub pointer: String,
}

/// Why a mount is an external one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternalKind {
    /// An entry of `mounts`.
    Bind,
    /// A device: one that could not be made is the host's.
    Device,
    /// A masked path: if it is no directory, the host's null device is over it.
    Mask,
    /// The directory of the socket by which the container says that it is ready.
    Notify,
}

impl External {
    /// What CRIU's image calls it, by which a restore finds it again.
    ///
    /// COMPAT(runc): the names in its checkpoints.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.kind == ExternalKind::Mask { NULL } else { &self.at }
    }
}

/// Every mount that may be external, in the order in which they are made.
///
/// # Errors
/// Entries that can't be read; two binds of different things at the same place, which
/// nobody could tell apart.
pub fn externals(
    spec: &Spec,
    host: &HostFacts,
    options: &Options,
) -> Result<Vec<External>, Vec<Error>> {
    let linux = &*linux_of(spec);
    let context = Context::new(spec, linux, host, options, true);
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    if rootfs::is_mounted(&context) {
        let what = "CRIU takes no mounts of a container without a mount namespace of its own";
        errors.push(Error::unsupported("/linux/namespaces", what));
    }
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        match Entry::read(&context, mount, format!("/mounts/{index}")) {
            Ok(entry) => found.extend(of_entry(&context, &entry)),
            Err(error) => errors.push(error),
        }
    }
    if let Some(mount) = notify::mount(options).filter(|_| rootfs::takes_mounts(&context)) {
        let at = mount.destination().display().to_string();
        let source = mount.source().clone().unwrap_or_default();
        let (kind, pointer) = (ExternalKind::Notify, String::new());
        found.push(External { at, source, read_only: true, kind, pointer });
    }
    let outside = |path: &str, source: &str, kind, pointer: String| {
        let at = rootfs::clean(path)?;
        Some(External { at, source: source.into(), read_only: false, kind, pointer })
    };
    let listed = linux.devices().iter().flatten().map(|device| device.path());
    let listed = listed.filter_map(|path| path.to_str());
    let bound: HashSet<String> = found.iter().map(|bind| bind.at.clone()).collect();
    for path in devices::DEFAULT.iter().map(|device| device.0).chain(listed) {
        let device = outside(path, path, ExternalKind::Device, "/linux/devices".to_owned());
        found.extend(device.filter(|device| !bound.contains(&device.at)));
    }
    for (index, path) in linux.masked_paths().iter().flatten().enumerate() {
        let pointer = format!("/linux/maskedPaths/{index}");
        found.extend(outside(path, NULL, ExternalKind::Mask, pointer));
    }
    errors.extend(twice(&found));
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

fn of_entry(context: &Context<'_>, entry: &Entry<'_>) -> Vec<External> {
    let external = |at: String, source: PathBuf| External {
        at,
        source,
        read_only: entry.options.top.and(entry.options.all).read_only(),
        kind: ExternalKind::Bind,
        pointer: entry.pointer.clone(),
    };
    if entry.options.remount {
        return Vec::new();
    }
    if entry.is_bind() {
        let source = in_bundle(&context.options.bundle, entry.source);
        return vec![external(entry.at.clone(), source)];
    }
    if entry.fs_type == "cgroup" && !cgroups::mounted_anew(context) {
        let unified = context.unified();
        let each = context.options.cgroups.iter().map(|cgroup| {
            let name = cgroup.mount.file_name().and_then(|name| name.to_str());
            let at = match (unified, name) {
                (true, _) => entry.at.clone(),
                (false, Some(name)) => format!("{}/{name}", entry.at),
                (false, None) => format!("{}/{}", entry.at, cgroup.controllers.join(",")),
            };
            external(at, cgroup.directory.clone())
        });
        return each.collect();
    }
    Vec::new()
}

/// An external mount is known by its place and by its name alone.
fn twice(found: &[External]) -> Vec<Error> {
    let binds = found.iter().filter(|one| one.kind == ExternalKind::Bind);
    let unclear = binds.filter(|one| {
        let same = |other: &External| other.at == one.at || other.name() == one.name();
        found.iter().any(|other| same(other) && other.source != one.source)
    });
    let error = |one: &External| {
        let what = format!("two mounts at {:?} can't be told apart in a checkpoint", one.at);
        Error::unsupported(one.pointer.clone(), what)
    };
    unclear.map(error).collect()
}

/// Compiles what makes the places of the config's mounts in the root, as the creation
/// of the container does: all mounts are made where nobody sees them, and what stays of
/// it are the directories and files below them. Nothing when there are none.
///
/// # Errors
/// Those of [`super::create`] about the mounts.
pub fn mount_points(
    spec: &Spec,
    host: &HostFacts,
    options: &Options,
) -> Result<Option<Plan>, Vec<Error>> {
    if spec.mounts().as_ref().is_none_or(Vec::is_empty) && options.notify.is_none() {
        return Ok(None);
    }
    let mut linux = linux_of(spec).into_owned();
    let listed = linux.namespaces().clone().unwrap_or_default();
    // What is joined belongs to others; and nothing runs that would need the rest.
    let needed = |kind| !matches!(kind, LinuxNamespaceType::Uts | LinuxNamespaceType::Time);
    let own = |one: &LinuxNamespace| {
        one.path().as_ref().is_none_or(|path| path.as_os_str().is_empty()) && needed(one.typ())
    };
    linux.set_namespaces(Some(listed.into_iter().filter(own).collect()));
    // A network device is where it was moved at the creation, or CRIU's to bring back.
    linux.set_time_offsets(None).set_net_devices(None);
    let mut plan = Builder::new();
    let notify = notify::mount(options);
    let mut context = Context::new(spec, &linux, host, options, true);
    context.notify = notify.as_ref().filter(|_| rootfs::takes_mounts(&context));
    keep_fds(&mut plan, 0);
    namespaces::enter(&mut plan, &context);
    rootfs::prepare(&mut plan, &context);
    mounts::mounts(&mut plan, &context);
    plan.push(Op::WaitFor { gate: Gate::Ready }, "", "reporting that the mount points are there");
    plan.finish().map(Some)
}

/// The host's file that CRIU reads for this container, if there is to be one.
///
/// COMPAT(runc): the annotation and the default. An empty one means none.
#[must_use]
pub fn criu_config(spec: &Spec) -> Option<&Path> {
    let annotations = spec.annotations().as_ref();
    match annotations.and_then(|annotations| annotations.get("org.criu.config")) {
        None => Some(Path::new("/etc/criu/runc.conf")),
        Some(path) if path.is_empty() => None,
        Some(path) => Some(Path::new(path)),
    }
}
