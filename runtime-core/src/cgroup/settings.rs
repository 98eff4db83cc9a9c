//! What a container's limits mean for the files of its cgroup: PURE.
//!
//! The configuration speaks the language of cgroup v1. Here it becomes an
//! ordered list of writes, for v1 or converted for v2, each with its place in
//! the configuration; or a list of everything that can't be meant or done on
//! this host. It touches no file and asks no kernel.

mod annotations;
mod block_io;
mod gvariant;
mod systemd;
mod systemd_v1;
mod v1;
mod v2;

use std::borrow::Cow;
use std::fmt::Display;

use oci_spec::runtime::{Linux, LinuxCpu, LinuxMemory, LinuxResources};

use super::devices::Rules;
use crate::error::{Error, Result};
use crate::host::{Cgroups, HostFacts};
pub use systemd::Properties;
pub(super) use systemd::Property;
pub(super) use systemd_v1::Bandwidth;
pub(super) use v1::{PERIOD, QUOTA};

/// One value for one file of the container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The controller that the file belongs to.
    pub controller: Cow<'static, str>,
    /// The file's name, without a slash.
    pub file: Cow<'static, str>,
    /// What is written, in one piece.
    pub value: String,
    /// The JSON pointer into `config.json` of what asked for it.
    pub pointer: Cow<'static, str>,
    /// What to do where the file does not exist.
    pub missing: Missing,
    /// Whether the kernel may answer EINVAL until a later value of the same
    /// controller is there: tried once more behind the others then.
    pub retry: bool,
}

impl Write {
    /// Whether it may be this file that is written.
    pub(super) fn may_write(&self, file: &str) -> bool {
        self.file == file
            || matches!(&self.missing, Missing::Instead { file: other, .. } if *other == file)
    }
}

/// What to do where a file does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Fail.
    Fail,
    /// Go on: the value is what the kernel does anyway, or the file only adds
    /// to another.
    Skip,
    /// Write this value into that file instead.
    Instead {
        /// The other file.
        file: &'static str,
        /// Its value.
        value: String,
    },
}

/// Refuse limits that the cgroup exceeds already (`memory.checkBeforeUpdate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UsageCheck {
    /// Memory in bytes, when limited.
    pub(super) memory: Option<u64>,
    /// Memory and swap together in bytes, when limited.
    pub(super) swap: Option<u64>,
}

/// The rules for devices, and how much depends on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceSettings {
    pub(super) rules: Rules,
    /// Whether it is an error that they can't be set: a caller without privileges
    /// can't, nor could its container make a device.
    pub(super) required: bool,
    /// Whether the configuration has any.
    pub(super) listed: bool,
    /// What they replace while the container runs.
    pub(super) instead_of: Option<Rules>,
}

/// What to write into a container's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub(super) writes: Vec<Write>,
    pub(super) check: Option<UsageCheck>,
    pub(super) devices: Option<DeviceSettings>,
    /// The limit of CPU time so far, where they are for v1; none for v2.
    pub(super) bandwidth: Option<Bandwidth>,
    notes: Vec<Cow<'static, str>>,
}

impl Settings {
    /// For a new container: its limits, and its devices even when nothing in
    /// the configuration speaks about devices. Rules for
    /// devices that the kernel refuses are no error when they are `optional`.
    ///
    /// # Errors
    /// Every value that can't be meant, and every one that this host can't do.
    pub fn for_create(
        linux: Option<&Linux>,
        host: &HostFacts,
        optional: bool,
    ) -> Result<Self, Vec<Error>> {
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let mut errors = Vec::new();
        let mut settings = match resources {
            Some(resources) => Self::limits_of(resources, host, None, &mut errors),
            None => Self::none(host),
        };
        let listed = resources.and_then(|resources| resources.devices().as_deref());
        let own = linux.and_then(|linux| linux.devices().as_deref());
        if let Some(index) = Rules::more_letters(listed.unwrap_or_default()) {
            let place = format!("/linux/resources/devices/{index}/access");
            settings
                .notes
                .push(format!("{place}: letters other than r, w and m say nothing").into());
        }
        match Rules::new(listed.unwrap_or_default(), own.unwrap_or_default()) {
            Ok(rules) => {
                let listed = listed.is_some_and(|listed| !listed.is_empty());
                match devices(rules, listed, host, !optional) {
                    Ok(None) if listed => settings.note_unkept(host),
                    Ok(devices) => settings.devices = devices,
                    Err(error) => errors.push(error),
                }
            }
            Err(more) => errors.extend(more),
        }
        if errors.is_empty() { Ok(settings) } else { Err(errors) }
    }

