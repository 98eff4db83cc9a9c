//! Hooks that run in the container's namespaces: a child, a deadline, a verdict.

use core::ffi::CStr;

use crate::plan::{Slot, Str, Strs};
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
    umask: u32,
    errno: i32,
}

/// Runs a hook with the state on its standard input, and fails if it does. What
/// it writes is kept aside and travels with the failure.
pub fn hook(stage: &Stage, path: Str, argv: Strs, envp: Strs, timeout: u32) -> Done {
    let state = stage.plan.slot(Slot::HOOK_STATE);
    sys::rewind(state).map_err(in_part(Part::Start))?;
    let output = sys::memfd_create(c"hook", abi::MFD_CLOEXEC).map_err(in_part(Part::Start))?;
    let mut launch = Launch {
        path: stage.plan.str(path),
        argv: pointers(stage, argv, None)?,
        envp: pointers(stage, envp, None)?,
        input: state,
        output,
        umask: stage.umask,
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
