//! The undo stack: what an operation made and must take back if it fails.

use std::os::fd::BorrowedFd;

use super::folder::Folder;
use crate::cgroup::{Claim, Manager};
use crate::resctrl::Class;

/// Undone in reverse order when it is dropped, unless it was disarmed. A failure
/// of the undoing itself is logged: the caller is told what failed first.
#[derive(Default)]
pub(super) struct Undo {
    steps: Vec<Step>,
}

enum Step {
    Folder(Folder),
    // Nobody else's processes are in there while it is claimed.
    Cgroup(Manager, Option<Claim>),
    Class(Class),
}

impl Undo {
    pub(super) fn folder(&mut self, folder: Folder) {
        self.steps.push(Step::Folder(folder));
    }

    pub(super) fn cgroup(&mut self, manager: Manager, claim: Option<Claim>) {
        self.steps.push(Step::Cgroup(manager, claim));
    }

    pub(super) fn class(&mut self, class: Class) {
        self.steps.push(Step::Class(class));
    }

    /// The directory of the cgroup that is claimed.
    pub(super) fn cgroup_directory(&self) -> Option<BorrowedFd<'_>> {
        self.steps.iter().find_map(|step| match step {
            Step::Cgroup(_, claim) => claim.as_ref().map(Claim::directory),
            Step::Folder(_) | Step::Class(_) => None,
        })
    }

    /// The operation has succeeded.
    pub(super) fn disarm(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for step in self.steps.drain(..).rev() {
            let result = match &step {
                Step::Folder(folder) => folder.remove(),
                Step::Class(class) => class.undo(),
                // The first needs no descriptor, of which there may be none left.
                Step::Cgroup(manager, _) if manager.remove_empty() => Ok(()),
                // Hooks may have left processes there.
                Step::Cgroup(manager, _) => manager.kill().and_then(|()| manager.remove()),
            };
            if let Err(error) = result {
                log::warn!("cleaning up: {error}");
            }
        }
    }
}
