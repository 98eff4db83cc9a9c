//! An ordinary account: who runs the runtime in these tests, and from where.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::harness::{Bundle, Lab, ORLOP, Output, Session};

/// The user and the group of one that the machine does not know.
pub(super) const ID: u32 = 54_321;

/// The first of the ids that it may give away, and how many there are.
pub(super) const FIRST: u32 = 1_000_000;
pub(super) const COUNT: u32 = 65_536;

/// An account until this is dropped.
pub(super) struct Account<'a> {
    lab: &'a Lab,
    /// Its user and its group.
    pub(super) id: u32,
    /// What `$XDG_RUNTIME_DIR` is.
    pub(super) runtime_folder: PathBuf,
    /// With what it calls the runtime, always.
    flags: &'static [&'static str],
    /// Where its programs are looked for.
    pub(super) path: String,
    files: Vec<Covered>,
}

/// A file of the machine that reads otherwise in this world.
struct Covered(PathBuf);

impl Covered {
    fn new(lab: &Lab, path: &str, text: &str) -> Self {
        let cover = lab.path(path.rsplit('/').next().unwrap());
        fs::write(&cover, text).unwrap();
        mount(Some(&cover), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Self(path.into())
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

impl<'a> Account<'a> {
    /// One with its own ids and no other.
    pub(super) fn new(lab: &'a Lab) -> Self {
        let this = Self::of(lab, ID, lab.path("runtime"), &[]);
        this.folder(&this.runtime_folder);
        this
    }

    /// One whose own manager of systemd's makes the cgroups.
    pub(super) fn with_session(lab: &'a Lab) -> Self {
        let Some(Session { user, runtime }) = Session::find() else {
            lab.skip("nobody has a session with systemd")
        };
        Self::of(lab, user, runtime, &["--systemd-cgroup"])
    }

    fn of(lab: &'a Lab, id: u32, runtime_folder: PathBuf, flags: &'static [&'static str]) -> Self {
        fs::set_permissions(lab.folder(), fs::Permissions::from_mode(0o755)).unwrap();
        // Where the built program is, a user may not look.
        fs::copy(ORLOP, lab.path("orlop")).unwrap();
        let path = std::env::var("PATH").unwrap();
        let this = Self { lab, id, runtime_folder, flags, path, files: Vec::new() };
        this.folder(&lab.root());
        this
    }

    /// One that may give ids away.
    pub(super) fn with_ranges(lab: &'a Lab) -> Self {
        let paths = std::env::var_os("PATH").unwrap();
        let there = |name: &str| std::env::split_paths(&paths).any(|at| at.join(name).exists());
        if !there("newuidmap") || !there("newgidmap") {
            lab.skip("newuidmap is not installed");
        }
        let mut this = Self::new(lab);
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let line = format!("orlop-test:x:{ID}:{ID}::/:/bin/sh\n");
        this.files.push(Covered::new(lab, "/etc/passwd", &format!("{passwd}{line}")));
        this.gives("/etc/subuid", &format!("orlop-test:{FIRST}:{COUNT}\n"));
        this.gives("/etc/subgid", &format!("orlop-test:{FIRST}:{COUNT}\n"));
        this
    }

    /// What one of the two files gives instead.
    pub(super) fn gives(&mut self, path: &str, text: &str) {
        if !Path::new(path).exists() {
            self.lab.skip(&format!("there is no {path}"));
        }
        self.files.retain(|file| file.0 != Path::new(path));
        self.files.push(Covered::new(self.lab, path, text));
    }

    /// A folder of its own.
    pub(super) fn folder(&self, path: &Path) {
        fs::create_dir_all(path).unwrap();
        chown(path, Some(self.id), Some(self.id)).unwrap();
    }

    /// A program of its own, first in its `PATH`: a script.
    pub(super) fn program(&mut self, name: &str, script: &str) -> PathBuf {
        let folder = self.lab.path("bin");
        self.folder(&folder);
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        if !self.path.starts_with(folder.to_str().unwrap()) {
            self.path = format!("{}:{}", folder.display(), self.path);
        }
        path
    }

    /// The bundle that `spec --rootless` writes, with the probe in it.
    pub(super) fn bundle(&self, arguments: &[&str]) -> Bundle {
        let mut bundle = self.lab.bundle(arguments);
        let args = bundle.config["process"]["args"].take();
        for entry in [bundle.path.clone(), bundle.rootfs()] {
            self.folder(&entry);
        }
        for entry in fs::read_dir(bundle.rootfs()).unwrap().flatten() {
            self.folder(&entry.path());
        }
        fs::remove_file(bundle.path.join("config.json")).unwrap();
        self.runtime(&["spec", "--rootless", "--bundle", bundle.path.to_str().unwrap()]).ok();
        let text = fs::read(bundle.path.join("config.json")).unwrap();
        bundle.config = serde_json::from_slice(&text).unwrap();
        bundle.config["process"]["terminal"] = json!(false);
        bundle.config["process"]["args"] = args;
        bundle
    }

    /// The same with all the ids that it may have: itself is 0.
    pub(super) fn bundle_with_ranges(&self, arguments: &[&str]) -> Bundle {
        let mut bundle = self.bundle(arguments);
        let maps = ranges(FIRST, COUNT);
        bundle.config["linux"]["uidMappings"] = maps.clone();
        bundle.config["linux"]["gidMappings"] = maps;
        bundle
    }

    /// The runtime as this account calls it, with nothing else in the environment.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.lab.path("orlop"));
        command.arg("--root").arg(self.lab.root()).args(self.flags).args(arguments);
        self.does(&mut command);
        command
    }

    /// Has a command done by this account.
    pub(super) fn does(&self, command: &mut Command) {
        command.uid(self.id).gid(self.id).env_clear().env("PATH", &self.path);
        command.env("XDG_RUNTIME_DIR", &self.runtime_folder);
    }

    /// Runs the runtime.
    pub(super) fn runtime(&self, arguments: &[&str]) -> Output {
        self.lab.begin(self.command(arguments)).end()
    }

    /// `run` or `create` of a bundle, as a command that has not begun.
    pub(super) fn start_of(&self, bundle: &Bundle, name: &str, verb: &[&str]) -> Command {
        bundle.write();
        let mut command = self.command(verb);
        command.arg("--bundle").arg(&bundle.path).arg(self.lab.id(name));
        command
    }

    /// `run`, in the foreground, to its end.
    pub(super) fn run(&self, bundle: &Bundle, name: &str, flags: &[&str]) -> Output {
        let mut verb = vec!["run"];
        verb.extend(flags);
        self.lab.begin(self.start_of(bundle, name, &verb)).end()
    }

    /// A command on one container: `verb flags ID rest`.
    pub(super) fn on(&self, name: &str, verb: &[&str], rest: &[&str]) -> Output {
        let mut command = self.command(verb);
        command.arg(self.lab.id(name)).args(rest);
        self.lab.begin(command).end()
    }

    /// `state` as a value.
    pub(super) fn state(&self, name: &str) -> Value {
        serde_json::from_str(&self.on(name, &["state"], &[]).ok()).unwrap()
    }

    /// `delete --force`, which must succeed.
    pub(super) fn delete(&self, name: &str) {
        self.on(name, &["delete", "--force"], &[]).ok();
    }
}

/// The account as 0, and a range from 1 on.
pub(super) fn ranges(first: u32, count: u32) -> Value {
    json!([
        { "containerID": 0, "hostID": ID, "size": 1 },
        { "containerID": 1, "hostID": first, "size": count },
    ])
}
