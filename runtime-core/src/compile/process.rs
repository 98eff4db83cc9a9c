//! The process: from the stage with all its privileges to the program with what
//! the config gives it.
//!
//! The order is the kernel's: what needs a capability comes before the sets
//! shrink, what needs the identity after the ids change, the filter as late as it
//! may be. Each step says why it stands where it does.

use oci_spec::runtime::{Process, Spec};
use orlop_init::op::{CHDIR_MAKE, CHDIR_MUST, CHDIR_TRY, CONSOLE_BARE_LINES, CONSOLE_BOUND};

use super::{Context, capabilities, environment, limits, lsm, namespaces, scheduling, seccomp};
use crate::error::Error;
use crate::plan::{Builder, Gate, Listener, Op};

/// In a file's owner: leave it as it is (chown(2)).
const KEEP_ID: u32 = u32::MAX;
/// COMPAT(runc): when the config has none. SPEC wants the caller's; an engine's is
/// an accident, and the stage may not depend on it.
const DEFAULT_UMASK: u32 = 0o022;

/// A compiled filter and where in the order it belongs.
pub(super) struct Filter {
    compiled: seccomp::Filter,
    moment: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Without no_new_privs it takes CAP_SYS_ADMIN, so before the ids change: the
    /// filter must allow all that comes after.
    Privileged,
    /// The agent must have the listener when the container counts as created.
    BeforeReady,
    /// The least that a filter must allow: execve(2) alone.
    Last,
}

impl Filter {
    /// Whether nothing but the program feels it.
    pub(super) fn is_last(&self) -> bool {
        self.moment == Moment::Last
    }

    /// The program, and the flags of seccomp(2).
    pub(super) fn program(&self) -> (&[u8], u32) {
        (&self.compiled.program, self.compiled.flags)
    }
}

/// Compiles the filter, if there is one.
pub(super) fn filter(plan: &mut Builder, context: &Context, process: &Process) -> Option<Filter> {
    let wanted = context.linux.seccomp().as_ref()?;
    let compiled = match seccomp::compile(wanted, "/linux/seccomp") {
        Ok(compiled) => compiled,
        Err(errors) => {
            errors.into_iter().for_each(|error| plan.error(error));
            return None;
        }
    };
    if let Some(place) = &compiled.refuses_programs {
        // Behind it nothing could be told any more, if it kills.
        let what = "the profile forbids execve, by which the program is started";
        plan.error(Error::config(place, what));
    }
    // Of the container, told when it was created: an engine may show to whoever
    // executes something what we say then.
    if context.first {
        compiled.warnings.iter().for_each(|warning| plan.warn(warning));
    }
    if compiled.notify {
        match wanted.listener_path() {
            Some(path) if path.is_absolute() => {
                let metadata = wanted.listener_metadata().clone().unwrap_or_default();
                plan.outside().listener = Some(Listener { path: path.clone(), metadata });
            }
            Some(path) => {
                let what = format!("seccomp listenerPath {path:?} must be absolute");
                plan.error(Error::config("/linux/seccomp/listenerPath", what));
            }
            // COMPAT(runc): the text.
            None => {
                let what = "seccomp listenerPath is not set";
                plan.error(Error::config("/linux/seccomp/listenerPath", what));
            }
        }
    }
    let moment = if process.no_new_privileges() != Some(true) {
        Moment::Privileged
    } else if compiled.notify {
        Moment::BeforeReady
    } else {
        Moment::Last
    };
    Some(Filter { compiled, moment })
}

/// What a process of `exec` leaves out, it has from the container's own.
pub(super) fn inherit(process: &Process, spec: &Spec) -> Process {
    let mut process = process.clone();
    let Some(first) = spec.process() else { return process };
    if process.capabilities().is_none() {
        process.set_capabilities(first.capabilities().clone());
    }
    if process.rlimits().as_ref().is_none_or(Vec::is_empty) {
        process.set_rlimits(first.rlimits().clone());
    }
    let empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if empty(process.apparmor_profile()) {
        process.set_apparmor_profile(first.apparmor_profile().clone());
    }
    if empty(process.selinux_label()) {
        process.set_selinux_label(first.selinux_label().clone());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(first.oom_score_adj());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(first.scheduler().clone());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*first.io_priority());
    }
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(first.exec_cpu_affinity().clone());
    }
    if process.user().umask().is_none() {
        let umask = first.user().umask();
        process.user_mut().set_umask(umask);
    }
    process
}

