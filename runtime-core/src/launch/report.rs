//! What a failure of the stage says to a person: op, part, errno and the one
//! run-time string become an error with a place.

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use orlop_init::sys::abi;
use orlop_init::wire::{HEAD, Message, MessageKind, Part};

use crate::error::{Error, Kind, Place, Result, errno_text};
use crate::plan::{Op, Plan};

/// What a stage wrote into its start report before it closed.
#[derive(Debug)]
pub(crate) enum StartReport<'a> {
    /// The program was executed.
    Executed,
    /// Nothing: it died.
    Died,
    /// Why it failed, for [`StartFailure::explain`].
    Failed(StartFailure<'a>),
}

/// A failure as the stage told it.
#[derive(Debug)]
pub(crate) struct StartFailure<'a>(Message<'a>);

/// Reads a start report.
///
/// # Errors
/// [`Kind::Internal`]: it is none.
pub(crate) fn start_report(bytes: &[u8]) -> Result<StartReport<'_>> {
    let read = |bytes| {
        Message::read(bytes)
            .ok_or_else(|| Error::new(Kind::Internal, "the start report is no message"))
    };
    if bytes.is_empty() {
        return Ok(StartReport::Died);
    }
    let mut message = read(bytes)?;
    if message.kind == MessageKind::Leaving {
        // Of fixed length; what failed in the end follows.
        match bytes.get(HEAD..).unwrap_or_default() {
            [] => return Ok(StartReport::Executed),
            rest => message = read(rest)?,
        }
    }
    Ok(StartReport::Failed(StartFailure(message)))
}

impl StartFailure<'_> {
    /// The error, by the plan that the stage had.
    #[must_use]
    pub(crate) fn explain(&self, plan: &Plan) -> Error {
        failure(plan, &self.0)
    }
}

/// The error for a failure message of the stage.
#[must_use]
pub(super) fn failure(plan: &Plan, message: &Message<'_>) -> Error {
    let Some((op, origin)) = plan.steps().nth(message.op as usize) else {
        return Error::new(Kind::Internal, format!("the init stage failed at op {}", message.op));
    };
    let part = Part::ALL.get(message.part as usize).copied().unwrap_or(Part::Whole);
    let text = String::from_utf8_lossy(message.text).trim().replace('\n', "; ");
    let at = |error: Error| {
        if origin.pointer.is_empty() {
            error
        } else {
            error.at(Place::Config(origin.pointer.to_string()))
        }
    };
    match op {
        Op::FindProgram { .. } => at(program(part, message.number, &origin.doing)),
        Op::Exec { .. } => at(exec(part, message.number, &origin.doing)),
        // One that ends has no namespaces before anybody may wait for it.
        Op::JoinProcess { .. } if message.number == libc::ESRCH => {
            Error::new(Kind::WrongState, "container not running")
        }
        Op::Hook { .. } => at(hook(part, message.number, &text, &origin.doing)),
        Op::OomScore { .. } => at(oom_score(Error::os(message.number, origin.doing.to_string()))),
        _ => {
            let mut doing = origin.doing.to_string();
            let phrase = phrase(part);
            if !phrase.is_empty() {
                doing = format!("{doing}: {phrase}");
            }
            if !text.is_empty() {
                // The kernel's own words, or the option it did not like.
                let quoted = if part == Part::CreateFs { text } else { format!("{text:?}") };
                doing = format!("{doing}: {quoted}");
            }
            let error = if message.number == 0 {
                Error::new(Kind::Os, doing)
            } else {
                Error::os(message.number, doing)
            };
            let hint = hint(op, part, message.number);
            at(if hint.is_empty() { error } else { error.hint(hint) })
        }
    }
}

fn hint(op: &Op, part: Part, errno: i32) -> &'static str {
    match (op, part, errno) {
        // mount_namespaces(7): only who sees all of a procfs or sysfs may mount one.
        (Op::Mount { .. }, Part::MakeMount, abi::EPERM) => {
            "a part of the one that is mounted here is masked, which a user namespace can't undo"
        }
        // COMPAT(runc): the first words. sched_setattr(2): for a deadline every processor
        // of the machine must be allowed.
        (Op::Scheduler { .. }, _, abi::EPERM) => {
            "process scheduler can't be used together with AllowedCPUs, nor without CAP_SYS_NICE"
        }
        (Op::Stdio { .. }, Part::Open, abi::EACCES) => {
            "no device can be opened on a file system that is mounted \"nodev\""
        }
        // One takes the place of each /dev/null of the host.
        (Op::Stdio { .. }, Part::Open | Part::Verify, _) => {
            "/dev/null in the container has to be the null device, character device 1:3"
        }
        (_, Part::GroupsDenied, _) => {
            "the user namespace that is joined denies it (user_namespaces(7)): \
             additionalGids can't be had there"
        }
        (Op::Unmount { .. }, Part::Verify, abi::EINVAL) => "nothing is mounted there",
        _ => "",
    }
}

