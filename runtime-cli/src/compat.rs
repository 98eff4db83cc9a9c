//! What engines match on: texts, exit codes and the version's lines.
//!
//! Everything here is read by a program that we can't change; each has a test
//! that names the reader. What only a person reads is not here.

use std::path::Path;

use orlop::{Error, Kind, Place};

/// Any failure.
pub(crate) const FAILURE: u8 = 1;

/// COMPAT(runc): there is no such command.
pub(crate) const NO_COMMAND: u8 = 3;

/// COMPAT(runc): `exec` fails with this before its process runs, so that an engine
/// can tell our failure from most exit codes of the process.
const EXEC_FAILURE: u8 = 255;

/// What a shell says of a program that is there and can't be executed, and of one
/// that is not (POSIX, 2.8.2).
const NOT_EXECUTABLE: u8 = 126;
const NO_PROGRAM: u8 = 127;

/// Unknown id.
const NO_SUCH: &str = "container does not exist";

/// A signal for a container whose init process is gone.
const NOT_RUNNING: &str = "container not running";

/// What this program is, behind its name, when help is asked for.
pub(crate) const ABOUT: &str = "in the place of runc - Open Container Initiative runtime";

/// The name we are called by: `runc` through a link of that name.
pub(crate) fn program() -> &'static str {
    program_of(std::env::args_os().next().unwrap_or_default().as_ref())
}

fn program_of(path: &Path) -> &'static str {
    if path.file_name().is_some_and(|name| name == "runc") { "runc" } else { "orlop" }
}

/// What `--version` prints.
pub(crate) fn version() -> String {
    version_of(program())
}

fn version_of(program: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("{program} version {version}\ncommit: {}\nspec: {}\n", commit(), orlop::features::SPEC)
}

/// The commit that this was built from, as the build was told.
pub(crate) fn commit() -> &'static str {
    option_env!("ORLOP_COMMIT").unwrap_or("unknown")
}

/// What stands before the message of a failed command.
fn prefix(verb: &str) -> String {
    match verb {
        "create" | "run" => format!("{} {verb} failed: ", program()),
        "exec" => "exec failed: ".into(),
        _ => String::new(),
    }
}

/// What went wrong, as people know it from runc: a mount that is refused in a user
/// namespace, say.
pub(crate) fn message(verb: &str, error: &anyhow::Error, text: &str) -> String {
    let mounting = text.starts_with("mounting ") || text.starts_with("binding ");
    let refused = |error: &Error| error.kind() == Kind::Permission;
    let mounting = mounting && error.downcast_ref().is_some_and(refused);
    let about = match verb {
        "create" | "run" if mounting => {
            "unable to start container process: error during container init: error mounting: "
        }
        _ => "",
    };
    format!("{}{about}{text}", prefix(verb))
}

/// The exit code of a failed command.
pub(crate) fn failure(verb: &str, error: &anyhow::Error) -> u8 {
    match (verb, error.downcast_ref::<Error>()) {
        ("exec", _) => EXEC_FAILURE,
        _ if error.is::<NotExecuted>() => EXEC_FAILURE,
        // Used like env(1) or nice(1), and by no engine.
        ("try", Some(error)) if is_of_program(error) => {
            if error.kind() == Kind::NotFound {
                NO_PROGRAM
            } else {
                NOT_EXECUTABLE
            }
        }
        _ => FAILURE,
    }
}

fn is_of_program(error: &Error) -> bool {
    matches!(error.place(), Some(Place::Config(at)) if at.starts_with("/process/args"))
}

/// A program in the foreground that the kernel would not execute.
///
/// COMPAT(runc): there its own process says so, on the streams of the container, and
/// ends with a status of its own.
#[derive(Debug)]
pub(crate) struct NotExecuted(Error);

/// [`NotExecuted`], if it is that.
pub(crate) fn not_executed(error: Error) -> anyhow::Error {
    match error.place() {
        // Of a config that is wrong nothing has been tried.
        Some(_) if error.kind() == Kind::InvalidConfig => error.into(),
        Some(Place::Config(at)) if at == "/process/args" => NotExecuted(error).into(),
        _ => error.into(),
    }
}

