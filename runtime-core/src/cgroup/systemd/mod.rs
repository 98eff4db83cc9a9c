//! The container's cgroup as a scope of systemd: asked for on D-Bus, then used like
//! any other.
//!
//! ```text
//!   create: open the bus ─ clone the stage ─ StartTransientUnit(its pid) ─ JobRemoved
//!   update: SetUnitProperties      exec of a user: AttachProcessesToUnit
//!   delete: StopUnit ─ JobRemoved ─ ResetFailedUnit
//! ```
//!
//! systemd makes the cgroup, moves the process into it and removes it; the files in
//! it are read and written by the rest of this room. A directory of systemd's is
//! never removed behind its back: it would believe in the unit for ever.
//!
//! On v1 it does that in the hierarchies that it knows; those in the others are made,
//! entered and removed by us, behind it.

mod address;
mod bus;
mod message;
mod unit;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::directory::{Directory, remove_empty};
use super::empty_and_thawed;
use super::freezer::Freezer;
use super::group::Group;
use super::settings::{Properties, Property, Settings};
use super::v1::V1;
use super::v2::V2;
use crate::error::{Error, Kind, Result, excerpt};
use crate::host::{Cgroups, Hierarchy, HostFacts};
use address::Address;
use bus::{Answer, Bus, Refusal};
use message::{Message, Method};

pub use unit::Unit;
pub(super) use unit::is_meant;

/// How long one conversation with systemd may take. A manager that reloads answers
/// nobody meanwhile.
const PATIENCE: Duration = Duration::from_secs(25);

/// How long systemd may take to notice that a cgroup is empty.
const NOTICING: Duration = Duration::from_secs(1);

/// When a job's end is looked for that nobody has told: the word of it is lost when
/// systemd executes itself anew.
const UNTOLD: Duration = Duration::from_millis(500);

/// The same for a job that is not even known.
const UNKNOWN: Duration = Duration::from_millis(5);

/// How long it is tried to take a scope back that did not come about.
const TAKING_BACK: Duration = Duration::from_secs(5);

/// systemd's manager as who is called.
const MANAGER: Method = Method {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
    arguments: "",
};

/// The signal by which the manager tells that a job has ended.
const REMOVED: Method = Method { member: "JobRemoved", arguments: "uoss", ..MANAGER };

/// A job of the manager's.
struct Job {
    path: OwnedObjectPath,
    /// Who named it, as the bus calls him: nobody else can say how it ended.
    manager: String,
}

/// A list of properties as D-Bus has it.
type List<'a> = Vec<(&'a str, &'a Variant<'static>)>;

/// A scope of systemd, and its cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Systemd {
    pub(super) files: Files,
    /// The cgroup by which systemd knows what is in the unit.
    pub(super) main: Group,
    pub(super) unit: Unit,
}

/// The files of its cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Files {
    V2(V2),
    V1(V1),
}

impl Files {
    /// Puts a process, which systemd has in its cgroup, into what is ours to make.
    fn complete(&self, pid: i32) -> Result<()> {
        match self {
            Self::V2(_) => Ok(()),
            Self::V1(v1) => v1.complete(pid),
        }
    }
}

/// A scope that is about to be started: the bus is there and takes us.
#[derive(Debug)]
pub struct Scope {
    bus: Bus,
    unit: Unit,
    main: Group,
    files: Files,
    properties: Properties,
}

impl Systemd {
    /// The scope of container `id`. The user's own manager is asked where it is.
    pub(super) fn new(host: &HostFacts, path: Option<&Path>, id: &str) -> Result<Self> {
        let unsupported = |what: &'static str| Error::unsupported("/linux/cgroupsPath", what);
        let user = is_user(host);
        let unit = || Unit::new(path, id, user);
        match &host.cgroups {
            Cgroups::None => Err(unsupported("systemd needs cgroups, and none are mounted here")),
            Cgroups::Unified { mount, controllers, .. } => {
                let unit = unit()?;
                let below = unit.cgroup()?;
                let above = if user { PathBuf::from(own_cgroup()?) } else { PathBuf::from("/") };
                let path = above.join(below);
                let main = Group { controllers: Vec::new(), mount: mount.clone(), path };
                let v2 = V2 { group: main.clone(), available: controllers.clone() };
                Ok(Self { files: Files::V2(v2), main, unit })
            }
            // COMPAT(runc): its words.
            Cgroups::Legacy { .. } if user => {
                Err(unsupported("cannot use rootless systemd cgroups manager on cgroup v1"))
            }
            Cgroups::Legacy { hierarchies } => {
                let unit = unit()?;
                let path = Path::new("/").join(unit.cgroup()?);
                let group = |hierarchy: &Hierarchy| Group {
                    controllers: hierarchy.controllers.clone(),
                    mount: hierarchy.mount.clone(),
                    path: path.clone(),
                };
                let mut groups: Vec<_> = hierarchies.iter().map(group).collect();
                // Who enters a frozen one does nothing more: not before he is in all others,
                // where systemd looks.
                groups.sort_by_key(|group| group.has("freezer"));
                Self::on_v1(V1::new(groups.into_iter()), unit)
                    .ok_or_else(|| unsupported("no hierarchy of systemd's own is mounted here"))
            }
        }
    }

