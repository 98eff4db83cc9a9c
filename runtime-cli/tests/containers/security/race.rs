//! A volume that somebody changes while containers are made with it.

use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::harness::{Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![a_place_that_becomes_a_link];

/// How long the race is tried.
const TIME: Duration = Duration::from_secs(2);
/// And at most, where nothing comes of it so soon.
const MOST: Duration = Duration::from_secs(30);

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

// CVE-2021-30465, CVE-2024-45310: the place of a mount was checked, became a link,
// and was mounted on. The host's mounts are compared by the oracle.
fn a_place_that_becomes_a_link(lab: &Lab) {
    let (volume, outside) = (lab.path("volume"), lab.path("outside"));
    for path in [&volume, &outside] {
        fs::create_dir(path).unwrap();
    }
    fs::write(outside.join("marker"), "").unwrap();
    fs::create_dir(volume.join("place")).unwrap();
    symlink(&outside, volume.join("link")).unwrap();
    fs::write(lab.path("source"), "").unwrap();

    let over = AtomicBool::new(false);
    let (made, refused) = thread::scope(|scope| {
        scope.spawn(|| {
            let (place, link) = (volume.join("place"), volume.join("link"));
            while !over.load(Ordering::Relaxed) {
                let flags = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, &place, AT_FDCWD, &link, flags).unwrap();
            }
        });
        // Also when it fails: the scope waits for its thread.
        let result = catch_unwind(AssertUnwindSafe(|| make_containers(lab, &volume)));
        over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    });
    println!("  {made} containers were made and {refused} refused");
    assert!(made > 0, "the race was never tried");
    assert_eq!(names(&outside), ["marker"]);
}

fn make_containers(lab: &Lab, volume: &Path) -> (u32, u32) {
    let (mut made, mut refused) = (0, 0);
    let begun = Instant::now();
    let mut bundle = lab.bundle(&["cat", "/proc/self/mountinfo"]);
    bundle.mount("/vol", "bind", volume.to_str().unwrap(), &["rbind", "rw"]);
    bundle.mount("/vol/place", "tmpfs", "race-one", &[]);
    bundle.mount("/vol/link/new/deep", "tmpfs", "race-two", &[]);
    bundle.mount("/vol/place/file", "bind", lab.path("source").to_str().unwrap(), &["bind"]);
    while begun.elapsed() < TIME || (made == 0 && begun.elapsed() < MOST) {
        let output = lab.run(&bundle, "a", &[]);
        if output.code == 0 {
            // What was mounted elsewhere would be gone with the old root.
            for name in ["race-one", "race-two"] {
                assert!(output.stdout.contains(name), "{name}: {}", output.stdout);
            }
            made += 1;
        } else {
            output.fails();
            refused += 1;
            lab.delete("a");
        }
    }
    (made, refused)
}
