//! The container's cgroup, driven through the cgroup file system or by systemd.
//!
//! ```text
//!   config.json ──► Settings (pure: writes, device rules; Properties for systemd)
//!                      │ apply
//!   HostFacts ──► Manager ── create ─ apply ─ (the stage joins) ─ kill ─ remove
//!                   │  V2: one directory          v2: cgroup.kill, device program
//!                   │  V1: one in each hierarchy  v1: freezer, devices.allow
//!                   │       and one in v2's on a hybrid host
//!                   ▼  Systemd: v2's, made and removed by systemd
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
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;

use crate::error::{Error, Kind, Result};
use crate::host::{Cgroups, HostFacts};
use directory::{Directory, refused};
use freezer::Freezer;

pub use directory::Claim;
pub use group::{Group, Mode, Record};
pub use inner::Inner;
pub use oom::OutOfMemory;
pub use settings::{Missing, Properties, Settings, Write};
pub use stats::Stats;
pub use systemd::{Scope, Systemd, Unit};
pub use v1::V1;
pub use v2::V2;

/// How long [`Manager::freeze`] waits.
const FREEZING: Duration = Duration::from_secs(10);

/// Who makes a container's cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// The form of `/linux/cgroupsPath` tells: `NAME.slice:prefix:name` means
    /// systemd, everything else the cgroup file system.
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
    /// cgroup v2 alone, and systemd has the cgroup.
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
            Mode::V2 => match (groups.pop(), unit) {
                (Some(group), Some(unit)) => {
                    Self::Systemd(Systemd { v2: V2 { group, available: Vec::new() }, unit })
                }
                (Some(group), None) => Self::V2(V2 { group, available: Vec::new() }),
                (None, _) => Self::None,
            },
            Mode::V1 => {
                let (v2, groups): (Vec<_>, _) =
                    groups.into_iter().partition(|group| group.controllers.is_empty());
                Self::V1(V1 { groups, unified: v2.into_iter().next() })
            }
        }
    }

    /// What a state file has to keep.
    #[must_use]
    pub fn record(&self) -> Record {
        let mode = match self {
            Self::None => Mode::None,
            Self::V2(_) | Self::Systemd(_) => Mode::V2,
            Self::V1(_) => Mode::V1,
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
        match self {
            Self::None => Vec::new(),
            Self::V2(v2) | Self::Systemd(Systemd { v2, .. }) => vec![&v2.group],
            Self::V1(v1) => v1.groups.iter().chain(&v1.unified).collect(),
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
        let group = match self {
            Self::V1(_) => groups.into_iter().find(|group| group.has("memory")),
            _ => groups.into_iter().next(),
        };
        let Some(group) = group else { return Ok(None) };
        let Some(cgroup) = Directory::find(group.directory())? else { return Ok(None) };
        match self {
            Self::V1(_) => OutOfMemory::v1(&cgroup).map(Some),
            _ if cgroup.read("memory.events").is_err() => Ok(None),
            _ => OutOfMemory::v2(cgroup).map(Some),
        }
    }

    /// What the processes in it, and in all below it, have used.
    ///
    /// # Errors
    /// The cgroup is gone, or a file of it can't be read.
    pub fn stats(&self) -> Result<Stats> {
        let sizes = stats::huge_page_sizes();
        match self {
            Self::V1(_) => {
                let mut all = Stats::default();
                for group in self.groups() {
                    if !group.controllers.is_empty() {
                        let cgroup = Directory::open(group.directory())?;
                        stats::v1::add(&cgroup, &group.controllers, &sizes, &mut all)?;
                    }
                }
                Ok(all)
            }
            _ => match self.groups().first() {
                Some(group) => stats::v2::stats(&Directory::open(group.directory())?, &sizes),
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
        match self {
            Self::None => Ok(()),
            Self::V2(v2) => v2.apply(settings),
            Self::V1(v1) => v1.apply(settings),
            Self::Systemd(systemd) => {
                systemd.v2.enable()?;
                systemd.v2.apply(settings)
            }
        }
    }

    /// The limit of CPU time that a container on v2 has, as its file says it: `quota
    /// period` in microseconds. None on v1, and without the controller.
    #[must_use]
    pub fn quota(&self) -> Option<String> {
        match self {
            Self::V2(v2) | Self::Systemd(Systemd { v2, .. }) => v2.quota(),
            Self::None | Self::V1(_) => None,
        }
    }

    /// Changes the limits of a container that runs.
    ///
    /// # Errors
    /// As [`Self::apply`]; systemd's refusal, or a bus that does not answer.
    pub fn update(&self, mut settings: Settings) -> Result<()> {
        if let Self::Systemd(systemd) = self {
            // Before systemd writes the first of them.
            systemd.v2.check(&settings)?;
            let exact = systemd.v2.exact(&settings);
            let properties = Properties::for_update(&mut settings);
            settings.notes().iter().for_each(|note| log::warn!("{note}"));
            systemd.update(&properties)?;
            systemd.v2.restore(&exact)?;
        }
        self.apply(&settings)
    }

    /// Lets a user of the host rule over it, where v2 is alone.
    ///
    /// # Errors
    /// A cgroup that does not exist; chown(2).
    pub fn give_to(&self, uid: u32) -> Result<()> {
        match self {
            Self::V2(v2) | Self::Systemd(Systemd { v2, .. }) => v2.give_to(uid),
            Self::None | Self::V1(_) => Ok(()),
        }
    }

    /// The directory in the v2 hierarchy, for `CLONE_INTO_CGROUP`; none where
    /// there is no v2.
    ///
    /// # Errors
    /// A cgroup that does not exist.
    pub fn directory(&self) -> Result<Option<OwnedFd>> {
        match self {
            Self::None => Ok(None),
            Self::V2(v2) | Self::Systemd(Systemd { v2, .. }) => v2::for_clone(&v2.group).map(Some),
            Self::V1(v1) => v1.unified.as_ref().map(v2::for_clone).transpose(),
        }
    }

    /// One descriptor for each hierarchy, in the order of [`Self::groups`]. A
    /// process with one thread joins by writing "0" to each, but for v2 where the
    /// clone does it.
    ///
    /// # Errors
    /// A cgroup that does not exist.
    pub fn procs(&self) -> Result<Vec<OwnedFd>> {
        match self {
            Self::None => Ok(Vec::new()),
            Self::V2(v2) | Self::Systemd(Systemd { v2, .. }) => Ok(vec![v2::entry(&v2.group)?]),
            Self::V1(v1) => {
                let unified = v1.unified.as_ref().map(v2::entry).transpose()?;
                Ok(v1.entries()?.into_iter().chain(unified).collect())
            }
        }
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
        if let Self::Systemd(systemd) = self {
            return systemd.attach(pid, interrupt);
        }
        for group in self.groups() {
            let cgroup = Directory::open(group.directory())?;
            let mut tries = 0;
            // A process that is being born can't be moved yet: EINVAL.
            while let Err(errno) = cgroup.write("cgroup.procs", &pid.to_string()) {
                tries += 1;
                if errno != Errno::EINVAL || tries == 20 {
                    return Err(refused(errno, "moving a process into the cgroup", cgroup.path()));
                }
                sleep(Duration::from_millis(5));
            }
        }
        Ok(())
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
        if self.has_v2() && v2::kill(&cgroup)? {
            return self.thaw_v1();
        }
        let freezer = match self.freezing() {
            Some((group, freezer)) => Some((Directory::open(group.directory())?, freezer)),
            None => None,
        };
        kill::all(cgroup.path(), freezer.as_ref())
    }

    /// Whether the kernel has killed one of its processes for want of memory.
    #[must_use]
    pub fn ran_out_of_memory(&self) -> bool {
        let (group, file) = match self {
            Self::V2(v2) | Self::Systemd(Systemd { v2, .. }) => (Some(&v2.group), "memory.events"),
            Self::V1(v1) => (v1.of("memory"), "memory.oom_control"),
            Self::None => return false,
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
        if let Self::Systemd(systemd) = self {
            return systemd.is_gone();
        }
        let gone = |group: &Group| match fs::remove_dir(group.directory()) {
            Ok(()) => true,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        self.groups().into_iter().all(gone)
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
            return systemd.remove();
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
            Self::V2(v2) | Self::Systemd(Systemd { v2, .. }) => Some(&v2.group),
            Self::V1(v1) => v1.main(),
        }
    }

    fn has_v2(&self) -> bool {
        match self {
            Self::None => false,
            Self::V2(_) | Self::Systemd(_) => true,
            Self::V1(v1) => v1.unified.is_some(),
        }
    }

    fn freezing(&self) -> Option<(&Group, Freezer)> {
        match self {
            Self::None => None,
            Self::V2(v2) | Self::Systemd(Systemd { v2, .. }) => Some((&v2.group, Freezer::V2)),
            Self::V1(v1) => v1.freezer(),
        }
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
        let Self::V1(v1) = self else { return Ok(()) };
        let Some(group) = v1.of("freezer") else { return Ok(()) };
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
