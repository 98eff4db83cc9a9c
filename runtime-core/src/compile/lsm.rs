//! Labels of AppArmor and SELinux for the program: what is asked for must be
//! enforced, or the container does not run.

use oci_spec::runtime::Process;

use super::{Context, sysctl};
use crate::error::Error;
use crate::plan::{Builder, Op};

/// The profile, if one is asked for.
fn profile(process: &Process) -> Option<&str> {
    process.apparmor_profile().as_deref().filter(|profile| !profile.is_empty())
}

fn selinux(process: &Process) -> Option<&str> {
    process.selinux_label().as_deref().filter(|label| !label.is_empty())
}

/// Whether a keyring that the process makes must have its label.
pub(super) fn labels_keys(process: &Process) -> bool {
    selinux(process).is_some()
}

/// COMPAT(runc): the texts.
pub(super) fn validate(plan: &mut Builder, context: &Context, process: &Process) {
    if profile(process).is_some() && !context.host.apparmor {
        let what = "apparmor: config provided but apparmor not supported";
        plan.error(Error::config("/process/apparmorProfile", what));
    }
    if selinux(process).is_some() && !context.host.selinux {
        let what = "selinux label is specified in config, but selinux is disabled or not supported";
        plan.error(Error::config("/process/selinuxLabel", what));
    }
}

/// Opens the procfs for the labels while the kernel still lets us: inside a user
/// namespace it refuses a new one once parts of the old are covered.
pub(super) fn prepare(plan: &mut Builder, process: &Process) {
    if profile(process).is_some() || selinux(process).is_some() {
        sysctl::open_proc(plan);
    }
}

/// For `exec`: labels the process before it joins the container, where the covered
/// /proc may forbid a procfs of our own. The label takes effect at the program.
pub(super) fn from_outside(plan: &mut Builder, context: &Context, process: &Process) {
    if context.host.may_mount() {
        prepare(plan, process);
        label(plan, context, process);
    }
}

/// For what [`from_outside`] could not do, and for the first process.
pub(super) fn from_inside(plan: &mut Builder, context: &Context, process: &Process) {
    if context.first || !context.host.may_mount() {
        prepare(plan, process);
        label(plan, context, process);
    }
}

fn label(plan: &mut Builder, context: &Context, process: &Process) {
    if let Some(profile) = profile(process) {
        let file = plan.str("apparmor/exec");
        let value = plan.bytes(format!("exec {profile}").as_bytes());
        let doing = format!("applying the AppArmor profile {profile:?}");
        plan.push(Op::Label { file, value }, "/process/apparmorProfile", doing);
    }
    if let Some(label) = selinux(process) {
        if !context.options.no_new_keyring {
            // Until the exec, as the other. COMPAT(runc): it labels the keyring too.
            let file = plan.str("keycreate");
            let value = plan.bytes(label.as_bytes());
            let doing = format!("setting the SELinux label {label:?} for the keyring");
            plan.push(Op::Label { file, value }, "/process/selinuxLabel", doing);
        }
        let file = plan.str("exec");
        let value = plan.bytes(label.as_bytes());
        let doing = format!("setting the SELinux label {label:?}");
        plan.push(Op::Label { file, value }, "/process/selinuxLabel", doing);
    }
}
