//! `pause`, `resume` and `update`: changes of a running container's cgroup.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxIntelRdt, LinuxMemory, LinuxResources};

use super::Container;
use super::folder::Draft;
use super::state::State;
use crate::cgroup::{Manager, Settings};
use crate::error::{Error, Kind, Result};
use crate::host::{HostFacts, Resctrl};

impl Container {
    /// Freezes every process.
    ///
    /// # Errors
    /// [`Kind::WrongState`] when it is neither running nor created; the freezer
    /// did not get there in time, or somebody has thawed it meanwhile, as who kills it does
    /// (everything is thawed then).
    pub fn pause(&self) -> Result<()> {
        let (_lock, container) = self.locked()?;
        // COMPAT(runc): its words.
        container.must_be(&[State::Running, State::Created], "container not running")?;
        container.record.manager().freeze()
    }

    /// Thaws what [`Self::pause`] froze.
    ///
    /// # Errors
    /// [`Kind::WrongState`] when it is not paused.
    pub fn resume(&self) -> Result<()> {
        let (_lock, container) = self.locked()?;
        container.must_be(&[State::Paused], "container not paused")?;
        container.record.manager().thaw()
    }

    /// Changes limits and device rules; what `resources` does not name stays as it is.
    /// Device rules are changed when they are others than the container has, by its config
    /// or by its last update.
    ///
    /// # Errors
    /// [`Kind::WrongState`] when it has stopped; a value that the kernel refuses.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        let (_lock, container) = self.locked()?;
        let alive = [State::Running, State::Created, State::Paused];
        container.must_be(&alive, "container not running")?;
        let host = HostFacts::probe()?;
        let manager = container.record.manager();
        if matches!(manager, Manager::None) {
            let what = "the container has no cgroup whose limits could be changed";
            return Err(Error::new(Kind::Unsupported, what));
        }
        let quota = manager.quota();
        let asks = resources.devices().is_some() || resources.memory().is_some();
        let kept = asks.then(|| container.kept_spec()).transpose()?;
        let linux = kept.as_ref().and_then(|spec| spec.linux().as_ref());
        let settings =
            Settings::for_update(resources, &host, quota.as_deref(), linux).map_err(Error::all)?;
        let devices = resources.devices().as_ref().filter(|_| settings.changes_devices());
        // Where it can't be kept nothing is changed.
        let draft = container.draft(devices, resources.memory().as_ref())?;
        manager.update(settings)?;
        draft.map_or(Ok(()), Draft::commit)
    }

    /// What an update has said, to be kept: the next one goes by it, and a checkpoint is
    /// made of the devices.
    fn draft(
        &self,
        devices: Option<&Vec<LinuxDeviceCgroup>>,
        memory: Option<&LinuxMemory>,
    ) -> Result<Option<Draft>> {
        let limit = memory.and_then(LinuxMemory::limit);
        // Without a limit swap has none either, unless it is named.
        let swap = memory
            .and_then(LinuxMemory::swap)
            .or_else(|| limit.filter(|it| *it == -1).and(Some(0)));
        let said = [("limit", limit), ("swap", swap)];
        if devices.is_none() && said.iter().all(|(_, value)| value.is_none()) {
            return Ok(None);
        }
        let folder = self.folder();
        let mut config = folder.config_value()?;
        let resources = &mut config["linux"]["resources"];
        if let Some(devices) = devices {
            resources["devices"] = serde_json::to_value(devices).unwrap_or_default();
        }
        for (name, value) in said {
            if let Some(value) = value {
                resources["memory"][name] = value.into();
            }
        }
        folder.draft_config(&config).map(Some)
    }

    /// Changes what its class of resctrl gets, by the two schemas that may be given.
    ///
    /// # Errors
    /// [`Kind::WrongState`] when it has stopped; [`Kind::Unsupported`] when it has no
    /// class, or the processor does not share that out; a refusal of the kernel.
    pub fn update_class(&self, cache: Option<String>, bandwidth: Option<String>) -> Result<()> {
        let (_lock, container) = self.locked()?;
        let alive = [State::Running, State::Created, State::Paused];
        container.must_be(&alive, "container not running")?;
        let resctrl = Resctrl::probe()?;
        // COMPAT(runc): the words.
        let unsupported = |words: &'static str| Err(Error::new(Kind::Unsupported, words));
        if cache.is_some() && !resctrl.as_ref().is_some_and(|resctrl| resctrl.cache) {
            return unsupported("Intel RDT/CAT: l3 cache schema is not enabled");
        }
        if bandwidth.is_some() && !resctrl.is_some_and(|resctrl| resctrl.bandwidth) {
            return unsupported("Intel RDT/MBA: memory bandwidth schema is not enabled");
        }
        let Some(class) = &container.record.intel_rdt else {
            return unsupported("updating a non-existent Intel RDT configuration is not supported");
        };
        let mut wanted = LinuxIntelRdt::default();
        wanted.set_l3_cache_schema(cache).set_mem_bw_schema(bandwidth);
        class.update(&wanted)
    }

    fn must_be(&self, wanted: &[State], words: &str) -> Result<()> {
        if wanted.contains(&self.state()?) {
            return Ok(());
        }
        Err(Error::new(Kind::WrongState, words.to_owned()))
    }
}
