//! What this machine lets a throwaway container be isolated by, and how that is
//! told to a person.
//!
//! Looks and decides; what it means in a config is `config.rs`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{AccessFlags, access, getegid, geteuid};
use orlop::Error;
use orlop::host::{Cgroups, HostFacts};

use super::config::{ABSENT, CAPABILITIES, PROCESSES, REFUSED};

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

/// The first of the ids that root gives away. No file and no other process has
/// them: they lie behind those that systemd knows a use for.
const NOBODYS: u32 = 0x7000_0000;

/// How many; programs expect that many to exist.
const MANY: u32 = 0x1_0000;

/// Settings that forbid user namespaces when they are 0, and whether to root too.
const SWITCHES: &[(&str, bool)] = &[
    ("/proc/sys/user/max_user_namespaces", true),
    ("/proc/sys/kernel/unprivileged_userns_clone", false), // Debian's own
];

/// What is on.
pub(super) struct Isolation {
    /// Kinds of namespaces.
    pub(super) namespaces: Vec<&'static str>,
    pub(super) identity: Identity,
    /// Whether that is the machine's root after all: the caller may be root of no
    /// other id. What is for root alone must be covered then.
    pub(super) covered: bool,
    pub(super) cgroup: Cgroup,
}

/// Who the container's processes are. Where the caller is root they are somebody
/// else, who can read nothing that is for root alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// Root of a user namespace, whose ids are these outside.
    Root { uid: Ids, gid: Ids },
    /// A user without privileges, there being no user namespaces.
    User { uid: u32, gid: u32 },
}

