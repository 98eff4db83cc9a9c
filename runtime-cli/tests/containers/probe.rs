//! What the process of a container under test does: it looks around and prints.
//!
//! Every word it prints is a fact of the container; whether it is right is the
//! test's business.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, raise};

/// The probe's end, if this process is called by its name.
pub(crate) fn main() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let name = Path::new(arguments.first()?).file_name()?;
    if name != "probe" {
        return None;
    }
    let words: Vec<&str> = arguments[1..].iter().map(String::as_str).collect();
    Some(match act(&words) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("probe {words:?}: {error}");
            ExitCode::from(99)
        }
    })
}

fn act(words: &[&str]) -> std::io::Result<u8> {
    match words {
        ["exit", code] => return Ok(number(code)),
        ["raise", signal] => raise(signal.parse().map_err(|_| invalid(signal))?)?,
        ["sleep"] => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        ["wait", signal] => wait(signal.parse().map_err(|_| invalid(signal))?)?,
        ["family", count] => family(number(count))?,
        ["say", rest @ ..] => println!("{}", rest.join(" ")),
        ["cat", paths @ ..] => {
            for path in paths {
                std::io::stdout().write_all(&fs::read(path)?)?;
            }
        }
        ["write", path, text] => fs::write(path, text)?,
        ["ls", path] => list(path)?,
        ["fds"] => fds()?,
        ["cwd"] => println!("{}", std::env::current_dir()?.display()),
        ["env"] => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        _ => return Err(invalid(&words.join(" "))),
    }
    Ok(0)
}

fn invalid(what: &str) -> std::io::Error {
    std::io::Error::other(format!("what is {what:?}?"))
}

fn number(text: &str) -> u8 {
    text.parse().unwrap_or(99)
}

/// Says that it waits, and ends well when the signal comes. Process 1 of a pid
/// namespace gets no signal that it does not wait for.
fn wait(signal: Signal) -> std::io::Result<()> {
    let set = SigSet::from(signal);
    set.thread_block()?;
    println!("ready");
    set.wait()?;
    Ok(())
}

/// Sleeps with that many children.
fn family(count: u8) -> std::io::Result<()> {
    for _ in 0..count {
        drop(Command::new("/bin/probe").arg("sleep").spawn()?);
    }
    println!("ready");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn list(path: &str) -> std::io::Result<()> {
    let mut names: Vec<_> = fs::read_dir(path)?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names.iter().for_each(|name| println!("{}", name.display()));
    Ok(())
}

/// Its open descriptors and what they are, but for the one that lists them.
fn fds() -> std::io::Result<()> {
    let entries: Vec<_> = fs::read_dir("/proc/self/fd")?.flatten().collect();
    for entry in entries {
        if let Ok(target) = fs::read_link(entry.path()) {
            println!("{} {}", entry.file_name().display(), target.display());
        }
    }
    Ok(())
}
