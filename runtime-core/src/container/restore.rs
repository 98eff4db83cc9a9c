//! `restore`: a container whose processes CRIU brings back.
//!
//! The bundle is compiled as for a creation, so that whatever `create` refuses is
//! refused here, and the cgroup is made and filled in the same way. What the plan's
//! first half would do inside is CRIU's.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, fstatvfs};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use orlop_init::sys::{self, Errno, abi};

use super::checkpoint::{config_file, inherited, joined, needs_root, path_of, text};
use super::create::{Compiled, CreateOptions, fill_cgroup, make_class};
use super::folder::{Folder, Lock};
use super::images::{CriuOptions, Images};
use super::labels::{self, Label};
use super::mounted;
use super::root::{self, Root};
use super::saver::Saver;
use super::state::{Record, State};
use super::undo::Undo;
use super::{Container, Started, Store, check_id, check_pid_file, write_pid_file};
use crate::bundle::Bundle;
use crate::compile::{self, External, ExternalKind};
use crate::criu::{
    Asked, CgroupMode, CgroupRoot, Criu, ExternalMount, FIRST_GIVEN, InheritFd, JoinNamespace,
    Options, Start, Worker, names, null,
};
use crate::error::{Error, Kind, Place, Result};
use crate::launch::{
    Around, Inherited, Kit, furnish_network, kill, launch, network_parameters, owned, run_hooks,
};
use crate::resctrl::Class;

/// How to bring back.
#[derive(Debug, Default)]
pub struct RestoreOptions {
    /// What CRIU was told at the checkpoint too.
    pub criu: CriuOptions,
    /// The profile that the processes have afterwards: `apparmor:NAME` or
    /// `selinux:LABEL`.
    pub lsm_profile: Option<String>,
    /// The label of mounts that had one.
    pub lsm_mount_context: Option<String>,
}

/// All that is known before anything is made.
struct Prepared {
    compiled: Compiled,
    externals: Vec<External>,
    images: Images,
    wanted: Options,
    /// What the processes must be confined by.
    label: Option<Label>,
    /// Namespace files, which CRIU gets from [`FIRST_GIVEN`] on.
    given: Vec<File>,
    criu: Criu,
    console: Option<OwnedFd>,
    /// Whether CRIU leaves cgroups alone, and makes no namespace of them then.
    leaves_cgroups: bool,
}

/// A container on its way back.
struct Restoring<'a> {
    store: &'a Store,
    bundle: &'a Bundle,
    prepared: Prepared,
    record: Record,
    folder: Folder,
    lock: Lock,
    undo: Undo,
}

impl Store {
    /// Makes a container of a bundle, with the processes that a checkpoint has saved.
    ///
    /// # Errors
    /// All that [`Store::create`] refuses; [`Kind::Unsupported`] without CRIU or without
    /// the privileges of root; what CRIU says, with the errors of its log. Nothing of
    /// the container is left then.
    pub fn restore(
        &self,
        id: &str,
        bundle: &Bundle,
        options: &CreateOptions,
        how: &RestoreOptions,
    ) -> Result<(Container, Started)> {
        check_id(id)?;
        options.pid_file.as_deref().map_or(Ok(()), check_pid_file)?;
        let prepared = Prepared::new(&self.folder(id), bundle, options, how)?;
        let mut restoring = Restoring::begin(self, id, bundle, options, prepared)?;
        match restoring.go_through(options) {
            Ok(pidfd) => {
                let Restoring { undo, record, lock, mut prepared, .. } = restoring;
                undo.disarm();
                drop(lock);
                let warnings = std::mem::take(&mut prepared.compiled.plan.warnings);
                let started = Started { pid: record.pid, pidfd, warnings, notify: None };
                Ok((Container { store: self.clone(), record }, started))
            }
            Err(error) => {
                let Restoring { undo, record, lock, prepared, .. } = restoring;
                drop(undo);
                drop(lock);
                // COMPAT(runc): they run after any failure, as at a creation.
                self.poststop(&record, &prepared.compiled.plan.outside.poststop);
                Err(error)
            }
        }
    }
}

