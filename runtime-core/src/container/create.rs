//! `create`, and `run`, which differs in that nothing waits for a start.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount, Spec};

use super::folder::{Folder, Lock};
use super::mounted;
use super::pidfd::PidfdReceiver;
use super::root_mount::Detached;
use super::state::{Record, State, cgroup_dirs, own_pids};
use super::undo::Undo;
use super::{
    Container, Notify, Started, Store, Terminal, check_id, check_pid_file, write_pid_file,
};
use crate::bundle::Bundle;
use crate::cgroup::{Claim, Driver, Manager, Properties, Scope, Settings};
use crate::compile;
use crate::error::{Error, Kind, Result};
use crate::host::{HostFacts, Resctrl};
use crate::launch::{Around, Child, Kit, launch, run_hooks};
use crate::plan::{Gate, Hook, Plan};
use crate::resctrl::Class;

/// How to create.
#[derive(Debug, Default)]
pub struct CreateOptions {
    /// Who makes the cgroup.
    pub cgroups: Driver,
    /// Who takes the terminal, when the config asks for one.
    pub terminal: Terminal,
    /// Standard input, output and error of a container without a terminal; the caller's
    /// own, if none are given.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Where to write the init's pid, before the call returns.
    pub pid_file: Option<PathBuf>,
    /// The listener of a unix socket at this path gets a pidfd of the init, before the
    /// container counts as created.
    pub pidfd_socket: Option<PathBuf>,
    /// Move the root instead of pivoting, for a host whose root is an initramfs.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors from 3 on the container inherits. All must be open
    /// without close-on-exec.
    pub preserve_fds: u32,
    /// Let the container say that it is ready, as to systemd (sd_notify(3)): its
    /// `$NOTIFY_SOCKET` is one of ours, for [`Started::notify`] or
    /// [`Container::start_notifying`].
    pub notify: bool,
    /// Whether the container may go without a cgroup, and without rules for its
    /// devices, where they are out of reach. A caller that is not root of the machine
    /// may unless this says no.
    pub optional_cgroup: Option<bool>,
}

/// A container on its way: its stage runs, and hooks may have run.
struct Launched {
    child: Child,
    undo: Undo,
    lock: Lock,
    plan: Plan,
    record: Record,
    folder: Folder,
    /// The cgroup, and which controllers it is to have, which no record says.
    manager: Manager,
    /// Where it will say that it is ready.
    notify: Option<OwnedFd>,
    receiver: Option<PidfdReceiver>,
}

impl Store {
    /// Creates a container from a bundle; its process waits for
    /// [`Container::start`]. Warnings are logged by the caller if it likes.
    ///
    /// # Errors
    /// All that is wrong with the bundle, the id, or what the host refuses.
    /// Nothing of the container is left then.
    pub fn create(
        &self,
        id: &str,
        bundle: &Bundle,
        options: &CreateOptions,
    ) -> Result<(Container, Started)> {
        self.launch(id, bundle, options, true)?.finish(self, bundle, options)
    }

    /// Creates a container and starts its process at once.
    ///
    /// # Errors
    /// As [`Self::create`] and [`Container::start`].
    pub fn run(
        &self,
        id: &str,
        bundle: &Bundle,
        options: &CreateOptions,
    ) -> Result<(Container, Started)> {
        self.launch(id, bundle, options, false)?.finish(self, bundle, options)
    }

    /// Compiles a bundle as [`Self::create`] would, and does nothing.
    ///
    /// # Errors
    /// All that is wrong with the bundle.
    pub fn plan(&self, id: &str, bundle: &Bundle, options: &CreateOptions) -> Result<Plan> {
        check_id(id)?;
        Ok(Compiled::new(&self.folder(id), bundle, options)?.plan)
    }