/// The score, before anything else: its file belongs to root once the process is
/// hidden, and lowering it takes CAP_SYS_RESOURCE in the first user namespace. A
/// stage that is born in another one leaves it to the launcher.
pub(super) fn oom_score(plan: &mut Builder, context: &Context, process: &Process) {
    let Some(score) = process.oom_score_adj() else { return };
    if context.first && context.namespaces.born_unprivileged() {
        plan.outside().oom_score = Some(score);
        return;
    }
    let value = plan.str(score.to_string());
    let doing = format!("setting the oom score to {score}");
    plan.push(Op::OomScore { value }, "/process/oomScoreAdj", doing);
}

/// A session keyring by the container's name, which its later processes join. Soon, for
/// the caller's has keys in it; behind the labels, if it takes one.
pub(super) fn keyring(plan: &mut Builder, context: &Context, process: &Process) {
    if !lsm::labels_keys(process) {
        make_keyring(plan, context);
    }
}

fn make_keyring(plan: &mut Builder, context: &Context) {
    if context.options.no_new_keyring {
        return;
    }
    // COMPAT(runc): the name.
    let name = plan.str(format!("_ses.{}", context.options.id));
    plan.push(Op::Keyring { name }, "", "making a session keyring");
}

/// The working directory, as root, since the user may not be let into those above
/// it; and before the root is read-only, since it may have to be made.
///
/// COMPAT(runc): create makes it, exec does not.
pub(super) fn directory(plan: &mut Builder, context: &Context, process: &Process) {
    let path = plan.str(process.cwd().as_os_str().as_encoded_bytes());
    let create = if context.first { CHDIR_MAKE } else { CHDIR_TRY };
    plan.push(Op::Chdir { path, create }, "/process/cwd", cwd_text(process));
}

/// A terminal, if the process wants one.
pub(super) fn console(plan: &mut Builder, context: &Context, process: &Process, bind: bool) {
    if process.terminal() != Some(true) {
        return;
    }
    let half = |number: u64| u32::from(u16::try_from(number).unwrap_or_default());
    let size =
        process.console_size().map_or(0, |size| half(size.height()) | half(size.width()) << 16);
    let uid = process.user().uid();
    // The group is devpts's own (`gid=5`), by which others may write to it.
    let bound = if bind { CONSOLE_BOUND } else { 0 };
    let bare = if context.options.bare_lines { CONSOLE_BARE_LINES } else { 0 };
    let op = Op::Console { size, like: bound | bare, uid, gid: KEEP_ID };
    plan.push(op, "/process/terminal", "making the terminal");
}

/// Host and domain name of the container.
pub(super) fn names(plan: &mut Builder, context: &Context) {
    let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    if let Some(name) = given(context.spec.hostname()) {
        let name = plan.bytes(name.as_bytes());
        plan.push(Op::Hostname { name }, "/hostname", "setting the hostname");
    }
    if let Some(name) = given(context.spec.domainname()) {
        let name = plan.bytes(name.as_bytes());
        plan.push(Op::Domainname { name }, "/domainname", "setting the domainname");
    }
}

