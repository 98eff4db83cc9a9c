//! The undo stack: what an operation made and must take back if it fails.

use super::folder::Folder;
use crate::cgroup::Manager;

/// Undone in reverse order when it is dropped, unless it was disarmed. A failure
/// of the undoing itself is logged: the caller is told what failed first.
#[derive(Default)]
pub(super) struct Undo {
    steps: Vec<Step>,
}

enum Step {
    Folder(Folder),
    Cgroup(Manager),
}

impl Undo {
    pub(super) fn folder(&mut self, folder: Folder) {
        self.steps.push(Step::Folder(folder));
    }

    pub(super) fn cgroup(&mut self, manager: Manager) {
        self.steps.push(Step::Cgroup(manager));
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
                // Hooks may have left processes there.
                Step::Cgroup(manager) => manager.kill().and_then(|()| manager.remove()),
            };
            if let Err(error) = result {
                log::warn!("cleaning up: {error}");
            }
        }
    }
}
