//! The cgroup hierarchy that the subjects see.
//!
//! crun refuses hosts where cgroup v1 and v2 are both mounted. There the benchmark
//! moves itself to a private mount namespace whose /sys/fs/cgroup is a fresh
//! cgroup2 mount: the same kernel, the host's own v2 hierarchy, another picture.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::command;

const TOP: &str = "/sys/fs/cgroup";

/// Every cgroup of the benchmark has a name that begins so, with our pid behind it.
const PREFIX: &str = "orlop-bench";

/// How long systemd may take to remove a cgroup that is empty.
const NOTICING: Duration = Duration::from_secs(1);

/// What is mounted at /sys/fs/cgroup.
#[derive(Debug)]
pub struct View {
    description: &'static str,
    /// Empty on pure v2.
    hierarchies: Vec<PathBuf>,
    /// The root's controllers for children, by hierarchy, before we came.
    enabled: BTreeSet<String>,
    systemd: bool,
}

impl View {
    /// Chooses the view, and mounts it where it has to be made. With `systemd` it makes
    /// the cgroups, which are the host's own then.
    ///
    /// # Errors
    /// Of the mounts: this needs root. systemd's cgroups can't be seen or are not v2.
    pub fn enter(host: bool, systemd: bool) -> Result<Self> {
        private_namespace().context("making a mount namespace")?;
        let description = if systemd {
            let there = is_cgroup2()? && Path::new("/run/systemd/system").is_dir();
            ensure!(there, "systemd does not run here with cgroup v2 alone");
            "pure v2, the host's own mount; those of the runtimes are scopes of systemd"
        } else if is_cgroup2()? {
            "pure v2, the host's own mount"
        } else if host {
            "the host's own mount, which is not pure v2: crun cannot run here"
        } else {
            private_v2().context("mounting a private cgroup2 view")?;
            "a private mount namespace with a fresh cgroup2 mount, as the host's is not pure v2"
        };
        let hierarchies = if is_cgroup2()? { Vec::new() } else { mounted()? };
        Ok(Self { description, hierarchies, enabled: controllers(), systemd })
    }

    /// One line for the report.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        self.description
    }

    /// Whether systemd makes the cgroups of the runtimes.
    #[must_use]
    pub fn is_systemd(&self) -> bool {
        self.systemd
    }

    /// Whether cgroup v2 is all there is.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.hierarchies.is_empty()
    }

    /// The mounted hierarchies of a host that is not pure v2.
    #[must_use]
    pub fn hierarchies(&self) -> &[PathBuf] {
        &self.hierarchies
    }

    /// A name for container number `number`, and so for its cgroup.
    #[must_use]
    pub fn id(number: usize) -> String {
        format!("{PREFIX}-{}-{number}", std::process::id())
    }

    /// How many cgroups of the benchmark there are now.
    #[must_use]
    pub fn count(&self) -> usize {
        let mut found = Vec::new();
        find(Path::new(TOP), &format!("{PREFIX}-{}-", std::process::id()), &mut found);
        found.len()
    }

    /// Removes what subjects left behind, and returns what that was.
    ///
    /// # Errors
    /// A cgroup that cannot be removed.
    pub fn sweep(&self) -> Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        let prefix = format!("{PREFIX}-{}-", std::process::id());
        find(Path::new(TOP), &prefix, &mut left);
        if self.systemd {
            // It may be about to notice that they are empty.
            command::until(NOTICING, || left.iter().all(|place| !place.exists()));
            left.retain(|place| place.exists());
        }
        for place in &left {
            remove(place).with_context(|| format!("removing {}", place.display()))?;
        }
        Ok(left)
    }

    /// The last sweep. Turns controllers off again that a subject turned on for all
    /// children of the root.
    ///
    /// # Errors
    /// As [`View::sweep`].
    pub fn leave(&self) -> Result<Vec<PathBuf>> {
        let left = self.sweep()?;
        for controller in controllers().difference(&self.enabled) {
            // Somebody else may have begun to use it since.
            let _ = fs::write(subtree_control(), format!("-{controller}"));
        }
        Ok(left)
    }
}

/// One of systemd's is removed by itself; it would believe in the unit for ever.
fn remove(place: &Path) -> Result<()> {
    let Some(unit) = place.file_name().filter(|_| place.extension() == Some("scope".as_ref()))
    else {
        return Ok(fs::remove_dir(place)?);
    };
    let status = Command::new("systemctl").arg("stop").arg(unit).status()?;
    ensure!(status.success() || !place.exists(), "systemctl stop: {status}");
    Ok(())
}

fn is_cgroup2() -> Result<bool> {
    Ok(statfs(TOP).context(TOP)?.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

fn private_namespace() -> nix::Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
}

/// A tmpfs at `place`, in our own mount namespace: what /run is on most hosts. On
/// a disk the cost of a state directory would be that of the disk's file system.
///
/// # Errors
/// Of the mount.
pub fn mount_state(place: &Path) -> Result<()> {
    fs::create_dir(place)?;
    let options = Some("mode=700");
    mount(Some("state"), place, Some("tmpfs"), MsFlags::empty(), options)
        .context("mounting a tmpfs for the state")
}

/// Undoes [`mount_state`].
pub fn unmount_state(place: &Path) {
    let _ = umount2(place, MntFlags::MNT_DETACH);
}

fn private_v2() -> nix::Result<()> {
    let none = None::<&str>;
    umount2(TOP, MntFlags::MNT_DETACH)?;
    mount(Some("cgroup2"), TOP, Some("cgroup2"), MsFlags::empty(), none)
}

/// Directories only: the others there are links to names of several controllers.
fn mounted() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(TOP)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn subtree_control() -> PathBuf {
    let hybrid = Path::new(TOP).join("unified/cgroup.subtree_control");
    if hybrid.exists() { hybrid } else { Path::new(TOP).join("cgroup.subtree_control") }
}

fn controllers() -> BTreeSet<String> {
    let text = fs::read_to_string(subtree_control()).unwrap_or_default();
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

/// Children first, so that they can be removed in order.
fn find(directory: &Path, prefix: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            find(&path, prefix, found);
            // Scopes have the runtime's name before it.
            if path.components().any(|part| part.as_os_str().to_string_lossy().contains(prefix)) {
                found.push(path);
            }
        }
    }
}