    /// All before the first hook: of what fails here, nothing is left.
    fn launch(
        &self,
        id: &str,
        bundle: &Bundle,
        options: &CreateOptions,
        waits: bool,
    ) -> Result<Launched> {
        check_id(id)?;
        options.pid_file.as_deref().map_or(Ok(()), check_pid_file)?;
        let folder = self.folder(id);
        let mut compiled = Compiled::new(&folder, bundle, options)?;
        let mut record = compiled.record(id, bundle, options)?;
        let console = options.terminal.connect(bundle.wants_terminal())?;
        let receiver = PidfdReceiver::connect(options.pidfd_socket.as_deref())?;

        let lock = folder.make()?;
        // Dropped before the lock: nobody may take the id while we clean up.
        let mut undo = Undo::default();
        undo.folder(folder.clone());
        // Before the record says that the cgroup is ours to kill and remove.
        if !compiled.manager.processes()?.is_empty() {
            return Err(Error::new(Kind::Cgroup, "container's cgroup is not empty"));
        }
        let root = Detached::of(&compiled.plan)?;
        record.root_mounted = root.is_some();
        folder.write(&record)?;
        folder.write_config(&bundle.raw)?;
        let root = root.map(|root| root.attach(&folder)).transpose()?;
        let start = if waits { Some(folder.make_start()?) } else { None };
        let notify = prepare_notify(&folder, options, waits)?;

        let claim = compiled.make_cgroup(&folder, bundle, options)?;
        if let Some(claim) = &claim {
            claim.mark(&lock.mark);
        }
        if compiled.manager.record() != record.cgroup {
            record.cgroup = compiled.manager.record();
            folder.write(&record)?;
        }
        let Compiled { plan, manager, class, settings, properties, .. } = compiled;
        let scope = manager.scope(properties, self.interrupt.clone())?;
        if scope.is_none() {
            undo.cgroup(manager.clone(), claim);
        }
        if let Some(made) = make_class(class, bundle)? {
            undo.class(made.clone());
            if record.intel_rdt.as_ref() != Some(&made) {
                record.intel_rdt = Some(made);
                folder.write(&record)?;
            }
        }
        // Before the stage sees the root: what it opens there may be a device that
        // somebody has put in the place of a file, and the rules hold for it too.
        if scope.is_none() {
            fill_cgroup(&manager, &settings, &bundle.spec)?;
        }
        let procs = if plan.writes_cgroups() { manager.procs()? } else { Vec::new() };
        let tasks = record.intel_rdt.as_ref().map_or(Ok(Vec::new()), Class::tasks)?;
        let kit = Kit {
            cgroup: undo.cgroup_directory().filter(|_| plan.outside.into_cgroup),
            cgroup_procs: &procs,
            resctrl_tasks: &tasks,
            root: root.as_ref().map(AsFd::as_fd),
            start: start.as_ref().map(AsFd::as_fd),
            console: console.as_ref().map(AsFd::as_fd),
            stdio: options.stdio.as_ref().map(|fds| fds.each_ref().map(AsFd::as_fd)),
            target: None,
            paused: false,
            interrupt: self.interrupt.clone(),
        };
        let child = launch(&plan, &kit)?;
        let mut launched =
            Launched { child, undo, lock, plan, record, folder, manager, notify, receiver };
        if let Some(scope) = scope {
            launched.place(scope, &settings, &bundle.spec)?;
        }
        Ok(launched)
    }
}

impl Launched {
    /// From the clone to a container that waits for its start, or that runs.
    fn finish(
        mut self,
        store: &Store,
        bundle: &Bundle,
        options: &CreateOptions,
    ) -> Result<(Container, Started)> {
        let waits = self.folder.waits_for_start();
        let done = self.drive(bundle).and_then(|()| self.commit(waits, options));
        if let Err(error) = done {
            return Err(self.give_up(error, store));
        }
        let Self { child, undo, lock, mut plan, record, notify, .. } = self;
        undo.disarm();
        drop(lock);
        let container = Container { store: store.clone(), record };
        if !waits && let Err(error) = container.poststart(&plan.outside.poststart) {
            child.abandon();
            container.take_down();
            return Err(error);
        }
        let (pid, pidfd) = child.into_process().inspect_err(|_| container.take_down())?;
        let warnings = std::mem::take(&mut plan.warnings);
        let notify = match notify {
            Some(socket) => {
                let init = pidfd.try_clone();
                let init = init.map_err(|error| Error::io(&error, "keeping the pidfd"));
                let init = init.inspect_err(|_| container.take_down())?;
                Some(Notify { pid, socket, init })
            }
            None => None,
        };
        Ok((container, Started { pid, pidfd, warnings, notify }))
    }

    /// Has systemd make the cgroup, with the stage in it.
    fn place(&mut self, scope: Scope, settings: &Settings, spec: &Spec) -> Result<()> {
        let Self { child, undo, lock, plan, manager, .. } = self;
        child.pass(plan, Gate::Placed, |pid| {
            // One that is not started is not ours to stop: it may be another's.
            scope.start(pid)?;
            let claim = manager.hold();
            if let Some(claim) = &claim {
                claim.mark(&lock.mark);
            }
            undo.cgroup(manager.clone(), claim);
            fill_cgroup(manager, settings, spec)
        })
    }

