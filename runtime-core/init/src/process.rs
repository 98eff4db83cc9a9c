//! The process itself: descriptors, session, ids, capabilities, filter.

use core::ffi::CStr;

use crate::op::{GROUPS_IF_LET, GROUPS_LEFT};
use crate::plan::{Bytes, Gate, Words};
use crate::run::{Done, Fail, Stage, in_part};
use crate::sys::{self, Errno, abi};
use crate::wire::Part;

/// Number of the highest capability a kernel can have (64-bit sets).
const CAP_LIMIT: u32 = 64;

/// Closes all but the standard streams, the preserved and the slots', and marks
/// the slots' so that no program inherits them.
pub fn keep_fds(stage: &Stage, preserve: u32) -> Done {
    let whole = in_part(Part::Whole);
    let first = 3 + preserve;
    let mut low = first;
    loop {
        let next = stage
            .plan
            .slots()
            .filter_map(|fd| u32::try_from(fd).ok())
            .filter(|fd| *fd >= low)
            .min();
        match next {
            Some(next) => {
                if next > low {
                    sys::close_range(low, next - 1, 0).map_err(&whole)?;
                }
                low = next + 1;
            }
            None => {
                sys::close_range(low, u32::MAX, 0).map_err(&whole)?;
                return sys::close_range(first, u32::MAX, abi::CLOSE_RANGE_CLOEXEC).map_err(whole);
            }
        }
    }
}

/// A session of its own, and every signal as after boot: dispositions and masks
/// survive exec, and the embedder's are not the container's.
pub fn session(stage: &mut Stage) -> Done {
    sys::reset_signals();
    // COMPAT(runc): a container that waits for its start can be asked to end, which
    // process 1 of a pid namespace does not hear by itself.
    sys::signal::ENDING.into_iter().for_each(sys::signal::end_on);
    stage.umask = sys::umask(0); // modes in the plan are meant as they are
    sys::setsid().map_err(in_part(Part::Whole))
}

/// Closes /proc/PID/{fd,exe,cwd,root,mem} of this process to the container.
pub fn undumpable() -> Done {
    sys::prctl(abi::PR_SET_DUMPABLE, 0, 0, 0).map_err(in_part(Part::Whole)).map(drop)
}

/// A session keyring that the container's root may search (keyctl(2)). With a kernel
/// without keys it goes without: runc does the same.
pub fn keyring(name: &CStr) -> Done {
    match sys::join_session_keyring(Some(name)) {
        Ok(0) => Ok(()),
        Ok(key) => {
            sys::set_key_permissions(key, abi::KEY_SESSION).map_err(in_part(Part::SetAttributes))
        }
        Err(Errno(abi::ENOSYS)) => Ok(()),
        Err(errno) => Err(Fail { errno, ..Fail::new(Part::Whole, 0) }),
    }
}

/// /proc/self/oom_score_adj of the host's /proc: before any of ours is mounted.
pub fn oom_score(value: &CStr) -> Done {
    let fd =
        sys::openat(abi::AT_FDCWD, c"/proc/self/oom_score_adj", abi::O_WRONLY | abi::O_CLOEXEC)
            .map_err(in_part(Part::Open))?;
    sys::write(fd, value.to_bytes()).map_err(in_part(Part::Write))?;
    sys::close(fd);
    Ok(())
}

/// The processors of `mask`; all of the cgroup without one, as far as we are let.
pub fn affinity(mask: &[u8]) -> Done {
    if mask.is_empty() {
        let _ = sys::sched_setaffinity(&abi::EVERY_PROCESSOR);
        return Ok(());
    }
    sys::sched_setaffinity(mask).map_err(in_part(Part::Whole))
}

/// Drops from the bounding set what is not to be kept. A number the kernel does
/// not know ends the list.
pub fn bounding(keep: u64) -> Done {
    for capability in 0..CAP_LIMIT {
        if keep >> capability & 1 == 1 {
            continue;
        }
        match sys::prctl(abi::PR_CAPBSET_DROP, capability as usize, 0, 0) {
            Ok(_) => {}
            Err(Errno(abi::EINVAL)) => break,
            Err(errno) => return Err(Fail { errno, ..Fail::new(Part::Drop, 0) }),
        }
    }
    Ok(())
}

/// Groups, group, user; in this order, because only root may do the first two.
pub fn ids(stage: &Stage, uid: u32, gid: u32, groups: Words, how: u32) -> Done {
    sys::prctl(abi::PR_SET_KEEPCAPS, 1, 0, 0).map_err(in_part(Part::Whole))?;
    let groups = Bytes { at: groups.at, len: groups.len.saturating_mul(4) };
    set_groups(stage, how, stage.plan.bytes(groups))?;
    sys::setresgid(gid).map_err(in_part(Part::Group))?;
    sys::setresuid(uid).map_err(in_part(Part::User))
}

/// These groups, as an op says `how`.
///
/// COMPAT(runc): a namespace that denies it leaves the caller's where none are asked for.
/// A filter may answer EPERM, too: that is no reason to keep them.
pub fn set_groups(stage: &Stage, how: u32, groups: &[u8]) -> Done {
    if how == GROUPS_LEFT {
        return Ok(());
    }
    match sys::setgroups(groups) {
        Err(Errno(abi::EPERM)) if how == GROUPS_IF_LET && stage.groups_denied => {
            if groups.is_empty() { Ok(()) } else { Err(Fail::new(Part::GroupsDenied, abi::EPERM)) }
        }
        result => result.map_err(in_part(Part::Groups)),
    }
}

/// Exactly these sets; ambient ones last, since they need the other two.
pub fn capabilities(effective: u64, permitted: u64, inheritable: u64, ambient: u64) -> Done {
    sys::prctl(abi::PR_SET_KEEPCAPS, 0, 0, 0).map_err(in_part(Part::Whole))?;
    let half = |shift: u32| abi::CapData {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    // Lowering the inheritable set takes the ambient ones along; what a launcher
    // raised to get here must not survive.
    sys::prctl(abi::PR_CAP_AMBIENT, abi::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0)
        .map_err(in_part(Part::Whole))?;
    sys::capset(&[half(0), half(32)]).map_err(in_part(Part::Whole))?;
    for capability in (0..CAP_LIMIT).filter(|capability| ambient >> capability & 1 == 1) {
        sys::prctl(abi::PR_CAP_AMBIENT, abi::PR_CAP_AMBIENT_RAISE, capability as usize, 0)
            .map_err(in_part(Part::SetAttributes))?;
    }
    Ok(())
}

/// Installs the filter. The launcher fetches the listener by its number while we
/// wait at a gate, so the filter must allow read and write.
pub fn seccomp(stage: &mut Stage, program: &[u8], flags: u32, notify: bool, index: u32) -> Done {
    let listener = sys::seccomp(flags, program).map_err(in_part(Part::Whole))?;
    if notify {
        stage.wait_for(Gate::Listener, index, listener.cast_unsigned())?;
        sys::close(listener);
    }
    Ok(())
}
