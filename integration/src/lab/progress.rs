//! What is being done and for how long, while somebody waits for it.

use std::fs::{self, File};
use std::io::{IsTerminal, Write, stderr};
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

/// How often a line is written where lines stay.
const SELDOM: Duration = Duration::from_secs(30);

/// One thing that takes long.
#[derive(Debug)]
pub struct Progress {
    what: String,
    begun: Instant,
    told: Instant,
    terminal: bool,
}

impl Progress {
    /// It begins.
    #[must_use]
    pub fn new(what: &str) -> Self {
        let now = Instant::now();
        let this =
            Self { what: what.to_owned(), begun: now, told: now, terminal: stderr().is_terminal() };
        eprint!("{what} …{}", if this.terminal { "" } else { "\n" });
        this
    }

    /// It goes on; `detail` is asked for when there is something to tell.
    pub fn tick(&mut self, detail: impl FnOnce() -> String) {
        let pause = if self.terminal { Duration::from_secs(1) } else { SELDOM };
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let line = format!("{}: {} s {}", self.what, self.begun.elapsed().as_secs(), detail());
        if self.terminal {
            // One line of a narrow terminal, written over.
            let short: String = line.chars().take(78).collect();
            eprint!("\r\x1b[K{short}");
            let _ = stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    /// For how long.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// It is over, and was good.
    pub fn done(self) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        eprintln!("{clear}{}: {:.1} s", self.what, self.begun.elapsed().as_secs_f64());
    }

    /// Waits for a child whose output is in a log.
    ///
    /// # Errors
    /// It fails, or takes longer than `limit`: then it is killed. The error names
    /// the log.
    pub fn wait(&mut self, child: &mut Child, limit: Duration, log: &Path) -> Result<()> {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if begun.elapsed() > limit {
                let _ = child.kill();
                let _ = child.wait();
                bail!("{} did not end in {limit:?}; the log is {}", self.what, log.display());
            }
            thread::sleep(Duration::from_millis(50));
            self.tick(|| last_line(log));
        };
        ensure!(
            status.success(),
            "{} failed, {status}: {}; the log is {}",
            self.what,
            last_line(log),
            log.display()
        );
        Ok(())
    }
}

/// What a log ends with.
#[must_use]
pub fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// An empty log, and a second handle for standard error.
///
/// # Errors
/// It cannot be created.
pub fn log(path: &Path) -> Result<(File, File)> {
    let file = File::create(path)?;
    let second = file.try_clone()?;
    Ok((file, second))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_failure_names_the_log_and_quotes_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let (out, err) = log(&path).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]).stdout(out).stderr(err);
        let mut child = command.spawn().unwrap();
        let mut progress = Progress::new("trying");
        let error = progress.wait(&mut child, Duration::from_secs(20), &path).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("two") && text.contains("x.log"), "{text}");
    }

    #[test]
    fn what_takes_too_long_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut progress = Progress::new("sleeping");
        let limit = Duration::from_millis(100);
        let error = progress.wait(&mut child, limit, Path::new("/nowhere")).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
        assert!(child.try_wait().unwrap().is_some());
    }
}