impl NotExecuted {
    /// Without where and what to do about it.
    pub(crate) fn bare(&self) -> String {
        let text = self.0.to_string();
        text.split(" (config.json: ").next().unwrap_or_default().to_owned()
    }
}

impl std::fmt::Display for NotExecuted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NotExecuted {}

/// Why a container could not be opened.
pub(crate) fn not_opened(error: Error) -> anyhow::Error {
    if error.kind() == Kind::NotFound { anyhow::anyhow!(NO_SUCH) } else { error.into() }
}

/// Why a container could not be signalled.
pub(crate) fn not_signalled(error: Error) -> anyhow::Error {
    match error.kind() {
        Kind::WrongState => anyhow::anyhow!(NOT_RUNNING),
        Kind::NotFound => anyhow::anyhow!(NO_SUCH),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // go-runc/runc.go (parseVersion): the line that starts with "runc version ",
    // then "commit: " and "spec: "; moby daemon/info_unix.go (parseRuntimeVersion):
    // a line with " version " in it and "commit: ".
    #[test]
    fn the_version_has_the_lines_that_engines_parse() {
        let text = version_of(program_of(Path::new("/usr/bin/runc")));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("runc version "));
        assert!(lines[1].starts_with("commit: "));
        assert_eq!(lines[2], "spec: 1.3.0");
        assert!(version_of(program_of(Path::new("./orlop"))).starts_with("orlop version "));
    }

    // containerd cmd/containerd-shim-runc-v2/process/init.go (delete) and utils.go
    // (checkKillError): "does not exist"; buildkit executor/runcexecutor: the whole
    // sentence; podman libpod/oci_conmon_common.go (UpdateContainerStatus).
    #[test]
    fn an_unknown_id_reads_as_engines_expect() {
        let unknown = || Error::new(Kind::NotFound, "no \"x\" here");
        assert_eq!(not_opened(unknown()).to_string(), "container does not exist");
        assert_eq!(not_signalled(unknown()).to_string(), "container does not exist");
    }

    // containerd process/utils.go (checkKillError), rust-extensions
    // runc-shim/common.rs, buildkit executor/runcexecutor.
    #[test]
    fn a_stopped_container_reads_as_engines_expect() {
        let stopped = Error::new(Kind::WrongState, "\"x\" has stopped");
        assert_eq!(not_signalled(stopped).to_string(), "container not running");
    }

    #[test]
    fn another_failure_keeps_its_own_text() {
        let refused = || Error::new(Kind::Permission, "opening the state");
        assert_eq!(not_opened(refused()).to_string(), "opening the state");
        assert_eq!(not_signalled(refused()).to_string(), "opening the state");
    }

    // runc exec.go: 255 and "exec failed: "; conmon src/conmon.c reads the code.
    #[test]
    fn exec_alone_fails_with_its_own_code() {
        let error = anyhow::anyhow!("x");
        let code = |verb| failure(verb, &error);
        assert_eq!((code("exec"), code("create"), code("")), (255, 1, 1));
        assert_eq!(prefix("exec"), "exec failed: ");
        assert!(prefix("create").ends_with(" create failed: "));
        assert_eq!(prefix("state"), "");
    }

    #[test]
    fn try_fails_like_a_shell_when_the_program_does() {
        let at = |pointer: &str| Place::Config(pointer.into());
        let code = |error: Error| failure("try", &error.into());
        assert_eq!(code(Error::new(Kind::NotFound, "x").at(at("/process/args/0"))), 127);
        assert_eq!(code(Error::new(Kind::Permission, "x").at(at("/process/args"))), 126);
        assert_eq!(code(Error::new(Kind::NotFound, "x").at(at("/mounts/0"))), 1);
        assert_eq!(code(Error::new(Kind::NotFound, "x")), 1);
    }
}
