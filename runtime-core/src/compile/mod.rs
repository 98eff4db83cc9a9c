//! The compiler: `(Spec, HostFacts, Options) → Plan`, or all that is wrong.
//!
//! Pure: no I/O, no clock, no environment, no descriptor. Each subject has a
//! file; the order of steps is [`create`] and [`exec`], to be read top to bottom.
//! Same names on both sides of the border: what `mounts.rs` compiles,
//! `init/src/mount.rs` carries out.

mod binds;
mod capabilities;
mod cgroups;
mod checkpoint;
mod devices;
mod environment;
mod hooks;
mod limits;
mod live_mounts;
mod lsm;
mod mount_options;
mod mounts;
mod namespaces;
mod net_devices;
mod notify;
mod process;
mod resctrl;
mod rootfs;
mod scheduling;
pub mod seccomp;
mod sysctl;
mod validate;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Mount, Process, Spec};

use crate::error::{Error, Result};
use crate::host::HostFacts;
use crate::plan::{Builder, Gate, Op, Plan};
pub use checkpoint::{External, ExternalKind, criu_config, externals, mount_points};
pub use hooks::{poststart, poststop};
pub use live_mounts::{add_mounts, remove_mounts};
pub use mount_options::known as known_mount_options;
use namespaces::Namespaces;

/// What the caller asks for beyond the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// The bundle's directory, absolute; a relative `root.path` starts there.
    pub bundle: PathBuf,
    /// The container's cgroups, as the cgroup manager resolved them.
    pub cgroups: Vec<CgroupDir>,
    /// Whether somebody else, systemd, moves the process into them while it waits.
    pub placed: bool,
    /// `CLONE_NEW*` of the namespaces that the config joins by a path, and that
    /// the caller is in anyway: engines name the host's like this.
    pub own_namespaces: u32,
    /// Move the root instead of pivoting (`--no-pivot`).
    pub no_pivot: bool,
    /// Keep the caller's session keyring (`--no-new-keyring`).
    pub no_new_keyring: bool,
    /// How many descriptors from 3 on the container inherits (`--preserve-fds`).
    pub preserve_fds: u32,
    /// Whether the lines that a terminal takes keep their ends
    /// ([`crate::container::Terminal::Joined`]).
    pub bare_lines: bool,
    /// Whether a process of `exec` waits for the launcher's word before its program is
    /// executed, to be told of first. The container's own always does.
    pub held: bool,
    /// How many lists of tasks of the resctrl file system the process joins, as the
    /// container's class was resolved.
    pub resctrl: usize,
    /// The socket on which the container shall say that it is ready, absolute; nothing
    /// else is in its directory. It need not be there yet.
    pub notify: Option<PathBuf>,
}

/// The container's cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupDir {
    /// Controllers as the mount options name them; empty for cgroup v2.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted on the host.
    pub mount: PathBuf,
    /// The container's directory, below `mount`.
    pub directory: PathBuf,
}

/// What every subject reads.
struct Context<'a> {
    spec: &'a Spec,
    linux: &'a Linux,
    host: &'a HostFacts,
    options: &'a Options,
    namespaces: Namespaces,
    /// Whether this is the container's first process, not one of `exec`.
    first: bool,
    /// A mount of our own, behind those of the config.
    notify: Option<&'a Mount>,
    /// The root as a path of the host, cleaned; `None` without one that is text.
    root: Option<String>,
}

impl<'a> Context<'a> {
    fn new(
        spec: &'a Spec,
        linux: &'a Linux,
        host: &'a HostFacts,
        options: &'a Options,
        first: bool,
    ) -> Self {
        let namespaces = Namespaces::new(linux);
        let root = spec.root().as_ref().map(|root| in_bundle(&options.bundle, root.path()));
        let root = root.and_then(|root| rootfs::clean(root.to_str()?));
        Self { spec, linux, host, options, namespaces, first, notify: None, root }
    }

    /// Whether the whole host runs cgroup v2 (the clone can place the child, and
    /// a new cgroup namespace is rooted right by itself).
    fn unified(&self) -> bool {
        matches!(self.host.cgroups, crate::host::Cgroups::Unified { .. })
    }

    /// Whether a namespace is not the runtime's own. A path may lead to that one too:
    /// its parameters are the host's.
    fn is_private(&self, kind: u32) -> bool {
        self.namespaces.has(kind) && self.options.own_namespaces & kind == 0
    }
}

