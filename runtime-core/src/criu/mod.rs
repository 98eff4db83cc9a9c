//! CRIU, the program that saves a container's processes and brings them back.
//!
//! It is found through `$PATH` and started for one request each (`criu swrk`). This
//! room knows how CRIU is spoken to and what may be said to it; it does not know what
//! a container is.

mod log;
mod messages;
pub(crate) mod names;
mod superblock;
mod worker;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{AccessFlags, access};

pub use messages::{CgroupMode, NetworkLock};
pub(crate) use messages::{
    CgroupRoot, ExternalMount, Features, InheritFd, JoinNamespace, Options, PageServer,
};
use messages::{Kind as Wanted, Request};
pub(crate) use superblock::Superblock;
pub(crate) use worker::{Answer, Asked, FIRST_GIVEN, Start, Worker};

use crate::error::{Error, Kind, Result};

/// Oldest CRIU that is taken: notifications about lazy pages, external namespaces, the
/// freezer of cgroup v2, profiles on restore. It is as old as our oldest kernel.
const FLOOR: i32 = 3_16_00;

/// How long it may take to say what it can do, in milliseconds: less than others wait for
/// the container's lock.
const ASKING: i64 = 10_000;

/// Where a program is looked for when there is no `PATH` (execvp(3)).
const USUAL: &str = "/bin:/usr/bin";

/// The program.
#[derive(Debug)]
pub(crate) struct Criu {
    program: PathBuf,
}

impl Criu {
    /// Finds it, and asks for its version.
    pub(crate) fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(USUAL));
        let usable = |path: &PathBuf| {
            path.is_absolute() && path.is_file() && access(path, AccessFlags::X_OK).is_ok()
        };
        let found = std::env::split_paths(&path).map(|folder| folder.join("criu")).find(usable);
        let program = found.ok_or_else(|| {
            Error::new(Kind::Unsupported, "the program \"criu\" is not found in $PATH")
        })?;
        let criu = Self { program };
        let version = criu.version()?;
        if version < FLOOR {
            // COMPAT(runc): its words.
            let words = format!("CRIU version {version} must be {FLOOR} or higher");
            return Err(Error::new(Kind::Unsupported, words).at_path(&criu.program));
        }
        Ok(criu)
    }

    /// As one number: 4.1.1 is 40101. A build of an unreleased state counts as the next
    /// minor version.
    fn version(&self) -> Result<i32> {
        let response = self.ask(&Request { kind: Wanted::Version as i32, ..Request::default() });
        let failed =
            |error: Error| Error::new(error.kind(), format!("CRIU version check failed: {error}"));
        let version = response.map_err(failed)?.version.unwrap_or_default();
        let number = version.major.saturating_mul(10_000).saturating_add(version.minor * 100);
        Ok(match version.git_id.filter(|id| !id.is_empty()) {
            Some(_) => number + 100,
            None => number + version.sublevel.unwrap_or(0),
        })
    }

    /// Refuses what CRIU, or the kernel below it, can't do.
    pub(crate) fn must_have(&self, features: Features) -> Result<()> {
        let request = Request {
            kind: Wanted::FeatureCheck as i32,
            features: Some(features),
            ..Request::default()
        };
        let failed =
            |error: Error| Error::new(error.kind(), format!("CRIU feature check failed: {error}"));
        let has = self.ask(&request).map_err(failed)?.features.unwrap_or_default();
        let lacks =
            |wanted: Option<bool>, has: Option<bool>| wanted == Some(true) && has != Some(true);
        let mut missing = Vec::new();
        if lacks(features.mem_track, has.mem_track) {
            missing.push("MemTrack");
        }
        if lacks(features.lazy_pages, has.lazy_pages) {
            missing.push("LazyPages");
        }
        if missing.is_empty() {
            return Ok(());
        }
        // COMPAT(runc): its words.
        let words = format!("criu is missing features: [{}]", missing.join(" "));
        Err(Error::new(Kind::Unsupported, words))
    }

    /// Starts it, to be asked for something.
    pub(crate) fn start(&self, start: &Start<'_>) -> Result<Worker> {
        Worker::start(&self.program, start)
    }

    /// Starts it with nothing open but its socket.
    pub(crate) fn start_alone(&self, interrupt: Option<Arc<OwnedFd>>) -> Result<Worker> {
        let null = null()?;
        let streams = [null.as_fd(); 3];
        self.start(&Start { streams, given: &[], mount: None, inherited: None, interrupt })
    }

    /// A question that needs no answers of ours.
    fn ask(&self, request: &Request) -> Result<messages::Response> {
        let mut worker = self.start_alone(None)?;
        worker.answers_within(ASKING);
        let response = worker.converse(request, &mut |_| Ok(()))?;
        worker.finish()?;
        Ok(response)
    }
}

/// The null device of the host, for a standard stream.
pub(crate) fn null() -> Result<File> {
    let opened = File::options().read(true).write(true).open("/dev/null");
    opened.map_err(|error| Error::io(&error, "opening").at_path("/dev/null"))
}

impl Worker {
    /// Saves processes, or their memory alone. `log` is where CRIU says what it does.
    pub(crate) fn dump(
        mut self,
        memory_alone: bool,
        options: Options,
        log: &Path,
        answer: Answer<'_>,
    ) -> Result<()> {
        let kind = if memory_alone { Wanted::PreDump } else { Wanted::Dump };
        let request = Request { kind: kind as i32, options: Some(options), ..Request::default() };
        self.converse(&request, answer).map_err(|error| log::explain(error, log))?;
        let well = self.finish()?;
        // After a pre-dump it would wait for the next one, and has lost its socket.
        if well || memory_alone { Ok(()) } else { Err(log::explain(ended_badly(), log)) }
    }

    /// Brings processes back: the process id of the first.
    pub(crate) fn restore(
        mut self,
        options: Options,
        log: &Path,
        answer: Answer<'_>,
    ) -> Result<i32> {
        let kind = Wanted::Restore as i32;
        let request = Request { kind, options: Some(options), ..Request::default() };
        let response = self.converse(&request, answer);
        let response = response.map_err(|error| log::explain(error, log))?;
        if !self.finish()? {
            return Err(log::explain(ended_badly(), log));
        }
        Ok(response.restored.unwrap_or_default().pid)
    }
}

fn ended_badly() -> Error {
    Error::new(Kind::Os, "criu failed after its answer")
}
