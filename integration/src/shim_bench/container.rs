//! A container as containerd lays it out for a shim: the bundle, the root that is to be
//! mounted, a log, and pipes for what it writes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use super::messages::options::{Options, RUNC};
use super::messages::task::{CreateTaskRequest, ExecProcessRequest};
use super::messages::{Any, Mount};
use crate::bench::bundle::{self, Bundles};

/// One container. Its pipes are held open, as a daemon does it.
#[derive(Debug)]
pub(super) struct Container {
    pub id: String,
    /// Its folder has the container's name: a shim goes by that.
    pub bundle: PathBuf,
    _pipes: Vec<File>,
}

/// What all containers share.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub directory: &'a Path,
    pub bundles: &'a Bundles,
    pub v2: bool,
    /// Whether they ask for the default device rules.
    pub device_rules: bool,
}

impl Layout<'_> {
    /// Writes a bundle, for a container in the pod of the container `pod`, if any.
    pub(super) fn container(
        &self,
        id: String,
        args: &[&str],
        pod: Option<&str>,
    ) -> Result<Container> {
        let bundle = self.directory.join(&id);
        fs::create_dir_all(bundle.join("rootfs"))?;
        let mut config = bundle::config(Path::new("rootfs"), args, self.v2);
        config["linux"]["cgroupsPath"] = json!(format!("/{id}"));
        config["annotations"] = json!({ "io.kubernetes.cri.sandbox-id": pod.unwrap_or(&id) });
        if !self.device_rules
            && let Some(linux) = config["linux"].as_object_mut()
        {
            linux.remove("resources");
        }
        fs::write(bundle.join("config.json"), config.to_string())?;
        let mut pipes = Vec::new();
        for name in ["log", "stdout", "stderr"] {
            let path = bundle.join(name);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
            pipes.push(File::options().read(true).write(true).open(&path)?);
        }
        Ok(Container { id, bundle, _pipes: pipes })
    }

    /// What Create is to be told of it; `state` is where the runtime keeps its own.
    pub(super) fn creation(&self, container: &Container, state: &Path) -> CreateTaskRequest {
        let root = Mount {
            kind: "bind".to_owned(),
            source: text(&self.bundles.root),
            options: vec!["rbind".to_owned(), "ro".to_owned()],
            ..Mount::default()
        };
        let options = Options { root: text(state), ..Options::default() };
        let options =
            Any { type_url: RUNC.to_owned(), value: prost::Message::encode_to_vec(&options) };
        CreateTaskRequest {
            id: container.id.clone(),
            bundle: text(&container.bundle),
            rootfs: vec![root],
            stdout: container.pipe("stdout"),
            stderr: container.pipe("stderr"),
            options: Some(options),
            ..CreateTaskRequest::default()
        }
    }
}

impl Container {
    fn pipe(&self, name: &str) -> String {
        text(&self.bundle.join(name))
    }

    /// /bin/true in it.
    pub(super) fn exec(&self, exec_id: &str) -> ExecProcessRequest {
        let process = json!({ "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["/bin/true"] });
        let spec = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
            value: process.to_string().into_bytes(),
        };
        ExecProcessRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            stdout: self.pipe("stdout"),
            stderr: self.pipe("stderr"),
            spec: Some(spec),
            ..ExecProcessRequest::default()
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // What is mounted there makes this fail, and is told with the leftovers.
        let _ = fs::remove_dir(self.bundle.join("rootfs"));
        if !self.bundle.join("rootfs").exists() {
            let _ = fs::remove_dir_all(&self.bundle);
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