    /// For a container that runs: its limits, all of them, so that values which
    /// depend on one another fit. The half of a CPU limit that is not named stays as it
    /// is: `quota` is the limit so far ([`super::Manager::quota`]). `kept` is its config,
    /// with what later updates have said: on v2 the limits of memory and of swap are
    /// counted in one another, and the one that is not named is there. Its devices stay,
    /// unless there are others than there: engines send them all along with any limit,
    /// and a hook may have added some.
    ///
    /// # Errors
    /// As [`Settings::for_create`].
    pub fn for_update(
        resources: &LinuxResources,
        host: &HostFacts,
        quota: Option<&str>,
        kept: Option<&Linux>,
    ) -> Result<Self, Vec<Error>> {
        let mut errors = Vec::new();
        let before = kept.and_then(|linux| linux.resources().as_ref());
        let mut whole = Cow::Borrowed(resources);
        if let (Cgroups::Unified { .. }, Some(memory)) = (&host.cgroups, resources.memory()) {
            let before = before.and_then(|resources| resources.memory().as_ref());
            whole.to_mut().set_memory(Some(merged(memory, before)));
        }
        let mut settings = Self::limits_of(&whole, host, quota, &mut errors);
        let before = before.and_then(|resources| resources.devices().as_deref());
        let own = kept.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
        let before = before.unwrap_or_default();
        if let Some(wanted) = resources.devices().as_deref().filter(|wanted| *wanted != before) {
            match (Rules::new(wanted, own), Rules::new(before, own)) {
                (Ok(rules), Ok(before)) => match devices(rules, true, host, true) {
                    Ok(Some(devices)) => {
                        let instead_of = Some(before);
                        settings.devices = Some(DeviceSettings { instead_of, ..devices });
                    }
                    Ok(None) => settings.note_unkept(host),
                    Err(error) => errors.push(error),
                },
                (rules, _) => errors.extend(rules.err().into_iter().flatten()),
            }
        }
        if errors.is_empty() { Ok(settings) } else { Err(errors) }
    }

    /// What to say where there is no cgroup for rules: of those that the configuration
    /// has, or also of those that it would have had.
    #[must_use]
    pub fn without_cgroup(&self, always: bool) -> Option<String> {
        let told = self.devices.as_ref().is_some_and(|devices| devices.listed || always);
        told.then(|| unkept(&"it has no cgroup"))
    }

    /// Whether rules for devices are among them.
    #[must_use]
    pub fn changes_devices(&self) -> bool {
        self.devices.is_some()
    }

    /// The limits, in the order in which they are written.
    #[must_use]
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Whether the configuration asks for a limit, devices aside: without one, a
    /// caller that may not make cgroups can run the container without.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        !self.writes.is_empty()
    }

    /// What the configuration says that has no effect, one line each, for the
    /// log.
    #[must_use]
    pub fn notes(&self) -> &[Cow<'static, str>] {
        &self.notes
    }

    fn note_unkept(&mut self, host: &HostFacts) {
        let why = match host.cgroups {
            Cgroups::None => "no cgroups are mounted here",
            Cgroups::Unified { .. } | Cgroups::Legacy { .. } => "its runtime has a user namespace",
        };
        self.notes.push(unkept(&why).into());
    }

    fn none(host: &HostFacts) -> Self {
        let legacy = matches!(host.cgroups, Cgroups::Legacy { .. });
        Self { bandwidth: legacy.then(Bandwidth::default), ..Self::default() }
    }

    fn limits_of(
        resources: &LinuxResources,
        host: &HostFacts,
        quota: Option<&str>,
        errors: &mut Vec<Error>,
    ) -> Self {
        let mut list = List { writes: Vec::new(), errors: Vec::new() };
        let mut settings = Self::none(host);
        if let Some(memory) = resources.memory() {
            if memory.kernel().is_some() || memory.kernel_tcp().is_some() {
                // COMPAT(runc): the kernel dropped these; runc warns too.
                settings.notes.push("kernel memory limits have no effect".into());
            }
            if memory.use_hierarchy() == Some(false) {
                // KERNEL(<5.11): the last that could. COMPAT(runc): no error.
                let note = "memory cgroups without hierarchy do not exist any more";
                settings.notes.push(note.into());
            }
            settings.check = usage_check(memory);
        }
        match &host.cgroups {
            Cgroups::None | Cgroups::Unified { .. } => v2::limits(resources, quota, &mut list),
            Cgroups::Legacy { .. } => v1::limits(resources, &mut list),
        }
        list.require(&host.cgroups);
        errors.append(&mut list.errors);
        settings.writes = list.writes;
        settings
    }
}

