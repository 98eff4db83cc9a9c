//! Hooks that run in the container's namespaces: a child, a deadline, a verdict.

use core::ffi::CStr;

use crate::op::{HOOK_HOME, HOOK_IN_ROOT};
use crate::plan::{Bytes, Slot, Str, Strs};
use crate::run::{Done, Fail, Stage, in_part};
use crate::sys::{self, Errno, Fd, NO_FD, abi};
use crate::wire::Part;

/// What the child needs; it shares our memory until it executes the program.
struct Launch {
    path: &'static CStr,
    argv: &'static [usize],
    envp: &'static [usize],
    input: Fd,
    output: Fd,
    /// Where it shall be, if not where we are.
    directory: Fd,
    umask: u32,
    filter: &'static [u8],
    flags: u32,
    errno: i32,
}

/// The op's operands.
#[derive(Clone, Copy)]
pub struct Wanted {
    pub path: Str,
    pub argv: Strs,
    pub envp: Strs,
    pub timeout: u32,
    pub like: u32,
    pub filter: Bytes,
    pub flags: u32,
}

/// Runs a hook with the state on its standard input, and fails if it does. What
/// it writes is kept aside and travels with the failure.
pub fn hook(stage: &Stage, wanted: &Wanted) -> Done {
    let Wanted { path, argv, envp, timeout, like, filter, flags } = *wanted;
    let home = if like & HOOK_HOME != 0 { stage.home.entry() } else { None };
    let state = stage.plan.slot(Slot::HOOK_STATE);
    sys::rewind(state).map_err(in_part(Part::Start))?;
    let output = sys::memfd_create(c"hook", abi::MFD_CLOEXEC).map_err(in_part(Part::Start))?;
    let mut launch = Launch {
        path: stage.plan.str(path),
        argv: pointers(stage, argv, None)?,
        envp: pointers(stage, envp, home)?,
        directory: if like & HOOK_IN_ROOT != 0 { stage.root } else { NO_FD },
        input: state,
        output,
        umask: stage.umask,
        filter: stage.plan.bytes(filter),
        flags,
        errno: 0,
    };
    let mut pidfd: Fd = NO_FD;
    let mut args = abi::CloneArgs {
        flags: u64::from(abi::CLONE_PIDFD),
        pidfd: core::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: abi::SIGCHLD,
        ..abi::CloneArgs::default()
    };
    let mut stack = [0u64; 512];
    let pid = sys::vfork(&mut args, &mut stack, become_hook, &mut launch)
        .map_err(in_part(Part::Start))?;
    if launch.errno != 0 {
        let _ = sys::wait(pid);
        return Err(Fail::new(Part::Start, launch.errno).text(launch.path));
    }
    let milliseconds = if timeout == 0 { -1 } else { i64::from(timeout) };
    let failed = |part, number| Fail { part, errno: Errno(number), text: b"", log: output };
    if !sys::wait_readable(pidfd, milliseconds).map_err(in_part(Part::Start))? {
        let _ = sys::pidfd_send_signal(pidfd, abi::SIGKILL);
        let _ = sys::wait(pid);
        return Err(failed(Part::TimedOut, 0));
    }
    sys::close(pidfd);
    let status = sys::wait(pid).map_err(in_part(Part::Start))?;
    if status != 0 {
        let _ = sys::rewind(output);
        return Err(failed(Part::Died, status));
    }
    sys::close(output);
    Ok(())
}

fn become_hook(launch: &mut Launch) -> ! {
    sys::umask(launch.umask); // its own: only memory is shared
    let mut result = sys::dup3(launch.input, 0, 0);
    for stream in 1..3 {
        result = result.and_then(|()| sys::dup3(launch.output, stream, 0));
    }
    if launch.directory != NO_FD {
        result = result.and_then(|()| sys::fchdir(launch.directory));
    }
    if !launch.filter.is_empty() {
        result = result.and_then(|()| sys::seccomp(launch.flags, launch.filter).map(drop));
    }
    launch.errno = match result {
        Ok(()) => sys::execve(launch.path, launch.argv, launch.envp).0,
        Err(errno) => errno.0,
    };
    sys::exit(1)
}

/// The array of pointers that execve(2) wants, with one more entry if given.
pub fn pointers(stage: &Stage, strs: Strs, more: Option<&CStr>) -> Done<&'static [usize]> {
    let array = sys::map_words(strs.len as usize + 2).map_err(in_part(Part::Whole))?;
    let all = stage.plan.strs(strs).chain(more);
    let mut count = 0;
    for (place, str) in array.iter_mut().zip(all) {
        *place = str.as_ptr() as usize;
        count += 1;
    }
    Ok(array.get(..=count).unwrap_or(&[0]))
}
