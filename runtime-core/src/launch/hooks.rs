//! Hooks of the runtime's namespaces (runtime-spec, config, "POSIX-platform
//! Hooks"): a program, the state on its standard input, a deadline, a verdict.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use orlop_init::sys;

use super::{interrupted, kill, memfd, owned, report, wait_any};
use crate::error::{Error, Kind, Place, Result};
use crate::plan::Hook;

/// Most that an error quotes of what a hook wrote.
const OUTPUT_MAX: u64 = 4096;

/// What hooks are run with.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// What each reads on its standard input.
    pub state: &'a [u8],
    /// Their working directory.
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
    let io = |error: &std::io::Error, what| {
        Error::io(error, format!("error running {}: {what} {:?}", hook.name, hook.path))
    };
    let mut input = File::from(memfd(c"hook-state")?);
    input
        .write_all(around.state)
        .and_then(|()| input.rewind())
        .map_err(|error| io(&error, "passing the state to"))?;
    let mut output = File::from(memfd(c"hook-output")?);
    let streams = output.try_clone().and_then(|one| Ok((one, output.try_clone()?)));
    let (stdout, stderr) = streams.map_err(|error| io(&error, "keeping the output of"))?;
    let mut command = Command::new(&hook.path);
    std::os::unix::process::CommandExt::arg0(&mut command, &hook.args[0]);
    command.args(&hook.args[1..]).env_clear().current_dir(around.directory);
    command.envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    command.stdin(Stdio::from(input)).stdout(stdout).stderr(stderr);
    let mut child = command.spawn().map_err(|error| io(&error, "starting"))?;
    let status = wait(&mut child, hook, around)?;
    if status == 0 {
        return Ok(());
    }
    let mut text = Vec::new();
    let read = output.rewind().and_then(|()| output.take(OUTPUT_MAX).read_to_end(&mut text));
    let text = read.map(|_| String::from_utf8_lossy(&text).trim().to_owned()).unwrap_or_default();
    let tail = if text.is_empty() { String::new() } else { format!(", output: {text:?}") };
    let why = report::status(status);
    Err(Error::new(Kind::Hook, format!("error running {}: {why}{tail}", hook.name)))
}

fn wait(child: &mut Child, hook: &Hook, around: Around<'_>) -> Result<i32> {
    let pid = child.id().cast_signed();
    let pidfd = owned(sys::pidfd_open(pid)).map_err(|errno| {
        let _ = child.kill().and_then(|()| child.wait());
        Error::os(errno, format!("error running {}: opening its process", hook.name))
    })?;
    let limit = hook.timeout.map_or(-1, |seconds| i64::from(seconds) * 1000);
    let name = &hook.name;
    let why = match wait_any(&[Some(pidfd.as_fd()), around.init, around.interrupt], limit)? {
        Some(0) => {
            let status = child.wait().map_err(|error| Error::io(&error, "waiting for a hook"))?;
            return Ok(status.into_raw());
        }
        Some(1) => {
            let words = format!("error running {name}: the container's process died meanwhile");
            Error::new(Kind::ChildDied, words)
        }
        Some(_) => interrupted(around.interrupt, format!("error running {name}")),
        None => {
            // COMPAT(runc): its own words.
            let seconds = hook.timeout.unwrap_or_default();
            let words =
                format!("error running {name}: hook ran past specified timeout of {seconds}.0s");
            Error::new(Kind::Hook, words)
        }
    };
    kill(pid, pidfd.as_fd());
    Err(why)
}
