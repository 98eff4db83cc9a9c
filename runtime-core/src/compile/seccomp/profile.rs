//! A profile as it is written: checked, its actions turned into the kernel's
//! values, its rules in one form.
//!
//! Decides what is an error of the profile. Knows no ABI and no BPF.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSyscall,
};

use super::arguments::Comparisons;
use crate::error::Error;

/// `SECCOMP_RET_*` (linux/seccomp.h).
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const USER_NOTIF: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_RET_ACTION_FULL`; the rest is the action's data.
const ACTION: u32 = 0xffff_0000;

/// The answer to a call that does not exist.
pub(super) const ENOSYS: u32 = ERRNO | libc::ENOSYS as u32;

/// Largest errno that the kernel hands on; it cuts larger ones (MAX_ERRNO).
const MAX_ERRNO: u32 = 4095;

/// A profile without the fields that don't concern the program.
pub(super) struct Profile<'a> {
    /// Value that the filter returns when no rule matches.
    pub(super) default: u32,
    /// In the order of the profile.
    pub(super) rules: Vec<Rule<'a>>,
    /// Whether a rule asks the listener.
    pub(super) notify: bool,
}

/// An entry of `syscalls`.
pub(super) struct Rule<'a> {
    pub(super) names: &'a [String],
    /// Value that the filter returns.
    pub(super) value: u32,
    pub(super) when: When,
    /// The action is the default one, so the rule decides nothing.
    ///
    /// COMPAT(runc): such a rule is not given to libseccomp, so it does not
    /// shield its calls from other rules.
    pub(super) idle: bool,
}

/// Which calls of its names a rule is for.
pub(super) enum When {
    Always,
    /// When any of these holds.
    Any(Vec<Comparisons>),
}

impl<'a> Profile<'a> {
    /// Reads a profile; `pointer` is its place.
    pub(super) fn read(seccomp: &'a LinuxSeccomp, pointer: &str) -> Result<Self, Vec<Error>> {
        let mut errors = Vec::new();
        let mut note = |at: &str, what: String| {
            errors.push(Error::config(format!("{pointer}{at}"), what));
        };
        let default = match value(seccomp.default_action(), seccomp.default_errno_ret()) {
            Ok(value) => value,
            Err(what) => {
                note("/defaultErrnoRet", what);
                KILL_PROCESS
            }
        };
        if seccomp.default_action() == Action::ScmpActNotify {
            // The stage tells the launcher of the listener under the filter.
            note("/defaultAction", "SCMP_ACT_NOTIFY cannot be the default action".into());
        }
        let entries = seccomp.syscalls().as_deref().unwrap_or_default();
        let mut rules = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let mut note = |at: &str, what| note(&format!("/syscalls/{index}{at}"), what);
            check_names(entry, &mut note);
            rules.push(Rule::read(entry, default, &mut note));
        }
        let notify = rules.iter().any(|rule| rule.value == USER_NOTIF);
        if notify && seccomp.listener_path().as_ref().is_none_or(|path| path.as_os_str().is_empty())
        {
            note("/listenerPath", "seccomp listenerPath is not set".into());
        }
        let metadata = seccomp.listener_metadata().as_ref().is_some_and(|text| !text.is_empty());
        if metadata && seccomp.listener_path().is_none() {
            note("/listenerMetadata", "seccomp listenerPath is not set".into());
        }
        if errors.is_empty() { Ok(Self { default, rules, notify }) } else { Err(errors) }
    }
}

impl<'a> Rule<'a> {
    fn read(entry: &'a LinuxSyscall, default: u32, note: &mut impl FnMut(&str, String)) -> Self {
        let value = value(entry.action(), entry.errno_ret()).unwrap_or_else(|what| {
            note("/errnoRet", what);
            KILL_PROCESS
        });
        let args = entry.args().as_deref().unwrap_or_default();
        for (index, arg) in args.iter().enumerate().filter(|(_, arg)| arg.index() > 5) {
            note(
                &format!("/args/{index}/index"),
                format!("system calls only have up to 6 arguments ({} given)", arg.index()),
            );
        }
        let repeats = |(at, arg): (usize, &LinuxSeccompArg)| {
            args[..at].iter().any(|earlier| earlier.index() == arg.index())
        };
        // COMPAT(runc): with two comparisons of one argument, any of the entry's
        // comparisons is enough; otherwise all must hold.
        let when = if args.is_empty() {
            When::Always
        } else if args.iter().enumerate().any(repeats) {
            When::Any(args.chunks(1).filter_map(Comparisons::new).collect())
        } else {
            When::Any(Comparisons::new(args).into_iter().collect())
        };
        Self { names: entry.names(), value, when, idle: value == default }
    }

    /// Whether it alone says what its calls get.
    pub(super) fn decides(&self) -> bool {
        !self.idle && matches!(self.when, When::Always)
    }
}

/// Names that can't be meant, and those that would hang the start.
fn check_names(entry: &LinuxSyscall, note: &mut impl FnMut(&str, String)) {
    if entry.names().is_empty() {
        note("/names", "a rule needs the name of a system call".into());
    }
    for (index, name) in entry.names().iter().enumerate() {
        if name.is_empty() {
            note(&format!("/names/{index}"), "empty string is not a valid syscall".into());
        }
        // The stage says by a write that there is a listener, and nobody can answer for
        // it yet. It reads when the agent has it, who must let it.
        if entry.action() == Action::ScmpActNotify && name == "write" {
            note(
                &format!("/names/{index}"),
                format!("SCMP_ACT_NOTIFY cannot be used for the {name} syscall"),
            );
        }
    }
}

/// The value that a filter returns for an action.
fn value(action: Action, errno: Option<u32>) -> Result<u32, String> {
    let (base, most) = match action {
        Action::ScmpActKill | Action::ScmpActKillThread => (KILL_THREAD, None),
        Action::ScmpActKillProcess => (KILL_PROCESS, None),
        Action::ScmpActTrap => (TRAP, None),
        Action::ScmpActErrno => (ERRNO, Some(MAX_ERRNO)),
        Action::ScmpActNotify => (USER_NOTIF, None),
        Action::ScmpActTrace => (TRACE, Some(!ACTION)),
        Action::ScmpActLog => (LOG, None),
        Action::ScmpActAllow => (ALLOW, None),
    };
    match (most, errno) {
        (None, None) => Ok(base),
        // SPEC: config-linux, seccomp: an errno for an action that has none is an
        // error, and EPERM is the default.
        (None, Some(_)) => Err(format!("{action} does not take an errno")),
        (Some(_), None) => Ok(base | libc::EPERM as u32),
        (Some(most), Some(errno)) if errno <= most => Ok(base | errno),
        (Some(most), Some(errno)) => {
            Err(format!("{errno} is above {most}, the largest for {action}"))
        }
    }
}

/// Whether a filter that returns this lets the call happen by itself or leaves it
/// to a tracer that knows new calls.
pub(super) fn permits(value: u32) -> bool {
    matches!(value & ACTION, ALLOW | LOG | TRACE)
}

/// Whether a filter that returns this keeps the call from happening, whoever looks on.
pub(super) fn forbids(value: u32) -> bool {
    matches!(value & ACTION, KILL_PROCESS | KILL_THREAD | TRAP | ERRNO)
}

/// Whether the kernel would take `value` over `other` if two filters disagreed.
pub(super) fn at_least_as_strict(value: u32, other: u32) -> bool {
    (value & ACTION).cast_signed() <= (other & ACTION).cast_signed()
}
