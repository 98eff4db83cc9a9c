//! The record of a container, and what `state` says of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::SystemTime;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

use super::folder::Folder;
use super::mounted::Mounted;
use super::saver::Saver;
use crate::bundle::Bundle;
use crate::cgroup::{self, Manager};
use crate::compile::{self, CgroupDir};
use crate::error::{Error, Kind, Result};
use crate::resctrl::Class;

/// Version of the record's format. A newer one is refused, an older one read.
const VERSION: u32 = 1;

/// How far the creation came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// Begun. What must be undone is in the record; a pid only if hooks run.
    Creating,
    /// Complete.
    Created,
}

/// What is written to `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub id: String,
    pub oci_version: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339 with nanoseconds, UTC.
    created: String,
    /// User id of the creator.
    owner: u32,
    annotations: BTreeMap<String, String>,
    pub phase: Phase,
    /// The init process, 0 before there is one.
    pub pid: i32,
    /// Its start in clock ticks since boot (proc(5)): with the pid, its identity.
    pub start_time: u64,
    pub cgroup: cgroup::Record,
    /// Its class in resctrl, if it asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<Class>,
    /// Whether the root is mounted in the folder, in the runtime's own mount namespace.
    #[serde(default)]
    pub root_mounted: bool,
    /// What is mounted in it by the config and since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mounted>,
    /// CRIU, while it works for the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saver: Option<Saver>,
    /// Whether the init is process 1 of a pid namespace, and all others end with it.
    #[serde(default)]
    pub own_pids: bool,
    pub hooks: HookKinds,
    /// How it was created, for a plan that is compiled once more.
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    #[serde(default)]
    pub own_namespaces: u32,
    #[serde(default)]
    pub notify: bool,
}

/// Which hooks the config has, so that it need not be read to find none.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct HookKinds {
    pub start_container: bool,
    pub poststart: bool,
    pub poststop: bool,
}

/// Where a container stands (runtime-spec, runtime, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// Its creation has not ended.
    Creating,
    /// It waits for its start.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

/// The word of the specification; `paused` is an addition of every runtime.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// What `state` and `list` tell.
#[derive(Debug, Clone)]
pub struct Status {
    /// Version of the specification that the bundle names.
    pub oci_version: String,
    /// The id.
    pub id: String,
    /// The init process as the caller sees it, 0 when stopped.
    pub pid: i32,
    /// Where it stands.
    pub status: State,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The root file system's directory.
    pub rootfs: PathBuf,
    /// RFC 3339 with nanoseconds, UTC.
    pub created: String,
    /// The config's annotations.
    pub annotations: BTreeMap<String, String>,
    /// User id of the creator.
    pub owner: u32,
}

impl Record {
    /// A container whose creation begins now.
    pub(super) fn new(id: &str, bundle: &Bundle, rootfs: PathBuf, cgroup: cgroup::Record) -> Self {
        let spec = &bundle.spec;
        let hooks = spec.hooks().as_ref();
        let any = |list: Option<&Vec<_>>| list.is_some_and(|list| !list.is_empty());
        let now = humantime::format_rfc3339_nanos(SystemTime::now());
        Self {
            version: VERSION,
            id: id.to_owned(),
            oci_version: spec.version().clone(),
            bundle: bundle.dir.clone(),
            rootfs,
            created: now.to_string(),
            owner: nix::unistd::geteuid().as_raw(),
            annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            phase: Phase::Creating,
            pid: 0,
            start_time: 0,
            cgroup,
            intel_rdt: None,
            root_mounted: false,
            mounts: Vec::new(),
            saver: None,
            own_pids: own_pids(spec),
            hooks: HookKinds {
                start_container: any(hooks.and_then(|hooks| hooks.start_container().as_ref())),
                poststart: any(hooks.and_then(|hooks| hooks.poststart().as_ref())),
                poststop: any(hooks.and_then(|hooks| hooks.poststop().as_ref())),
            },
            no_pivot: false,
            no_new_keyring: false,
            own_namespaces: 0,
            notify: false,
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let broken = |what: String| Error::new(Kind::Internal, what);
        let record: Self = serde_json::from_str(text)
            .map_err(|error| broken(format!("the container's state can't be read: {error}")))?;
        if record.version > VERSION {
            let version = record.version;
            return Err(broken(format!("the state is of format {version}, newer than {VERSION}")));
        }
        Ok(record)
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|error| Error::new(Kind::Internal, format!("writing the state: {error}")))
    }