impl Prepared {
    fn new(
        folder: &Folder,
        bundle: &Bundle,
        options: &CreateOptions,
        how: &RestoreOptions,
    ) -> Result<Self> {
        let compiled = Compiled::new(folder, bundle, options)?;
        needs_root(&compiled.host)?;
        let console = options.terminal.connect(bundle.wants_terminal())?;
        let images = Images::open(&how.criu, false)?;
        let mut wanted = images.options(&how.criu);
        wanted.evasive_devices = Some(true);
        wanted.rst_sibling = Some(true);
        wanted.config_file = config_file(&bundle.spec)?;
        let label = labels::wanted(how, bundle, &compiled.host, &mut wanted)?;
        let given = namespaces(&bundle.spec, &mut wanted)?;
        let notify = options.notify.then(|| folder.notify_socket());
        let options = compile::Options { notify, ..compiled.options(folder.id(), bundle) };
        let externals = compile::externals(&bundle.spec, &compiled.host, &options);
        let externals = externals.map_err(Error::all)?;
        wanted.external_mounts = external_mounts(&externals)?;
        for (fd, key) in images.read_descriptors()? {
            wanted.inherit_fds.push(InheritFd { key, fd });
        }
        let criu = Criu::find()?;
        let leaves_cgroups = how.criu.cgroups == Some(CgroupMode::Ignore);
        Ok(Self {
            compiled,
            externals,
            images,
            wanted,
            label,
            given,
            criu,
            console,
            leaves_cgroups,
        })
    }
}

/// The namespaces that exist already: two kinds CRIU inherits, others it joins by their
/// paths.
fn namespaces(spec: &Spec, wanted: &mut Options) -> Result<Vec<File>> {
    let mut given = Vec::new();
    for (kind, path) in joined(spec) {
        if let Some((name, key)) = inherited(kind) {
            // COMPAT(runc): its words.
            let words = format!("Requested {name} namespace does not exist");
            let file = File::open(path).map_err(|error| Error::io(&error, words).at_path(path))?;
            let fd = FIRST_GIVEN + i32::try_from(given.len()).unwrap_or_default();
            given.push(file);
            wanted.inherit_fds.push(InheritFd { key: key.to_owned(), fd });
            continue;
        }
        if kind == LinuxNamespaceType::Cgroup {
            let words = "criu can't join a cgroup namespace";
            return Err(Error::new(Kind::Unsupported, words).at_path(path));
        }
        let path = names::path(text(path)?, "a namespace")?.to_owned();
        wanted.join_namespaces.push(JoinNamespace { kind: kind.to_string(), path });
    }
    Ok(given)
}

/// What is mounted where CRIU's image has one of these names.
fn external_mounts(externals: &[External]) -> Result<Vec<ExternalMount>> {
    let mut mounts: Vec<ExternalMount> = Vec::new();
    for external in externals {
        let failed = |error: Error| error.at(Place::Config(external.pointer.clone()));
        let key = names::mount(external.name()).map_err(failed)?.to_owned();
        let value = names::mount(text(&external.source)?).map_err(failed)?.to_owned();
        if mounts.iter().all(|mount| mount.key != key) {
            mounts.push(ExternalMount { key, value });
        }
    }
    Ok(mounts)
}

impl<'a> Restoring<'a> {
    /// The folder, the lock and the record, as a creation makes them.
    fn begin(
        store: &'a Store,
        id: &str,
        bundle: &'a Bundle,
        options: &CreateOptions,
        prepared: Prepared,
    ) -> Result<Self> {
        let record = prepared.compiled.record(id, bundle, options)?;
        let folder = store.folder(id);
        let lock = folder.make()?;
        let mut undo = Undo::default();
        undo.folder(folder.clone());
        let manager = &prepared.compiled.manager;
        if !manager.processes()?.is_empty() {
            return Err(Error::new(Kind::Cgroup, "container's cgroup is not empty"));
        }
        folder.write(&record)?;
        folder.write_config(&bundle.raw)?;
        // COMPAT(runc): the directory is there for the mount, and nobody listens in it:
        // what is restored has been ready before.
        if options.notify {
            folder.make_notify()?;
        }
        Ok(Self { store, bundle, prepared, record, folder, lock, undo })
    }

