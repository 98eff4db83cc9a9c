//! `delete`: what a container made is taken back, however its creation ended.

use std::os::fd::AsFd;
use std::path::Path;

use super::folder::{Folder, Lock, Remains};
use super::saver::Saver;
use super::state::{Phase, Record, State};
use super::{Container, Store, check_id};
use crate::bundle::Bundle;
use crate::cgroup::{Driver, Manager};
use crate::compile;
use crate::error::{Error, Kind, Result};
use crate::host::HostFacts;
use crate::launch::{Around, run_hooks, wait_readable};
use crate::plan::Hook;

/// How long a killed init may take to end, in milliseconds.
const PATIENCE: i64 = 10_000;

impl Container {
    /// Deletes a container that has ended or was never started.
    ///
    /// # Errors
    /// [`Kind::WrongState`] when it runs; what can't be removed.
    pub fn delete(&self) -> Result<()> {
        let (lock, container) = self.locked()?;
        container.end(lock, false)
    }

    /// Ends and deletes it whatever it is doing. That somebody else was quicker is
    /// fine, whatever has the id by now.
    fn end_by_force(&self) -> Result<()> {
        match self.locked_by_force() {
            Ok((lock, container)) => container.end(lock, true),
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes the container because a hook failed; that is told, this is logged.
    ///
    /// SPEC: runtime, "Lifecycle": after the error of steps 3 to 5, 7 and 9 the
    /// container is stopped and step 12 comes next.
    pub(super) fn take_down(&self) {
        if let Err(error) = self.end_by_force() {
            log::warn!("deleting the container after its hook failed: {error}");
        }
    }

    pub(super) fn end(&self, lock: Lock, force: bool) -> Result<()> {
        let hooks = self.take_back(force)?;
        drop(lock);
        // Without the lock, and when nothing is left: hooks may take for ever, and
        // nobody shall have to wait for them who wants the container gone.
        self.store.poststop(&self.record, &hooks);
        Ok(())
    }

    /// Takes back all that the container made. What is left to be done are its
    /// poststop hooks.
    fn take_back(&self, force: bool) -> Result<Vec<Hook>> {
        let state = self.state()?;
        match state {
            State::Stopped => {}
            // We have the lock, so its creator is gone; the init may not be.
            State::Creating | State::Created => self.kill_all()?,
            _ if force => self.kill_all()?,
            _ => {
                // COMPAT(runc): its words.
                let id = self.id();
                let words = format!("cannot delete container {id} that is not stopped: {state}");
                return Err(Error::new(Kind::WrongState, words));
            }
        }
        // It has lost whom it worked for, as we have the lock.
        self.record.saver.as_ref().map_or(Ok(()), Saver::end)?;
        if let Some(pidfd) = self.init()?
            && !wait_readable(pidfd.as_fd(), PATIENCE)?
        {
            return Err(Error::new(Kind::Timeout, "container init still running"));
        }
        let manager = self.record.manager();
        // systemd may have been asked for a cgroup that is still to come.
        let asked = self.record.phase == Phase::Creating && manager.needs_process();
        if asked || !manager.remove_empty() {
            let _held = manager.hold();
            remove_cgroup(&manager, self.is_over()?)?;
        }
        if let Some(class) = &self.record.intel_rdt {
            class.remove()?;
        }
        if self.record.root_mounted {
            self.folder().remove_root()?;
        }
        let hooks = match self.poststop_hooks() {
            Ok(hooks) => hooks,
            // Who deleted it was killed while the folder went, and hooks with it.
            Err(error) if error.kind() == Kind::NotFound => Vec::new(),
            Err(error) => {
                log::warn!("the poststop hooks are lost: {error}");
                Vec::new()
            }
        };
        self.folder().remove()?;
        Ok(hooks)
    }

    fn poststop_hooks(&self) -> Result<Vec<Hook>> {
        // Without an init no hook has run that they could take back.
        if !self.record.hooks.poststop || self.record.pid == 0 {
            return Ok(Vec::new());
        }
        compile::poststop(&self.kept_spec()?).map_err(Error::all)
    }
}

impl Store {
    /// SPEC: runtime, "Lifecycle", step 13: a hook that fails is warned of, and the
    /// others run all the same.
    pub(super) fn poststop(&self, record: &Record, hooks: &[Hook]) {
        if hooks.is_empty() {
            return;
        }
        let state = record.for_hooks(State::Stopped, 0);
        let (directory, interrupt) = (&record.bundle, self.interrupt());
        let around = Around { state: &state, directory, init: None, interrupt };
        for hook in hooks {
            if let Err(error) = run_hooks(std::slice::from_ref(hook), around) {
                log::warn!("{error}");
            }
        }
    }

    /// Deletes a container whatever it is doing and whatever is left of it. One
    /// that does not exist is fine.
    ///
    /// # Errors
    /// What can't be killed or removed.
    pub fn delete_force(&self, id: &str) -> Result<()> {
        check_id(id)?;
        match self.open(id) {
            Ok(container) => container.end_by_force(),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Internal) => {
                self.delete_remains(id)
            }
            Err(error) => Err(error),
        }
    }

    /// A folder without a record that can be read: its creator was killed before
    /// it wrote one, or it was changed. If there is a cgroup, what can be read of the
    /// record says where, or else the config.
    fn delete_remains(&self, id: &str) -> Result<()> {
        let folder = self.folder(id);
        let lock = match folder.lock() {
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            lock => lock?,
        };
        // While we waited it became whole.
        if self.open(id).is_ok() {
            drop(lock);
            return self.delete_force(id);
        }
        let (manager, class) = match folder.read_remains() {
            Some(Remains { cgroup, intel_rdt, saver }) => {
                saver.as_ref().map_or(Ok(()), Saver::end)?;
                (Some(Manager::from_record(cgroup)), intel_rdt)
            }
            None => (likely_manager(&folder, id)?, None),
        };
        if let Some(manager) = manager {
            let _held = manager.hold();
            remove_cgroup(&manager, !manager.is_marked(&lock.mark))?;
        }
        if let Some(class) = class {
            class.remove()?;
        }
        folder.remove()?;
        drop(lock);
        Ok(())
    }
}

/// The cgroup that the config asks for, if that is there and can be read.
fn likely_manager(folder: &Folder, id: &str) -> Result<Option<Manager>> {
    let config = folder.read_config().and_then(|bytes| Bundle::parse(&bytes));
    let Ok(config) = config else { return Ok(None) };
    let linux = config.value.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
    let host = HostFacts::probe()?;
    // Who made it is not known: a unit that is there tells.
    let manager = match Manager::new(&host, Driver::Systemd, path, id) {
        Ok(scope) if !scope.remove_empty() => scope,
        _ => Manager::new(&host, Driver::ByPath, path, id)?,
    };
    // Its creator may have stood elsewhere, which is nothing to a unit.
    if path.is_none_or(Path::is_relative)
        && !matches!(manager, Manager::Systemd(_))
        && let Some(group) = manager.groups().last()
    {
        let directory = group.directory();
        log::warn!("the container's state can't be read: its cgroup is taken to be {directory:?}");
    }
    Ok(Some(manager))
}

/// Removes a cgroup, with what the init left behind in a shared pid namespace. What
/// is in there when the container is `over` is another's, and so is the cgroup.
fn remove_cgroup(manager: &Manager, over: bool) -> Result<()> {
    if !over {
        manager.kill()?;
    } else if !manager.empties()? {
        if let Some(group) = manager.groups().last() {
            let directory = group.directory();
            log::warn!("the cgroup {directory:?} is left: it has processes of others in it");
        }
        return Ok(());
    }
    manager.remove()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_delete_is_fine() {
        let root = tempfile::tempdir().expect("a temporary folder");
        Store::new(root.path()).delete_force("none").expect("there is nothing");
    }
}