    /// Until the stage is ready.
    fn drive(&mut self, bundle: &Bundle) -> Result<()> {
        let Self { child, plan, record, folder, .. } = self;
        let state = |pid, told| {
            // What comes now may take for ever, and `delete --force` must end it.
            let mut known = record.clone();
            known.note_init(pid)?;
            folder.write(&known)?;
            Ok(record.for_hooks(State::Creating, told))
        };
        child.drive(plan, &state, &record.bundle)?;
        let listed = bundle.spec.mounts();
        record.mounts = mounted::made(plan, child.mounts(), listed.as_deref().unwrap_or_default());
        record.born(child.pid())
    }

    /// From here on the container is there for others.
    fn commit(&mut self, waits: bool, options: &CreateOptions) -> Result<()> {
        let Self { child, plan, record, folder, receiver, .. } = self;
        if let Some(receiver) = receiver.take() {
            receiver.send("standard", child.pidfd())?;
        }
        folder.write(record)?;
        if let Some(path) = &options.pid_file {
            write_pid_file(path, record.pid)?;
        }
        child.release(&|_, told| Ok(record.for_hooks(State::Created, told)))?;
        if waits { Ok(()) } else { child.executed(plan) }
    }

    /// Takes back all that was made, and does what is left to be done after that.
    ///
    /// SPEC: poststop hooks run when a hook has failed. COMPAT(runc): after any
    /// other failure too, since earlier hooks may have made what they take back.
    fn give_up(self, error: Error, store: &Store) -> Error {
        let Self { child, undo, lock, plan, record, manager, .. } = self;
        let error = explain(error, &manager);
        // The process first, then what it was put into. Nobody may take the id
        // while we clean up.
        drop(child);
        drop(undo);
        drop(lock);
        store.poststop(&record, &plan.outside.poststop);
        error
    }
}

impl Container {
    /// Runs poststart hooks. Whether the init still runs is all the same to them: a
    /// short program may have ended by now.
    pub(super) fn poststart(&self, hooks: &[Hook]) -> Result<()> {
        if hooks.is_empty() {
            return Ok(());
        }
        let state = self.record.for_hooks(State::Running, self.record.pid);
        let (directory, interrupt) = (&self.record.bundle, self.store.interrupt());
        run_hooks(hooks, Around { state: &state, directory, init: None, interrupt })
    }
}

/// COMPAT(runc): its words for a limit in which not even the init has room.
pub(super) fn explain(error: Error, manager: &Manager) -> Error {
    if error.kind() == Kind::ChildDied && manager.ran_out_of_memory() {
        return error.hint("container init was OOM-killed (memory limit too low?)");
    }
    error
}

/// A bundle as data: the plan, and the cgroup with what is to be written to it.
pub(super) struct Compiled {
    pub host: HostFacts,
    pub plan: Plan,
    pub manager: Manager,
    pub class: Option<Class>,
    pub settings: Settings,
    pub properties: Properties,
    /// Whether it may go without a cgroup.
    optional: bool,
    /// See [`own_namespaces`].
    joined: u32,
}

impl Compiled {
    pub(super) fn new(folder: &Folder, bundle: &Bundle, options: &CreateOptions) -> Result<Self> {
        let id = folder.id();
        let mut host = facts(&bundle.spec)?;
        if options.no_pivot {
            host.find_revealing()?;
        }
        let linux = bundle.spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
        let mut manager = Manager::new(&host, options.cgroups, path, id)?;
        let nobody = options.cgroups == Driver::Nobody;
        let optional = options.optional_cgroup.unwrap_or(host.rootless());
        let settings =
            Settings::for_create(linux, &host, optional || nobody).and_then(|mut settings| {
                if nobody {
                    settings = without_limits(settings).map_err(|error| vec![error])?;
                }
                let mut properties = Properties::default();
                if manager.needs_process() {
                    let annotations = bundle.spec.annotations().as_ref();
                    properties = Properties::for_create(&mut settings, annotations, id)?;
                    manager.note(&properties);
                }
                Ok((settings, properties))
            });
        let class = linux.and_then(|linux| {
            Some(Class::new(host.resctrl.as_ref()?, linux.intel_rdt().as_ref()?, id))
        });
        let joined = own_namespaces(bundle);
        let resolved = (&manager, class.as_ref(), joined);
        match (plan(folder, bundle, options, &host, resolved), settings) {
            (Ok(mut plan), Ok((settings, properties))) => {
                plan.warnings.extend(bundle.warnings.iter().cloned());
                plan.warnings.extend(settings.notes().iter().map(|note| note.clone().into_owned()));
                let words = nobody.then(|| settings.without_cgroup(!optional));
                plan.warnings.extend(words.flatten());
                Ok(Self { host, plan, manager, class, settings, properties, optional, joined })
            }
            (plan, settings) => {
                Err(Error::all(plan.err().into_iter().chain(settings.err()).flatten()))
            }
        }
    }

