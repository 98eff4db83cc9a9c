//! Checkpoints, and tasks that come out of one: created without a process, which CRIU
//! brings back when they are started.

use std::path::{Path, PathBuf};

use orlop::container::{CgroupMode, CheckpointOptions, CriuOptions, RestoreOptions};
use prost::Message;
use rustix::process::Signal;

use crate::calls::{Answer, Kind, Later, later, now, wrong};
use crate::messages::events::TaskCheckpointed;
use crate::messages::task::CheckpointTaskRequest;
use crate::messages::{Any, Empty, Timestamp, options};
use crate::shim::Shim;
use crate::step::Made;
use crate::task::{Caller, Exit, Phase};
use crate::ttrpc::{Code, Failure};
use crate::work;

impl Shim {
    pub(crate) fn checkpoint(&mut self, caller: Caller, request: CheckpointTaskRequest) -> Answer {
        let CheckpointTaskRequest { id, path, options } = request;
        let root = self.root(&id)?;
        let task = self.task(&id)?;
        if task.init.phase != Phase::Running || task.init.exit.is_some() {
            return Err(wrong(format!("cannot checkpoint a container that does not run: {id}")));
        }
        if task.saving {
            return Err(wrong(format!("container {id} is being checkpointed")));
        }
        let how = wanted(&path, options, &task.bundle)?;
        let images = how.criu.image_path.to_string_lossy().into_owned();
        let ends = !how.leave_running;
        task.saving = true;
        let later = Later { images, ..later(Kind::Checkpoint, caller, &id) };
        // It wants no memory meanwhile, and its cgroup goes before we know of its end.
        if ends {
            self.unwatch(&id);
        }
        let work = {
            let id = id.clone();
            move || work::checkpoint(&root, &id, how)
        };
        let begun = self.step(&[], later, Box::new(work));
        begun.inspect_err(|_| self.not_saved(&id)).map(|()| None)
    }

    /// A checkpoint is done.
    pub(crate) fn checkpointed(
        &mut self,
        id: &str,
        images: String,
        result: Result<Made, Failure>,
    ) -> Result<Vec<u8>, Failure> {
        match &result {
            Ok(_) => {
                let container_id = id.to_owned();
                self.outbox.put(&TaskCheckpointed { container_id, checkpoint: images });
                self.task(id)?.saving = false;
            }
            Err(_) => self.not_saved(id),
        }
        // Its end has waited for this.
        self.ended(id, "");
        result.map(|_| Empty {}.encode_to_vec())
    }

    /// The task goes on as if nobody had asked for a checkpoint.
    fn not_saved(&mut self, id: &str) {
        let Ok(task) = self.task(id) else { return };
        task.saving = false;
        if task.memory.is_none() && task.init.exit.is_none() {
            self.watch_or_warn(id);
        }
    }

    /// Starts a task that has no process yet.
    pub(crate) fn restore(&mut self, caller: Caller, id: &str, images: PathBuf) -> Answer {
        let task = self.task(id)?;
        let criu = back(images, &task.options.criu_work_path, &task.bundle);
        let how = RestoreOptions { criu, ..Default::default() };
        self.begin_with_streams(Kind::Start, caller, id, |creation| work::restore(creation, &how))?;
        self.task(id)?.init.phase = Phase::Starting;
        Ok(None)
    }

    /// A signal to a task that has no process yet.
    pub(crate) fn kill_saved(&mut self, id: &str, signal: u32) -> Answer {
        let task = self.task(id)?;
        match task.init.phase {
            Phase::Created => {}
            Phase::New => return Err(wrong("process not created")),
            _ => return Err(wrong(format!("container {id} is being restored"))),
        }
        let ends = [Signal::TERM, Signal::KILL].map(|signal| signal.as_raw().unsigned_abs());
        if !ends.contains(&signal) {
            return Err(wrong(format!("container {id} has no process before it is started")));
        }
        task.init.exit = Some(Exit { status: 128 + signal, at: Timestamp::now() });
        self.ended(id, "");
        now(&Empty {})
    }
}

fn invalid(words: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidArgument, words)
}

/// The images' folder: whoever names it has not the shim's working directory.
pub(crate) fn folder_of_images(path: &str) -> Result<PathBuf, Failure> {
    if !path.starts_with('/') {
        return Err(invalid(format!("the path of the images is not absolute: {path:?}")));
    }
    Ok(path.into())
}

/// Where CRIU works if nobody says: its log can be read for as long as there is the task.
fn work_path(said: &str, bundle: &Path) -> PathBuf {
    // The folder is the daemon's, beside what it keeps of the task.
    if said.is_empty() { bundle.join("work/criu") } else { said.into() }
}

