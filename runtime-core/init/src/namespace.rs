//! Namespaces and cgroups: joining, making, and going on as init.

use crate::op::{GROUPS_IF_LET, GROUPS_LEFT, Op};
use crate::plan::{Plan, Slot, Words};
use crate::process;
use crate::run::{Done, Fail, Stage, in_part};
use crate::sys::{self, Errno, Fd, abi};
use crate::wire::{HEAD, Message, MessageKind, Part, TEXT_MAX};

/// Writes "0", which means the writer, to the list of each cgroup.
pub fn join_cgroups(stage: &Stage, slots: Words) -> Done {
    for slot in stage.plan.words(slots) {
        let fd = stage.plan.slot(Slot(slot));
        sys::write(fd, b"0").map_err(in_part(Part::Write))?;
        sys::close(fd);
    }
    Ok(())
}

/// Joins namespaces one by one. Which user namespace owns them is the kernel's
/// secret, so: first all we may from outside, then the user namespace, then the
/// rest from inside.
pub fn join(stage: &mut Stage, namespaces: Words) -> Done {
    let proc = proc_to_ask(stage.plan);
    let mut user = None;
    let mut later = false;
    for (slot, kind) in pairs(stage.plan, namespaces) {
        if kind == abi::CLONE_NEWUSER {
            user = Some(slot);
            continue;
        }
        match join_one(stage, slot, kind) {
            Err(Fail { errno: Errno(abi::EPERM), .. }) => later = true,
            result => result?,
        }
    }
    if let Some(slot) = user {
        join_one(stage, slot, abi::CLONE_NEWUSER)?;
        become_root(stage, GROUPS_LEFT)?;
        ask_groups(stage, proc);
    }
    if !later {
        return Ok(());
    }
    // Joining one a second time changes nothing.
    for (slot, kind) in pairs(stage.plan, namespaces) {
        if kind != abi::CLONE_NEWUSER {
            join_one(stage, slot, kind)?;
        }
    }
    Ok(())
}

fn pairs(plan: Plan<'static>, namespaces: Words) -> impl Iterator<Item = (u32, u32)> {
    let mut words = plan.words(namespaces);
    core::iter::from_fn(move || Some((words.next()?, words.next()?)))
}

fn join_one(stage: &mut Stage, slot: u32, kind: u32) -> Done {
    sys::setns(stage.plan.slot(Slot(slot)), kind).map_err(in_part(Part::Whole))?;
    if kind == abi::CLONE_NEWNS { open_root(stage) } else { Ok(()) }
}

/// Joins all of a process's namespaces in one call (KERNEL(<5.8): absent).
pub fn join_process(stage: &mut Stage, slot: Slot, kinds: u32) -> Done {
    let proc = proc_to_ask(stage.plan);
    sys::setns(stage.plan.slot(slot), kinds).map_err(in_part(Part::Whole))?;
    if kinds & abi::CLONE_NEWUSER != 0 {
        become_root(stage, GROUPS_LEFT)?;
        ask_groups(stage, proc);
    }
    if kinds & abi::CLONE_NEWNS != 0 { open_root(stage) } else { Ok(()) }
}

/// The host's procfs, if a user namespace is to be asked what it denies. What is at /proc
/// afterwards may be anybody's.
fn proc_to_ask(plan: Plan<'static>) -> Fd {
    let asks = |op| match op {
        Op::Ids { set_groups, .. } => set_groups == GROUPS_IF_LET,
        Op::BecomeRoot { groups } => groups == GROUPS_IF_LET,
        _ => false,
    };
    if !(0..plan.len()).filter_map(|index| plan.op(index)).any(asks) {
        return sys::NO_FD;
    }
    let flags = abi::O_PATH | abi::O_DIRECTORY | abi::O_CLOEXEC;
    sys::openat(abi::AT_FDCWD, c"/proc", flags).unwrap_or(sys::NO_FD)
}

/// What the kernel says of this very process. Where it says nothing, setgroups(2) has to
/// work.
fn ask_groups(stage: &mut Stage, proc: Fd) {
    if proc == sys::NO_FD {
        return;
    }
    let genuine = sys::fs_magic(proc) == Ok(abi::PROC_SUPER_MAGIC);
    let opened = sys::openat(proc, c"self/setgroups", abi::O_RDONLY | abi::O_CLOEXEC);
    if let Ok(fd) = opened {
        let mut said = [0; 4];
        stage.groups_denied = genuine && sys::read(fd, &mut said) == Ok(4) && said == *b"deny";
        sys::close(fd);
    }
    sys::close(proc);
}

fn open_root(stage: &mut Stage) -> Done {
    let flags = abi::O_PATH | abi::O_DIRECTORY | abi::O_CLOEXEC;
    stage.root = sys::openat(abi::AT_FDCWD, c"/", flags).map_err(in_part(Part::Open))?;
    Ok(())
}

/// Forks: the child goes on with the plan, the parent hands its pidfd to the
/// launcher and ends. The child is the launcher's own child (`CLONE_PARENT`).
pub fn clone_init(stage: &mut Stage, kinds: u32, index: u32) -> Done {
    let mut pidfd: Fd = sys::NO_FD;
    let args = abi::CloneArgs {
        flags: u64::from(abi::CLONE_PARENT | abi::CLONE_PIDFD | kinds),
        pidfd: core::ptr::from_mut(&mut pidfd) as u64,
        ..abi::CloneArgs::default()
    };
    let pid = sys::fork(&args).map_err(in_part(Part::Clone))?;
    if pid == 0 {
        return Ok(());
    }
    let message = Message { kind: MessageKind::Init, op: index, part: 0, number: pid, text: b"" };
    let mut buffer = [0; HEAD + TEXT_MAX];
    let length = message.write(&mut buffer);
    let bytes = buffer.get(..length).unwrap_or_default();
    match sys::send_fds(stage.plan.slot(Slot::CONTROL), bytes, &[pidfd]) {
        Ok(_) => sys::exit(0),
        Err(_) => {
            // Nobody would ever look after this child. One that takes back what it does
            // hears of that itself, and could do so no more.
            let plan = &stage.plan;
            if !(0..plan.len()).any(|index| matches!(plan.op(index), Some(Op::TakeBack {}))) {
                let _ = sys::pidfd_send_signal(pidfd, abi::SIGKILL);
            }
            sys::exit(1)
        }
    }
}

/// Root of the user namespace we are in.
pub fn become_root(stage: &Stage, groups: u32) -> Done {
    process::set_groups(stage, groups, &[])?;
    sys::setresgid(0).map_err(in_part(Part::Group))?;
    sys::setresuid(0).map_err(in_part(Part::User))
}

/// A process that unshares a time namespace stays outside; its children are in
/// it, and setns(2) takes it in too. The file is the kernel's own: this runs
/// before anything of the container is mounted.
pub fn enter_time() -> Done {
    let flags = abi::O_RDONLY | abi::O_CLOEXEC;
    let fd = sys::openat(abi::AT_FDCWD, c"/proc/self/ns/time_for_children", flags)
        .map_err(in_part(Part::Open))?;
    sys::setns(fd, abi::CLONE_NEWTIME).map_err(in_part(Part::Whole))?;
    sys::close(fd);
    Ok(())
}
