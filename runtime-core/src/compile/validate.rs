//! What is wrong with a config before any subject looks at it: its version, its
//! shape, and the sections that this version does not carry out.

use oci_spec::runtime::{LinuxIdMapping, Process};

use super::{
    Context, environment, limits, lsm, namespaces, net_devices, resctrl, rootfs, scheduling,
};
use crate::error::Error;
use crate::plan::Builder;

/// Most groups of a process (setgroups(2)).
const MOST_GROUPS: usize = 65_536;
/// No id: what setresuid(2) takes for "leave it as it is".
const NO_ID: u32 = u32::MAX;
/// Longest host and domain name (uname(2)).
const LONGEST_NAME: usize = 64;

/// A whole config.
pub(super) fn create(plan: &mut Builder, context: &Context) {
    let spec = context.spec;
    version(plan, spec.version());
    sections(plan, context);
    namespaces::validate(plan, context);
    resctrl::validate(plan, context);
    net_devices::validate(plan, context);
    rootfs::validate(plan, context);
    names(plan, context);
    if spec.annotations().as_ref().is_some_and(|map| map.contains_key("")) {
        plan.error(Error::config("/annotations", "the key of an annotation must not be empty"));
    }
    match spec.process() {
        Some(wanted) => process(plan, context, wanted),
        // COMPAT(runc): the text. SPEC: may be missing until start, but a start
        // that can't work is better refused now.
        None => plan.error(Error::config("/process", "process property must not be empty")),
    }
}

/// SPEC: SemVer 2.0; within a major version a config stays valid.
fn version(plan: &mut Builder, version: &str) {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<Option<u64>> = core.split('.').map(number).collect();
    match numbers.as_slice() {
        [Some(1), Some(_), Some(_)] => {}
        [Some(major), Some(_), Some(_)] => {
            let what = format!("runtime spec {major}.x is not supported, only 1.x");
            plan.error(Error::unsupported("/ociVersion", what));
        }
        _ => {
            let what = format!("{version:?} is not a version of the runtime spec");
            plan.error(Error::config("/ociVersion", what));
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let no_leading_zero = text == "0" || !text.starts_with('0');
    if digits && no_leading_zero { text.parse().ok() } else { None }
}

fn sections(plan: &mut Builder, context: &Context) {
    let spec = context.spec;
    if spec.vm().is_some() {
        plan.error(Error::unsupported("/vm", "a virtual machine is not supported"));
    }
    // SPEC: sections of other platforms say nothing to this one.
    let foreign = [
        ("solaris", spec.solaris().is_some()),
        ("windows", spec.windows().is_some()),
        ("zos", spec.zos().is_some()),
    ];
    for (name, _) in foreign.into_iter().filter(|(_, there)| *there) {
        plan.warn(format!("ignoring the section {name:?}, which is for another platform"));
    }
}

/// COMPAT(runc): the texts about namespaces.
fn names(plan: &mut Builder, context: &Context) {
    let spec = context.spec;
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let name = name.as_deref().unwrap_or_default();
        if !name.is_empty() && !context.is_private(namespaces::UTS) {
            let what = format!("unable to set {field} without a private UTS namespace");
            plan.error(Error::config(format!("/{field}"), what));
        }
        if name.len() > LONGEST_NAME {
            let what = format!("{field} is longer than {LONGEST_NAME} bytes");
            plan.error(Error::config(format!("/{field}"), what));
        }
    }
}

/// COMPAT(runc): the texts about args and cwd.
pub(super) fn process(plan: &mut Builder, context: &Context, process: &Process) {
    if process.command_line().is_some() {
        let what = "a command line is for Windows; Linux takes args";
        plan.error(Error::unsupported("/process/commandLine", what));
    }
    match process.args().as_deref() {
        None | Some([]) => {
            plan.error(Error::config("/process/args", "args must not be empty"));
        }
        Some([name, ..]) if name.is_empty() => {
            let what = "exec: \"\": executable file not found in $PATH";
            plan.error(Error::config("/process/args/0", what));
        }
        Some(_) => {}
    }
    let cwd = process.cwd();
    if cwd.as_os_str().is_empty() {
        plan.error(Error::config("/process/cwd", "Cwd property must not be empty"));
    } else if !cwd.is_absolute() {
        plan.error(Error::config("/process/cwd", "Cwd must be an absolute path"));
    }
    console_size(plan, process);
    ids(plan, context, process);
    if process.user().username().as_ref().is_some_and(|name| !name.is_empty()) {
        plan.warn("/process/user/username: ignored, since it is for another platform".to_owned());
    }
    environment::validate(plan, process.env().as_deref().unwrap_or_default());
    limits::validate(plan, process);
    scheduling::validate(plan, process);
    lsm::validate(plan, context, process);
    if let Some(score) = process.oom_score_adj()
        && !(-1000..=1000).contains(&score)
    {
        let what = format!("oomScoreAdj {score} is not between -1000 and 1000");
        plan.error(Error::config("/process/oomScoreAdj", what));
    }
}

fn console_size(plan: &mut Builder, process: &Process) {
    let Some(size) = process.console_size() else { return };
    for (name, value) in [("height", size.height()), ("width", size.width())] {
        if value > u64::from(u16::MAX) {
            let what = format!("a terminal's {name} is at most {}", u16::MAX);
            plan.error(Error::config(format!("/process/consoleSize/{name}"), what));
        }
    }
}

fn ids(plan: &mut Builder, context: &Context, process: &Process) {
    let (user, linux) = (process.user(), context.linux);
    // COMPAT(runc): the texts about unmapped ids.
    let refused = |mappings: &Option<Vec<LinuxIdMapping>>, what: &str, id: u32| {
        let bad = id == NO_ID || !namespaces::is_mapped(context, mappings, id);
        bad.then(|| format!("cannot {what} {id} in user namespace"))
    };
    if let Some(what) = refused(linux.uid_mappings(), "setuid to unmapped uid", user.uid()) {
        plan.error(Error::config("/process/user/uid", what));
    }
    if let Some(what) = refused(linux.gid_mappings(), "setgid to unmapped gid", user.gid()) {
        plan.error(Error::config("/process/user/gid", what));
    }
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    let pointer = "/process/user/additionalGids";
    if groups.len() > MOST_GROUPS {
        let what = format!("more than {MOST_GROUPS} additional groups");
        plan.error(Error::config(pointer, what));
        return;
    }
    if !groups.is_empty() && namespaces::setgroups_denied(context) {
        // COMPAT(runc): the text.
        let what = "cannot set any additional groups in a rootless container";
        plan.error(Error::config(pointer, what));
        return;
    }
    for (index, group) in groups.iter().enumerate() {
        if let Some(what) = refused(linux.gid_mappings(), "set unmapped group", *group) {
            plan.error(Error::config(format!("{pointer}/{index}"), what));
        }
    }
    if user.umask().is_some_and(|umask| umask > 0o777) {
        let what = "umask has bits beyond 0777";
        plan.error(Error::config("/process/user/umask", what));
    }
}