/// Ids outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) first: u32,
    pub(super) count: u32,
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
    /// # Errors
    /// This caller can isolate nothing here.
    pub(super) fn of(host: &HostFacts) -> anyhow::Result<Self> {
        let identity = Identity::of(host)?;
        let mut namespaces = NAMESPACES.to_vec();
        namespaces.retain(|(kind, file)| match (*kind, identity) {
            ("user", identity) => matches!(identity, Identity::Root { .. }),
            _ => Path::new("/proc/self/ns").join(file).exists(),
        });
        let namespaces = namespaces.into_iter().map(|(kind, _)| kind).collect();
        let machines = fs::metadata("/proc/sys").is_ok_and(|dir| dir.uid() == identity.uid());
        Ok(Self { namespaces, identity, covered: machines, cgroup: Cgroup::of(host) })
    }

    /// Three lines.
    pub(super) fn lines(&self) -> [String; 3] {
        let namespaces = match self.namespaces.split_last() {
            Some((last, others)) => format!("{} and {last} namespaces", others.join(", ")),
            None => "no namespace".to_owned(),
        };
        let uid = self.identity.uid();
        let (identity, capabilities) = match self.identity {
            Identity::Root { .. } => ("its root", CAPABILITIES.len()),
            Identity::User { .. } => ("everyone in it", 0),
        };
        let cgroup = match self.cgroup {
            Cgroup::None => "no cgroup of its own".to_owned(),
            Cgroup::Plain | Cgroup::Limited { processes: false } => "own cgroup".to_owned(),
            Cgroup::Limited { processes: true } => {
                format!("own cgroup, at most {PROCESSES} processes")
            }
        };
        let refused = REFUSED.len() + ABSENT.len();
        [
            format!("isolated: {namespaces}; {identity} is user {uid} outside"),
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

impl Identity {
    fn of(host: &HostFacts) -> anyhow::Result<Self> {
        let root = geteuid().is_root();
        let privileged = root && host.may_mount();
        let off = |(path, too): &&(&str, bool)| {
            (*too || !privileged) && fs::read_to_string(path).is_ok_and(|text| text.trim() == "0")
        };
        let forbidden = SWITCHES.iter().find(off).map(|(path, _)| *path);
        let absent = !Path::new("/proc/self/ns/user").exists();
        let forbidden = forbidden.or(absent.then_some("/proc/self/ns/user"));
        Ok(match forbidden {
            None if root => Self::Root { uid: strangers("uid_map")?, gid: strangers("gid_map")? },
            None => Self::Root {
                uid: Ids { first: geteuid().as_raw(), count: 1 },
                gid: Ids { first: getegid().as_raw(), count: 1 },
            },
            Some(_) if privileged => {
                Self::User { uid: strangers("uid_map")?.first, gid: strangers("gid_map")?.first }
            }
            Some(path) => anyhow::bail!(
                "no user namespace can be made here, see {path:?}, and only root can do without"
            ),
        })
    }

    /// The user outside.
    pub(super) fn uid(self) -> u32 {
        let (Self::Root { uid: Ids { first: uid, .. }, .. } | Self::User { uid, .. }) = self;
        uid
    }

    /// Whether the caller's files are another one's to the container.
    pub(super) fn is_strange(self) -> bool {
        self.uid() != geteuid().as_raw()
    }
}

/// Ids that are not root's, of those that the caller's user namespace has.
fn strangers(map: &str) -> anyhow::Result<Ids> {
    let path = Path::new("/proc/self").join(map);
    let text = fs::read_to_string(&path)
        .map_err(|error| Error::io(&error, "reading the caller's ids").at_path(&path))?;
    Ok(strangers_in(&text))
}

/// One who is root of no more than a few has none that nobody uses; the last one is
/// the least likely to be.
fn strangers_in(map: &str) -> Ids {
    let extents = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let (first, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some((first, first.checked_add(count)?))
    });
    let mut last = 0;
    for (first, end) in extents {
        if first <= NOBODYS && NOBODYS + MANY <= end {
            return Ids { first: NOBODYS, count: MANY };
        }
        last = last.max(end.saturating_sub(1));
    }
    Ids { first: last, count: 1 }
}

impl Cgroup {
    fn of(host: &HostFacts) -> Self {
        let pids = |names: &[String]| names.iter().any(|name| name == "pids");
        match &host.cgroups {
            Cgroups::None => Self::None,
            // Beside the caller's own, if that has been handed to the caller.
            Cgroups::Unified { mount, own, .. } if host.rootless() => {
                let above = own.parent().unwrap_or(own);
                let beside = mount.join(above.strip_prefix("/").unwrap_or(above));
                let allowed = access(&beside, AccessFlags::W_OK).is_ok();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_not_roots_where_there_are_others() {
        let many = Ids { first: NOBODYS, count: MANY };
        assert_eq!(strangers_in("         0          0 4294967295\n"), many);
        assert_eq!(strangers_in("0 1879048192 65536\n"), Ids { first: 65535, count: 1 });
        assert_eq!(strangers_in("0 1000 1\n1 100000 65536\n"), Ids { first: 65536, count: 1 });
        assert_eq!(strangers_in("0 1000 1\n"), Ids { first: 0, count: 1 });
    }

    #[test]
    fn three_lines_say_what_is_on() {
        let ids = Ids { first: 7, count: 1 };
        let mut isolation = Isolation {
            namespaces: vec!["user", "pid", "mount"],
            identity: Identity::Root { uid: ids, gid: ids },
            covered: false,
            cgroup: Cgroup::Limited { processes: true },
        };
        let [first, _, last] = isolation.lines();
        assert_eq!(first, "isolated: user, pid and mount namespaces; its root is user 7 outside");
        assert!(last.starts_with("limits: 11 capabilities, no new privileges, "), "{last}");
        assert!(last.ends_with(", own cgroup, at most 1024 processes"), "{last}");
        isolation.identity = Identity::User { uid: 8, gid: 8 };
        isolation.cgroup = Cgroup::None;
        let [first, _, last] = isolation.lines();
        assert!(first.ends_with("; everyone in it is user 8 outside"), "{first}");
        assert!(last.starts_with("limits: 0 capabilities, "), "{last}");
        assert!(last.ends_with(", no cgroup of its own"), "{last}");
    }
}
