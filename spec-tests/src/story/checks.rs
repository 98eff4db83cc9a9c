//! What is looked at between the operations.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use orlop_spec_tests::cgroups::ROOT as CGROUPS;
use serde_json::{Map, Value};

use super::Story;
use crate::probe;

impl Story<'_> {
    /// The last line that the program printed.
    pub(super) fn output(&mut self, pattern: &Value) -> Result<()> {
        let printed = self.printed()?;
        let mut lines = printed.lines().filter(|line| line.starts_with('{'));
        let errors = fs::read_to_string(self.places.folder().join("create.err"));
        let last = lines.next_back().with_context(|| {
            format!("the program printed nothing: {printed}{}", errors.unwrap_or_default())
        })?;
        let seen: Value = serde_json::from_str(last).context("what the program printed")?;
        self.known.insert("output".to_owned(), seen.clone());
        Self::matches("output", pattern, &seen)
    }

    /// What hooks and the program wrote, each a line.
    pub(super) fn log(&mut self, pattern: &Value) -> Result<()> {
        let text = fs::read_to_string(self.rootfs().join("work/log")).unwrap_or_default();
        let records: serde_json::Result<Vec<Value>> =
            text.lines().map(serde_json::from_str).collect();
        let seen = Value::Array(records.context("a line of the log")?);
        self.known.insert("log".to_owned(), seen.clone());
        Self::matches("log", pattern, &seen)
    }

    pub(super) fn look(looks: &Map<String, Value>) -> Result<()> {
        looks.iter().try_for_each(|(act, pattern)| Self::matches(act, pattern, &probe::look(act)))
    }

    /// Files of the container's cgroups, whatever the hierarchy they are in.
    pub(super) fn cgroup(&mut self, files: &Map<String, Value>) -> Result<()> {
        let pid =
            self.known.get("pid").and_then(Value::as_i64).context("no state was asked for")?;
        let folders = cgroup_folders(pid)?;
        for (file, pattern) in files {
            let found = folders.iter().map(|folder| folder.join(file)).find(|path| path.exists());
            let path = found.with_context(|| format!("no cgroup in {folders:?} has \"{file}\""))?;
            let seen = probe::look(&format!("read {}", path.display()));
            Self::matches(&path.display().to_string(), pattern, &seen)?;
        }
        Ok(())
    }

    /// What it prints is `${said}` then.
    pub(super) fn shell_says(&mut self, script: &str, says: &Value) -> Result<()> {
        let said = Value::String(self.shell(script)?.trim_end().to_owned());
        self.known.insert("said".to_owned(), said.clone());
        if says.is_null() {
            return Ok(());
        }
        Self::matches("it says", says, &said)
    }

    pub(super) fn features(&mut self, pattern: &Value) -> Result<()> {
        let seen = self.runtime.features(self.places.folder())?;
        self.known.insert("features".to_owned(), seen.clone());
        Self::matches("features", pattern, &seen)
    }
}

/// Where a process is in each hierarchy, as folders of this host.
fn cgroup_folders(pid: i64) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("the process is gone")?;
    let folder = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let hierarchy = match controllers {
            "" => {
                let beside = Path::new(CGROUPS).join("unified");
                if beside.exists() { beside } else { CGROUPS.into() }
            }
            named => Path::new(CGROUPS).join(named.trim_start_matches("name=")),
        };
        Some(hierarchy.join(path))
    };
    Ok(text.lines().filter_map(folder).collect())
}
