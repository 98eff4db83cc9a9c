//! What this machine lets a throwaway container be isolated by, and how that is
//! told to a person.
//!
//! Looks and decides; what it means in a config is `config.rs`.

use std::path::Path;

use nix::unistd::{AccessFlags, access};
use orlop::host::{Cgroups, HostFacts};

use super::config::{CAPABILITIES, PROCESSES, REFUSED};

/// Kinds of namespaces as the spec calls them, and their files below
/// `/proc/self/ns` (namespaces(7)).
const NAMESPACES: &[(&str, &str)] = &[
    ("user", "user"),
    ("pid", "pid"),
    ("mount", "mnt"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

/// What is on.
pub(super) struct Isolation {
    /// Kinds of namespaces.
    pub(super) namespaces: Vec<&'static str>,
    pub(super) cgroup: Cgroup,
}

/// The container's own cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cgroup {
    /// There is none to be had.
    None,
    /// Without limits, which take root.
    Plain,
    /// With device rules, and a limit of processes if that controller is there.
    Limited { processes: bool },
}

impl Isolation {
    pub(super) fn of(host: &HostFacts) -> Self {
        let known = |file: &str| Path::new("/proc/self/ns").join(file).exists();
        let namespaces = NAMESPACES.iter().filter(|(_, file)| known(file)).map(|(kind, _)| *kind);
        Self { namespaces: namespaces.collect(), cgroup: Cgroup::of(host) }
    }

    /// Three lines.
    pub(super) fn lines(&self) -> [String; 3] {
        let namespaces = match self.namespaces.split_last() {
            Some((last, others)) => format!("{} and {last} namespaces", others.join(", ")),
            None => "by no namespace".to_owned(),
        };
        let cgroup = match self.cgroup {
            Cgroup::None => "no cgroup of its own".to_owned(),
            Cgroup::Plain | Cgroup::Limited { processes: false } => "own cgroup".to_owned(),
            Cgroup::Limited { processes: true } => {
                format!("own cgroup, at most {PROCESSES} processes")
            }
        };
        let (capabilities, refused) = (CAPABILITIES.len(), REFUSED.len());
        [
            format!("isolated: {namespaces}"),
            "files: this machine's programs and /etc read-only; \
             /tmp /run /home /root /var are empty and go with it"
                .to_owned(),
            format!(
                "limits: {capabilities} capabilities, no new privileges, \
                 {refused} system calls refused, {cgroup}"
            ),
        ]
    }
}

impl Cgroup {
    fn of(host: &HostFacts) -> Self {
        let pids = |names: &[String]| names.iter().any(|name| name == "pids");
        match &host.cgroups {
            Cgroups::None => Self::None,
            // Beside the caller's own, if that has been handed to the caller.
            Cgroups::Unified { mount, own, .. } if host.rootless() => {
                let beside = own.parent().and_then(|above| above.strip_prefix("/").ok());
                let allowed = beside
                    .is_some_and(|beside| access(&mount.join(beside), AccessFlags::W_OK).is_ok());
                if allowed { Self::Plain } else { Self::None }
            }
            Cgroups::Legacy { .. } if host.rootless() => Self::None,
            Cgroups::Unified { controllers, .. } => Self::Limited { processes: pids(controllers) },
            Cgroups::Legacy { hierarchies } => {
                let processes = hierarchies.iter().any(|hierarchy| pids(&hierarchy.controllers));
                Self::Limited { processes }
            }
        }
    }
}
