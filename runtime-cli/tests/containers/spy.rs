//! A process in the container that tries to get at the runtime's processes there.
//!
//! It prints how many it has seen, and every thing that it could open or do.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// How many joining processes are enough.
const ENOUGH: usize = 3;
/// And of whom it is looked for at what there may be for a moment only.
const MANY: usize = 20;

/// Looks at the given processes, or at as many joining ones as are enough.
pub(crate) fn look(pids: &[&str]) -> io::Result<()> {
    if !pids.is_empty() {
        for pid in pids {
            try_all(pid);
        }
        println!("seen {}", pids.len());
        return Ok(());
    }
    watch(ENOUGH, try_all)
}

/// The same by one whom nothing is closed to, for a way to the host: to a file of this
/// path, which is not in the container.
pub(crate) fn look_out(file: &str, pids: &[&str]) -> io::Result<()> {
    if pids.is_empty() {
        return watch(MANY, |pid| ways_out(pid, file));
    }
    for pid in pids {
        ways_out(pid, file);
    }
    println!("seen {}", pids.len());
    Ok(())
}

fn watch(enough: usize, look: impl Fn(&str)) -> io::Result<()> {
    println!("ready");
    let mut seen = BTreeSet::new();
    while seen.len() < enough {
        for entry in fs::read_dir("/proc")?.flatten() {
            let name = entry.file_name().display().to_string();
            if seen.contains(&name) || !is_stage(&name) {
                continue;
            }
            look(&name);
            // It may have executed its program meanwhile: then nothing is proven.
            if is_stage(&name) {
                seen.insert(name);
            }
        }
    }
    println!("seen {}", seen.len());
    Ok(())
}

pub(crate) fn is_stage(pid: &str) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"orlop-init\0"))
}

/// From a directory that is not in the container one can go up to the host's root.
fn ways_out(pid: &str, file: &str) {
    let up = "../".repeat(16);
    let mut found = Vec::new();
    let mut add = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        if Path::new(&format!("{path}/{file}")).exists()
            || Path::new(&format!("{path}/{up}{file}")).exists()
        {
            found.push(format!("a way out by {name}"));
        }
    };
    ["root", "cwd"].into_iter().for_each(&mut add);
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::flatten);
    let looked = descriptors.is_ok();
    for descriptor in descriptors.into_iter().flatten() {
        add(&format!("fd/{}", descriptor.file_name().display()));
    }
    let exe = fs::read_link(format!("/proc/{pid}/exe"));
    if exe.as_ref().is_ok_and(|exe| !exe.starts_with("/memfd:orlop-init (deleted)")) {
        found.push(format!("a program of the host's: {exe:?}"));
    }
    if File::options().write(true).open(format!("/proc/{pid}/exe")).is_ok() {
        found.push("a program to write".to_owned());
    }
    // It has become another program, or has ended: what was seen was not the stage.
    if is_stage(pid) {
        found.iter().for_each(|one| println!("{one} of {pid}"));
        if !looked || exe.is_err() {
            println!("closed {pid}");
        }
    }
}

fn try_all(pid: &str) {
    let path = |name: &str| format!("/proc/{pid}/{name}");
    let tries: [(&str, bool); 9] = [
        ("the link exe", fs::read_link(path("exe")).is_ok()),
        ("exe", File::open(path("exe")).is_ok()),
        ("exe to write", File::options().write(true).open(path("exe")).is_ok()),
        ("a descriptor", (0..32).any(|fd| File::open(path(&format!("fd/{fd}"))).is_ok())),
        ("a descriptor's link", (0..32).any(|fd| fs::read_link(path(&format!("fd/{fd}"))).is_ok())),
        ("root", Path::new(&path("root/.")).exists()),
        ("cwd", Path::new(&path("cwd/.")).exists()),
        ("mem", File::open(path("mem")).is_ok()),
        ("environ", File::open(path("environ")).is_ok()),
    ];
    let traced = pid.parse().is_ok_and(|pid| {
        let attached = ptrace::seize(Pid::from_raw(pid), ptrace::Options::empty()).is_ok();
        if attached {
            let_go(Pid::from_raw(pid));
        }
        attached
    });
    // What it opened as its own program is no find.
    let still = is_stage(pid);
    for (name, _) in tries.iter().filter(|(_, opened)| *opened && still) {
        println!("opened {name} of {pid}");
    }
    if traced && still {
        println!("traced {pid}");
    }
}

/// Only a stopped process can be let go, and one that ends while it is traced is not seen
/// by its parent before its tracer has waited for it: its `exec` would last as long as we.
fn let_go(pid: Pid) {
    let _ = ptrace::interrupt(pid);
    let _ = waitpid(pid, Some(WaitPidFlag::__WALL));
    let _ = ptrace::detach(pid, None);
}
