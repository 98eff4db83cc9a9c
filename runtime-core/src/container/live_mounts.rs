//! Mounts of a container that runs: added and taken away.

use std::os::fd::AsFd;

use oci_spec::runtime::{Mount, Spec};
use orlop_init::sys;
use serde_json::Value;

use super::Container;
use super::state::State;
use crate::compile;
use crate::error::{Error, Kind, Place, Result};
use crate::host::HostFacts;
use crate::launch::{Kit, launch, owned};
use crate::plan::Plan;

/// How a plan for mounts is compiled.
type Compile = fn(&[Mount], &Spec, &HostFacts, &compile::Options) -> Result<Plan, Vec<Error>>;

impl Container {
    /// Makes mounts in the container, as its creation would have made them, in their
    /// order. When one fails those before it are taken away.
    ///
    /// # Errors
    /// [`Kind::WrongState`] when it is neither created nor running; what is wrong with a
    /// mount, with its place in `{"mounts": [...]}`; what the kernel refuses.
    pub fn add_mounts(&self, mounts: &[Mount]) -> Result<()> {
        let (_lock, container) = self.locked()?;
        if let Err(error) = container.change_mounts(mounts, compile::add_mounts) {
            let made = made_before(&error);
            if made > 0 {
                // What fails here is less than what has failed.
                let _ = container.change_mounts(&mounts[..made], compile::remove_mounts);
            }
            return Err(error);
        }
        container.keep_mounts(|kept| {
            kept.extend(mounts.iter().filter_map(|mount| serde_json::to_value(mount).ok()));
        })
    }

    /// Takes mounts away, by their destinations, the last one first.
    ///
    /// # Errors
    /// As [`Self::add_mounts`]'s; a destination where nothing is mounted, or that a link
    /// leads to: what it is may be changed by the container meanwhile.
    pub fn remove_mounts(&self, mounts: &[Mount]) -> Result<()> {
        let (_lock, container) = self.locked()?;
        container.change_mounts(mounts, compile::remove_mounts)?;
        container.keep_mounts(|kept| {
            for mount in mounts {
                let at = |one: &Value| {
                    one["destination"].as_str().is_some_and(|at| *mount.destination() == *at)
                };
                if let Some(index) = kept.iter().rposition(at) {
                    kept.remove(index);
                }
            }
        })
    }

    fn change_mounts(&self, mounts: &[Mount], compile: Compile) -> Result<()> {
        match self.state()? {
            State::Created | State::Running => {}
            State::Paused => {
                return Err(Error::new(Kind::WrongState, "cannot mount in a paused container"));
            }
            State::Creating | State::Stopped => {
                return Err(Error::new(Kind::WrongState, "container not running"));
            }
        }
        let (spec, host) = (self.kept_spec()?, HostFacts::probe()?);
        let options = self.record.options(0, &self.folder());
        let plan = compile(mounts, &spec, &host, &options).map_err(Error::all)?;
        let target = owned(sys::pidfd_open(self.record.pid))
            .map_err(|errno| Error::os(errno, "opening the container's init process"))?;
        if !self.record.is_alive()? {
            // The pidfd may be another process's.
            return Err(Error::new(Kind::WrongState, "container not running"));
        }
        let interrupt = self.store.interrupt.clone();
        let kit = Kit { target: Some(target.as_fd()), interrupt, ..Kit::default() };
        let mut child = launch(&plan, &kit)?;
        let state = |_, _| Ok(self.record.for_hooks(State::Running, self.record.pid));
        child.drive(&plan, &state, &self.record.bundle).map(drop)
    }

    /// What is mounted belongs into the config, from which a checkpoint is made.
    fn keep_mounts(&self, change: impl FnOnce(&mut Vec<Value>)) -> Result<()> {
        self.folder().change_config(|config| {
            if !config["mounts"].is_array() {
                config["mounts"] = Value::Array(Vec::new());
            }
            if let Some(mounts) = config["mounts"].as_array_mut() {
                change(mounts);
            }
        })
    }
}

/// How many mounts were made before the one that failed. The compiler makes none.
fn made_before(error: &Error) -> usize {
    match error.place() {
        Some(Place::Config(at)) if error.kind() != Kind::InvalidConfig => {
            let index = at.strip_prefix("/mounts/").and_then(|rest| rest.split('/').next());
            index.and_then(|index| index.parse().ok()).unwrap_or(0)
        }
        _ => 0,
    }
}