    /// Nothing where systemd has no hierarchy.
    pub(super) fn on_v1(v1: V1, unit: Unit) -> Option<Self> {
        let main = v1.of_systemd()?.clone();
        Some(Self { files: Files::V1(v1), main, unit })
    }

    /// Opens the bus for a scope with these properties.
    ///
    /// # Errors
    /// A cgroup that is there already and has processes, or is frozen: systemd would
    /// take it. A bus that is not there or takes nobody in.
    pub(super) fn open(
        &self,
        properties: Properties,
        interrupt: Option<Arc<OwnedFd>>,
    ) -> Result<Scope> {
        match &self.files {
            Files::V2(_) if self.directory().exists() => {
                empty_and_thawed(&self.directory(), Freezer::V2)?;
            }
            Files::V2(_) => {}
            Files::V1(v1) => v1.check_free()?,
        }
        let mut bus = of_processes(&self.unit)?.interrupted_by(interrupt);
        watch(&mut bus, &self.unit)?;
        // Now, so that the bus is busy with it while we are with the clone.
        bus.flush()?;
        let Self { files, main, unit } = self.clone();
        Ok(Scope { bus, unit, main, files, properties })
    }

    fn directory(&self) -> PathBuf {
        self.main.directory()
    }

    /// Tells systemd of limits that are about to be written into the files.
    ///
    /// # Errors
    /// systemd's refusal, or a bus that does not answer; a limit below what is used, if
    /// that is not wanted; a device rule that systemd would forget.
    pub(super) fn tell(&self, settings: &mut Settings) -> Result<()> {
        match &self.files {
            Files::V2(v2) => {
                // Before systemd writes the first of them.
                v2.check(settings)?;
                let exact = v2.exact(settings)?;
                self.update(&Properties::for_update(settings)?)?;
                exact.restore()
            }
            Files::V1(v1) => {
                settings.bandwidth = v1.bandwidth().or(settings.bandwidth);
                let properties = Properties::for_update(settings)?;
                if properties.0.is_empty() {
                    return Ok(());
                }
                let exact = v1.exact(settings)?;
                v1.keeping_devices(|| self.update(&properties))?;
                exact.map_or(Ok(()), |exact| exact.restore())
            }
        }
    }

    /// Changes properties of the scope.
    fn update(&self, properties: &Properties) -> Result<()> {
        if properties.0.is_empty() {
            return Ok(());
        }
        let mut bus = conversation(&self.unit)?;
        let properties = known(&mut bus, &properties.0)?;
        let method = Method { member: "SetUnitProperties", arguments: "sba(sv)", ..MANAGER };
        match bus.call(&method, &(&self.unit.name, true, list(&properties)))? {
            Answer::Done(_) => Ok(()),
            Answer::Refused(why) => Err(refused(&why, "changing", &self.unit)),
        }
    }

    /// Moves a process into the scope, or into a cgroup below that of the scope, which
    /// must be there.
    pub(super) fn attach(&self, pid: i32, interrupt: Option<Arc<OwnedFd>>) -> Result<()> {
        // systemd would make it.
        Directory::open(self.directory())?;
        let inner = self.unit.inner(&self.main.path);
        let mut bus = of_processes(&self.unit)?.interrupted_by(interrupt);
        let method = Method { member: "AttachProcessesToUnit", arguments: "ssau", ..MANAGER };
        let arguments = (&self.unit.name, inner.to_string_lossy(), vec![pid.cast_unsigned()]);
        match bus.call(&method, &arguments)? {
            Answer::Done(_) => Ok(()),
            Answer::Refused(why) => Err(refused(&why, "moving a process into", &self.unit)),
        }
    }

    /// Whether systemd has removed the cgroup already, and the unit with it.
    pub(super) fn is_gone(&self) -> bool {
        !self.unit.kept && !self.directory().exists()
    }

