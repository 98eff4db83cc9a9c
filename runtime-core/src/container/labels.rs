//! What the processes of a restored container are confined by: CRIU is told, and what
//! has come of it is looked at.

use std::fs;
use std::os::fd::AsRawFd;

use orlop_init::sys::{self, abi};

use super::restore::RestoreOptions;
use crate::bundle::Bundle;
use crate::criu::{Options, names};
use crate::error::{Error, Kind, Place, Result};
use crate::host::HostFacts;
use crate::launch::owned;
use crate::plan::{Op, Plan};

/// What confines a process.
pub(super) struct Label {
    name: String,
    /// Where it was asked for.
    place: Option<Place>,
}

/// Tells CRIU of what was asked for, if its security module is on: CRIU itself says
/// nothing of mounts whose label it can't give.
pub(super) fn wanted(
    how: &RestoreOptions,
    bundle: &Bundle,
    host: &HostFacts,
    wanted: &mut Options,
) -> Result<Option<Label>> {
    if let Some(context) = &how.lsm_mount_context {
        let context = names::mount_context(context)?;
        needs(host.selinux, "SELinux", &format!("the label {context:?} of mounts"))?;
        wanted.lsm_mount_context = Some(context.to_owned());
    }
    if let Some(profile) = &how.lsm_profile {
        let profile = names::lsm_profile(profile)?;
        let (kind, name) = profile.split_once(':').unwrap_or_default();
        let (on, module) = match kind {
            "selinux" => (host.selinux, "SELinux"),
            _ => (host.apparmor, "AppArmor"),
        };
        needs(on, module, &format!("the profile {profile:?}"))?;
        wanted.lsm_profile = Some(profile.to_owned());
        return Ok(Some(Label { name: name.to_owned(), place: None }));
    }
    let Some(process) = bundle.spec.process() else { return Ok(None) };
    let fields = [
        ("apparmorProfile", process.apparmor_profile()),
        ("selinuxLabel", process.selinux_label()),
    ];
    let given = fields.into_iter().find_map(|(field, name)| {
        let name = name.clone().filter(|name| !name.is_empty())?;
        Some(Label { name, place: Some(Place::Config(format!("/process/{field}"))) })
    });
    Ok(given)
}

fn needs(on: bool, module: &str, what: &str) -> Result<()> {
    if on {
        return Ok(());
    }
    Err(Error::new(Kind::Unsupported, format!("{what} needs {module}, which is off here")))
}

/// Whether the process that CRIU has restored is confined by all that its creation would
/// have confined it by.
///
/// CRIU takes no failure at this point: so the process is killed, with all of its pid
/// namespace, before it goes on.
pub(super) fn check(pid: i32, label: Option<&Label>, plan: &Plan) -> Result<()> {
    let found = check_label(pid, label).and_then(|()| check_privileges(pid, plan));
    if found.is_err() {
        let pidfd = owned(sys::pidfd_open(pid))
            .map_err(|errno| Error::os(errno, "opening the restored process"))?;
        let _ = sys::pidfd_send_signal(pidfd.as_raw_fd(), abi::SIGKILL);
    }
    found
}

/// Whether CRIU has given the process a label. One that is built without SELinux has
/// not saved any, and leaves the processes with its own, which is ours; whose label is
/// another has changed it before the checkpoint, and has it again.
fn check_label(pid: i32, wanted: Option<&Label>) -> Result<()> {
    let Some(Label { name, place }) = wanted else { return Ok(()) };
    let (own, found) = (current("thread-self")?, current(&pid.to_string())?);
    if found == *name || found != own {
        return Ok(());
    }
    let words = format!("criu has left the processes with its own label, {own:?}, not {name:?}");
    let error = Error::new(Kind::Permission, words);
    Err(match place {
        Some(place) => error.at(place.clone()),
        None => error,
    })
}

/// Whether the process has no privilege that the plan would have taken from it: its
/// image says what it has, and may be another container's (CVE-2026-92574). Less is no
/// error, since a process can give up more.
fn check_privileges(pid: i32, plan: &Plan) -> Result<()> {
    let path = format!("/proc/{pid}/status");
    let status =
        fs::read_to_string(&path).map_err(|error| Error::io(&error, "reading").at_path(&path))?;
    // What is not there is as if everything were.
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let set = |name| {
        field(name).and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(u64::MAX)
    };
    let is = |name, value| field(name).is_some_and(|text: &str| text.trim() == value);
    let mut most = 0;
    for (op, origin) in plan.steps() {
        let excess = match *op {
            Op::Bounding { keep } => {
                most |= keep;
                set("CapBnd:") & !keep != 0
            }
            Op::Capabilities { permitted, inheritable, .. } => {
                // A program of its root can have given it what the bounding set has.
                most |= permitted | inheritable;
                (set("CapPrm:") | set("CapInh:")) & !most != 0
            }
            Op::NoNewPrivileges {} => !is("NoNewPrivs:", "1"),
            Op::Seccomp { .. } => !is("Seccomp:", "2"),
            _ => false,
        };
        if excess {
            let words = "criu has left the processes with more privileges than the config gives";
            return Err(
                Error::new(Kind::Permission, words).at(Place::Config(origin.pointer.to_string()))
            );
        }
    }
    Ok(())
}

/// What the kernel says of a process, without AppArmor's mode behind it.
fn current(process: &str) -> Result<String> {
    let path = format!("/proc/{process}/attr/current");
    let text =
        fs::read_to_string(&path).map_err(|error| Error::io(&error, "reading").at_path(&path))?;
    let text = text.trim_end_matches(['\n', '\0']);
    Ok(text.rsplit_once(" (").map_or(text, |(name, _)| name).to_owned())
}
