//! Where the tests of the rooms that change mounts run: a thread in a mount
//! namespace of its own, whose / is a tmpfs, with the container's root in it.
//!
//! Nothing that a test does here can reach another thread or the machine, even
//! when the code under test is broken: what leaves the container's root is still
//! in that tmpfs. When the thread ends, the namespace and all in it are gone.

use core::ffi::CStr;
use std::boxed::Box;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::println;
use std::string::String;
use std::vec::Vec;

use crate::exec;
use crate::op::MOST_HELD;
use crate::plan::{HEADER_WORDS, MAGIC, Plan, Strs};
use crate::run::Stage;
use crate::sys::{self, NO_FD, abi};
use crate::wire::Told;
use crate::{mount, run};

/// One test's world: its / has `dev`, `proc`, the container's root and whatever
/// the test puts beside them.
pub(crate) struct Bed {
    /// The container's root.
    pub(crate) root: PathBuf,
    pub(crate) stage: Stage,
}

/// Runs `test` in such a world. Without privileges it says SKIP.
pub(crate) fn run(test: fn(&mut Bed)) {
    let outside = std::env::temp_dir().join(std::format!("orlop-bed-{}", unique()));
    std::fs::create_dir(&outside).expect("a temporary directory can be made");
    let place = outside.clone();
    let thread = std::thread::Builder::new().name(name()).spawn(move || {
        if sys::unshare(abi::CLONE_NEWNS).is_err() {
            return skip("needs CAP_SYS_ADMIN for a mount namespace");
        }
        enter(&place);
        test(&mut Bed::new());
    });
    let result = thread.expect("a thread").join();
    std::fs::remove_dir(&outside).expect("nothing is left in the temporary directory");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Says that the test can't run here.
pub(crate) fn skip(reason: &str) {
    println!("SKIP {}: {reason}", name());
}

/// The test's, which is its thread's.
fn name() -> String {
    std::thread::current().name().expect("a test has a thread of its own").into()
}

fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    std::format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a tmpfs at `place` this thread's /.
fn enter(place: &Path) {
    mount::propagation(abi::MS_PRIVATE, true).expect("our own namespace");
    attach(new_fs(c"tmpfs"), place);
    for dir in ["dev", "proc"] {
        std::fs::create_dir(place.join(dir)).expect("in our own tmpfs");
    }
    attach(new_fs(c"proc"), &place.join("proc"));
    for device in [c"/dev/null", c"/dev/zero", c"/dev/full"] {
        let at = place.join(&device.to_str().expect("ASCII")[1..]);
        std::fs::write(&at, "").expect("in our own tmpfs");
        attach(mount::host_file(device, 0).expect("every machine has it"), &at);
    }
    sys::chroot(&c_string(place)).expect("our own namespace");
    sys::chdir(c"/").expect("it is a directory");
}

impl Bed {
    fn new() -> Self {
        let root = PathBuf::from("/root");
        std::fs::create_dir(&root).expect("in our own tmpfs");
        let mut stage = Stage {
            plan: plan(&[]).0,
            root: NO_FD,
            kept_out: 0,
            proc: NO_FD,
            held: [mount::Held::NONE; MOST_HELD],
            empty: NO_FD,
            parent: None,
            umask: 0,
            groups_denied: false,
            in_cwd: false,
            program: exec::Program::default(),
            home: exec::Home::NONE,
            report: NO_FD,
            leaving: false,
            op: 0,
            told: Told::NONE,
            made: None,
        };
        let path = Box::leak(c_string(&root).into_boxed_c_str());
        mount::root_tree(&mut stage, path).expect("the root is a directory");
        Self { root, stage }
    }

    /// A path inside the root.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// Makes a directory inside the root.
    pub(crate) fn dir(&self, inside: &str) {
        std::fs::create_dir_all(self.path(inside)).expect("in our own tmpfs");
    }

    /// Makes a file with a line in it inside the root.
    pub(crate) fn file(&self, inside: &str, text: &str) {
        std::fs::write(self.path(inside), text).expect("in our own tmpfs");
    }

    /// Makes a link inside the root.
    pub(crate) fn link(&self, inside: &str, to: &str) {
        std::os::unix::fs::symlink(to, self.path(inside)).expect("in our own tmpfs");
    }

    /// Gives the stage a plan that holds a list of strings.
    pub(crate) fn strs(&mut self, texts: &[&str]) -> Strs {
        let (plan, strs) = plan(texts);
        self.stage.plan = plan;
        strs
    }

    /// The options of the mount that holds a path of the root: fields 6 and 11 of
    /// mountinfo(5), and the propagation between them.
    pub(crate) fn mount_line(&self, inside: &str) -> String {
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("our own");
        let wanted = self.path(inside);
        let line = table.lines().rfind(|line| line.split(' ').nth(4) == wanted.to_str());
        String::from(line.unwrap_or_else(|| panic!("nothing is mounted on {wanted:?}:\n{table}")))
    }
}

/// A mounted, unattached file system.
pub(crate) fn new_fs(fs_type: &CStr) -> sys::Fd {
    let fs = sys::fsopen(fs_type).expect("every kernel has it");
    sys::fsconfig_create(fs).expect("without options");
    let mount = sys::fsmount(fs, 0).expect("in our own namespace");
    sys::close(fs);
    mount
}

/// Mounts it on a path of the host.
pub(crate) fn attach(mount: sys::Fd, at: &Path) {
    let flags = abi::O_PATH | abi::O_CLOEXEC;
    let place = sys::openat(abi::AT_FDCWD, &c_string(at), flags).expect("it exists");
    sys::move_mount(mount, place).expect("in our own namespace");
    sys::close(place);
}

pub(crate) fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL in our paths")
}

/// The part and the errno of a failure.
pub(crate) fn failure<T>(result: run::Done<T>) -> (crate::wire::Part, i32) {
    let fail = result.err().expect("it must fail");
    (fail.part, fail.errno.0)
}

/// A plan without ops, whose arena holds a list of strings.
fn plan(texts: &[&str]) -> (Plan<'static>, Strs) {
    let mut arena = Vec::from([0u8; 8]);
    let mut offsets = Vec::new();
    for text in texts {
        offsets.push(if text.is_empty() { 0 } else { arena.len() as u32 });
        arena.extend_from_slice(text.as_bytes());
        arena.push(0);
    }
    arena.resize(arena.len().next_multiple_of(8), 0);
    let strs = Strs { at: arena.len() as u32, len: offsets.len() as u32 };
    arena.extend(offsets.iter().flat_map(|offset| offset.to_ne_bytes()));
    arena.push(0);
    let mut words = [0u32; HEADER_WORDS];
    (words[0], words[3]) = (MAGIC, arena.len() as u32);
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend(arena);
    (Plan::parse(Box::leak(bytes.into_boxed_slice())).expect("a plan of our own"), strs)
}

/// All of these tests once more as root of a user namespace that owns neither
/// its network nor the machine: there the kernel refuses more.
#[test]
fn the_same_holds_in_a_user_namespace() {
    let enter = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"];
    let unshare = || {
        let mut command = std::process::Command::new("unshare");
        command.args(enter);
        command
    };
    if !unshare().arg("true").status().is_ok_and(|status| status.success()) {
        return skip("no user namespaces here");
    }
    let me = std::env::current_exe().expect("a running test");
    let run = unshare().arg(me).args(["--skip", "the_same_holds", "--nocapture"]).output();
    let output = run.expect("it ran a moment ago");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("without its own network shows this"), "{text}");
}
