//! The container's cgroup, driven through the cgroup file system or by systemd.
//!
//! ```text
//!   config.json ──► Settings (pure: writes, device rules; Properties for systemd)
//!                      │ apply
//!   HostFacts ──► Manager ── create ─ apply ─ (the stage joins) ─ kill ─ remove
//!                   │  V2: one directory          v2: cgroup.kill, device program
//!                   │  V1: one in each hierarchy  v1: freezer, devices.allow
//!                   │       and one in v2's on a hybrid host
//!                   ▼  Systemd: either, made and removed by systemd as far as it can
//!                 Record (state.json) ──► Manager, in a later process
//! ```
//!
//! A [`Manager`] holds paths and nothing else: no descriptor stays open between
//! calls, and nothing here knows the container beyond its cgroup.

mod apply;
mod bpf;
mod devices;
mod directory;
mod freezer;
mod group;
mod inner;
mod kill;
mod mark;
mod oom;
mod program;
mod settings;
mod stats;
mod systemd;
mod tree;
mod v1;
mod v2;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::host::{Cgroups, HostFacts};
use directory::Directory;
use freezer::Freezer;
use systemd::Files;

pub use directory::Claim;
pub use group::{Group, Mode, Record};
pub use inner::Inner;
pub use oom::OutOfMemory;
pub use settings::{Missing, Properties, Settings, Write};
pub use stats::{BlockEntry, HugePages, MemoryUse, Pressure, Rdma, Stall, Stats};
pub use systemd::{Scope, Systemd, Unit};
pub use v1::V1;
pub use v2::V2;

/// How long [`Manager::freeze`] waits.
const FREEZING: Duration = Duration::from_secs(10);

/// Who makes a container's cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// The form of `/linux/cgroupsPath` tells: `NAME.slice:prefix:name` means
    /// systemd where cgroup v2 is alone, everything else the cgroup file system.
    #[default]
    ByPath,
    /// The cgroup file system, whatever the path looks like.
    Cgroupfs,
    /// systemd: the system's manager, or the own one of a user without privileges.
    Systemd,
    /// Nobody: the container stays in the caller's.
    Nobody,
}

/// The cgroup of one container, in whatever way cgroups are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manager {
    /// There are no cgroups: nothing is made, and nothing can be found.
    None,
    /// cgroup v2 alone.
    V2(V2),
    /// cgroup v1, perhaps with v2 beside it.
    V1(V1),
    /// systemd has the cgroup.
    Systemd(Systemd),
}

impl Manager {
    /// The cgroup of container `id`. `cgroups_path` is `/linux/cgroupsPath`: an
    /// absolute one starts at the root of each hierarchy; a relative one, or
    /// without any the id, at the caller's own cgroup (v1), or beside it (v2). For
    /// systemd it is `slice:prefix:name`; a user's own manager is asked on D-Bus
    /// where it is.
    ///
    /// # Errors
    /// A path with a NUL or a newline in it, one that names no new cgroup or no unit;
    /// a host that systemd's driver can't work on; a user's bus that does not answer.
    pub fn new(
        host: &HostFacts,
        driver: Driver,
        cgroups_path: Option<&Path>,
        id: &str,
    ) -> Result<Self> {
        let systemd = match driver {
            // COMPAT(runc): on v1 it is a path as any other.
            Driver::ByPath if matches!(host.cgroups, Cgroups::Legacy { .. }) => false,
            Driver::ByPath => cgroups_path.is_some_and(systemd::is_meant),
            Driver::Cgroupfs => false,
            Driver::Systemd => true,
            Driver::Nobody => return Ok(Self::None),
        };
        if systemd {
            return Systemd::new(host, cgroups_path, id).map(Self::Systemd);
        }
        let mut manager = Self::from_record(Record::new(&host.cgroups, cgroups_path, id)?);
        if let (Self::V2(v2), Cgroups::Unified { controllers, .. }) = (&mut manager, &host.cgroups)
        {
            v2.available.clone_from(controllers);
        }
        Ok(manager)
    }