fn devices(
    rules: Rules,
    listed: bool,
    host: &HostFacts,
    required: bool,
) -> Result<Option<DeviceSettings>> {
    let pointer = "/linux/resources/devices";
    match &host.cgroups {
        Cgroups::None if listed && required => Err(Error::unsupported(
            pointer,
            "no cgroup hierarchy is mounted that could keep devices",
        )),
        Cgroups::None => Ok(None),
        Cgroups::Unified { .. } => {
            Ok(Some(DeviceSettings { rules, required, listed, instead_of: None }))
        }
        Cgroups::Legacy { .. } if host.in_user_namespace => Ok(None),
        Cgroups::Legacy { hierarchies } => {
            let has = |name: &str| {
                hierarchies.iter().any(|h| h.controllers.iter().any(|found| found == name))
            };
            if has("devices") {
                // Told now, not when the container is half made.
                rules.lines()?;
            } else if hierarchies.iter().all(|h| !h.controllers.is_empty()) {
                // COMPAT(runc): a container that could use every device is not
                // what the configuration asks for, even when it lists none.
                return Err(Error::unsupported(pointer, "no hierarchy has the devices controller"));
            }
            Ok(Some(DeviceSettings { rules, required, listed, instead_of: None }))
        }
    }
}

/// What is said of rules that are listed and optional.
pub(super) fn unkept(why: &dyn Display) -> String {
    format!("/linux/resources/devices: no device is kept from the container: {why}")
}

