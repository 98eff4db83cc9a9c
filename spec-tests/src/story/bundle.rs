//! The bundle of a case: the base config with the case's changes, and a root
//! file system with nothing in it but the probe.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::{Pid, User, getegid, geteuid};
use serde_json::{Value, json};

use super::Story;
use super::operations::PATIENCE;
use crate::{case, leftovers, merge, runtime};

impl Story<'_> {
    /// Makes the folders and puts the probe in.
    pub(super) fn lay_out(&self) -> Result<()> {
        let rootfs = self.rootfs();
        let inside =
            ["bin", "dev", "etc", "proc", "sys", "tmp", "work"].map(|name| rootfs.join(name));
        for folder in [&self.places.bundle(), &rootfs].into_iter().chain(&inside) {
            fs::create_dir(folder)?;
            // Whatever the umask: other ids look around in there.
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        // A link: the program is some megabytes.
        fs::hard_link(self.places.probe(), rootfs.join("bin/probe"))?;
        Ok(())
    }

    /// Writes config.json as the case wants it.
    pub(super) fn write_config(&self) -> Result<()> {
        let config = self.config()?;
        self.put_config(&config)
    }

    /// The config of the case.
    pub(super) fn config(&self) -> Result<Value> {
        let mut config = case::base()?;
        config["ociVersion"] = json!(self.case.since);
        config["process"]["args"] = arguments(&self.case.run);
        if !self.case.config.is_null() {
            merge::merge(&mut config, &self.case.config);
        }
        merge::lengthen(&mut config, &self.case.add);
        if !geteuid().is_root() {
            own_ids(&mut config)?;
        }
        self.filled(&config)
    }

    pub(super) fn put_config(&self, config: &Value) -> Result<()> {
        let path = self.places.bundle().join("config.json");
        fs::write(path, format!("{config:#}")).context("writing config.json")
    }

    /// Changes what is on the disk.
    pub(super) fn change_config(&self, patch: &Value) -> Result<()> {
        let text = fs::read(self.places.bundle().join("config.json"))?;
        let mut config = serde_json::from_slice(&text)?;
        merge::merge(&mut config, patch);
        self.put_config(&config)
    }

    /// A script in the case's folder, which must succeed.
    pub(super) fn shell(&self, script: &str) -> Result<String> {
        let mut command = Command::new("sh");
        command.args(["-e", "-c", script]).current_dir(self.places.folder());
        let deadline = self.case.limits().command;
        runtime::run(command, self.places.folder(), "shell", deadline)?.success()
    }

    /// Starts the process whose namespaces can be joined, and waits until it has
    /// them. `${holder}` is the one furthest inside.
    pub(super) fn hold(&mut self) -> Result<()> {
        let flags = self.case.holder.as_deref().unwrap_or_default();
        let mut command = Command::new("unshare");
        command.args(flags.split_whitespace()).args(["sleep", "3600"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().context("starting unshare(1)")?;
        let first = Pid::from_raw(child.id().cast_signed());
        self.holder = Some(child);
        let begun = Instant::now();
        let sleeper = loop {
            let all = leftovers::descendants(first).into_iter().chain([first]);
            let sleeps = |pid: &Pid| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
            };
            if let Some(pid) = all.into_iter().find(sleeps) {
                break pid;
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "unshare {flags} hangs");
            std::thread::sleep(Duration::from_millis(2));
        };
        self.known.insert("holder".to_owned(), json!(sleeper.as_raw()));
        let seen = crate::probe::namespaces(&format!("/proc/{sleeper}"));
        self.known.insert("held".to_owned(), seen);
        Ok(())
    }
}

/// Who is not root has a container with ids of his own: he is its root, and what
/// he may delegate are the others. A case may say otherwise.
fn own_ids(config: &mut Value) -> Result<()> {
    let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() else { return Ok(()) };
    if namespaces.iter().any(|namespace| namespace["type"] == "user") {
        return Ok(());
    }
    namespaces.push(json!({ "type": "user" }));
    let name = User::from_uid(geteuid())?.context("a user with a name")?.name;
    let own = [geteuid().as_raw(), getegid().as_raw()];
    for (own, kind) in own.into_iter().zip(["uid", "gid"]) {
        let text = fs::read_to_string(format!("/etc/sub{kind}")).unwrap_or_default();
        let mut ranges = text.lines().filter_map(|line| line.split_once(':'));
        let range = ranges.find(|(of, _)| *of == name).and_then(|(_, range)| range.split_once(':'));
        let mut maps = vec![json!({ "containerID": 0, "hostID": own, "size": 1 })];
        if let Some((first, size)) = range {
            let (first, size): (u32, u32) = (first.parse()?, size.parse()?);
            maps.push(json!({ "containerID": 1, "hostID": first, "size": size }));
        }
        config["linux"][format!("{kind}Mappings")] = json!(maps);
    }
    Ok(())
}

/// The probe with these acts.
pub(super) fn arguments(acts: &[String]) -> Value {
    let mut words = vec!["/bin/probe"];
    words.extend(acts.iter().map(String::as_str));
    json!(words)
}
