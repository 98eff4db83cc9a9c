//! Hooks of the runtime's namespaces (runtime-spec, config, "POSIX-platform
//! Hooks"): a program, the state on its standard input, a deadline, a verdict.

use std::ffi::CString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use orlop_init::sys::{self, Errno};

use super::program::{Program, printed};
use super::{interrupted, kill, memfd, report, wait_any};
use crate::error::{Error, Kind, Place, Result};
use crate::plan::Hook;

/// Most that an error quotes of what a hook wrote.
const OUTPUT_MAX: u64 = 4096;

/// What hooks are run with.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// What each reads on its standard input.
    pub state: &'a [u8],
    /// Their working directory; "/" if that is gone.
    pub directory: &'a Path,
    /// A pidfd of the process without which there is nothing left to do for them:
    /// when it ends, so does the hook.
    pub init: Option<BorrowedFd<'a>>,
    /// Readable when the caller wants no more of it: the hook ends then, and this is
    /// read.
    pub interrupt: Option<BorrowedFd<'a>>,
}

/// Runs hooks in order; stops at the first that fails.
///
/// # Errors
/// [`Kind::Hook`]: it could not be started, failed, or ran past its timeout;
/// [`Kind::ChildDied`]: the process that it ran for did; [`Kind::Interrupted`].
pub fn run(hooks: &[Hook], around: Around<'_>) -> Result<()> {
    hooks.iter().try_for_each(|hook| run_one(hook, around))
}

fn run_one(hook: &Hook, around: Around<'_>) -> Result<()> {
    run_anywhere(hook, around).map_err(|error| {
        let error = match error.kind() {
            Kind::ChildDied | Kind::Interrupted => error,
            _ => error.of_kind(Kind::Hook),
        };
        error.at(Place::Config(hook.pointer.clone()))
    })
}

fn run_anywhere(hook: &Hook, around: Around<'_>) -> Result<()> {
    let failed = |errno, what| {
        Error::os(errno, format!("error running {}: {what} {:?}", hook.name, hook.path))
    };
    let io = |error: &std::io::Error, what| failed(error.raw_os_error().unwrap_or(0), what);
    // Copies have numbers above the standard streams'.
    let mut input = File::from(memfd(c"hook-state")?);
    let copy = input.write_all(around.state).and_then(|()| input.rewind());
    let input = copy
        .and_then(|()| input.try_clone())
        .map_err(|error| io(&error, "passing the state to"))?;
    let output = File::from(memfd(c"hook-output")?);
    let output = output.try_clone().map_err(|error| io(&error, "keeping the output of"))?;
    let nul = |_| failed(libc::EINVAL, "starting");
    let strings = |strings: &[String]| -> Result<Vec<CString>> {
        strings.iter().map(|one| CString::new(one.as_bytes()).map_err(nul)).collect()
    };
    let (arguments, environment) = (strings(&hook.args)?, strings(&hook.env)?);
    let path = CString::new(hook.path.as_os_str().as_bytes()).map_err(nul)?;
    // The bundle may be gone when there is something left to undo.
    let directory = directory(around.directory).or_else(|_| directory(Path::new("/")));
    let directory = directory.map_err(|error| io(&error, "finding a directory for"))?;
    let program = Program {
        path: &path,
        arguments: &arguments,
        environment: &environment,
        directory: Some(directory.as_fd()),
        given: &[input.as_fd(), output.as_fd(), output.as_fd()],
        mount: None,
        ends_with_us: false,
        inherited: None,
    };
    let (pid, pidfd) = program.start().map_err(|errno| failed(errno, "starting"))?;
    let status = wait(pid, &pidfd, hook, around)?;
    if status == 0 {
        return Ok(());
    }
    let (why, tail) = (report::status(status), printed(output, OUTPUT_MAX));
    Err(Error::new(Kind::Hook, format!("error running {}: {why}{tail}", hook.name)))
}

fn directory(path: &Path) -> std::io::Result<File> {
    File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)
}

fn wait(pid: i32, pidfd: &OwnedFd, hook: &Hook, around: Around<'_>) -> Result<i32> {
    let limit = hook.timeout.map_or(-1, |seconds| i64::from(seconds) * 1000);
    let name = &hook.name;
    let why = match wait_any(&[Some(pidfd.as_fd()), around.init, around.interrupt], limit) {
        Ok(Some(0)) => {
            return sys::wait(pid).map_err(|Errno(errno)| Error::os(errno, "waiting for a hook"));
        }
        Ok(Some(1)) => {
            let words = format!("error running {name}: the container's process died meanwhile");
            Error::new(Kind::ChildDied, words)
        }
        Ok(Some(_)) => interrupted(around.interrupt, format!("error running {name}")),
        Ok(None) => {
            // COMPAT(runc): its own words.
            let seconds = hook.timeout.unwrap_or_default();
            let words =
                format!("error running {name}: hook ran past specified timeout of {seconds}.0s");
            Error::new(Kind::Hook, words)
        }
        Err(error) => error,
    };
    kill(pid, pidfd.as_fd());
    Err(why)
}
