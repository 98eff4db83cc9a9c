//! What a process has from whoever starts it, and CRIU leaves to its processes as it
//! finds it: a program that starts with these has children with them.
//!
//! A process of the container has them by the ops of its plan, from which they are taken;
//! what the plan leaves to the caller is the caller's here too.

use std::cell::Cell;
use std::ffi::CStr;

use orlop_init::sys::{self, Errno, abi};

use crate::error::{Error, Place};
use crate::plan::{Fill, Op, Plan};

/// What the first process of a container is to have.
#[derive(Debug)]
pub(crate) struct Inherited<'a> {
    plan: &'a Plan,
    /// Whether later processes of the container find the keyring by its name: names are
    /// of a user namespace each, and this one is made outside.
    named_keyring: bool,
    /// What is at its turn.
    turn: Cell<Turn>,
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    Groups,
    /// The number of the op.
    Op(usize),
    Over,
}

impl<'a> Inherited<'a> {
    /// That of the container that a plan makes.
    pub(crate) fn of(plan: &'a Plan) -> Self {
        let user = |fill: &Fill| matches!(fill, Fill::Namespace { kind: abi::CLONE_NEWUSER, .. });
        let named_keyring = plan.outside.maps.is_none() && !plan.fills().iter().any(user);
        Self { plan, named_keyring, turn: Cell::new(Turn::Over) }
    }

    /// Takes it on. No groups: those that a process had are given back to it, but one
    /// that had none keeps what it begins with. Every processor: the cgroup says which.
    ///
    /// Nothing but system calls.
    pub(super) fn take(&self) -> Result<(), Errno> {
        self.turn.set(Turn::Groups);
        sys::setgroups(&[])?;
        // As far as we are let.
        let _ = sys::sched_setaffinity(&abi::EVERY_PROCESSOR);
        for (index, (op, _)) in self.plan.steps().enumerate() {
            self.turn.set(Turn::Op(index));
            match *op {
                Op::Personality { persona } => sys::personality(persona)?,
                Op::IoPriority { priority } => sys::ioprio_set(priority)?,
                Op::MemoryPolicy { mode, nodes } => {
                    sys::set_mempolicy(mode, self.plan.bytes(nodes))?;
                }
                Op::Keyring { name } => {
                    self.keyring(self.plan.str(name))?;
                }
                _ => {}
            }
        }
        self.turn.set(Turn::Over);
        Ok(())
    }

    fn keyring(&self, name: &CStr) -> Result<(), Errno> {
        match sys::join_session_keyring(self.named_keyring.then_some(name)) {
            Ok(0) => Ok(()),
            Ok(key) => sys::set_key_permissions(key, abi::KEY_SESSION),
            // A kernel without keys has none to be kept from anybody.
            Err(Errno(abi::ENOSYS)) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// A failure of what could not be taken on; `None` if all was.
    pub(crate) fn failure(&self, errno: i32) -> Option<Error> {
        match self.turn.get() {
            Turn::Groups => Some(Error::os(errno, "giving up the supplementary groups")),
            Turn::Op(index) => {
                let origin = self.plan.origin(index)?;
                let error = Error::os(errno, origin.doing.clone());
                Some(match &*origin.pointer {
                    "" => error,
                    pointer => error.at(Place::Config(pointer.to_owned())),
                })
            }
            Turn::Over => None,
        }
    }
}
