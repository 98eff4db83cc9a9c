//! The runtime under test: a program with the command line that runc has, of
//! which nothing is known. No command may take longer than its deadline.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::case::Limits;

/// How the program is called.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Runtime {
    /// The program.
    pub(crate) path: PathBuf,
    /// What stands before every command.
    pub(crate) arguments: Vec<String>,
}

/// What a runtime says of itself.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Identity {
    /// The first word of its version.
    pub(crate) name: String,
    /// The version.
    pub(crate) version: String,
    /// The release of the specification that it claims.
    pub(crate) spec: String,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    /// The command, for messages.
    pub(crate) line: String,
    /// Its exit status, or 128 and the signal that ended it.
    pub(crate) code: i32,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Said {
    /// Standard output of a command that must succeed.
    pub(crate) fn success(self) -> Result<String> {
        if self.code == 0 { Ok(self.stdout) } else { bail!("{self}") }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\" ended with {}", self.line, self.code)?;
        let lines = self.stderr.lines().chain(self.stdout.lines());
        let last: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).take(6).collect();
        if last.is_empty() { Ok(()) } else { write!(f, ": {}", last.join(" | ")) }
    }
}

impl Runtime {
    /// Asks it who it is.
    pub(crate) fn identify(&self) -> Result<Identity> {
        let folder = tempfile::tempdir()?;
        let text = self.run(folder.path(), &["--version"])?.success()?;
        let first = text.lines().next().unwrap_or_default();
        let words: Vec<&str> = first.split(' ').collect();
        let [name, "version", version, ..] = words[..] else {
            bail!("\"{}\" does not say its name and version: {first}", self.path.display());
        };
        let (name, version) = (name.to_owned(), version.to_owned());
        let features = self.features(folder.path()).ok();
        let newest = features.as_ref().and_then(|features| features["ociVersionMax"].as_str());
        let spoken = text.lines().find_map(|line| line.strip_prefix("spec: "));
        let spec = newest.or(spoken).unwrap_or("1.0.0").to_owned();
        Ok(Identity { name, version, spec })
    }

    /// The same by way of a program that ends as it.
    pub(crate) fn behind(self, before: [String; 3]) -> Self {
        let [program, arguments @ ..] = before;
        let path = self.path.to_string_lossy().into_owned();
        let arguments = arguments.into_iter().chain([path]).chain(self.arguments).collect();
        Self { path: program.into(), arguments }
    }

    /// How it is called, for a shell.
    pub(crate) fn words(&self) -> String {
        let quote = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
        let mut words = vec![quote(&self.path.to_string_lossy())];
        words.extend(self.arguments.iter().map(|word| quote(word)));
        words.join(" ")
    }

    /// Whether systemd is to make the cgroups.
    pub(crate) fn asks_systemd(&self) -> bool {
        self.arguments.iter().any(|argument| argument == "--systemd-cgroup")
    }

    /// The cgroupsPath of a container, in the words of who makes the cgroup. A user
    /// has none at the root.
    pub(crate) fn cgroups_path(&self, tag: &str) -> String {
        match (self.asks_systemd(), geteuid().is_root()) {
            (true, _) => format!(":case:{tag}"),
            (false, true) => format!("/{tag}"),
            (false, false) => tag.to_owned(),
        }
    }

    /// Its features structure.
    pub(crate) fn features(&self, folder: &Path) -> Result<serde_json::Value> {
        let text = self.run(folder, &["features"])?.success()?;
        serde_json::from_str(&text).context("the features structure is no JSON")
    }

    /// Runs a command to its end. What it prints goes to files in `folder`, which
    /// a container that lives on may keep open.
    pub(crate) fn run(&self, folder: &Path, words: &[&str]) -> Result<Said> {
        self.run_as(folder, words, "command", Limits::USUAL.command)
    }

    /// The same, with another name for the files, and so long at most.
    pub(crate) fn run_as(
        &self,
        folder: &Path,
        words: &[&str],
        name: &str,
        deadline: Duration,
    ) -> Result<Said> {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).args(words);
        run(command, folder, name, deadline)
    }
}

/// Runs any command to its end, with its output in `NAME.out` and `NAME.err`.
pub(crate) fn run(
    mut command: Command,
    folder: &Path,
    name: &str,
    deadline: Duration,
) -> Result<Said> {
    let out = folder.join(format!("{name}.out"));
    let err = folder.join(format!("{name}.err"));
    // With nothing in it. A runtime may give what it finds there to a container's
    // user: the null device would be the whole host's.
    command.stdin(std::io::pipe().context("making a pipe")?.0);
    command.stdout(File::create(&out)?).stderr(File::create(&err)?);
    let line = line(&command);
    let mut child = command.spawn().with_context(|| format!("starting \"{line}\""))?;
    let begun = Instant::now();
    let mut pause = Duration::from_micros(200);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > deadline {
            child.kill()?;
            child.wait()?;
            let said = fs::read_to_string(&err).unwrap_or_default();
            bail!("\"{line}\" did not end within {deadline:?}: {said}");
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    let [stdout, stderr] = [out, err]
        .map(|file| String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned());
    Ok(Said { line, code, stdout, stderr })
}

fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// A release as numbers; what follows a `-` or `+` does not count.
pub(crate) fn release(text: &str) -> [u32; 3] {
    let plain = text.split(['-', '+', '~']).next().unwrap_or_default();
    let mut numbers = plain.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered() {
        assert!(release("1.0.2-dev") < release("1.1.0"));
        assert!(release("1.10.0") > release("1.9.9"));
        assert_eq!(release("1.1.5+ds1"), [1, 1, 5]);
        assert_eq!(release("1.2"), [1, 2, 0]);
    }

    #[test]
    fn a_command_says_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime { path: "/bin/sh".into(), arguments: vec!["-c".into()] };
        let said = runtime.run(folder.path(), &["echo yes; echo no >&2; exit 3"]).unwrap();
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (3, "yes\n", "no\n"));
        assert!(said.success().is_err());
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("100");
        let ended = run(command, folder.path(), "command", Duration::from_millis(100));
        let error = ended.unwrap_err().to_string();
        assert!(error.starts_with("\"sleep 100\" did not end within 100ms"), "{error}");
    }

    #[test]
    fn the_standard_input_is_no_device_of_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime { path: "/bin/sh".into(), arguments: vec!["-c".into()] };
        let script = "cat; stat -L -c %F /proc/$$/fd/0";
        let said = runtime.run(folder.path(), &[script]).unwrap().success().unwrap();
        assert_eq!(said, "fifo\n");
    }
}