/// From the stage to the program's identity, all but the program.
pub(super) fn become_process(
    plan: &mut Builder,
    context: &Context,
    process: &Process,
    filter: Option<&Filter>,
) {
    let user = process.user();
    // CAP_CHOWN; and the host's /dev/null must not stay open.
    let stdio = Op::Stdio { uid: user.uid(), gid: KEEP_ID };
    plan.push(stdio, "/process/user", "handing over the standard streams");
    // CAP_SYS_NICE.
    scheduling::schedule(plan, context, process);
    if !environment::has_home(process) {
        let doing = "looking up the home directory";
        plan.push(Op::Home { uid: user.uid() }, "/process/env", doing);
    }
    // Before no_new_privs, under which AppArmor lets no profile be left.
    lsm::from_inside(plan, context, process);
    if lsm::labels_keys(process) {
        make_keyring(plan, context);
    }
    // CAP_SYS_RESOURCE; after what opens files.
    limits::limits(plan, context, process);
    let umask = user.umask().unwrap_or(DEFAULT_UMASK);
    plan.push(Op::Umask { mask: umask }, "/process/user/umask", "setting the umask");
    let pointer = "/process/capabilities";
    let wanted = process.capabilities().as_ref();
    let sets = capabilities::sets(plan, context, wanted, pointer);
    // CAP_SETPCAP, which the ids take away.
    let bounding = Op::Bounding { keep: sets.bounding };
    plan.push(bounding, format!("{pointer}/bounding"), "dropping capabilities");
    install(plan, filter, Moment::Privileged);
    ids(plan, context, process);
    let op = Op::Capabilities {
        effective: sets.effective,
        permitted: sets.permitted,
        inheritable: sets.inheritable,
        ambient: sets.ambient,
    };
    plan.push(op, pointer, "unable to apply caps");
    if process.no_new_privileges() == Some(true) {
        let doing = "setting no_new_privs";
        plan.push(Op::NoNewPrivileges {}, "/process/noNewPrivileges", doing);
    }
    // As the user: root may be the one that is not let in (a network file system).
    let path = plan.str(process.cwd().as_os_str().as_encoded_bytes());
    let doing = cwd_text(process);
    plan.push(Op::Chdir { path, create: CHDIR_MUST }, "/process/cwd", doing);
    find_program(plan, process);
    install(plan, filter, Moment::BeforeReady);
    let held = context.options.held || !plan.outside().limits.is_empty();
    if !context.first && held {
        plan.push(Op::WaitFor { gate: Gate::Ready }, "", "waiting for the launcher's word");
    }
}

/// COMPAT(runc): the text.
fn cwd_text(process: &Process) -> String {
    format!("chdir to cwd ({:?}) set in config.json failed", process.cwd())
}

fn ids(plan: &mut Builder, context: &Context, process: &Process) {
    let user = process.user();
    let set_groups = namespaces::set_groups(context);
    let groups = plan.words(user.additional_gids().as_deref().unwrap_or_default());
    let (uid, gid) = (user.uid(), user.gid());
    let doing = format!("becoming user {uid}:{gid}");
    plan.push(Op::Ids { uid, gid, groups, set_groups }, "/process/user", doing);
}

/// COMPAT(runc): engines look for `exec: "NAME"` and the reason behind it.
fn find_program(plan: &mut Builder, process: &Process) {
    let Some(name) = process.args().as_ref().and_then(|args| args.first()) else { return };
    let doing = format!("exec: {name:?}");
    let name = plan.str(name);
    let path = plan.strs(environment::path(process));
    plan.push(Op::FindProgram { name, path }, "/process/args/0", doing);
}

fn install(plan: &mut Builder, filter: Option<&Filter>, moment: Moment) {
    let Some(filter) = filter.filter(|filter| filter.moment == moment) else { return };
    let program = plan.bytes(&filter.compiled.program);
    let notify = u32::from(filter.compiled.notify);
    let op = Op::Seccomp { program, flags: filter.compiled.flags, notify };
    plan.push(op, "/linux/seccomp", "installing the seccomp filter");
}

/// The filter that only the program shall feel.
pub(super) fn late_filter(plan: &mut Builder, filter: Option<&Filter>) {
    install(plan, filter, Moment::Last);
}

/// The program.
pub(super) fn execute(plan: &mut Builder, process: &Process) {
    let args = process.args().as_deref().unwrap_or_default();
    let name = args.first().map(String::as_str).unwrap_or_default();
    // COMPAT(runc): as Go tells it.
    let doing = format!("exec {name}");
    let argv = plan.strs(args);
    let envp = plan.strs(environment::entries(process));
    plan.push(Op::Exec { argv, envp }, "/process/args", doing);
}
