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

/// Looks at the given processes, or at as many joining ones as are enough.
pub(crate) fn look(pids: &[&str]) -> io::Result<()> {
    if !pids.is_empty() {
        for pid in pids {
            try_all(pid);
        }
        println!("seen {}", pids.len());
        return Ok(());
    }
    println!("ready");
    let mut seen = BTreeSet::new();
    while seen.len() < ENOUGH {
        for entry in fs::read_dir("/proc")?.flatten() {
            let name = entry.file_name().display().to_string();
            if seen.contains(&name) || !is_stage(&name) {
                continue;
            }
            try_all(&name);
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