    /// Ends the scope, whose processes have been killed, and its cgroup with it.
    ///
    /// systemd needs nobody to notice that one is empty, and it costs both of us less
    /// when it is not asked. Where there is no cgroup it is: it may be about to make it.
    pub(super) fn end(&self) -> Result<()> {
        let path = self.directory();
        if self.unit.kept || !path.exists() || !goes(&path, NOTICING) {
            match self.stop() {
                Err(error) if !goes(&path, NOTICING) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn stop(&self) -> Result<()> {
        let mut bus = conversation(&self.unit)?;
        watch(&mut bus, &self.unit)?;
        stop(&mut bus, &self.unit, &self.directory())
    }
}

impl Scope {
    /// Starts the scope with process `pid` in it. It is there when this returns.
    ///
    /// # Errors
    /// A scope of that name that exists, a property that systemd refuses, or a
    /// manager that does not answer in time. The process must be killed then: no
    /// scope begins without one.
    pub fn start(mut self, pid: i32) -> Result<()> {
        let job = match self.request(pid)? {
            Ok(job) => Some(job),
            // It is ours, of the call whose answer was lost.
            Err(why) if why.is("UnitExists") && self.bus.has_lost() => None,
            // One that failed, or that systemd has not yet forgotten.
            Err(why) if why.is("UnitExists") => {
                reset(&mut self.bus, &self.unit)?;
                Some(self.request(pid)?.map_err(|why| refused(&why, "starting", &self.unit))?)
            }
            Err(why) => return Err(refused(&why, "starting", &self.unit)),
        };
        let started = self.started(job.as_ref(), pid);
        started.and_then(|()| self.files.complete(pid)).inspect_err(|_| {
            // Without a job it was another's after all.
            if job.is_none() {
                return;
            }
            // A process that dies while it is moved is moved for the kernel and for
            // systemd, and its end is no event: the scope would stay. What failed
            // first is told.
            self.bus.extend(Instant::now() + TAKING_BACK);
            let stopped = stop(&mut self.bus, &self.unit, &self.main.directory());
            if let (Ok(()), Files::V1(v1)) = (stopped, &self.files) {
                for group in v1.all() {
                    remove_empty(&group.directory());
                }
            }
        })
    }

    /// Waits until the process is in the scope.
    fn started(&mut self, job: Option<&Job>, pid: i32) -> Result<()> {
        let pause = if job.is_some() { UNTOLD } else { UNKNOWN };
        loop {
            match ended(&mut self.bus, job, pause)?.as_deref() {
                Some("done") => return self.check(pid),
                Some(result) => {
                    let (name, result) = (&self.unit.name, excerpt(result));
                    let what = format!("systemd could not start {name:?}: {result}");
                    return Err(Error::new(Kind::Cgroup, what));
                }
                None if self.check(pid).is_ok() => return Ok(()),
                None => {}
            }
        }
    }

    /// Asks for the scope: the job, or why not.
    fn request(&mut self, pid: i32) -> Result<Result<Job, Refusal>> {
        let properties = known(&mut self.bus, &self.properties.0)?;
        let slice = Variant::Str(self.unit.slice.clone().into());
        let pids = Variant::new(vec![pid.cast_unsigned()]);
        let mut all = list(&properties);
        all.extend([("Slice", &slice), ("PIDs", &pids)]);
        let none: Vec<(&str, List<'_>)> = Vec::new();
        let arguments = "ssa(sv)a(sa(sv))";
        let method = Method { member: "StartTransientUnit", arguments, ..MANAGER };
        Ok(match self.bus.call(&method, &(&self.unit.name, "replace", all, none))? {
            Answer::Done(message) => Ok(Job::of(&self.bus, message)?),
            Answer::Refused(why) => Err(why),
        })
    }

    /// Whether the process is where the record says that it is.
    fn check(&self, pid: i32) -> Result<()> {
        let path = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&path)
            .map_err(|error| Error::io(&error, "reading").at_path(&path))?;
        let (found, wanted) = (self.main.place_in(&text), &self.main.path);
        if found == Some(wanted) {
            return Ok(());
        }
        let found = found.unwrap_or(Path::new(""));
        let what = format!("systemd put the container into the cgroup {found:?}, not {wanted:?}");
        Err(Error::new(Kind::Cgroup, what))
    }
}

impl Job {
    /// The job that an answer names.
    fn of(bus: &Bus, message: Message) -> Result<Self> {
        let (path,) = bus.arguments(&message)?;
        Ok(Self { path, manager: message.sender })
    }
}

/// Whether the caller's own manager is meant, not the system's.
///
/// COMPAT(runc): root of a user namespace that calls itself root is the root of a
/// system of its own.
fn is_user(host: &HostFacts) -> bool {
    host.euid != 0
        || host.in_user_namespace && std::env::var_os("USER").is_none_or(|user| user != "root")
}

fn conversation(unit: &Unit) -> Result<Bus> {
    Bus::open(Address::find(unit.user)?, Instant::now() + PATIENCE)
}

/// One in which processes are told of.
fn of_processes(unit: &Unit) -> Result<Bus> {
    let bus = conversation(unit)?;
    if bus.counts_like_us() {
        return Ok(bus);
    }
    let what = "systemd is in another pid namespace, where the container's process has \
                another number";
    Err(Error::new(Kind::Unsupported, what))
}

/// Wants to know when jobs of the unit end.
fn watch(bus: &mut Bus, unit: &Unit) -> Result<()> {
    let Method { destination, path, interface, member, .. } = REMOVED;
    let name = &unit.name;
    bus.listen(&format!(
        "type='signal',sender='{destination}',path='{path}',interface='{interface}',\
         member='{member}',arg2='{name}'"
    ))
}

/// How a job ended, if that is told within that time.
fn ended(bus: &mut Bus, job: Option<&Job>, within: Duration) -> Result<Option<String>> {
    let until = Instant::now() + within;
    let manager = job.map(|job| &*job.manager).unwrap_or_default();
    while let Some(signal) = bus.signal(&REMOVED, manager, until)? {
        let (_, path, _, result): (u32, OwnedObjectPath, String, String) =
            bus.arguments(&signal)?;
        if job.is_some_and(|job| job.path == path) {
            return Ok(Some(result));
        }
    }
    Ok(None)
}

/// Whether a cgroup is gone within that time.
fn goes(path: &Path, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_micros(250);
    while path.exists() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    true
}

/// Stops the unit, and waits until it has.
fn stop(bus: &mut Bus, unit: &Unit, path: &Path) -> Result<()> {
    let method = Method { member: "StopUnit", arguments: "ss", ..MANAGER };
    match bus.call(&method, &(&unit.name, "replace"))? {
        Answer::Done(message) => {
            let job = Job::of(bus, message)?;
            while ended(bus, Some(&job), UNTOLD)?.is_none() && path.exists() {}
        }
        Answer::Refused(why) if why.is("NoSuchUnit") => return Ok(()),
        Answer::Refused(why) => return Err(refused(&why, "stopping", unit)),
    }
    if unit.kept { reset(bus, unit) } else { Ok(()) }
}

/// Has systemd forget that the unit failed. One that it does not know did not.
fn reset(bus: &mut Bus, unit: &Unit) -> Result<()> {
    let method = Method { member: "ResetFailedUnit", arguments: "s", ..MANAGER };
    bus.call(&method, &(&unit.name,)).map(drop)
}

/// The cgroup of the user's own manager.
fn own_cgroup() -> Result<String> {
    let mut bus = Bus::open(Address::find(true)?, Instant::now() + PATIENCE)?;
    let value = property(&mut bus, "ControlGroup")?;
    String::try_from(value).map_err(|_| unexpected("ControlGroup"))
}

/// A property of the manager itself.
fn property(bus: &mut Bus, name: &str) -> Result<OwnedVariant> {
    let interface = "org.freedesktop.DBus.Properties";
    let method = Method { member: "Get", interface, arguments: "ss", ..MANAGER };
    match bus.call(&method, &(MANAGER.interface, name))? {
        Answer::Done(message) => Ok(bus.arguments::<(OwnedVariant,)>(&message)?.0),
        Answer::Refused(why) => {
            let what = format!("asking systemd for its {name}: {}", why.text);
            Err(Error::new(Kind::Cgroup, what))
        }
    }
}

/// The properties that this systemd knows.
fn known<'a>(bus: &mut Bus, properties: &'a [Property]) -> Result<Vec<&'a Property>> {
    let newest = properties.iter().map(|property| property.since).max().unwrap_or(0);
    let version = if newest == 0 { u32::MAX } else { version(bus)? };
    Ok(properties.iter().filter(|property| property.since <= version).collect())
}

/// `257`, of a version such as "257.13-1" or "v246".
fn version(bus: &mut Bus) -> Result<u32> {
    let text = String::try_from(property(bus, "Version")?).map_err(|_| unexpected("Version"))?;
    let digits = text.trim_start_matches('v').split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| unexpected("Version"))
}

fn unexpected(name: &str) -> Error {
    Error::new(Kind::Internal, format!("the {name} of systemd is not what it should be"))
}

fn list<'a>(properties: &[&'a Property]) -> List<'a> {
    properties.iter().map(|property| (&*property.name, &property.value)).collect()
}

fn refused(why: &Refusal, doing: &str, unit: &Unit) -> Error {
    let error =
        Error::new(Kind::Cgroup, format!("{doing} the scope {:?}: {}", unit.name, why.text));
    if why.is("UnitExists") {
        return error.hint("another container, or something else, has that name");
    }
    error
}
