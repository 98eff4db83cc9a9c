//! What a process has from whoever starts it, and CRIU leaves to its processes as it
//! finds it: a program that starts with these has children with them.
//!
//! A process of the container has them by the ops of its plan, from which they are taken.

use std::cell::Cell;
use std::ffi::CStr;

use orlop_init::sys::{self, Errno, abi};

use crate::plan::{Op, Plan};

/// As many processors as any kernel has (NR_CPUS).
const ALL: [u8; 1024] = [0xff; 1024];

/// What the first process of a container is to have.
#[derive(Debug, Default)]
pub(crate) struct Inherited<'a> {
    keyring: Option<&'a CStr>,
    personality: Option<u32>,
    io_priority: Option<u32>,
    memory_policy: Option<(u32, &'a [u8])>,
    /// The field of the config that is at its turn.
    turn: Cell<Option<&'static str>>,
}

impl<'a> Inherited<'a> {
    /// That of the container that a plan makes.
    pub(crate) fn of(plan: &'a Plan) -> Self {
        let mut this = Self::default();
        for (op, _) in plan.steps() {
            match *op {
                Op::Keyring { name } => this.keyring = Some(plan.str(name)),
                Op::Personality { persona } => this.personality = Some(persona),
                Op::IoPriority { priority } => this.io_priority = Some(priority),
                Op::MemoryPolicy { mode, nodes } => {
                    this.memory_policy = Some((mode, plan.bytes(nodes)));
                }
                _ => {}
            }
        }
        this
    }

    /// Takes it on. No groups: those that a process had are given back to it, but one
    /// that had none keeps what it begins with. Every processor: the cgroup says which.
    ///
    /// Nothing but system calls.
    pub(super) fn take(&self) -> Result<(), Errno> {
        sys::setgroups(&[])?;
        // As far as we are let.
        let _ = sys::sched_setaffinity(&ALL);
        self.turn.set(Some("/linux/personality"));
        self.personality.map_or(Ok(()), sys::personality)?;
        self.turn.set(Some("/process/ioPriority"));
        self.io_priority.map_or(Ok(()), sys::ioprio_set)?;
        self.turn.set(Some("/linux/memoryPolicy"));
        self.memory_policy.map_or(Ok(()), |(mode, nodes)| sys::set_mempolicy(mode, nodes))?;
        self.turn.set(None);
        match self.keyring.map(sys::join_session_keyring) {
            Some(Ok(key)) => sys::set_key_permissions(key, abi::KEY_SESSION),
            // A kernel without keys has none to be kept from anybody.
            None | Some(Err(Errno(abi::ENOSYS))) => Ok(()),
            Some(Err(errno)) => Err(errno),
        }
    }

    /// Which field of the config could not be taken on, after a failure.
    pub(crate) fn refused(&self) -> Option<&'static str> {
        self.turn.get()
    }
}