    fn go_through(&mut self, options: &CreateOptions) -> Result<OwnedFd> {
        let claim = self.prepared.compiled.make_cgroup(&self.folder, self.bundle, options)?;
        if let Some(claim) = &claim {
            claim.mark(&self.lock.mark);
        }
        let manager = self.prepared.compiled.manager.clone();
        if manager.record() != self.record.cgroup {
            self.record.cgroup = manager.record();
            self.folder.write(&self.record)?;
        }
        if !manager.needs_process() {
            self.undo.cgroup(manager.clone(), claim);
            fill_cgroup(&manager, &self.prepared.compiled.settings, &self.bundle.spec)?;
        }
        if let Some(made) = make_class(self.prepared.compiled.class.take(), self.bundle)? {
            self.undo.class(made.clone());
            self.record.intel_rdt = Some(made);
            self.folder.write(&self.record)?;
        }
        let root = self.folder.make_criu_root()?;
        let worker = self.start(&root, options)?;
        // It may take for ever, and `delete --force` must end it.
        self.record.saver = Some(Saver::new(&worker, &manager)?);
        self.folder.write(&self.record)?;
        self.place(worker.pid())?;
        self.make_mount_points()?;
        let pid = self.converse(worker, &root)?;
        let _ = fs::remove_dir(&root);
        let pidfd = owned(sys::pidfd_open(pid))
            .map_err(|errno| Error::os(errno, "opening the restored process"))?;
        if let Err(error) = self.commit(pid, options) {
            kill(pid, pidfd.as_fd());
            return Err(error);
        }
        Ok(pidfd)
    }

