//! Where a case works, and the names it gives.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::probe;
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The folder of a case. Whoever started the worker removes it: in here something
/// of the host may be mounted below it.
#[derive(Debug)]
pub(crate) struct Places {
    folder: PathBuf,
    tag: String,
}

impl Places {
    /// In that folder. Users of other ids may pass through it.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        let name = folder.file_name().and_then(|name| name.to_str());
        let tag = name.context("a folder with a name of letters")?.to_owned();
        Ok(Self { folder: folder.to_owned(), tag })
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The probe, which all cases of a run share.
    pub(super) fn probe(&self) -> PathBuf {
        self.folder.with_file_name(probe::NAME)
    }

    /// Part of every name outside of the folder.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// Where the runtime keeps its state.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder().join("state")
    }

    /// The bundle.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.folder().join("bundle")
    }

    /// What steps may name of it.
    pub(super) fn names(&self) -> BTreeMap<String, Value> {
        let bundle = self.bundle();
        let rootfs = bundle.join("rootfs");
        let pairs = [
            ("id", json!(self.tag)),
            ("work", json!(self.folder())),
            ("bundle", json!(bundle)),
            ("rootfs", json!(rootfs)),
            ("probe", json!(rootfs.join("bin/probe"))),
            ("log", json!(rootfs.join("work/log"))),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