/// The limits of memory and swap as they are after an update, where it says anything
/// about one of them.
///
/// COMPAT(runc): 0 takes back what was said before, and memory without a limit does so
/// for swap, unless that is named too.
fn merged(update: &LinuxMemory, before: Option<&LinuxMemory>) -> LinuxMemory {
    let mut memory = *update;
    match (update.limit(), update.swap()) {
        (Some(-1), None) => {
            memory.set_swap(Some(0));
        }
        (Some(_), None) => {
            memory.set_swap(before.and_then(LinuxMemory::swap));
        }
        (None, Some(_)) => {
            memory.set_limit(before.and_then(LinuxMemory::limit));
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    memory
}

fn usage_check(memory: &LinuxMemory) -> Option<UsageCheck> {
    let limit = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let positive = |value: Option<i64>| limit(value).filter(|value| *value > 0);
    let (memory_limit, swap) = (positive(memory.limit()), positive(memory.swap()));
    let wanted = memory.check_before_update() == Some(true);
    (wanted && (memory_limit.is_some() || swap.is_some()))
        .then_some(UsageCheck { memory: memory_limit, swap })
}

/// The writes and errors while they are collected.
struct List {
    writes: Vec<Write>,
    errors: Vec<Error>,
}

impl List {
    fn push(
        &mut self,
        controller: &'static str,
        file: impl Into<Cow<'static, str>>,
        value: &dyn Display,
        pointer: impl Into<Cow<'static, str>>,
    ) -> &mut Write {
        self.writes.push(Write {
            controller: controller.into(),
            file: file.into(),
            value: value.to_string(),
            pointer: pointer.into(),
            missing: Missing::Fail,
            retry: false,
        });
        let last = self.writes.len() - 1;
        &mut self.writes[last]
    }

    fn refuse(&mut self, pointer: impl Into<String>, what: impl Into<Cow<'static, str>>) {
        self.errors.push(Error::config(pointer, what));
    }

    fn unsupported(&mut self, pointer: &str, what: &'static str) {
        self.errors.push(Error::unsupported(pointer, what));
    }

    /// An error for the first write of each controller that the host lacks.
    fn require(&mut self, cgroups: &Cgroups) {
        let mut told: Vec<Cow<'static, str>> = Vec::new();
        for write in &self.writes {
            let name = &write.controller;
            let has = match cgroups {
                Cgroups::None => false,
                Cgroups::Unified { controllers, .. } => {
                    name == "cgroup" || controllers.iter().any(|found| found == name)
                }
                Cgroups::Legacy { hierarchies } => {
                    hierarchies.iter().any(|h| h.controllers.iter().any(|found| found == name))
                }
            };
            if has || told.contains(name) {
                continue;
            }
            // COMPAT(runc): its words for a key of `unified`.
            let text = match write.pointer.strip_prefix("/linux/resources/unified/") {
                Some(key) => format!(
                    "unified resource {key:?} can't be set: controller {name:?} not available"
                ),
                None => format!("the cgroup controller {name:?} is not available"),
            };
            self.errors.push(Error::unsupported(write.pointer.clone(), text));
            told.push(name.clone());
        }
    }

    /// Values that v1 and v2 refuse alike.
    fn check_memory(&mut self, memory: &LinuxMemory) {
        let values = [
            ("/linux/resources/memory/limit", memory.limit()),
            ("/linux/resources/memory/reservation", memory.reservation()),
            ("/linux/resources/memory/swap", memory.swap()),
        ];
        for (pointer, value) in values {
            if let Some(value) = value.filter(|value| *value < -1) {
                self.refuse(pointer, format!("{value} bytes of memory: invalid argument"));
            }
        }
        if let (Some(limit), Some(swap)) = (memory.limit(), memory.swap())
            && swap > 0
            && limit > 0
            && swap < limit
        {
            // COMPAT(runc): its words.
            self.refuse(values[2].0, "memory+swap limit should be >= memory limit");
        }
    }

    fn cpuset(&mut self, cpu: &LinuxCpu) {
        if let Some(cpus) = cpu.cpus().as_ref().filter(|list| !list.is_empty()) {
            self.push("cpuset", "cpuset.cpus", &cpus, "/linux/resources/cpu/cpus");
        }
        if let Some(mems) = cpu.mems().as_ref().filter(|list| !list.is_empty()) {
            self.push("cpuset", "cpuset.mems", &mems, "/linux/resources/cpu/mems");
        }
    }

    fn pids(&mut self, resources: &LinuxResources) {
        let Some(pids) = resources.pids() else { return };
        let value = match pids.limit() {
            // COMPAT(runc): systemd can't say 0, so runc says 1 everywhere.
            0 => "1".to_owned(),
            limit if limit < 0 => "max".to_owned(),
            limit => limit.to_string(),
        };
        self.push("pids", "pids.max", &value, "/linux/resources/pids/limit");
    }

    /// `suffix` is the file name's end that the version has for a limit.
    fn huge_pages(&mut self, resources: &LinuxResources, suffix: &str) {
        for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
            let pointer = |field| format!("/linux/resources/hugepageLimits/{index}/{field}");
            let size = limit.page_size();
            if !is_page_size(size) {
                self.refuse(
                    pointer("pageSize"),
                    format!("the page size {size:?} is not a number with KB, MB or GB"),
                );
                continue;
            }
            let Ok(value) = u64::try_from(limit.limit()) else {
                self.refuse(pointer("limit"), format!("{} bytes of huge pages", limit.limit()));
                continue;
            };
            let file = format!("hugetlb.{size}{suffix}");
            self.push("hugetlb", file, &value, pointer("limit"));
            // KERNEL(<5.7): there are no reservations.
            let file = format!("hugetlb.{size}.rsvd{suffix}");
            self.push("hugetlb", file, &value, pointer("limit")).missing = Missing::Skip;
        }
    }

    fn rdma(&mut self, resources: &LinuxResources) {
        let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
        devices.sort_by_key(|(name, _)| *name);
        for (name, limits) in devices {
            let pointer = format!("/linux/resources/rdma/{}", escape(name));
            if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '\0') {
                self.refuse(pointer, format!("{name:?} is not the name of an RDMA device"));
                continue;
            }
            let mut value = name.clone();
            if let Some(handles) = limits.hca_handles() {
                value.push_str(&format!(" hca_handle={handles}"));
            }
            if let Some(objects) = limits.hca_objects() {
                value.push_str(&format!(" hca_object={objects}"));
            }
            if value.len() > name.len() {
                self.push("rdma", "rdma.max", &value, pointer);
            }
        }
    }
}

fn is_page_size(size: &str) -> bool {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    digits.is_some_and(|digits| {
        !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

/// A key as one step of a JSON pointer (RFC 6901).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