    /// CRIU, where the root is mounted for it alone: it wants it to be a mount, whose
    /// parent nothing covers.
    fn start(&self, root: &Path, options: &CreateOptions) -> Result<Worker> {
        let path = &self.record.rootfs;
        let failed = |errno| Error::os(errno, "opening the root").at_path(path);
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(libc::EINVAL))?;
        let flags = abi::OPEN_TREE_CLONE | abi::OPEN_TREE_CLOEXEC | abi::AT_RECURSIVE;
        let tree = owned(sys::open_tree(abi::AT_FDCWD, &name, flags)).map_err(failed)?;
        // CRIU takes the root as it is there, whatever it was at the checkpoint.
        if self.read_only() {
            let attr = abi::MountAttr { set: abi::MOUNT_ATTR_RDONLY, ..Default::default() };
            sys::mount_setattr(tree.as_raw_fd(), c"", abi::AT_EMPTY_PATH, &attr)
                .map_err(|Errno(errno)| failed(errno))?;
        }
        let null = null()?;
        let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        // A container with a terminal has none of ours.
        let streams = match (&self.prepared.console, &options.stdio) {
            (Some(_), _) => [null.as_fd(); 3],
            (None, Some(given)) => given.each_ref().map(AsFd::as_fd),
            (None, None) => [input.as_fd(), output.as_fd(), error.as_fd()],
        };
        let given: Vec<BorrowedFd<'_>> = self.prepared.given.iter().map(AsFd::as_fd).collect();
        let mount = Some((tree.as_fd(), root));
        let interrupt = self.store.interrupt.clone();
        let inherited = Some(Inherited::of(&self.prepared.compiled.plan));
        self.prepared.criu.start(&Start { streams, given: &given, mount, inherited, interrupt })
    }

    fn read_only(&self) -> bool {
        self.bundle.spec.root().as_ref().and_then(|root| root.readonly()) == Some(true)
    }

    /// Puts CRIU into the container's cgroup: what it makes is the container's.
    fn place(&mut self, pid: i32) -> Result<()> {
        let interrupt = self.store.interrupt.clone();
        let compiled = &mut self.prepared.compiled;
        let manager = compiled.manager.clone();
        let properties = std::mem::take(&mut compiled.properties);
        match manager.scope(properties, interrupt.clone())? {
            Some(scope) => {
                scope.start(pid)?;
                let claim = manager.hold();
                if let Some(claim) = &claim {
                    claim.mark(&self.lock.mark);
                }
                self.undo.cgroup(manager.clone(), claim);
                fill_cgroup(&manager, &compiled.settings, &self.bundle.spec)?;
            }
            None => manager.add(pid, interrupt)?,
        }
        // Its children are in the class too.
        for tasks in self.record.intel_rdt.as_ref().map_or(Ok(Vec::new()), Class::tasks)? {
            let written = File::from(tasks).write_all(pid.to_string().as_bytes());
            written.map_err(|error| Error::io(&error, "putting CRIU into the class of resctrl"))?;
        }
        let path = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&path)
            .map_err(|error| Error::io(&error, "reading").at_path(&path))?;
        self.prepared.wanted.cgroup_roots = cgroup_roots(&text);
        Ok(())
    }

    /// The places of the mounts, made as the container's creation made them.
    fn make_mount_points(&self) -> Result<()> {
        let compiled = &self.prepared.compiled;
        let notify = self.record.notify.then(|| self.folder.notify_socket());
        let options = compile::Options { notify, ..compiled.options(&self.record.id, self.bundle) };
        let plan = compile::mount_points(&self.bundle.spec, &compiled.host, &options);
        let Some(plan) = plan.map_err(Error::all)? else { return Ok(()) };
        let procs = if plan.writes_cgroups() { compiled.manager.procs()? } else { Vec::new() };
        let kit = Kit {
            cgroup: self.undo.cgroup_directory().filter(|_| plan.outside.into_cgroup),
            cgroup_procs: &procs,
            interrupt: self.store.interrupt.clone(),
            ..Kit::default()
        };
        let mut child = launch(&plan, &kit)?;
        let state = |_, told| Ok(self.record.for_hooks(State::Creating, told));
        child.drive(&plan, &state, &self.record.bundle).map(drop)
    }

    fn converse(&mut self, worker: Worker, root: &Path) -> Result<i32> {
        let mut wanted = std::mem::take(&mut self.prepared.wanted);
        wanted.root = Some(text(root)?.to_owned());
        self.prepared.images.seen_by(worker.pid(), &mut wanted)?;
        let log = self.prepared.images.log.clone();
        let criu = worker.pid();
        let done = worker.restore(wanted, &log, &mut |asked| self.answer(criu, asked));
        if let Some(saver) = self.record.saver.take() {
            saver.put_back();
        }
        done
    }

    /// What CRIU, process `criu`, asks on its way.
    fn answer(&mut self, criu: i32, asked: &Asked<'_>) -> Result<()> {
        let read_only = self.read_only();
        let Self { store, prepared, record, folder, .. } = self;
        match asked.script {
            // COMPAT(runc): of all hooks these alone run at a restore.
            "setup-namespaces" => {
                let plan = &prepared.compiled.plan;
                let network = |kind| kind == LinuxNamespaceType::Network;
                check_namespaces(asked.pid, criu, &self.bundle.spec, network)?;
                let init = owned(sys::pidfd_open(asked.pid))
                    .map_err(|errno| Error::os(errno, "opening the process that is restored"))?;
                furnish_network(plan, (asked.pid, init.as_fd()))?;
                let hooks = &plan.outside.runtime_hooks;
                if !hooks.is_empty() {
                    // They may take for ever, and `delete --force` must end it.
                    let mut known = record.clone();
                    known.note_init(asked.pid)?;
                    folder.write(&known)?;
                    let state = record.for_hooks(State::Creating, asked.pid);
                    let (directory, interrupt) = (&record.bundle, store.interrupt());
                    let init = Some(init.as_fd());
                    run_hooks(hooks, Around { state: &state, directory, init, interrupt })?;
                }
                // Some are of devices that a hook has made.
                network_parameters(plan, init.as_fd())
            }
            "post-restore" => {
                let leaves = prepared.leaves_cgroups;
                let made = |kind| kind != LinuxNamespaceType::Cgroup || !leaves;
                check_namespaces(asked.pid, criu, &self.bundle.spec, made)?;
                check_mounts(asked.pid, read_only, &prepared.externals)?;
                let listed = self.bundle.spec.mounts().as_deref().unwrap_or_default();
                record.mounts = mounted::restored(asked.pid, listed)?;
                record.born(asked.pid)?;
                if let Some(config) = in_time_namespace(self.bundle, asked.pid) {
                    folder.write_config(&config)?;
                }
                folder.write(record)
            }
            // The first word after they have it, and the last before they go on.
            "pre-resume" => {
                labels::check(record.pid, prepared.label.as_ref(), &prepared.compiled.plan)
            }
            "orphan-pts-master" => {
                let (Some(master), Some(console)) = (&asked.fd, &prepared.console) else {
                    return Ok(());
                };
                sys::send_fds(console.as_raw_fd(), b"/dev/pts/ptmx", &[master.as_raw_fd()])
                    .map(drop)
                    .map_err(|Errno(errno)| Error::os(errno, "sending the terminal"))
            }
            _ => Ok(()),
        }
    }

    fn commit(&self, pid: i32, options: &CreateOptions) -> Result<()> {
        if self.record.pid != pid {
            let words = format!("criu has told of process {} and restored {pid}", self.record.pid);
            return Err(Error::new(Kind::Internal, words));
        }
        // CRIU has ended.
        self.folder.write(&self.record)?;
        match &options.pid_file {
            Some(path) => write_pid_file(path, pid),
            None => Ok(()),
        }
    }
}