/// Compiles a bundle into the plan of its init process.
///
/// # Errors
/// Every reason why this bundle can't run on this host, each with its place.
pub fn create(spec: &Spec, host: &HostFacts, options: &Options) -> Result<Plan, Vec<Error>> {
    let mut plan = Builder::new();
    let linux = &*linux_of(spec);
    let notify = notify::mount(options);
    let mut context = Context::new(spec, linux, host, options, true);
    context.notify = notify.as_ref();
    validate::create(&mut plan, &context);
    let Some(process) = spec.process().as_ref() else {
        return plan.finish(); // `validate` has said so
    };
    let told;
    let process = if notify::is_possible(&mut plan, &context) {
        told = notify::tell(process, options);
        &told
    } else {
        context.notify = None;
        process
    };
    let filter = process::filter(&mut plan, &context, process);

    keep_fds(&mut plan, options.preserve_fds);
    process::oom_score(&mut plan, &context, process);
    namespaces::enter(&mut plan, &context);
    plan.push(Op::Session {}, "", "starting a session");
    process::keyring(&mut plan, &context, process);
    namespaces::loopback(&mut plan, &context);

    rootfs::prepare(&mut plan, &context);
    let entries = mounts::mounts(&mut plan, &context);
    devices::devices(&mut plan, &context, &entries);
    if hooks::runtime(&mut plan, spec) {
        plan.push(Op::WaitFor { gate: Gate::RuntimeHooks }, "/hooks", "waiting for the hooks");
    }
    hooks::create_container(&mut plan, spec);
    // Before /proc/sys is covered: our own procfs may be the container's.
    sysctl::sysctl(&mut plan, &context);
    lsm::prepare(&mut plan, process);
    rootfs::cover(&mut plan, &context);
    rootfs::enter(&mut plan, &context);
    process::directory(&mut plan, &context, process);
    let bind = rootfs::takes_mounts(&context);
    process::console(&mut plan, &context, process, bind);
    mounts::finish(&mut plan, &context, &entries);
    rootfs::finish(&mut plan, &context);
    process::names(&mut plan, &context);

    process::become_process(&mut plan, &context, process, filter.as_ref());
    plan.push(Op::WaitFor { gate: Gate::Ready }, "", "reporting that the container is created");
    plan.push(Op::WaitStart {}, "", "waiting for the start");
    hooks::start_container(&mut plan, spec, process, filter.as_ref());
    process::late_filter(&mut plan, filter.as_ref());
    process::execute(&mut plan, process);
    plan.finish()
}

/// Compiles a further process of a running container, whose config is `spec`.
/// Places in errors point into the process, as a document of its own.
///
/// What the process leaves out it takes from the container's own: capabilities,
/// limits, labels, scheduling and the score.
///
/// # Errors
/// Every reason why this process can't run, each with its place.
pub fn exec(
    process: &Process,
    spec: &Spec,
    host: &HostFacts,
    options: &Options,
) -> Result<Plan, Vec<Error>> {
    let mut plan = Builder::new();
    let linux = &*linux_of(spec);
    let context = Context::new(spec, linux, host, options, false);
    let process = &process::inherit(process, spec);
    validate::process(&mut plan, &context, process);
    let filter = process::filter(&mut plan, &context, process);

    keep_fds(&mut plan, options.preserve_fds);
    process::oom_score(&mut plan, &context, process);
    // Before any namespace of the container is entered: from there on it may look.
    plan.push(Op::Undumpable {}, "", "hiding the process");
    lsm::from_outside(&mut plan, &context, process);
    namespaces::join_container(&mut plan, &context, process);
    rootfs::join(&mut plan, &context);
    plan.push(Op::Session {}, "", "starting a session");
    process::keyring(&mut plan, &context, process);
    process::directory(&mut plan, &context, process);
    process::console(&mut plan, &context, process, false);
    process::become_process(&mut plan, &context, process, filter.as_ref());
    process::late_filter(&mut plan, filter.as_ref());
    process::execute(&mut plan, process);
    let of_process = |error: Error| error.of_process("/process");
    plan.finish().map_err(|errors| errors.into_iter().map(of_process).collect())
}

/// The Linux section, or one with nothing in it: the type's own default has namespaces,
/// masked paths and more, which a config without the section never asked for.
fn linux_of(spec: &Spec) -> Cow<'_, Linux> {
    if let Some(linux) = spec.linux() {
        return Cow::Borrowed(linux);
    }
    let mut linux = Linux::default();
    linux.set_namespaces(None).set_resources(None).set_masked_paths(None).set_readonly_paths(None);
    Cow::Owned(linux)
}

fn keep_fds(plan: &mut Builder, preserve: u32) {
    plan.push(Op::KeepFds { preserve }, "", "closing inherited descriptors");
}

/// A path of the host that may be relative to the bundle.
fn in_bundle(bundle: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_path_buf() } else { bundle.join(path) }
}