/// COMPAT(runc): engines look for "executable file not found in $PATH", "no such
/// file or directory", "permission denied" and "is a directory" behind the name.
/// Docker before 23 does not know the last: a directory is refused in both words.
fn program(part: Part, errno: i32, doing: &str) -> Error {
    match part {
        Part::NotFoundInPath => {
            Error::new(Kind::NotFound, format!("{doing}: executable file not found in $PATH"))
        }
        Part::IsDirectory => Error::os(abi::EACCES, format!("{doing}: is a directory")),
        _ => Error::os(errno, format!("{doing}: opening the program")),
    }
}

/// COMPAT(runc): the reason right behind the name.
fn exec(part: Part, errno: i32, doing: &str) -> Error {
    let kind = Error::os(errno, "").kind();
    let error = Error::new(kind, format!("{doing}: {}", errno_text(errno)));
    match part {
        Part::ExecFormat => error.hint(
            "it is no program for this machine: another architecture, or a script without #!",
        ),
        Part::Interpreter => {
            error.hint("the file is there; the interpreter or dynamic loader that it names is not")
        }
        _ => error,
    }
}

fn hook(part: Part, number: i32, output: &str, doing: &str) -> Error {
    let doing = match part {
        Part::TimedOut => format!("{doing}: hook ran past its timeout"),
        Part::Died => format!("{doing}: {}", status(number)),
        // Its path comes with it, if it is that which can't be executed.
        _ => {
            let path = if output.is_empty() { "it".to_owned() } else { format!("{output:?}") };
            let doing = format!("{doing}: starting {path}");
            return Error::os(number, doing).of_kind(Kind::Hook);
        }
    };
    let tail = if output.is_empty() { String::new() } else { format!(", output: {output:?}") };
    Error::new(Kind::Hook, format!("{doing}{tail}"))
}

/// A refusal of the oom score, whoever wrote it.
///
/// SPEC: config.md, "oomScoreAdj": the value must be set, or it is an error.
#[must_use]
pub(super) fn oom_score(error: Error) -> Error {
    if error.kind() == Kind::Permission {
        return error.hint("lowering it takes CAP_SYS_RESOURCE in the first user namespace");
    }
    error
}

/// A wait status in words, as Go prints it (COMPAT(runc)).
#[must_use]
pub(super) fn status(raw: i32) -> String {
    match WaitStatus::from_raw(nix::unistd::Pid::from_raw(1), raw) {
        Ok(WaitStatus::Exited(_, code)) => format!("exit status {code}"),
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("signal: {}", signal_text(signal)),
        // One that nix has no name for: a real-time signal.
        _ if libc::WIFSIGNALED(raw) => format!("signal: signal {}", libc::WTERMSIG(raw)),
        _ => format!("wait status {raw:#x}"),
    }
}

fn signal_text(signal: Signal) -> &'static str {
    match signal {
        Signal::SIGHUP => "hangup",
        Signal::SIGINT => "interrupt",
        Signal::SIGQUIT => "quit",
        Signal::SIGILL => "illegal instruction",
        Signal::SIGTRAP => "trace/breakpoint trap",
        Signal::SIGABRT => "aborted",
        Signal::SIGBUS => "bus error",
        Signal::SIGFPE => "floating point exception",
        Signal::SIGKILL => "killed",
        Signal::SIGSEGV => "segmentation fault",
        Signal::SIGPIPE => "broken pipe",
        Signal::SIGALRM => "alarm clock",
        Signal::SIGTERM => "terminated",
        Signal::SIGSYS => "bad system call",
        signal => signal.as_str(),
    }
}

/// The stage is gone without a word. Whether that was after its release.
#[must_use]
pub(crate) fn died(raw: Option<i32>, released: bool) -> Error {
    let until = if released { "its program was executed" } else { "it was ready" };
    match raw {
        Some(raw) if raw == abi::PANICKED << 8 => {
            Error::new(Kind::Internal, "the init stage could not read its plan")
        }
        Some(raw) => {
            let what = format!("the init process died before {until}: {}", status(raw));
            let error = Error::new(Kind::ChildDied, what);
            match raw & 0x7f {
                // What a filter does, and what the stage does that may not even exit.
                libc::SIGSYS | libc::SIGILL => {
                    error.hint("the seccomp profile may forbid what it still had to do")
                }
                _ => error,
            }
        }
        None => Error::new(Kind::ChildDied, format!("the init process died before {until}")),
    }
}

