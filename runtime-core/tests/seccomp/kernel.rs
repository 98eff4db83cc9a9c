//! Filters in the real kernel. A filter holds for one thread, so each test puts
//! one on a thread of its own and looks at the errnos there; where the filter
//! kills, the test runs itself again as a child.

#![cfg(target_arch = "x86_64")]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_no_new_privs;
use orlop::compile::seccomp::Machine;
use serde_json::{Value, json};

use crate::profiles::{compile, docker};

/// Runs `body` on a thread under the profile.
fn under<T: Send + 'static>(profile: &Value, body: fn() -> T) -> T {
    let filter = compile(Machine::X86_64, profile);
    thread::spawn(move || {
        set_no_new_privs().unwrap();
        orlop_init::sys::seccomp(filter.flags, &filter.program)
            .expect("the kernel takes the filter");
        body()
    })
    .join()
    .unwrap()
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn dockers_profile() {
    let (umount, chroot, inner) = under(&docker(), || {
        let umount = nix::mount::umount("/nonexistent");
        let chroot = nix::unistd::chroot("/nonexistent");
        // The C library asks clone3 first and is told ENOSYS.
        let inner = thread::spawn(|| File::open("/").is_ok()).join().unwrap();
        (umount, chroot, inner)
    });
    assert_eq!(umount, Err(Errno::EPERM));
    assert_eq!(chroot, Err(Errno::ENOENT), "this one is allowed");
    assert!(inner);
}

#[test]
fn errnos_and_64_bit_arguments() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77 },
            { "names": ["rmdir", "unlinkat"], "action": "SCMP_ACT_ERRNO" },
            { "names": ["chdir"], "action": "SCMP_ACT_LOG" },
            // Nobody traces: the kernel answers ENOSYS.
            { "names": ["rename", "renameat", "renameat2"], "action": "SCMP_ACT_TRACE" },
            { "names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 78,
              "args": [{ "index": 1, "value": 0x1_0000_0005_u64, "op": "SCMP_CMP_GT" }] },
        ],
    });
    let got = under(&profile, || {
        let mut file = File::open("/proc/self/exe").unwrap();
        let mut seek = |to| errno(file.seek(SeekFrom::Start(to)));
        [
            errno(fs::create_dir("/proc/nonexistent")),
            errno(fs::remove_dir("/proc/nonexistent")),
            errno(nix::unistd::chdir("/").map_err(Into::into)),
            errno(fs::rename("/nonexistent/a", "/nonexistent/b")),
            seek(6),
            seek(0x1_0000_0005),
            seek(0x1_0000_0006),
            seek(0x2_0000_0000),
        ]
    });
    let want = [Some(77), Some(1), None, Some(38), None, None, Some(78), Some(78)];
    assert_eq!(got, want);
}

#[test]
fn a_call_newer_than_the_profile() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{
            "names": [
                "brk", "close", "exit", "exit_group", "futex", "madvise", "mmap", "mprotect",
                "munmap", "rt_sigprocmask", "sched_yield", "sigaltstack", "write",
            ],
            "action": "SCMP_ACT_ALLOW",
        }],
    });
    // exit_group is 231: chroot (161) is older, memfd_create (319) newer.
    let (older, newer) = under(&profile, || {
        let newer = memfd_create("x", MFdFlags::empty()).map(drop);
        (nix::unistd::chroot("/nonexistent"), newer)
    });
    assert_eq!(older, Err(Errno::EPERM));
    assert_eq!(newer, Err(Errno::ENOSYS));
}

#[test]
fn a_listener() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    let filter = compile(Machine::X86_64, &profile);
    assert!(filter.notify);
    let (listener, answer) = thread::spawn(move || {
        set_no_new_privs().unwrap();
        let listener = orlop_init::sys::seccomp(filter.flags, &filter.program).unwrap();
        // With the listener gone the kernel answers for it.
        orlop_init::sys::close(listener);
        (listener, errno(fs::create_dir("/nonexistent/a")))
    })
    .join()
    .unwrap();
    assert!(listener > 2, "{listener}");
    assert_eq!(answer, Some(libc::ENOSYS));
}

/// Runs in a child alone: installs the filter that the environment names.
#[test]
fn child() {
    let Ok(action) = std::env::var("ORLOP_TEST_ACTION") else { return };
    under(
        &json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["chroot"], "action": action }],
        }),
        || nix::unistd::chroot("/nonexistent"),
    )
    .expect_err("there is no such directory");
}

#[test]
fn actions_that_kill() {
    let exe = std::env::current_exe().unwrap();
    let run = |action: &str| {
        Command::new(&exe)
            .args(["--exact", "kernel::child", "--test-threads=1"])
            .env("ORLOP_TEST_ACTION", action)
            .output()
            .unwrap()
            .status
    };
    assert_eq!(run("SCMP_ACT_KILL_PROCESS").signal(), Some(31), "SIGSYS");
    assert_eq!(run("SCMP_ACT_TRAP").signal(), Some(31), "SIGSYS");
    assert!(run("SCMP_ACT_LOG").success());
}
