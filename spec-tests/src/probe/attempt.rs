//! Things the probe tries, to see how the kernel answers: `write PATH TEXT`,
//! `open PATH`, `mknod PATH c 1 3`, `call lseek 5`, `program NAME PATH`.
//!
//! An answer is `{"ok": value}` or `{"error": "EPERM"}`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::personality;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{self, Gid, Uid};
use serde_json::{Value, json};

use super::program;

/// How a failure is told: by the name of its errno.
pub(super) fn failure(error: &std::io::Error) -> Value {
    let code = error.raw_os_error();
    json!({ "error": code.map_or_else(|| error.to_string(), |code| name(Errno::from_raw(code), code)) })
}

fn name(errno: Errno, code: i32) -> String {
    match errno {
        Errno::UnknownErrno => format!("{code}"),
        errno => format!("{errno:?}"),
    }
}

/// Tries one thing; `None` if it is none of these.
pub(super) fn attempt(act: &str) -> Option<Value> {
    let words: Vec<&str> = act.split(' ').collect();
    let done: std::io::Result<Value> = match words[..] {
        ["write", path, text] => write(path, text),
        ["write-through", path] => write_through(path),
        ["create", path] => File::create(path).map(|_| json!("")),
        ["mkdir", path] => fs::create_dir(path).map(|()| json!("")),
        ["remove", path] => fs::remove_file(path).map(|()| json!("")),
        ["chmod", path] => chmod(path),
        ["open", path] => File::open(path).map(|_| json!("")),
        ["open-write", path] => File::options().write(true).open(path).map(|_| json!("")),
        ["get", path] => get(path),
        ["mknod", path, kind, numbers] => node(path, kind, numbers),
        ["run", path] => run(path),
        ["program", name, path] => program::write(name, path),
        ["attributes"] => program::attributes(),
        ["call", ref call @ ..] => perform(call),
        _ => return None,
    };
    Some(done.map_or_else(|error| failure(&error), |value| json!({ "ok": value })))
}

fn write(path: &str, text: &str) -> std::io::Result<Value> {
    File::options().write(true).open(path)?.write_all(text.as_bytes())?;
    Ok(json!(""))
}

/// A megabyte that is on the disk then.
fn write_through(path: &str) -> std::io::Result<Value> {
    let mut file = File::create(path)?;
    file.write_all(&[b'x'; 1 << 20])?;
    file.sync_all()?;
    Ok(json!(""))
}

/// One byte of a file.
fn get(path: &str) -> std::io::Result<Value> {
    let mut byte = [0];
    let count = File::open(path)?.read(&mut byte)?;
    Ok(json!(byte[..count]))
}

fn chmod(path: &str) -> std::io::Result<Value> {
    let permissions = fs::metadata(path)?.permissions();
    fs::set_permissions(path, permissions)?;
    Ok(json!(""))
}

fn node(path: &str, kind: &str, numbers: &str) -> std::io::Result<Value> {
    let (major, minor) = numbers.split_once(':').unwrap_or((numbers, "0"));
    let number = |text: &str| text.parse::<u64>().unwrap_or_default();
    let kind = if kind == "b" { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    mknod(path, kind, Mode::S_IRUSR | Mode::S_IWUSR, makedev(number(major), number(minor)))?;
    Ok(json!(""))
}

/// Executes a file, which ends well by itself.
fn run(path: &str) -> std::io::Result<Value> {
    let output = std::process::Command::new(path).arg("exit 7").output()?;
    Ok(json!(output.status.code()))
}

/// System calls that do no harm, for filters.
fn perform(call: &[&str]) -> std::io::Result<Value> {
    let number = |at: usize| call.get(at).and_then(|word| word.parse::<i64>().ok()).unwrap_or(0);
    match call[0] {
        "getcwd" => Ok(json!(unistd::getcwd()?)),
        "lseek" => seek(number(1)),
        "getppid" => Ok(json!(unistd::getppid().as_raw())),
        "kill" => {
            let pid = unistd::Pid::from_raw(i32::try_from(number(1)).unwrap_or(i32::MAX));
            nix::sys::signal::kill(pid, None)?;
            Ok(json!(""))
        }
        "personality" => Ok(json!(personality::get()?.bits())),
        "sethostname" => Ok(json!(unistd::sethostname("probe")?)),
        "chroot" => Ok(json!(unistd::chroot("/work")?)),
        "sync" => {
            unistd::sync();
            Ok(json!(""))
        }
        "setuid" => Ok(json!(unistd::setuid(Uid::from_raw(u32(number(1))))?)),
        "setgid" => Ok(json!(unistd::setgid(Gid::from_raw(u32(number(1))))?)),
        "unshare-uts" => Ok(json!(unshare(CloneFlags::CLONE_NEWUTS)?)),
        "setns" => {
            let file = File::open(Path::new("/proc/self/ns/uts"))?;
            Ok(json!(setns(file, CloneFlags::CLONE_NEWUTS)?))
        }
        _ => Err(std::io::Error::other("unknown call")),
    }
}

fn u32(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// lseek(2), whose second argument may be any 64 bits.
fn seek(offset: i64) -> std::io::Result<Value> {
    let file = File::open("/work/sought")?;
    debug_assert!(file.as_raw_fd() >= 0);
    let at = unistd::lseek(&file, offset, unistd::Whence::SeekSet)?;
    Ok(json!(at))
}
