//! Runs the steps of one case, in the process that is there for it alone.

mod bundle;
mod checks;
mod operations;
mod places;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Child;

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::case::Case;
use crate::runtime::Runtime;
use crate::step::Step;
use crate::{pattern, probe, template};

pub(crate) use places::Places;

/// One case on its way.
#[derive(Debug)]
pub(crate) struct Story<'a> {
    case: &'a Case,
    runtime: &'a Runtime,
    places: &'a Places,
    /// What steps may name: `${pid}`, `${host.namespaces.pid}`.
    known: BTreeMap<String, Value>,
    /// Whose namespaces are there to be joined.
    holder: Option<Child>,
}

impl<'a> Story<'a> {
    /// At its beginning, with nothing made yet.
    pub(crate) fn new(case: &'a Case, runtime: &'a Runtime, places: &'a Places) -> Self {
        Self { case, runtime, places, known: places.names(), holder: None }
    }

    /// Runs it to its end.
    pub(crate) fn run(&mut self) -> Result<()> {
        self.prepare()?;
        for (number, step) in self.case.steps.iter().enumerate() {
            let name = step.as_str().map_or_else(
                || step.as_object().map_or_else(String::new, |o| o.keys().cloned().collect::<Vec<_>>().join(" ")),
                str::to_owned,
            );
            self.step(step).with_context(|| format!("step {} ({name})", number + 1))?;
        }
        Ok(())
    }

    /// Processes that are waited for elsewhere.
    fn awaited(&self) -> Vec<Pid> {
        self.holder.iter().map(|child| Pid::from_raw(child.id().cast_signed())).collect()
    }

    fn prepare(&mut self) -> Result<()> {
        let host = Value::Object(probe::report());
        self.known.insert("host".to_owned(), host);
        if self.case.holder.is_some() {
            self.hold()?;
        }
        self.lay_out()?;
        if let Some(script) = &self.case.prepare {
            self.shell(&self.filled_text(script)?)?;
        }
        self.write_config()
    }

    fn step(&mut self, step: &Value) -> Result<()> {
        match Step::parse(&self.filled(step)?)? {
            Step::Create(end) => self.create(end),
            Step::Start(end) => self.operate(&["start"], end),
            Step::Refused => self.refused(),
            Step::Kill(signal, end) => self.kill(&signal, end),
            Step::Delete(end) => self.operate(&["delete"], end),
            Step::Clear => self.clear(),
            Step::WaitStatus(status) => self.wait_status(&status),
            Step::WaitOutput => self.wait_output(),
            Step::Gone => self.gone(),
            Step::State(pattern) => self.state(&pattern),
            Step::Output(pattern) => self.output(&pattern),
            Step::Log(pattern) => self.log(&pattern),
            Step::Config(patch) => self.change_config(&patch),
            Step::Look(looks) => Self::look(&looks),
            Step::Cgroup(files) => self.cgroup(&files),
            Step::Shell(script, says) => self.shell_says(&script, &says),
            Step::Command(words, end) => self.command(&words, end),
            Step::Features(pattern) => self.features(&pattern),
            Step::Exec(exec) => self.exec(&exec),
            Step::Agent(_) | Step::Recognises(_) => bail!("not there yet"),
        }
    }

    /// A value with everything filled in.
    fn filled(&self, value: &Value) -> Result<Value> {
        let filled = template::fill(value, &|name| self.lookup(name));
        let open = template::open_places(&filled);
        anyhow::ensure!(open.is_empty(), "the case names what is not there: {open:?}");
        Ok(filled)
    }

    fn filled_text(&self, text: &str) -> Result<String> {
        let filled = self.filled(&json!(text))?;
        filled.as_str().map(str::to_owned).context("a text was expected")
    }

    fn lookup(&self, name: &str) -> Option<Value> {
        let (first, rest) = name.split_once('.').map_or((name, None), |(a, b)| (a, Some(b)));
        let value = self.known.get(first)?;
        rest.map_or_else(|| Some(value.clone()), |rest| template::find(value, rest))
    }

    fn rootfs(&self) -> PathBuf {
        self.places.bundle().join("rootfs")
    }

    fn matches(what: &str, pattern: &Value, seen: &Value) -> Result<()> {
        pattern::check(pattern, seen).map_err(|wrong| anyhow::anyhow!("{what}: {wrong}"))
    }
}

impl Drop for Story<'_> {
    fn drop(&mut self) {
        if let Some(mut holder) = self.holder.take() {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}
