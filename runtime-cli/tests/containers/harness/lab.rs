//! One test's place: a folder, names nobody else has, and its view.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir};

use super::view::View;

/// Why a test can't run here.
pub(super) struct Skip(pub(super) String);

/// Where a test works.
pub(crate) struct Lab {
    /// The cgroups that it sees.
    pub(crate) view: View,
    folder: TempDir,
}

impl Lab {
    pub(super) fn new(view: View) -> Self {
        Self { view, folder: Builder::new().prefix("orlop-test-").tempdir().unwrap() }
    }

    /// Ends the test as one that can't run here.
    pub(crate) fn skip(&self, reason: &str) -> ! {
        resume_unwind(Box::new(Skip(reason.to_owned())))
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the runtime keeps its state.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("state")
    }

    /// Part of every name that this test gives to things outside its folder: by
    /// it the oracle knows cgroups and keyrings.
    pub(crate) fn tag(&self) -> &str {
        let name = self.folder.path().file_name().and_then(|name| name.to_str());
        name.expect("we gave it a name of letters")
    }

    /// A container's id.
    pub(crate) fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.tag())
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}
