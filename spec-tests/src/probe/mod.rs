//! The program inside of the containers under test: it looks around, tries
//! things, and prints what it found as one JSON document a line.
//!
//! It judges nothing; whether a fact is right is the case's business. Its
//! arguments are acts, one each: `self`, `stat /dev/null`, `wait`, `exit 3`.

mod attempt;
mod held;
mod look;
mod mountinfo;
mod myself;
mod program;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};
use rustix::termios::{Winsize, isatty, tcgetwinsize};
use serde_json::{Map, Value, json};

pub(crate) use look::look;
pub(crate) use myself::{namespaces, report};
pub(crate) use program::write as write_program;

/// What the program is called where it is the probe.
pub(crate) const NAME: &str = "probe";

/// Signals that `wait` waits for.
const AWAITED: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP, Signal::SIGINT];

/// The probe's end, if this process is called by its name.
pub(crate) fn main() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    if Path::new(arguments.first()?).file_name()? != NAME {
        return None;
    }
    let acts = &arguments[1..];
    // From the first moment: process 1 loses a signal that it neither handles nor
    // blocks.
    if acts.iter().any(|act| act == "wait") {
        let _ = awaited().thread_block();
    }
    if acts.iter().any(|act| act.starts_with("resized ")) {
        let _ = SigSet::from(Signal::SIGWINCH).thread_block();
    }
    let mut document = Map::new();
    for act in acts {
        match perform(act, &mut document) {
            Ok(None) => {}
            Ok(Some(code)) => {
                print(&mut document);
                return Some(ExitCode::from(code));
            }
            Err(error) => {
                eprintln!("probe: {act}: {error}");
                return Some(ExitCode::from(99));
            }
        }
    }
    print(&mut document);
    Some(ExitCode::SUCCESS)
}

/// Does one thing; a number is the exit status to end with.
fn perform(act: &str, document: &mut Map<String, Value>) -> std::io::Result<Option<u8>> {
    let (verb, rest) = act.split_once(' ').unwrap_or((act, ""));
    match verb {
        "self" => document.extend(report()),
        "wait" => {
            print(document);
            let signal = awaited().wait()?;
            document.insert("signal".into(), json!(signal.as_str()));
        }
        "sleep" => {
            print(document);
            std::thread::sleep(Duration::from_secs(rest.parse().unwrap_or(3600)));
        }
        "raise" => {
            print(document);
            raise(rest.parse().map_err(std::io::Error::from)?)?;
        }
        "exit" => return Ok(Some(rest.parse().unwrap_or(98))),
        "input" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            document.insert("input".into(), json!(text));
        }
        "terminal" => drop(document.insert("terminal".into(), terminal())),
        "resized" => {
            print(document);
            document.insert(act.into(), resized(rest)?);
        }
        "line" => {
            print(document);
            let mut text = String::new();
            std::io::stdin().read_line(&mut text)?;
            document.insert("line".into(), json!(text.trim_end_matches('\n')));
        }
        "notify" => notify(rest)?,
        "eat" => drop(document.insert(act.into(), json!(eat(rest)))),
        "spin" => spin(rest),
        "leave" => drop(document.insert(act.into(), leave(rest)?)),
        "log" => append("/work/log", &json!({ "name": rest }))?,
        "hold" => held::hold(rest)?,
        "held" => append("/work/log", &json!({ "name": rest, "held": held::held() }))?,
        "hook" => hook(rest)?,
        "child" => drop(document.insert(act.into(), child(rest)?)),
        _ => {
            let found = attempt::attempt(act).unwrap_or_else(|| look(act));
            document.insert(act.into(), found);
        }
    }
    Ok(None)
}

/// Whether the standard streams are a terminal, and its size.
fn terminal() -> Value {
    let size = |size: Winsize| json!({ "height": size.ws_row, "width": size.ws_col });
    json!({
        "input": isatty(std::io::stdin()),
        "output": isatty(std::io::stdout()),
        "error": isatty(std::io::stderr()),
        "size": tcgetwinsize(std::io::stdin()).map_or(Value::Null, size),
    })
}

/// The terminal when it has so many lines and columns, of which a signal must tell.
fn resized(wanted: &str) -> std::io::Result<Value> {
    loop {
        SigSet::from(Signal::SIGWINCH).wait()?;
        let size = tcgetwinsize(std::io::stdin())?;
        if wanted == format!("{} {}", size.ws_row, size.ws_col) {
            return Ok(terminal());
        }
    }
}

/// A word to who waits for us to be ready (sd_notify(3)).
fn notify(word: &str) -> std::io::Result<()> {
    let socket = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    UnixDatagram::unbound()?.send_to(word.as_bytes(), socket).map(drop)
}

/// Uses so many megabytes; how many there were.
fn eat(megabytes: &str) -> usize {
    let size = megabytes.parse::<usize>().unwrap_or_default() << 20;
    std::hint::black_box(vec![1_u8; size]).len() >> 20
}

/// Works for so many milliseconds.
fn spin(milliseconds: &str) {
    let begun = Instant::now();
    let long = Duration::from_millis(milliseconds.parse().unwrap_or_default());
    while begun.elapsed() < long {
        std::hint::black_box(begun);
    }
}

/// Another process of this program does something, and nobody waits for it. Its id.
fn leave(act: &str) -> std::io::Result<Value> {
    let program = std::env::args().next().unwrap_or_default();
    let mut command = Command::new(program);
    command.arg(act).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(json!(command.spawn()?.id()))
}

fn awaited() -> SigSet {
    AWAITED.into_iter().collect()
}

fn print(document: &mut Map<String, Value>) {
    if document.is_empty() {
        return;
    }
    let mut line = Value::Object(std::mem::take(document)).to_string();
    line.push('\n');
    // Nobody may be listening any more.
    let _ = std::io::stdout().write_all(line.as_bytes());
}

/// One line at a file's end, in one write.
fn append(path: &str, record: &Value) -> std::io::Result<()> {
    let mut file = File::options().append(true).create(true).open(path)?;
    file.write_all(format!("{record}\n").as_bytes())
}

/// What a hook sees, as a line of a log: `hook NAME LOG`.
fn hook(words: &str) -> std::io::Result<()> {
    let (name, log) = words.split_once(' ').unwrap_or((words, "/work/log"));
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input)?;
    let state: Value = serde_json::from_str(&input).unwrap_or(Value::String(input));
    let mut record = report();
    record.insert("name".into(), json!(name));
    let pid = state["pid"].as_i64();
    record.insert("alive".into(), json!(pid.is_some_and(is_process)));
    record.insert("container".into(), pid.map_or(Value::Null, container));
    record.insert("state".into(), state);
    append(log, &Value::Object(record))
}

fn is_process(pid: i64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// What a hook can see of the container's process from where it runs.
fn container(pid: i64) -> Value {
    let proc = format!("/proc/{pid}");
    let points: BTreeSet<String> = mountinfo::of(&proc).into_iter().map(|m| m.point).collect();
    json!({
        "namespaces": namespaces(&proc),
        "points": points,
        "program": std::fs::read_to_string(format!("{proc}/cmdline"))
            .unwrap_or_default().split('\0').next(),
    })
}

/// Another process of this program does something; how it ended.
fn child(act: &str) -> std::io::Result<Value> {
    use std::os::unix::process::ExitStatusExt;
    let program = std::env::args().next().unwrap_or_default();
    let output = Command::new(program).arg(act).output()?;
    let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    Ok(json!({ "exit": output.status.code(), "signal": output.status.signal(), "said": said }))
}
