//! The operations of the specification, by the runtime's command line.

use std::fs;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::console::{self, Console};
use super::{Story, Then, bundle};
use crate::leftovers;
use crate::merge;
use crate::runtime::Said;
use crate::step::{End, Exec};

/// How long a container may take to get where it is going.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

impl Story<'_> {
    /// A command on the container; its id comes last.
    fn on(&self, words: &[&str]) -> Result<Said> {
        let state = self.places.state();
        let root = state.to_str().context("a path in UTF-8")?;
        let mut all = vec!["--root", root];
        all.extend(words);
        all.push(self.places.tag());
        let name = words.first().copied().unwrap_or_default();
        self.runtime.run_as(self.places.folder(), &all, name, self.case.limits().command)
    }

    pub(super) fn create(&mut self, end: End) -> Result<()> {
        let said = self.begin()?;
        judge(&said, end)?;
        if let (Some(console), End::Works) = (&mut self.console, end) {
            console.receive()?;
        }
        Ok(())
    }

    /// Either it works, or it leaves nothing and that is the end. It must work if the
    /// runtime says in this place of its features that it can.
    pub(super) fn try_create(&mut self, unless: Option<&str>) -> Result<Then> {
        let said = self.begin()?;
        if said.code == 0 {
            return Ok(Then::GoOn);
        }
        if let Some(place) = unless
            && let Ok(features) = self.runtime.features(self.places.folder())
            && crate::template::find(&features, place) == Some(Value::Bool(true))
        {
            bail!("it says that it can, in {place}, but {said}");
        }
        self.gone()?;
        Ok(Then::End)
    }

    fn begin(&mut self) -> Result<Said> {
        let bundle = self.places.bundle();
        let mut words = vec!["create", "--bundle", bundle.to_str().context("UTF-8")?];
        let socket = Console::socket(self.places.folder());
        if self.config()?["process"]["terminal"] == true {
            self.console = Some(Console::listen(&socket)?);
            words.extend(["--console-socket", socket.to_str().context("UTF-8")?]);
        }
        self.on(&words)
    }

    /// `start` or `delete`.
    pub(super) fn operate(&mut self, words: &[&str], end: End) -> Result<()> {
        leftovers::reap(&self.awaited());
        judge(&self.on(words)?, end)
    }

    pub(super) fn kill(&mut self, signal: &str, end: End) -> Result<()> {
        let state = self.places.state();
        let root = state.to_str().context("a path in UTF-8")?;
        let words = ["--root", root, "kill", self.places.tag(), signal];
        let deadline = self.case.limits().command;
        judge(&self.runtime.run_as(self.places.folder(), &words, "kill", deadline)?, end)
    }

    /// Creating it fails, or else starting it: the specification leaves open when
    /// most of `process` is applied. The program must not have run.
    pub(super) fn refused(&mut self) -> Result<()> {
        if self.begin()?.code == 0 {
            judge(&self.on(&["start"])?, End::Fails)?;
            self.clear()?;
        }
        let printed = self.printed()?;
        anyhow::ensure!(!printed.contains('{'), "the program ran and printed {printed}");
        self.gone()
    }

    /// `delete --force` is no operation of the specification: how a case ends that
    /// is not about deleting.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.on(&["delete", "--force"]).map(drop)
    }

    /// Asks for the state, which must be there.
    fn ask(&mut self) -> Result<Value> {
        leftovers::reap(&self.awaited());
        let text = self.on(&["state"])?.success()?;
        let state: Value = serde_json::from_str(&text).context("the state is no JSON")?;
        self.known.insert("pid".to_owned(), state["pid"].clone());
        self.known.insert("state".to_owned(), state.clone());
        Ok(state)
    }

    pub(super) fn state(&mut self, pattern: &Value) -> Result<()> {
        let seen = self.ask()?;
        Self::matches("state", pattern, &seen)
    }

    pub(super) fn wait_status(&mut self, status: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            let state = self.ask()?;
            if state["status"] == status {
                if let (Some(console), "stopped") = (&self.console, status) {
                    console.drain();
                }
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("after {PATIENCE:?} it is still {}", state["status"]);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn wait_output(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.printed()?.contains('\n') {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "the program printed nothing");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.ask().map(drop)
    }

    pub(super) fn gone(&mut self) -> Result<()> {
        leftovers::reap(&self.awaited());
        let said = self.on(&["state"])?;
        anyhow::ensure!(said.code != 0, "the container is still there: {said}");
        Ok(())
    }

    /// What the program has printed so far.
    pub(super) fn printed(&self) -> Result<String> {
        if let Some(console) = &self.console {
            return Ok(console.printed());
        }
        let path = self.places.folder().join("create.out");
        Ok(fs::read_to_string(path).unwrap_or_default())
    }

    pub(super) fn command(&self, words: &[String], end: End) -> Result<()> {
        judge(&self.call(words)?, end)
    }

    /// The command line as it is.
    fn call(&self, words: &[String]) -> Result<Said> {
        let state = self.places.state();
        let mut all = vec!["--root", state.to_str().context("a path in UTF-8")?];
        all.extend(words.iter().map(String::as_str));
        self.runtime.run(self.places.folder(), &all)
    }

    pub(super) fn says(&self, words: &[String], pattern: &Value) -> Result<()> {
        let text = self.call(words)?.success()?;
        Self::matches("it says", pattern, &Value::String(text.trim_end().to_owned()))
    }

    pub(super) fn answers(&self, words: &[String], pattern: &Value) -> Result<()> {
        let text = self.call(words)?.success()?;
        let seen = serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))?;
        Self::matches("the answer", pattern, &seen)
    }

    /// The process of the pidfd that a command has sent, as `${sent}`.
    pub(super) fn pidfd(&mut self, words: &[String]) -> Result<()> {
        let socket = self.places.folder().join("pidfd");
        let listener = console::listen(&socket)?;
        let with = [words, &[socket.to_string_lossy().into_owned(), self.places.tag().to_owned()]];
        judge(&self.call(&with.concat())?, End::Works)?;
        let (_, fds) = console::receive(&console::accept(&listener)?)?;
        anyhow::ensure!(fds.len() == 1, "{} descriptors were sent", fds.len());
        let path = format!("/proc/self/fdinfo/{}", fds[0].as_raw_fd());
        let info = fs::read_to_string(path)?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
        let pid: i64 = pid.context("what was sent is no pidfd")?.trim().parse()?;
        self.known.insert("sent".to_owned(), pid.into());
        Ok(())
    }

    pub(super) fn terminal(
        &mut self,
        words: &[String],
        acts: &[String],
        pattern: &Value,
    ) -> Result<()> {
        let socket = self.places.folder().join("terminal");
        let mut console = Console::listen(&socket)?;
        let to = ["--console-socket".to_owned(), socket.to_string_lossy().into_owned()];
        let id = [self.places.tag().to_owned()];
        let program = match acts {
            [] => Vec::new(),
            _ => [&["/bin/probe".to_owned()], acts].concat(),
        };
        judge(&self.call(&[words, &to, &id, &program].concat())?, End::Works)?;
        console.receive()?;
        console.drain();
        Self::printed_last(&console.printed(), pattern)
    }

    pub(super) fn exec(&mut self, exec: &Exec) -> Result<()> {
        let mut process = self.config()?["process"].clone();
        merge::merge(&mut process, &exec.process);
        process["args"] = bundle::arguments(&exec.run);
        let path = self.places.folder().join("process.json");
        fs::write(&path, process.to_string())?;
        let text = self.on(&["exec", "--process", path.to_str().context("UTF-8")?])?.success()?;
        Self::printed_last(&text, &exec.output)
    }

    fn printed_last(text: &str, pattern: &Value) -> Result<()> {
        let last = text.lines().next_back().unwrap_or_default();
        let seen = serde_json::from_str(last).with_context(|| format!("no JSON: {text}"))?;
        Self::matches("output", pattern, &seen)
    }
}

fn judge(said: &Said, end: End) -> Result<()> {
    match end {
        End::Works if said.code != 0 => bail!("{said}"),
        End::Fails if said.code == 0 => bail!("\"{}\" worked, but must fail", said.line),
        _ => Ok(()),
    }
}
