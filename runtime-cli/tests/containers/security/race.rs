//! What is changed by somebody else while containers are made with it.

pub(super) mod binds;
pub(super) mod devices;
pub(super) mod procfs;

use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::harness::{Lab, Output, Test, tests};

pub(crate) const TESTS: &[Test] = tests![a_place_that_becomes_a_link];

/// How long the race is tried.
const TIME: Duration = Duration::from_secs(2);
/// And at most, where nothing comes of it so soon.
const MOST: Duration = Duration::from_secs(30);

/// Works while `change` is done in another thread, again and again.
fn against<T>(mut change: impl FnMut() + Send, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                change();
            }
        });
        // Also when it fails: the scope waits for its thread.
        let result = catch_unwind(AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Does it for a while, which must be well done at least once. What is made is looked at
/// by `check`, and who makes none says why in one line.
fn for_a_while(lab: &Lab, mut make: impl FnMut(u32) -> Output, mut check: impl FnMut(&Output)) {
    let (mut made, mut refused) = (0, 0);
    let begun = Instant::now();
    while begun.elapsed() < TIME || (made == 0 && begun.elapsed() < MOST) {
        let output = make(made + refused);
        if output.code == 0 {
            check(&output);
            made += 1;
        } else {
            output.fails();
            refused += 1;
        }
        lab.delete("a");
    }
    println!("  {made} containers were made and {refused} refused");
    assert!(made > 0, "the race was never tried");
}

/// A name that is in turn what it was, and something else.
struct Place {
    path: PathBuf,
    beside: PathBuf,
    away: bool,
    turns: u32,
}

impl Place {
    fn new(path: PathBuf) -> Self {
        let beside = path.with_file_name(format!("other-{}", path.file_name().unwrap().display()));
        Self { path, beside, away: false, turns: 0 }
    }

    /// In one step for whoever looks. What it shall be is made beside it.
    fn turn(&mut self, make: impl FnOnce(&Path)) {
        if !self.away {
            make(&self.beside);
        }
        let exchanged = exchange(&self.path, &self.beside);
        // Nothing is there for a moment where a runtime makes it anew.
        let lost = !exchanged && self.away && fs::rename(&self.beside, &self.path).is_err();
        self.away = !self.away && exchanged;
        assert!(!lost || self.path.symlink_metadata().is_ok(), "{:?} is lost", self.path);
        self.turns += 1;
        rest(self.turns);
    }
}

/// For as long as a few steps of a runtime take, and another time each time.
fn rest(turn: u32) {
    thread::sleep(Duration::from_micros(u64::from(turn % 11) * 60));
}

/// Whether both were there.
fn exchange(one: &Path, other: &Path) -> bool {
    match renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE) {
        Err(Errno::ENOENT) => false,
        done => done.map(|()| true).unwrap(),
    }
}

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

    let (place, link) = (volume.join("place"), volume.join("link"));
    let mut bundle = lab.bundle(&["cat", "/proc/self/mountinfo"]);
    bundle.mount("/vol", "bind", volume.to_str().unwrap(), &["rbind", "rw"]);
    bundle.mount("/vol/place", "tmpfs", "race-one", &[]);
    bundle.mount("/vol/link/new/deep", "tmpfs", "race-two", &[]);
    bundle.mount("/vol/place/file", "bind", lab.path("source").to_str().unwrap(), &["bind"]);
    let look = |output: &Output| {
        // What was mounted elsewhere would be gone with the old root.
        for name in ["race-one", "race-two"] {
            assert!(output.stdout.contains(name), "{name}: {}", output.stdout);
        }
    };
    against(
        || assert!(exchange(&place, &link)),
        || for_a_while(lab, |_| lab.run(&bundle, "a", &[]), look),
    );
    assert_eq!(names(&outside), ["marker"]);
}