fn phrase(part: Part) -> &'static str {
    match part {
        Part::Whole
        | Part::Died
        | Part::TimedOut
        | Part::NotFoundInPath
        | Part::IsDirectory
        | Part::ExecFormat
        | Part::Interpreter => "",
        Part::Decode => "the init stage does not know this step",
        Part::Resolve => "finding the place in the root",
        Part::Create => "creating the place in the root",
        Part::OpenFs => "opening the file system type",
        Part::Configure => "setting an option",
        Part::CreateFs => "creating the file system",
        Part::MakeMount => "making the mount",
        Part::Attach => "attaching it",
        Part::SetAttributes => "setting attributes",
        // COMPAT(runc): the words of its own check.
        Part::NotDirectory => "must be mounted on ordinary directory",
        Part::InsideProc => "cannot be mounted because it is inside /proc",
        Part::NotProc => "cannot be mounted because it is not of type proc",
        Part::Open => "opening it",
        Part::Verify => "it is not what it should be",
        Part::Write => "writing",
        Part::Start => "starting it",
        Part::OutsideRoot => "it lies outside of the container's root",
        Part::Groups | Part::GroupsDenied => "setgroups",
        Part::Group => "setgid",
        Part::User => "setuid",
        Part::Peer => "opening the terminal's other end",
        Part::Send => "sending the terminal",
        Part::Copy => "copying up",
        Part::Gone => "the launcher is gone",
        Part::Drop => "dropping",
        Part::Propagate => "setting the propagation",
        Part::Dangling => "following a dangling link",
        Part::Clone => "cloning",
        Part::Covered => "what is mounted there is neither of the config nor of `mounts add`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Builder, Slot};

    // moby daemon/errors.go (translateContainerdStartErr): 126 for "permission
    // denied", since version 23 for "is a directory" too; podman
    // libpod/oci_util.go (getOCIRuntimeError).
    #[test]
    fn a_directory_reads_as_what_cannot_be_run_to_every_engine() {
        let text = program(Part::IsDirectory, abi::EISDIR, "exec: \"/etc\"").to_string();
        assert_eq!(text, "exec: \"/etc\": is a directory: permission denied");
    }

    #[test]
    fn one_that_has_no_namespaces_any_more_does_not_run() {
        let mut plan = Builder::new();
        let join = Op::JoinProcess { slot: Slot::TARGET, kinds: 1 };
        plan.push(join, "/linux/namespaces", "joining the container's namespaces");
        let plan = plan.finish().unwrap();
        let told = |number| {
            let kind = MessageKind::Failure;
            failure(&plan, &Message { kind, op: 0, part: 0, number, text: b"" })
        };
        let error = told(libc::ESRCH);
        assert_eq!(
            (error.kind(), &*error.to_string()),
            (Kind::WrongState, "container not running")
        );
        assert!(told(libc::EPERM).to_string().starts_with("joining the container's namespaces"));
    }

    #[test]
    fn a_hook_that_is_not_there_is_named() {
        let text = hook(Part::Start, abi::ENOENT, "/nope", "error running x hook #0").to_string();
        assert_eq!(text, "error running x hook #0: starting \"/nope\": no such file or directory");
        let text = hook(Part::Start, abi::EMFILE, "", "error running x hook #0").to_string();
        assert!(text.starts_with("error running x hook #0: starting it: "), "{text}");
    }

    #[test]
    fn an_errno_that_says_little_has_a_hint() {
        let stdio = Op::Stdio { uid: 0, gid: 0 };
        assert!(hint(&stdio, Part::Open, abi::EACCES).contains("nodev"));
        for (part, errno) in [(Part::Open, abi::ENOENT), (Part::Verify, abi::ENODEV)] {
            assert!(hint(&stdio, part, errno).contains("/dev/null"));
        }
    }

    // Go's exec.ExitError, which hooks' failures are told by in runc.
    #[test]
    fn a_status_reads_as_in_go() {
        let told = [(3 << 8, "exit status 3"), (9, "signal: killed"), (40, "signal: signal 40")];
        for (raw, text) in told {
            assert_eq!(status(raw), text);
        }
    }
}