    /// The cgroup that a state file remembers.
    #[must_use]
    pub fn from_record(record: Record) -> Self {
        let Record { mode, mut groups, unit } = record;
        match mode {
            Mode::None => Self::None,
            Mode::V2 => {
                let Some(group) = groups.pop() else { return Self::None };
                let v2 = V2 { group: group.clone(), available: Vec::new() };
                match unit {
                    Some(unit) => {
                        Self::Systemd(Systemd { files: Files::V2(v2), main: group, unit })
                    }
                    None => Self::V2(v2),
                }
            }
            Mode::V1 => {
                let v1 = V1::new(groups.into_iter());
                let scope = unit.and_then(|unit| Systemd::on_v1(v1.clone(), unit));
                scope.map_or(Self::V1(v1), Self::Systemd)
            }
        }
    }

    /// What a state file has to keep.
    #[must_use]
    pub fn record(&self) -> Record {
        let mode = match (self.v2(), self.v1()) {
            (Some(_), _) => Mode::V2,
            (_, Some(_)) => Mode::V1,
            _ => Mode::None,
        };
        let unit = match self {
            Self::Systemd(systemd) => Some(systemd.unit.clone()),
            _ => None,
        };
        Record { mode, groups: self.groups().into_iter().cloned().collect(), unit }
    }

    /// The cgroup in each hierarchy; v2's is the last.
    #[must_use]
    pub fn groups(&self) -> Vec<&Group> {
        let v2 = self.v2().map(|v2| &v2.group);
        v2.into_iter().chain(self.v1().into_iter().flat_map(V1::all)).collect()
    }

    /// The files of v2 alone, whoever makes them.
    fn v2(&self) -> Option<&V2> {
        match self {
            Self::V2(v2) | Self::Systemd(Systemd { files: Files::V2(v2), .. }) => Some(v2),
            _ => None,
        }
    }

    /// Those of v1.
    fn v1(&self) -> Option<&V1> {
        match self {
            Self::V1(v1) | Self::Systemd(Systemd { files: Files::V1(v1), .. }) => Some(v1),
            _ => None,
        }
    }

    /// Makes the directories, with what a process needs to join them. One that
    /// exists is taken when it has no processes and is not frozen. Nobody else
    /// can take it while the caller holds what is returned, which he does until
    /// his process is in there; without cgroups there is nothing to hold, and
    /// systemd makes the cgroup for a process only ([`Self::scope`]).
    ///
    /// # Errors
    /// [`Kind::Permission`] when another owner or a read-only mount forbids it;
    /// anything else is [`Kind::Cgroup`]. Nothing that was made is left behind.
    pub fn create(&self) -> Result<Option<Claim>> {
        match self {
            Self::None | Self::Systemd(_) => Ok(None),
            Self::V2(v2) => v2.create().map(Some),
            Self::V1(v1) => v1.create(),
        }
    }

    /// The same without a cgroup in the v2 hierarchy beside v1, if there is one: it has
    /// no limits, and who may make cgroups in v1 may not have been given any there.
    #[must_use]
    pub fn without_v2(&self) -> Option<Self> {
        match self {
            Self::V1(V1 { groups, unified: Some(_) }) if !groups.is_empty() => {
                Some(Self::V1(V1 { groups: groups.clone(), unified: None }))
            }
            _ => None,
        }
    }

    /// Takes the cgroup if it is there and nobody else is about to, so that nobody
    /// does while the caller looks whose it is.
    #[must_use]
    pub fn hold(&self) -> Option<Claim> {
        self.main().and_then(|group| Claim::take(&group.directory()).ok())
    }