/// Where CRIU puts what was in the container's cgroup: in that of process `pid`, whose
/// list in /proc this is (cgroups(7)).
fn cgroup_roots(text: &str) -> Vec<CgroupRoot> {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let each = lines.flat_map(|(controllers, path)| {
        let root = move |controller: &str| CgroupRoot {
            controller: Some(controller.to_owned()),
            path: path.to_owned(),
        };
        controllers.split(',').map(root)
    });
    each.collect()
}

/// Whether the processes are in the namespaces that the config wants: not in those of
/// `criu`, or in the ones that it names. CRIU goes by its images, which may be another
/// container's, or made by an attacker (CVE-2026-92574): what has no pid namespace there can
/// kill the host's processes, and what is written to its network next is the host's.
fn check_namespaces(
    pid: i32,
    criu: i32,
    spec: &Spec,
    which: impl Fn(LinuxNamespaceType) -> bool,
) -> Result<()> {
    let listed = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten();
    for (index, namespace) in listed.enumerate().filter(|(_, namespace)| which(namespace.typ())) {
        // Its name is that of the file (namespaces(7)).
        let kind = namespace.typ();
        let of = |pid| root::identity_of(Path::new(&format!("/proc/{pid}/ns/{kind}")));
        let well = match path_of(namespace) {
            Some(path) => of(pid)? == root::identity_of(path)?,
            None => of(pid)? != of(criu)?,
        };
        if !well {
            let words = format!("criu has left the processes in another {kind} namespace");
            let place = Place::Config(format!("/linux/namespaces/{index}"));
            return Err(Error::new(Kind::Permission, words).at(place));
        }
    }
    Ok(())
}

/// Whether what is mounted is what the config names. CRIU goes by names in its images
/// and by links in the root, and both may be somebody else's (CVE-2026-119101).
fn check_mounts(pid: i32, read_only: bool, externals: &[External]) -> Result<()> {
    let root = Root::of(pid)?;
    if read_only && !is_read_only(&root)? {
        let words = "criu has left the root so that it can be written";
        return Err(Error::new(Kind::Permission, words).at(Place::Config("/root/readonly".into())));
    }
    for external in externals.iter().filter(|external| external.kind == ExternalKind::Bind) {
        let failed = |words: &str| {
            let words = format!("criu has mounted {words} at {:?}", external.at);
            Err(Error::new(Kind::Permission, words).at(Place::Config(external.pointer.clone())))
        };
        let Some(found) = root.find(&external.at)? else { return failed("nothing") };
        if root::identity(&found)? != root::identity_of(&external.source)? {
            return failed("something else");
        }
        if external.read_only && !is_read_only(&found)? {
            return failed("what can be written");
        }
    }
    Ok(())
}

fn is_read_only(found: &impl AsFd) -> Result<bool> {
    let status = fstatvfs(found).map_err(|errno| Error::os(errno as i32, "looking at a mount"))?;
    Ok(status.flags().contains(FsFlags::ST_RDONLY))
}

/// The config for `exec`, when CRIU has put the processes into a time namespace that
/// the bundle does not ask for.
///
/// COMPAT(runc): it adds that too.
fn in_time_namespace(bundle: &Bundle, pid: i32) -> Option<Vec<u8>> {
    let own = fs::read_link("/proc/thread-self/ns/time").ok()?;
    let theirs = fs::read_link(format!("/proc/{pid}/ns/time")).ok()?;
    let listed = bundle.spec.linux().as_ref()?.namespaces().iter().flatten();
    if own == theirs || listed.into_iter().any(|one| one.typ() == LinuxNamespaceType::Time) {
        return None;
    }
    let text = std::str::from_utf8(&bundle.raw).ok()?;
    let mut config: serde_json::Value = serde_json::from_str(text).ok()?;
    let namespaces = config.pointer_mut("/linux/namespaces")?.as_array_mut()?;
    namespaces.push(serde_json::json!({ "type": "time" }));
    serde_json::to_vec(&config).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_controller_has_its_root() {
        let text = "5:cpu,cpuacct:/a:b\n1:name=systemd:/c\n0::/d\n";
        let roots = cgroup_roots(text);
        let pairs: Vec<_> =
            roots.iter().map(|root| (root.controller.as_deref().unwrap(), &*root.path)).collect();
        let expected = [("cpu", "/a:b"), ("cpuacct", "/a:b"), ("name=systemd", "/c"), ("", "/d")];
        assert_eq!(pairs, expected);
    }
}