    /// The creation is complete.
    pub(super) fn born(&mut self, pid: i32) -> Result<()> {
        self.note_init(pid)?;
        self.phase = Phase::Created;
        Ok(())
    }

    /// Notes the init process, which may still have a long way to go.
    pub(super) fn note_init(&mut self, pid: i32) -> Result<()> {
        self.pid = pid;
        self.start_time = start_time(pid)?.ok_or_else(|| {
            Error::new(Kind::ChildDied, "the init process died while it was being created")
        })?;
        Ok(())
    }

    /// Whether both are of one container, not of two that had the id in turn.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.created == other.created
    }

    /// Whether the init process is there and no zombie. One of its threads is enough:
    /// as long as it lives, so does all of its pid namespace.
    pub(super) fn is_alive(&self) -> Result<bool> {
        Ok(self.pid > 0 && start_time(self.pid)? == Some(self.start_time))
    }

    pub(super) fn manager(&self) -> Manager {
        Manager::from_record(self.cgroup.clone())
    }

    /// What a further plan of this container is compiled with.
    pub(super) fn options(&self, preserve_fds: u32, folder: &Folder) -> compile::Options {
        let manager = self.manager();
        compile::Options {
            id: self.id.clone(),
            bundle: self.bundle.clone(),
            cgroups: cgroup_dirs(&manager),
            placed: manager.needs_process(),
            own_namespaces: self.own_namespaces,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds,
            bare_lines: false,
            held: false,
            resctrl: self.intel_rdt.as_ref().map_or(0, Class::groups),
            notify: self.notify.then(|| folder.notify_socket()),
        }
    }

    pub(super) fn status(&self, state: State) -> Status {
        Status {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            pid: if state == State::Stopped { 0 } else { self.pid },
            status: state,
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: self.created.clone(),
            annotations: self.annotations.clone(),
            owner: self.owner,
        }
    }

    /// What hooks read on their standard input (runtime-spec, runtime, "State").
    pub(super) fn for_hooks(&self, state: State, pid: i32) -> Vec<u8> {
        let mut json = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": state,
            "bundle": self.bundle,
        });
        if pid != 0 {
            json["pid"] = pid.into();
        }
        if !self.annotations.is_empty() {
            json["annotations"] = serde_json::json!(self.annotations);
        }
        json.to_string().into_bytes()
    }
}

pub(super) fn cgroup_dirs(manager: &Manager) -> Vec<CgroupDir> {
    let groups = manager.groups().into_iter();
    groups
        .map(|group| CgroupDir {
            controllers: group.controllers.clone(),
            mount: group.mount.clone(),
            directory: group.directory(),
        })
        .collect()
}

/// Whether the init is process 1 of a pid namespace made for it.
pub(super) fn own_pids(spec: &Spec) -> bool {
    let listed = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref());
    let own = |namespace: &LinuxNamespace| {
        namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none()
    };
    listed.flatten().any(own)
}

/// When a process started; `None` when it is gone or a zombie (proc(5), `stat`),
/// which a process is not whose first thread alone has ended.
pub(super) fn start_time(pid: i32) -> Result<Option<u64>> {
    let path = format!("/proc/{pid}/stat");
    let mut line = [0; 1024];
    let length = match File::open(&path).and_then(|mut file| file.read(&mut line)) {
        Ok(length) => length,
        // ESRCH: it ended while its file was open.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
            return Ok(None);
        }
        Err(error) => return Err(Error::io(&error, "reading").at_path(&path)),
    };
    // The name may hold anything, a parenthesis too.
    let line = String::from_utf8_lossy(&line[..length]);
    let mut fields = line.rsplit(')').next().unwrap_or_default().split_whitespace();
    match (fields.next(), fields.nth(16), fields.nth(1).map(str::parse)) {
        (Some("X"), ..) | (Some("Z"), Some("0" | "1"), _) => Ok(None),
        (Some(_), Some(_), Some(Ok(ticks))) => Ok(Some(ticks)),
        _ => Err(Error::new(Kind::Os, format!("{path} is not as proc(5) describes it"))),
    }
}