    /// Watches for the end of processes for want of memory; nothing where nobody counts
    /// memory.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn out_of_memory(&self) -> Result<Option<OutOfMemory>> {
        let groups = self.groups();
        let group = match self.v1() {
            Some(v1) => v1.of("memory"),
            None => groups.into_iter().next(),
        };
        let Some(group) = group else { return Ok(None) };
        let Some(cgroup) = Directory::find(group.directory())? else { return Ok(None) };
        match self.v1() {
            Some(_) => OutOfMemory::v1(&cgroup).map(Some),
            None if cgroup.read("memory.events").is_err() => Ok(None),
            None => OutOfMemory::v2(&cgroup).map(Some),
        }
    }

    /// What the processes in it, and in all below it, have used.
    ///
    /// # Errors
    /// The cgroup is gone, or a file of it can't be read.
    pub fn stats(&self) -> Result<Stats> {
        match self.v1() {
            Some(_) => {
                let mut all = Stats::default();
                for group in self.groups() {
                    if stats::v1::counts(&group.controllers) {
                        let cgroup = Directory::open(group.directory())?;
                        stats::v1::add(&cgroup, &group.controllers, &mut all)?;
                    }
                }
                Ok(all)
            }
            None => match self.groups().first() {
                Some(group) => stats::v2::stats(&Directory::open(group.directory())?),
                // COMPAT(runc): nothing is counted, which is no failure.
                None => Ok(Stats::default()),
            },
        }
    }

    /// Whether the last who took the cgroup has left this mark ([`Claim::mark`]). One
    /// that does not exist has none.
    #[must_use]
    pub fn is_marked(&self, mark: &str) -> bool {
        let cgroup = self.main().and_then(|group| fs::File::open(group.directory()).ok());
        cgroup.is_some_and(|cgroup| mark::is(cgroup, mark))
    }

    /// Prepares the scope that systemd shall make, to be started when there is a
    /// process for it; nothing for the others. Every wait for systemd is given up
    /// when `interrupt` becomes readable.
    ///
    /// # Errors
    /// A bus that is not there or takes nobody in.
    pub fn scope(
        &self,
        properties: Properties,
        interrupt: Option<Arc<OwnedFd>>,
    ) -> Result<Option<Scope>> {
        match self {
            Self::Systemd(systemd) => systemd.open(properties, interrupt).map(Some),
            Self::None | Self::V2(_) | Self::V1(_) => Ok(None),
        }
    }

    /// Writes limits and device rules.
    ///
    /// # Errors
    /// The first that is refused, with file, value and JSON pointer. Those
    /// before it are in force.
    pub fn apply(&self, settings: &Settings) -> Result<()> {
        if let (Self::Systemd(_), Some(v2)) = (self, self.v2()) {
            v2.enable()?;
        }
        self.v2().map_or(Ok(()), |v2| v2.apply(settings))?;
        self.v1().map_or(Ok(()), |v1| v1.apply(settings))
    }

    /// The limit of CPU time that a container on v2 has, as its file says it: `quota
    /// period` in microseconds. None on v1, and without the controller.
    #[must_use]
    pub fn quota(&self) -> Option<String> {
        self.v2().and_then(V2::quota)
    }

    /// Changes the limits of a container that runs.
    ///
    /// # Errors
    /// As [`Self::apply`]; systemd's refusal, or a bus that does not answer.
    pub fn update(&self, mut settings: Settings) -> Result<()> {
        if let Self::Systemd(systemd) = self {
            systemd.tell(&mut settings)?;
        }
        settings.notes().iter().for_each(|note| log::warn!("{note}"));
        self.apply(&settings)
    }

    /// Lets a user of the host rule over it, where v2 is alone.
    ///
    /// # Errors
    /// A cgroup that does not exist; chown(2).
    pub fn give_to(&self, uid: u32) -> Result<()> {
        self.v2().map_or(Ok(()), |v2| v2.give_to(uid))
    }

    /// The directory in the v2 hierarchy, for `CLONE_INTO_CGROUP`; none where
    /// there is no v2.
    ///
    /// # Errors
    /// A cgroup that does not exist.
    pub fn directory(&self) -> Result<Option<OwnedFd>> {
        self.unified().map(v2::for_clone).transpose()
    }

    /// One descriptor for each hierarchy, in the order of [`Self::groups`]. A
    /// process with one thread joins by writing "0" to each, but for v2 where the
    /// clone does it.
    ///
    /// # Errors
    /// A cgroup that does not exist.
    pub fn procs(&self) -> Result<Vec<OwnedFd>> {
        let mut entries = self.v1().map_or(Ok(Vec::new()), V1::entries)?;
        entries.extend(self.unified().map(v2::entry).transpose()?);
        Ok(entries)
    }

    /// Notes what these properties will mean for its removal.
    pub fn note(&mut self, properties: &Properties) {
        if let Self::Systemd(systemd) = self {
            systemd.unit.kept = !properties.collects_failed();
        }
    }

    /// Whether the container's first process must exist before its cgroup does, and
    /// waits for it: a scope of systemd.
    #[must_use]
    pub fn needs_process(&self) -> bool {
        matches!(self, Self::Systemd(_))
    }

    /// Whether a further process can get into the cgroup by [`Self::add`] alone: a
    /// user may not move it from where he is, but his manager of systemd has a way.
    #[must_use]
    pub fn only_by_adding(&self) -> bool {
        matches!(self, Self::Systemd(systemd) if systemd.unit.user)
    }

    /// Moves a process with all its threads into the cgroup. A wait for systemd is
    /// given up when `interrupt` becomes readable.
    ///
    /// # Errors
    /// A process or cgroup that does not exist, or a refusal of the kernel or of
    /// systemd.
    pub fn add(&self, pid: i32, interrupt: Option<Arc<OwnedFd>>) -> Result<()> {
        if let (Self::Systemd(systemd), Some(_)) = (self, self.v2()) {
            return systemd.attach(pid, interrupt);
        }
        self.groups().iter().try_for_each(|group| Directory::open(group.directory())?.add(pid))
    }

    /// Every process in the cgroup and below it, sorted, each once. A cgroup
    /// that does not exist has none.
    ///
    /// # Errors
    /// A list that can't be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        self.main().map_or(Ok(Vec::new()), |group| tree::processes(&group.directory()))
    }

    /// Freezes the container's processes. It holds when this returns.
    ///
    /// # Errors
    /// [`Kind::Timeout`] after ten seconds, thawed again; [`Kind::Unsupported`]
    /// without a freezer.
    pub fn freeze(&self) -> Result<()> {
        let (cgroup, freezer) = self.freezer()?;
        freezer.freeze(&cgroup, FREEZING)
    }

    /// Lets the container's processes go on.
    ///
    /// # Errors
    /// A refusal of the kernel; [`Kind::Unsupported`] without a freezer.
    pub fn thaw(&self) -> Result<()> {
        let (cgroup, freezer) = self.freezer()?;
        freezer.thaw(&cgroup)
    }

    /// Whether the container is frozen. One without a cgroup is not.
    ///
    /// # Errors
    /// A state that can't be read.
    pub fn is_frozen(&self) -> Result<bool> {
        let Some((group, freezer)) = self.freezing() else { return Ok(false) };
        let Some(cgroup) = Directory::find(group.directory())? else { return Ok(false) };
        match freezer.is_frozen(&cgroup) {
            // It went while it was looked at, as systemd's do by themselves.
            Err(_) if !cgroup.path().exists() => Ok(false),
            result => result,
        }
    }

    /// The directory in the hierarchy that can freeze, for somebody else who does.
    #[must_use]
    pub fn freezer_directory(&self) -> Option<PathBuf> {
        self.freezing().map(|(group, _)| group.directory())
    }

    /// Sends SIGKILL to every process, a frozen one too. They are dying when
    /// this returns; [`Self::remove`] waits for them.
    ///
    /// # Errors
    /// A refusal of the kernel, or processes that would not die.
    pub fn kill(&self) -> Result<()> {
        let Some(main) = self.main() else { return Ok(()) };
        let Some(cgroup) = Directory::find(main.directory())? else { return Ok(()) };
        let unified = self.unified().map(|group| Directory::find(group.directory()));
        if let Some(unified) = unified.transpose()?.flatten()
            && v2::kill(&unified)?
        {
            return self.thaw_v1();
        }
        let freezer = match self.freezing() {
            // One that is not there holds nobody, and systemd may just have removed it.
            Some((group, freezer)) => {
                Directory::find(group.directory())?.map(|cgroup| (cgroup, freezer))
            }
            None => None,
        };
        kill::all(cgroup.path(), freezer.as_ref())
    }

    /// Whether the kernel has killed one of its processes for want of memory.
    #[must_use]
    pub fn ran_out_of_memory(&self) -> bool {
        let (group, file) = match self.v1() {
            Some(v1) => (v1.of("memory"), "memory.oom_control"),
            None => (self.unified(), "memory.events"),
        };
        let text =
            group.and_then(|group| directory::read_value(&group.directory().join(file)).ok());
        let kills = |line: &str| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0");
        text.is_some_and(|text| text.lines().any(kills))
    }

    /// Removes the cgroup if it is empty, without waiting: whether nothing of it
    /// is left. The way of a container whose processes have all ended.
    ///
    /// systemd removes it by itself, and is not to be forestalled.
    #[must_use]
    pub fn remove_empty(&self) -> bool {
        if let Self::Systemd(systemd) = self
            && !systemd.is_gone()
        {
            return false;
        }
        self.groups().into_iter().all(|group| directory::remove_empty(&group.directory()))
    }

    /// Whether the cgroup has no processes. Dying ones are waited for, two seconds at
    /// most.
    ///
    /// # Errors
    /// A list that can't be read.
    pub fn empties(&self) -> Result<bool> {
        self.main().map_or(Ok(true), |group| tree::empties(&group.directory()))
    }

    /// Removes the cgroup and everything below it. Dying processes are waited
    /// for, two seconds at most; what is missing already is fine.
    ///
    /// # Errors
    /// The first hierarchy's refusal, when all were tried; for a scope, systemd's.
    pub fn remove(&self) -> Result<()> {
        if let Self::Systemd(systemd) = self {
            // It leaves cgroups that the container made below its own, and those of v1
            // that are ours.
            systemd.end()?;
        }
        let mut result = Ok(());
        for group in self.groups() {
            result = result.and(tree::remove(&group.directory()));
        }
        result
    }

    fn main(&self) -> Option<&Group> {
        match self {
            Self::None => None,
            Self::V2(v2) => Some(&v2.group),
            Self::V1(v1) => v1.main(),
            Self::Systemd(systemd) => Some(&systemd.main),
        }
    }

    /// The cgroup of v2, alone or beside those of v1.
    fn unified(&self) -> Option<&Group> {
        self.v2().map(|v2| &v2.group).or_else(|| self.v1()?.unified.as_ref())
    }

    fn freezing(&self) -> Option<(&Group, Freezer)> {
        let v2 = self.v2().map(|v2| (&v2.group, Freezer::V2));
        v2.or_else(|| self.v1()?.freezer())
    }

    fn freezer(&self) -> Result<(Directory, Freezer)> {
        match self.freezing() {
            Some((group, freezer)) => Ok((Directory::open(group.directory())?, freezer)),
            None if matches!(self, Self::None) => {
                Err(Error::new(Kind::Unsupported, "without a cgroup there is no freezer"))
            }
            None => Err(Error::new(Kind::Unsupported, "this host has no cgroup freezer")),
        }
    }

    /// A process that v1's freezer holds, whoever told it to, dies only when it
    /// is let go.
    fn thaw_v1(&self) -> Result<()> {
        let Some(group) = self.v1().and_then(|v1| v1.of("freezer")) else { return Ok(()) };
        match Directory::find(group.directory())? {
            Some(cgroup) => Freezer::V1.thaw(&cgroup),
            None => Ok(()),
        }
    }
}

/// Whether a cgroup that exists may become a container's.
///
/// COMPAT(runc): both texts.
fn empty_and_thawed(path: &Path, freezer: Freezer) -> Result<()> {
    let count = tree::processes(path)?.len();
    if count != 0 {
        let text = format!("container's cgroup is not empty: {count} process(es) found");
        return Err(Error::new(Kind::Cgroup, text).at_path(path));
    }
    if freezer.is_frozen(&Directory::open(path.to_path_buf())?)? {
        let text = "container's cgroup unexpectedly frozen";
        return Err(Error::new(Kind::Cgroup, text).at_path(path));
    }
    Ok(())
}