    pub(super) fn record(
        &self,
        id: &str,
        bundle: &Bundle,
        options: &CreateOptions,
    ) -> Result<Record> {
        let mut record = Record::new(id, bundle, rootfs(bundle)?, self.manager.record());
        record.no_pivot = options.no_pivot;
        record.no_new_keyring = options.no_new_keyring;
        record.own_namespaces = self.joined;
        record.notify = options.notify;
        record.intel_rdt.clone_from(&self.class);
        Ok(record)
    }

    /// What the part of a plan is compiled with that has no process of the container in
    /// it: nobody moves that one.
    pub(super) fn options(&self, id: &str, bundle: &Bundle) -> compile::Options {
        compile::Options {
            id: id.to_owned(),
            bundle: bundle.dir.clone(),
            cgroups: cgroup_dirs(&self.manager),
            ..compile::Options::default()
        }
    }

    /// Makes the cgroup. Where that is not permitted, and neither a limit nor a
    /// certain cgroup is asked for, the container goes without one if it may: the
    /// manager and the plan are others then.
    ///
    /// COMPAT(runc): these conditions, and the words about them.
    pub(super) fn make_cgroup(
        &mut self,
        folder: &Folder,
        bundle: &Bundle,
        options: &CreateOptions,
    ) -> Result<Option<Claim>> {
        let linux = bundle.spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
        let asked = path.is_some_and(|path| !path.as_os_str().is_empty());
        let refused = |error: &Error| error.kind() == Kind::Permission;
        let (manager, claim) = match self.manager.create() {
            Err(error) if refused(&error) && self.optional => match self.manager.without_v2() {
                Some(manager) => match manager.create() {
                    Err(error) if refused(&error) => (Manager::None, Err(error)),
                    result => (manager, result),
                },
                None => (Manager::None, Err(error)),
            },
            result => return result,
        };
        let claim = match claim {
            Err(error) if refused(&error) => {
                if asked || self.settings.has_limits() {
                    // COMPAT(runc): the words around it.
                    let what = format!("unable to apply cgroup configuration: {error}");
                    return Err(Error::new(Kind::Permission, what).hint(
                        "rootless needs no limits + no cgrouppath when no permission is granted \
                         for cgroups",
                    ));
                }
                None
            }
            result => result?,
        };
        let mut warnings = std::mem::take(&mut self.plan.warnings);
        if matches!(manager, Manager::None) {
            warnings.extend(self.settings.without_cgroup(false));
        }
        if matches!(manager, Manager::None) && !own_pids(&bundle.spec) {
            // COMPAT(runc): the last words.
            warnings.push(
                "without a cgroup and a pid namespace of its own nobody can end all of the \
                 container's processes. Such configuration is strongly discouraged"
                    .to_owned(),
            );
        }
        self.manager = manager;
        let resolved = (&self.manager, self.class.as_ref(), self.joined);
        self.plan = plan(folder, bundle, options, &self.host, resolved).map_err(Error::all)?;
        self.plan.warnings = warnings;
        Ok(claim)
    }
}

/// Makes the class of resctrl, if the config asks for one.
pub(super) fn make_class(class: Option<Class>, bundle: &Bundle) -> Result<Option<Class>> {
    let wanted = bundle.spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref());
    let (Some(mut class), Some(wanted)) = (class, wanted) else { return Ok(None) };
    class.make(wanted)?;
    Ok(Some(class))
}

/// Where the container will say that it is ready. One that waits for its start has time
/// until then, and nobody would listen.
fn prepare_notify(
    folder: &Folder,
    options: &CreateOptions,
    waits: bool,
) -> Result<Option<OwnedFd>> {
    if !options.notify {
        return Ok(None);
    }
    folder.make_notify()?;
    if waits { Ok(None) } else { folder.bind_notify().map(Some) }
}

/// The facts of this host, with all that a config asks about.
pub(super) fn facts(spec: &Spec) -> Result<HostFacts> {
    let mut host = HostFacts::probe()?;
    if spec.linux().as_ref().is_some_and(|linux| linux.intel_rdt().is_some()) {
        host.resctrl = Resctrl::probe()?;
    }
    Ok(host)
}

