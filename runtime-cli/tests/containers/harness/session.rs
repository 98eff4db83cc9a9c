//! Somebody who has a session with systemd, and a manager of his own in it.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// A user's session.
pub(crate) struct Session {
    /// His number, and his group's.
    pub(crate) user: u32,
    /// What `$XDG_RUNTIME_DIR` is.
    pub(crate) runtime: PathBuf,
}

impl Session {
    /// The first that has a bus.
    pub(crate) fn find() -> Option<Self> {
        let folders = fs::read_dir("/run/user").ok()?.flatten();
        let mut found = folders.filter_map(|folder| {
            let user = folder.file_name().to_str()?.parse().ok()?;
            let runtime = folder.path();
            (user != 0 && runtime.join("bus").exists()).then_some(Self { user, runtime })
        });
        found.next()
    }

    /// Tells his manager something.
    pub(super) fn systemctl(&self, arguments: &[&str]) {
        let mut command = Command::new("systemctl");
        command.arg("--user").args(arguments).uid(self.user).gid(self.user);
        command.env("XDG_RUNTIME_DIR", &self.runtime).env_remove("DBUS_SESSION_BUS_ADDRESS");
        command.output().unwrap();
    }
}
