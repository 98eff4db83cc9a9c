//! Hooks: which run outside, in the launcher, and which inside, in the stage.
//!
//! Decides nothing about what a hook is told; the state on its standard input is
//! the launcher's.

use oci_spec::runtime::{Hook as Wanted, Process, Spec};
use orlop_init::op::{HOOK_HOME, HOOK_IN_ROOT};

use super::environment;
use super::process::Filter;
use crate::error::Error;
use crate::plan::{Builder, Hook, Op};

/// The hooks that run after the start.
///
/// # Errors
/// Those of a config that could not have been created either.
pub fn poststart(spec: &Spec) -> Result<Vec<Hook>, Vec<Error>> {
    alone(spec, |plan| plan.outside().poststart.clone())
}

/// The hooks that run after the delete.
///
/// # Errors
/// Those of a config that could not have been created either.
pub fn poststop(spec: &Spec) -> Result<Vec<Hook>, Vec<Error>> {
    alone(spec, |plan| plan.outside().poststop.clone())
}

fn alone(spec: &Spec, which: impl Fn(&mut Builder) -> Vec<Hook>) -> Result<Vec<Hook>, Vec<Error>> {
    let mut plan = Builder::new();
    runtime(&mut plan, spec);
    let hooks = which(&mut plan);
    plan.finish().map(|_| hooks)
}

/// Those of the runtime's namespaces. Whether the stage must wait before it goes
/// on to hooks of its own: for those that run outside, or for the state.
#[allow(deprecated)] // prestart: SPEC: still to be run
pub(super) fn runtime(plan: &mut Builder, spec: &Spec) -> bool {
    let Some(hooks) = spec.hooks() else { return false };
    let mut before = list(plan, "prestart", hooks.prestart().as_ref());
    before.extend(list(plan, "createRuntime", hooks.create_runtime().as_ref()));
    let inside = hooks.create_container().as_ref().is_some_and(|list| !list.is_empty());
    let any = inside || !before.is_empty();
    plan.outside().runtime_hooks = before;
    plan.outside().poststart = list(plan, "poststart", hooks.poststart().as_ref());
    plan.outside().poststop = list(plan, "poststop", hooks.poststop().as_ref());
    any
}

/// In the container's namespaces, before its root is entered: paths are the host's.
pub(super) fn create_container(plan: &mut Builder, spec: &Spec) {
    let wanted = spec.hooks().as_ref().and_then(|hooks| hooks.create_container().as_ref());
    for (hook, _) in inside(plan, "createContainer", wanted) {
        // COMPAT(runc): the directory.
        push(plan, hook, HOOK_IN_ROOT, None);
    }
}

/// In the container, just before its program: paths are the container's.
///
/// COMPAT(runc): one without an environment has that of the program, and all have its
/// filter.
pub(super) fn start_container(
    plan: &mut Builder,
    spec: &Spec,
    process: &Process,
    filter: Option<&Filter>,
) {
    let filter = filter.filter(|filter| filter.is_last());
    let wanted = spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_ref());
    for (mut hook, has_environment) in inside(plan, "startContainer", wanted) {
        let like = if has_environment { 0 } else { HOOK_HOME };
        if !has_environment {
            let entries = environment::entries(process).into_iter();
            hook.env = entries.map(ToOwned::to_owned).collect();
        }
        push(plan, hook, like, filter);
    }
}

/// Hooks, and whether they have an environment, even an empty one.
fn inside(plan: &mut Builder, kind: &str, wanted: Option<&Vec<Wanted>>) -> Vec<(Hook, bool)> {
    let has = wanted.into_iter().flatten().map(|hook| hook.env().is_some());
    list(plan, kind, wanted).into_iter().zip(has).collect()
}

fn push(plan: &mut Builder, hook: Hook, like: u32, filter: Option<&Filter>) {
    let path = plan.str(hook.path.as_os_str().as_encoded_bytes());
    let argv = plan.strs(&hook.args);
    let envp = plan.strs(&hook.env);
    // Seven weeks are as good as for ever, and milliseconds fit a word.
    let timeout = hook.timeout.unwrap_or(0).saturating_mul(1000);
    let doing = format!("error running {}", hook.name);
    let (filter, flags) = filter.map_or((&[][..], 0), Filter::program);
    let filter = plan.bytes(filter);
    plan.push(Op::Hook { path, argv, envp, timeout, like, filter, flags }, hook.pointer, doing);
}

fn list(plan: &mut Builder, kind: &str, wanted: Option<&Vec<Wanted>>) -> Vec<Hook> {
    let each = wanted.into_iter().flatten().enumerate();
    each.map(|(index, hook)| one(plan, kind, index, hook)).collect()
}

fn one(plan: &mut Builder, kind: &str, index: usize, hook: &Wanted) -> Hook {
    let pointer = format!("/hooks/{kind}/{index}");
    if !hook.path().is_absolute() {
        let what = format!("hook path {:?} must be absolute", hook.path());
        plan.error(Error::config(format!("{pointer}/path"), what));
    }
    let timeout = match hook.timeout() {
        // SPEC: if set, greater than zero.
        Some(seconds) if seconds <= 0 => {
            let what = format!("hook timeout {seconds} must be greater than zero");
            plan.error(Error::config(format!("{pointer}/timeout"), what));
            None
        }
        Some(seconds) => Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
        None => None,
    };
    let path = hook.path().clone();
    let args = match hook.args().as_deref() {
        None | Some([]) => vec![path.to_string_lossy().into_owned()],
        Some(args) => args.to_vec(),
    };
    // COMPAT(runc): as it is, even an entry without "=".
    let env = hook.env().clone().unwrap_or_default();
    Hook { name: format!("{kind} hook #{index}"), pointer, path, args, env, timeout }
}