/// Nothing but a cgroup can hold limits.
fn without_limits(settings: Settings) -> Result<Settings> {
    match settings.writes().first() {
        Some(limit) => Err(Error::config(
            limit.pointer.clone(),
            "a limit needs a cgroup, and the container is to have none",
        )),
        None => Ok(settings),
    }
}

fn plan(
    folder: &Folder,
    bundle: &Bundle,
    options: &CreateOptions,
    host: &HostFacts,
    (manager, class, own_namespaces): (&Manager, Option<&Class>, u32),
) -> Result<Plan, Vec<Error>> {
    let options = compile::Options {
        id: folder.id().to_owned(),
        bundle: bundle.dir.clone(),
        cgroups: cgroup_dirs(manager),
        placed: manager.needs_process(),
        own_namespaces,
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        bare_lines: matches!(options.terminal, Terminal::Joined(_)),
        preserve_fds: options.preserve_fds,
        held: true,
        resctrl: class.map_or(0, Class::groups),
        notify: options.notify.then(|| folder.notify_socket()),
    };
    compile::create(&bundle.spec, host, &options)
}

/// Writes the limits, and gives the cgroup to whom it shall belong.
pub(super) fn fill_cgroup(manager: &Manager, settings: &Settings, spec: &Spec) -> Result<()> {
    manager.apply(settings)?;
    cgroup_owner(spec).map_or(Ok(()), |owner| manager.give_to(owner))
}

/// Whom of the host's users the container's cgroup shall belong to: who runs the program
/// in it, if that may write to it.
///
/// SPEC: config-linux.md, "Cgroup ownership".
fn cgroup_owner(spec: &Spec) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    let namespaces = linux.namespaces().iter().flatten();
    let new = |kind| {
        let mut of_kind = namespaces.clone().filter(move |namespace| namespace.typ() == kind);
        of_kind.next().map(|namespace| namespace.path().is_none())
    };
    let writable = |mount: &Mount| {
        let mut words = mount.options().iter().flatten();
        matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"))
            && words
                .rfind(|word| matches!(&***word, "ro" | "rw" | "rro"))
                .is_none_or(|word| word == "rw")
    };
    if new(LinuxNamespaceType::Cgroup) != Some(true)
        || !spec.mounts().iter().flatten().any(writable)
    {
        return None;
    }
    let uid = spec.process().as_ref()?.user().uid();
    match new(LinuxNamespaceType::User) {
        None => Some(uid),
        // Whose ids another's are is not known.
        Some(false) => None,
        Some(true) => {
            let find = |map: &LinuxIdMapping| {
                let beyond =
                    uid.checked_sub(map.container_id()).filter(|more| *more < map.size())?;
                map.host_id().checked_add(beyond)
            };
            linux.uid_mappings().iter().flatten().find_map(find)
        }
    }
}

/// Which of the namespaces with parameters of their own, or with mounts that are the whole
/// machine's, are joined by a path that is the caller's. What can't be opened is told when
/// it is joined.
fn own_namespaces(bundle: &Bundle) -> u32 {
    let listed = bundle.spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref());
    let joined = listed.flatten().filter_map(|namespace| {
        let name = match namespace.typ() {
            LinuxNamespaceType::Network => "net",
            LinuxNamespaceType::Ipc => "ipc",
            LinuxNamespaceType::Uts => "uts",
            LinuxNamespaceType::Cgroup => "cgroup",
            _ => return None,
        };
        let theirs = fs::metadata(namespace.path().as_ref()?).ok()?;
        let own = fs::metadata(format!("/proc/thread-self/ns/{name}")).ok()?;
        let same = (theirs.dev(), theirs.ino()) == (own.dev(), own.ino());
        same.then_some(namespace.typ() as u32)
    });
    joined.fold(0, |kinds, kind| kinds | kind)
}

/// The root file system's directory, checked while that can be told well.
fn rootfs(bundle: &Bundle) -> Result<PathBuf> {
    let path = bundle.spec.root().as_ref().map(|root| root.path().as_path());
    let rootfs = bundle.dir.join(path.unwrap_or("rootfs".as_ref()));
    // COMPAT(runc): its words.
    let metadata = fs::metadata(&rootfs)
        .map_err(|error| Error::io(&error, "invalid rootfs: stat").at_path(&rootfs))?;
    if !metadata.is_dir() {
        return Err(Error::os(libc::ENOTDIR, "invalid rootfs").at_path(&rootfs));
    }
    Ok(rootfs)
}
