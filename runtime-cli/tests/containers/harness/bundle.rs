//! Bundles: the config that `orlop spec` writes, on a root file system with
//! nothing in it but the probe.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::lab::Lab;
use super::view::View;

/// A bundle that a test may change until it runs it.
pub(crate) struct Bundle {
    /// Its directory.
    pub(crate) path: PathBuf,
    /// What becomes its config.json.
    pub(crate) config: Value,
}

impl Lab {
    /// A bundle whose process is the probe with these arguments.
    pub(crate) fn bundle(&self, arguments: &[&str]) -> Bundle {
        let number = fs::read_dir(self.folder()).unwrap().count();
        let path = self.path(&format!("bundle{number}"));
        let rootfs = path.join("rootfs");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "work"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        fs::set_permissions(self.folder(), fs::Permissions::from_mode(0o755)).unwrap();
        self.put_probe(&rootfs.join("bin/probe"));
        self.runtime(&["spec", "--bundle", path.to_str().unwrap()]).ok();
        let text = fs::read(path.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&text).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = probe(arguments);
        Bundle { path, config }
    }

    /// One copy a test: the program is some megabytes.
    fn put_probe(&self, at: &Path) {
        let first = self.path("probe");
        if !first.exists() {
            fs::copy(std::env::current_exe().unwrap(), &first).unwrap();
            fs::set_permissions(&first, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::hard_link(first, at).unwrap();
    }
}

impl Bundle {
    /// The root file system.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// The probe does something else.
    pub(crate) fn args(&mut self, arguments: &[&str]) {
        self.config["process"]["args"] = probe(arguments);
    }

    /// Without that namespace.
    pub(crate) fn without_namespace(&mut self, kind: &str) {
        let list = self.config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != kind);
    }

    /// With that namespace, of its own or joined by its path.
    pub(crate) fn namespace(&mut self, kind: &str, path: Option<&str>) {
        self.without_namespace(kind);
        let mut namespace = json!({ "type": kind });
        if let Some(path) = path {
            namespace["path"] = json!(path);
        }
        self.config["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
    }

    /// In a cgroup of this name.
    pub(crate) fn cgroup(&mut self, lab: &Lab, name: &str) {
        let path = match lab.view {
            View::Systemd => format!(":orlop:{name}"),
            View::Host | View::V2 => format!("/{name}"),
        };
        self.config["linux"]["cgroupsPath"] = path.into();
    }

    /// One more mount.
    pub(crate) fn mount(&mut self, at: &str, kind: &str, source: &str, options: &[&str]) {
        let mount =
            json!({ "destination": at, "type": kind, "source": source, "options": options });
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// With ids of its own: 0 to 999 are 100000 to 100999 outside.
    pub(crate) fn user_namespace(&mut self) {
        self.namespace("user", None);
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
        self.config["linux"]["uidMappings"] = map.clone();
        self.config["linux"]["gidMappings"] = map;
    }

    /// One more hook: the probe, by its path inside and outside alike.
    pub(crate) fn hook(&mut self, kind: &str, arguments: &[&str]) -> &mut Value {
        let inside = matches!(kind, "startContainer");
        let outside = self.rootfs().join("bin/probe");
        let path = if inside { Path::new("/bin/probe") } else { &outside };
        let mut args = vec!["probe"];
        args.extend(arguments);
        let list = &mut self.config["hooks"][kind];
        if list.is_null() {
            *list = json!([]);
        }
        let list = list.as_array_mut().unwrap();
        list.push(json!({ "path": path, "args": args }));
        list.last_mut().unwrap()
    }

    /// Replaces config.json, which another command may be reading.
    pub(crate) fn write(&self) {
        let draft = self.path.join("config.draft");
        fs::write(&draft, self.config.to_string()).unwrap();
        fs::rename(draft, self.path.join("config.json")).unwrap();
    }
}

fn probe(arguments: &[&str]) -> Value {
    let mut all = vec!["/bin/probe"];
    all.extend(arguments);
    json!(all)
}
