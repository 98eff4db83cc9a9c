//! Hooks of the runtime's namespaces (runtime-spec, config, "POSIX-platform
//! Hooks"): a program, the state on its standard input, a deadline, a verdict.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use orlop_init::sys::{self, abi};

use super::{memfd, owned, report, wait_readable};
use crate::error::{Error, Kind, Place, Result};
use crate::plan::Hook;

/// Most that an error quotes of what a hook wrote.
const OUTPUT_MAX: u64 = 4096;

/// Runs hooks in order, each with `state` on its standard input and `directory`
/// as its working directory; stops at the first that fails.
///
/// # Errors
/// [`Kind::Hook`]: it could not be started, failed, or ran past its timeout.
pub fn run(hooks: &[Hook], state: &[u8], directory: &Path) -> Result<()> {
    hooks.iter().try_for_each(|hook| {
        run_one(hook, state, directory)
            .map_err(|error| error.of_kind(Kind::Hook).at(Place::Config(hook.pointer.clone())))
    })
}

fn run_one(hook: &Hook, state: &[u8], directory: &Path) -> Result<()> {
    let io = |error: &std::io::Error, what| {
        Error::io(error, format!("error running {}: {what} {:?}", hook.name, hook.path))
    };
    let mut input = File::from(memfd(c"hook-state")?);
    input
        .write_all(state)
        .and_then(|()| input.rewind())
        .map_err(|error| io(&error, "passing the state to"))?;
    let mut output = File::from(memfd(c"hook-output")?);
    let streams = output.try_clone().and_then(|one| Ok((one, output.try_clone()?)));
    let (stdout, stderr) = streams.map_err(|error| io(&error, "keeping the output of"))?;
    let mut command = Command::new(&hook.path);
    std::os::unix::process::CommandExt::arg0(&mut command, &hook.args[0]);
    command.args(&hook.args[1..]).env_clear().current_dir(directory);
    command.envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    command.stdin(Stdio::from(input)).stdout(stdout).stderr(stderr);
    let mut child = command.spawn().map_err(|error| io(&error, "starting"))?;
    let status = wait(&mut child, hook)?;
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

fn wait(child: &mut Child, hook: &Hook) -> Result<i32> {
    if let Some(seconds) = hook.timeout {
        let pid = child.id().cast_signed();
        let pidfd = owned(sys::pidfd_open(pid)).map_err(|errno| Error::os(errno, "pidfd_open"))?;
        let limit = Duration::from_secs(u64::from(seconds));
        let milliseconds = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        if !wait_readable(pidfd.as_fd(), milliseconds)? {
            let _ = sys::pidfd_send_signal(pidfd.as_raw_fd(), abi::SIGKILL);
            let _ = child.wait();
            // COMPAT(runc): its own words.
            let words = format!(
                "error running {}: hook ran past specified timeout of {seconds}.0s",
                hook.name
            );
            return Err(Error::new(Kind::Hook, words));
        }
    }
    let status = child.wait().map_err(|error| Error::io(&error, "waiting for a hook"))?;
    Ok(status.into_raw())
}
