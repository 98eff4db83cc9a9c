//! Mounts of a container that runs: added and taken away.

use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::runtime::{Mount, Spec};
use orlop_init::sys;
use orlop_init::wire::MountId;
use serde_json::Value;

use super::Container;
use super::mounted::{self, Mounted};
use super::state::State;
use crate::compile;
use crate::error::{Error, Kind, Result};
use crate::host::HostFacts;
use crate::launch::{Child, Kit, launch, owned};
use crate::plan::Plan;

impl Container {
    /// Makes mounts in the container, as its creation would have made them, in their
    /// order: all of them or none. What a `remount` among them has changed stays.
    ///
    /// # Errors
    /// [`Kind::WrongState`] when it is neither created nor running; what is wrong with a
    /// mount, with its place in `{"mounts": [...]}`; what the kernel refuses; the record
    /// can't be written.
    pub fn add_mounts(&self, mounts: &[Mount]) -> Result<()> {
        let (_lock, container) = self.locked()?;
        let (spec, host, options) = container.for_mounts()?;
        let plan = compile::add_mounts(mounts, &spec, &host, &options).map_err(Error::all)?;
        let mut child = container.launch_mounts(&plan)?;
        let made = container.drive_mounts(&plan, &mut child);
        // It waits for our word meanwhile, and takes all back without it.
        let kept = made.and_then(|()| {
            let folder = container.folder();
            let mut record = container.record.clone();
            record.mounts.extend(mounted::made(&plan, child.mounts(), mounts));
            let mut config = folder.config_value()?;
            let added = mounts.iter().filter_map(|mount| serde_json::to_value(mount).ok());
            list(&mut config, |kept| kept.extend(added));
            let drafts = (folder.draft(&record)?, folder.draft_config(&config)?);
            drafts.0.commit()?;
            drafts.1.commit()
        });
        match kept {
            Ok(()) => child.accept(),
            Err(_) => child.refuse(),
        }
        kept
    }

    /// Takes mounts away, by their destinations, the last one first: those of the config
    /// and those of [`Self::add_mounts`], with all that is mounted on them.
    ///
    /// # Errors
    /// As [`Self::add_mounts`]'s; a destination where nothing is mounted, or what nobody
    /// has asked for, or that a link leads to: what it is may be changed by the container
    /// meanwhile. Of a restored container's mounts at one place the last alone is known.
    pub fn remove_mounts(&self, mounts: &[Mount]) -> Result<()> {
        let (_lock, container) = self.locked()?;
        let (spec, host, options) = container.for_mounts()?;
        let known: Vec<MountId> = container.record.mounts.iter().map(Mounted::id).collect();
        let plan = compile::remove_mounts(mounts, &known, &spec, &host, &options);
        let plan = plan.map_err(Error::all)?;
        let folder = container.folder();
        let (mut record, mut config) = (container.record.clone(), folder.config_value()?);
        // First of all room for what is kept, since nothing is mounted again.
        let mut drafts = (folder.draft(&record)?, folder.draft_config(&config)?);
        let mut child = container.launch_mounts(&plan)?;
        let removed = container.drive_mounts(&plan, &mut child);
        for (_, id) in child.mounts() {
            let Some(index) = record.mounts.iter().position(|one| one.id() == *id) else {
                continue;
            };
            let Mounted { destination, .. } = record.mounts.remove(index);
            list(&mut config, |kept| forget(kept, &destination));
        }
        if child.mounts().is_empty() {
            return removed;
        }
        let kept = record.bytes().and_then(|bytes| drafts.0.fill(&bytes));
        let kept = kept.and_then(|()| drafts.1.fill(config.to_string().as_bytes()));
        let kept = kept.and_then(|()| drafts.0.commit()).and_then(|()| drafts.1.commit());
        removed.and(kept)
    }

    /// What a plan for its mounts is compiled with.
    fn for_mounts(&self) -> Result<(Spec, HostFacts, compile::Options)> {
        match self.state()? {
            State::Created | State::Running => {}
            State::Paused => {
                return Err(Error::new(Kind::WrongState, "cannot mount in a paused container"));
            }
            State::Creating | State::Stopped => {
                return Err(Error::new(Kind::WrongState, "container not running"));
            }
        }
        let options = self.record.options(0, &self.folder());
        Ok((self.kept_spec()?, HostFacts::probe()?, options))
    }

    fn launch_mounts(&self, plan: &Plan) -> Result<Child> {
        let target = owned(sys::pidfd_open(self.record.pid))
            .map_err(|errno| Error::os(errno, "opening the container's init process"))?;
        if !self.record.is_alive()? {
            // The pidfd may be another process's.
            return Err(Error::new(Kind::WrongState, "container not running"));
        }
        let interrupt = self.store.interrupt.clone();
        let kit = Kit { target: Some(target.as_fd()), interrupt, ..Kit::default() };
        launch(plan, &kit)
    }

    fn drive_mounts(&self, plan: &Plan, child: &mut Child) -> Result<()> {
        let state = |_, _| Ok(self.record.for_hooks(State::Running, self.record.pid));
        child.drive(plan, &state, &self.record.bundle).map(drop)
    }
}

/// Changes the mounts of a config: what is mounted belongs there, from which a checkpoint
/// is made.
fn list(config: &mut Value, change: impl FnOnce(&mut Vec<Value>)) {
    if !config["mounts"].is_array() {
        config["mounts"] = Value::Array(Vec::new());
    }
    if let Some(mounts) = config["mounts"].as_array_mut() {
        change(mounts);
    }
}

/// Removes the last entry that has mounted something there, and what has changed that
/// since.
fn forget(mounts: &mut Vec<Value>, destination: &Path) {
    let at = |one: &Value| one["destination"].as_str().is_some_and(|at| *destination == *at);
    let remount = |one: &Value| {
        let options = one["options"].as_array();
        options.is_some_and(|options| options.iter().any(|option| option == "remount"))
    };
    let Some(index) = mounts.iter().rposition(|one| at(one) && !remount(one)) else { return };
    let later = mounts.split_off(index);
    mounts.extend(later.into_iter().filter(|one| !at(one)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_mount_goes_what_has_changed_it() {
        let entry =
            |at: &str, option: &str| serde_json::json!({ "destination": at, "options": [option] });
        let mut mounts =
            vec![entry("/a", "ro"), entry("/a", "rw"), entry("/b", "rw"), entry("/a", "remount")];
        forget(&mut mounts, "/a".as_ref());
        assert_eq!(mounts, [entry("/a", "ro"), entry("/b", "rw")]);
        forget(&mut mounts, "/c".as_ref());
        forget(&mut mounts, "/a".as_ref());
        assert_eq!(mounts, [entry("/b", "rw")]);
    }
}