/// How to save.
fn wanted(path: &str, any: Option<Any>, bundle: &Path) -> Result<CheckpointOptions, Failure> {
    let said = match any {
        None => options::CheckpointOptions::default(),
        Some(any) if any.name() == options::CHECKPOINT => {
            let read = options::CheckpointOptions::decode(&*any.value);
            read.map_err(|error| invalid(format!("the options: {error}")))?
        }
        Some(any) => {
            let words = format!("options of the type {:?} are not supported", any.type_url);
            return Err(invalid(words));
        }
    };
    // The network is never CRIU's to fill: its name has nothing to add.
    if let Some(other) = said.empty_namespaces.iter().find(|name| *name != "network") {
        return Err(invalid(format!("namespace {other:?} is not supported")));
    }
    let cgroups = match &*said.cgroups_mode {
        "" => None,
        "soft" => Some(CgroupMode::Soft),
        "full" => Some(CgroupMode::Full),
        "strict" => Some(CgroupMode::Strict),
        "ignore" => Some(CgroupMode::Ignore),
        other => return Err(invalid(format!("there is no cgroups mode {other:?}"))),
    };
    let images = if said.image_path.is_empty() { path } else { &said.image_path };
    Ok(CheckpointOptions {
        criu: CriuOptions {
            image_path: folder_of_images(images)?,
            work_path: Some(work_path(&said.work_path, bundle)),
            tcp_established: said.open_tcp,
            ext_unix_sk: said.external_unix_sockets,
            shell_job: said.terminal,
            file_locks: said.file_locks,
            cgroups,
            ..CriuOptions::default()
        },
        leave_running: !said.exit,
        ..CheckpointOptions::default()
    })
}

/// How to bring back. A creation has no words for what may come back: that was asked for
/// when it was saved.
fn back(image_path: PathBuf, said: &str, bundle: &Path) -> CriuOptions {
    CriuOptions {
        image_path,
        work_path: Some(work_path(said, bundle)),
        tcp_established: true,
        ext_unix_sk: true,
        file_locks: true,
        ..CriuOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, said: &options::CheckpointOptions) -> Result<CheckpointOptions, String> {
        let any = Any { type_url: options::CHECKPOINT.to_owned(), value: said.encode_to_vec() };
        wanted(path, Some(any), Path::new("/bundle")).map_err(|failure| failure.message)
    }

    #[test]
    fn all_that_is_said_is_told_to_criu() {
        let said = options::CheckpointOptions {
            exit: true,
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".into()],
            cgroups_mode: "strict".into(),
            image_path: "/images".into(),
            work_path: "/work".into(),
        };
        let how = read("/path", &said).unwrap();
        assert!(!how.leave_running && !how.pre_dump);
        let CriuOptions { image_path, work_path, cgroups, .. } = &how.criu;
        assert_eq!(
            (image_path, work_path, cgroups),
            (&"/images".into(), &Some("/work".into()), &Some(CgroupMode::Strict))
        );
        let criu = how.criu;
        assert!(criu.tcp_established && criu.ext_unix_sk && criu.shell_job && criu.file_locks);
    }

    #[test]
    fn nothing_is_said_and_it_goes_on() {
        let how = wanted("/path", None, Path::new("/bundle")).unwrap();
        assert!(how.leave_running);
        assert_eq!(how.criu.image_path, Path::new("/path"));
        assert_eq!(how.criu.work_path.as_deref(), Some(Path::new("/bundle/work/criu")));
        let criu = how.criu;
        assert!(!(criu.tcp_established || criu.ext_unix_sk || criu.shell_job || criu.file_locks));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let none = options::CheckpointOptions::default();
        let mode = options::CheckpointOptions { cgroups_mode: "hard".into(), ..none.clone() };
        let empty = options::CheckpointOptions { empty_namespaces: vec!["pid".into()], ..none };
        for (path, said, words) in [
            ("/path", &mode, "there is no cgroups mode \"hard\""),
            ("/path", &empty, "namespace \"pid\" is not supported"),
            ("", &Default::default(), "the path of the images is not absolute: \"\""),
            ("path", &Default::default(), "the path of the images is not absolute: \"path\""),
        ] {
            assert_eq!(read(path, said).unwrap_err(), words);
        }
        let other = Any { type_url: options::RUNC.to_owned(), value: Vec::new() };
        let failure = wanted("/path", Some(other), Path::new("/")).unwrap_err();
        let words = "options of the type \"containerd.runc.v1.Options\" are not supported";
        assert_eq!((failure.code, &*failure.message), (Code::InvalidArgument, words));
    }
}
