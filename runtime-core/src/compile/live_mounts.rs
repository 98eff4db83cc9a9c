//! Mounts of a container that runs: added to it, and taken away from it.
//!
//! Decides what of a creation is needed for that: the stage joins the container, does
//! the one thing, and ends. What an entry means is `mounts.rs`.

use oci_spec::runtime::{Mount, Spec};
use orlop_init::wire::MountId;

use super::namespaces;
use super::{Context, Options, keep_fds, linux_of, mounts, rootfs, sysctl};
use crate::error::{Error, Result};
use crate::host::HostFacts;
use crate::plan::{Builder, Gate, Op, Plan};

/// Compiles mounts that are made in a running container, whose config is `spec`. Places
/// in errors point into `{"mounts": [...]}`.
///
/// # Errors
/// Every reason why they can't be made, each with its place.
pub fn add_mounts(
    added: &[Mount],
    spec: &Spec,
    host: &HostFacts,
    options: &Options,
) -> Result<Plan, Vec<Error>> {
    let mut spec = spec.clone();
    spec.set_mounts(Some(added.to_vec()));
    in_container(&spec, host, options, |plan, context| {
        plan.push(Op::TakeBack {}, "", "keeping in mind what is mounted");
        let entries = mounts::mounts(plan, context);
        mounts::finish(plan, context, &entries);
    })
}

/// Compiles what takes mounts of a running container away, the last one first, if they
/// are among those that are `known`.
///
/// # Errors
/// Every place that can't be one, each with its place.
pub fn remove_mounts(
    removed: &[Mount],
    known: &[MountId],
    spec: &Spec,
    host: &HostFacts,
    options: &Options,
) -> Result<Plan, Vec<Error>> {
    let known: Vec<u8> = known.iter().flat_map(MountId::bytes).collect();
    in_container(spec, host, options, |plan, context| {
        let known = plan.bytes(&known);
        for (index, mount) in removed.iter().enumerate().rev() {
            let pointer = format!("/mounts/{index}/destination");
            match mounts::place(context, mount, &pointer) {
                Ok(at) => {
                    let doing = format!("unmounting {at:?}");
                    let at = plan.str(at);
                    plan.push(Op::Unmount { at, known }, pointer, doing);
                }
                Err(error) => plan.error(error),
            }
        }
    })
}

fn in_container(
    spec: &Spec,
    host: &HostFacts,
    options: &Options,
    act: impl FnOnce(&mut Builder, &Context<'_>),
) -> Result<Plan, Vec<Error>> {
    let mut plan = Builder::new();
    let linux = &*linux_of(spec);
    let context = Context::new(spec, linux, host, options, false);
    if !context.namespaces.own_mounts() {
        let what = "the container has no mount namespace of its own";
        plan.error(Error::unsupported("/linux/namespaces", what));
    }
    keep_fds(&mut plan, 0);
    plan.push(Op::Undumpable {}, "", "hiding the process");
    // In a user namespace what is masked in the container forbids another procfs, so it is
    // one of the host's, and nobody in there may trace us. Else somebody might, and it is
    // one of the container's.
    let user = context.namespaces.user();
    if user && host.may_mount() {
        sysctl::open_proc(&mut plan);
    }
    namespaces::join(&mut plan, &context);
    if user {
        let groups = namespaces::set_groups(&context);
        plan.push(Op::BecomeRoot { groups }, "", "becoming root of the user namespace");
    }
    rootfs::of_container(&mut plan);
    if !user {
        sysctl::open_proc(&mut plan);
    }
    act(&mut plan, &context);
    plan.push(Op::WaitFor { gate: Gate::Ready }, "", "reporting that it is done");
    plan.finish()
}
