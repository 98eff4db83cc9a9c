//! A command with a deadline: nothing here waits for ever.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// What a command that ended said.
#[derive(Debug)]
pub struct Output {
    /// The command, for messages.
    pub line: String,
    /// Its exit status, or 128 and the signal that ended it.
    pub code: i32,
    /// Standard output, without the white space at its ends.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// Standard output of a command that must succeed.
    ///
    /// # Errors
    /// It did not; the error holds what it said.
    pub fn success(self) -> Result<String> {
        if self.code != 0 {
            bail!("{self}");
        }
        Ok(self.stdout)
    }

    /// Checks the exit status.
    ///
    /// # Errors
    /// It is another one.
    pub fn exits_with(&self, code: i32) -> Result<()> {
        if self.code != code {
            bail!("exit status {code} was expected, but {self}");
        }
        Ok(())
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" exited with {}", self.line, self.code)?;
        for text in [&self.stdout, &self.stderr] {
            if !text.is_empty() {
                write!(f, ": {text}")?;
            }
        }
        Ok(())
    }
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be started, or does not end in time; then it is killed.
pub fn run(command: &mut Command, input: &str, limit: Duration) -> Result<Output> {
    let line = line(command);
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting \"{line}\""))?;
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    if let Some(mut pipe) = child.stdin.take() {
        // It may end without reading; its output then says why.
        let _ = pipe.write_all(input.as_bytes());
    }
    let status = wait(&mut child, limit);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let Some(status) = status else { bail!("\"{line}\" did not end in {limit:?}") };
    let text = |reader: JoinHandle<String>| reader.join().unwrap_or_default().trim().to_owned();
    Ok(Output { line, code: code(status), stdout: text(stdout), stderr: text(stderr) })
}

/// Runs a long command with its output in a log.
///
/// # Errors
/// It fails or takes too long; the error names the log.
pub fn logged(command: &mut Command, log: &Path, limit: Duration) -> Result<()> {
    let file = File::options().create(true).append(true).open(log)?;
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let status = wait(&mut child, limit);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    ensure!(
        status.is_some_and(|status| status.success()),
        "{program} {}; its log is {}",
        status.map_or(format!("did not end in {limit:?}"), |status| format!("failed, {status}")),
        log.display()
    );
    Ok(())
}

/// Waits for a child; `None` when the time is over.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let mut status = None;
    until(limit, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    status
}

/// The exit status as a shell gives it.
#[must_use]
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Asks again and again until the answer is yes; false when the time is over.
pub fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_input_and_status_arrive() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; echo no >&2; exit 3"]);
        let output = run(&mut command, "yes\n", Duration::from_secs(10)).unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (3, "yes"));
        assert_eq!(output.stderr, "no");
        assert!(output.exits_with(3).is_ok() && output.exits_with(0).is_err());
    }

    #[test]
    fn what_does_not_end_is_killed() {
        let mut command = Command::new("sleep");
        let start = Instant::now();
        let error = run(command.arg("60"), "", Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
