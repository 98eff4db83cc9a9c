//! The launcher and the stage with plans written by hand: safe in a process
//! with threads, and nothing of the caller is changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid};
use orlop::launch::{Child, Kit, Reached, launch, wait_readable};
use orlop::plan::{Builder, Gate, Op, Plan, Slot, Target};
use orlop_init::op::{BIND_RECURSIVE, CHDIR_MUST};
use orlop_init::sys::abi;

const NAMESPACES: u32 =
    abi::CLONE_NEWPID | abi::CLONE_NEWNS | abi::CLONE_NEWIPC | abi::CLONE_NEWUTS;

fn skip_unless_root(test: &str) -> bool {
    if geteuid().is_root() {
        return false;
    }
    println!("SKIP {test}: needs root");
    true
}

/// A root with the host's programs in it, read-only.
fn plan(root: &Path, argv: &[&str]) -> Plan {
    let mut plan = Builder::new();
    let no_op = |plan: &mut Builder, op: Op| plan.push(op, "", format!("doing {}", op.name()));
    no_op(&mut plan, Op::KeepFds { preserve: 0 });
    no_op(&mut plan, Op::Undumpable {});
    no_op(&mut plan, Op::Session {});
    no_op(&mut plan, Op::Propagation { kind: abi::MS_SLAVE, recursive: 1 });
    let path = plan.str(root.as_os_str().as_encoded_bytes());
    no_op(&mut plan, Op::RootTree { path });
    for dir in ["/usr", "/bin", "/lib", "/lib64"] {
        if !Path::new(dir).exists() {
            continue;
        }
        let (source, at) = (plan.str(dir), plan.str(dir));
        let bind = Op::Bind {
            slot: Slot::NONE,
            source,
            flags: BIND_RECURSIVE,
            set: 0,
            clear: 0,
            all_set: abi::MOUNT_ATTR_RDONLY,
            all_clear: 0,
            propagation: 0,
            at,
            target: Target::LIKE_SOURCE,
            hold: 0,
        };
        no_op(&mut plan, bind);
    }
    no_op(&mut plan, Op::PivotRoot {});
    let name = plan.bytes(b"launched");
    no_op(&mut plan, Op::Hostname { name });
    let groups = plan.words(&[]);
    no_op(&mut plan, Op::Ids { uid: 0, gid: 0, groups, set_groups: 1 });
    no_op(&mut plan, Op::Capabilities { effective: 0, permitted: 0, inheritable: 0, ambient: 0 });
    let path = plan.str("/");
    no_op(&mut plan, Op::Chdir { path, create: CHDIR_MUST });
    let (name, path) = (plan.str(argv[0]), plan.strs(["/usr/bin", "/bin"]));
    plan.push(Op::FindProgram { name, path }, "/process/args", format!("exec: {:?}", argv[0]));
    no_op(&mut plan, Op::WaitFor { gate: Gate::Ready });
    no_op(&mut plan, Op::WaitStart {});
    let (argv, envp) = (plan.strs(argv), plan.strs(["PATH=/usr/bin:/bin"]));
    no_op(&mut plan, Op::Exec { argv, envp });
    plan.outside().clone_flags = NAMESPACES;
    let plan = plan.finish().expect("the plan is sound");
    orlop::plan::check(&plan).expect("the plan keeps the invariants");
    plan
}

fn start(plan: &Plan) -> Child {
    let mut child = launch(plan, &Kit::default()).expect("the stage starts");
    let reached =
        child.drive(plan, &|_, _| Ok(Vec::new()), Path::new("/")).expect("the stage gets ready");
    assert_eq!(reached, Reached::Gate(Gate::Ready));
    child
}

fn finish(mut child: Child, plan: &Plan) -> WaitStatus {
    child.release(&|_, _| Ok(Vec::new())).expect("the stage hears us");
    child.executed(plan).expect("the program is executed");
    let (pid, _pidfd) = child.into_process().expect("its pidfd can be kept");
    waitpid(Pid::from_raw(pid), None).expect("it is our child")
}

#[test]
fn a_plan_written_by_hand_becomes_a_process() {
    if skip_unless_root("a_plan_written_by_hand_becomes_a_process") {
        return;
    }
    let root = tempfile::tempdir().expect("a temporary folder");
    let plan =
        plan(root.path(), &["sh", "-c", "test $(uname -n) = launched && exit $(( $$ + 40 ))"]);
    let status = finish(start(&plan), &plan);
    assert!(matches!(status, WaitStatus::Exited(_, 41)), "{status:?}");
}

#[test]
fn a_missing_program_is_told_before_the_start() {
    if skip_unless_root("a_missing_program_is_told_before_the_start") {
        return;
    }
    let root = tempfile::tempdir().expect("a temporary folder");
    let plan = plan(root.path(), &["no-such-program"]);
    let mut child = launch(&plan, &Kit::default()).expect("the stage starts");
    let error = child
        .drive(&plan, &|_, _| Ok(Vec::new()), Path::new("/"))
        .expect_err("there is no such program");
    assert_eq!(
        error.to_string(),
        "exec: \"no-such-program\": executable file not found in $PATH \
         (config.json: /process/args)"
    );
}

#[test]
fn a_stage_that_is_killed_is_told_as_that() {
    if skip_unless_root("a_stage_that_is_killed_is_told_as_that") {
        return;
    }
    let root = tempfile::tempdir().expect("a temporary folder");
    let plan = plan(root.path(), &["true"]);
    let killed = "the init process died before its program was executed: signal: killed";
    let kill = |child: &Child, signal| {
        kill(Pid::from_raw(child.pid()), signal).expect("it is our child");
    };
    let ended = |child: &Child| {
        wait_readable(child.pidfd(), 5000).expect("poll answers");
    };
    // What it was sent and did not read makes the socket answer ECONNRESET.
    let mut child = start(&plan);
    kill(&child, Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", child.pid());
    let begun = Instant::now();
    while !fs::read_to_string(&stat).expect("it is not reaped").contains(") T ") {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not stop");
        thread::sleep(Duration::from_millis(1));
    }
    child.release(&|_, _| Ok(Vec::new())).expect("the socket takes it");
    kill(&child, Signal::SIGKILL);
    ended(&child);
    assert_eq!(child.executed(&plan).expect_err("it is dead").to_string(), killed);
    // And what is sent to a closed one EPIPE.
    let mut child = start(&plan);
    kill(&child, Signal::SIGKILL);
    ended(&child);
    let error = child.release(&|_, _| Ok(Vec::new())).expect_err("it is dead");
    assert_eq!(error.to_string(), "the init process died before it was ready: signal: killed");
}

/// What an embedder would notice.
fn caller() -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let own = fs::read_to_string("/proc/thread-self/status").expect("/proc is there");
    for key in ["Umask", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "CapEff", "Seccomp", "Uid"] {
        let line = own.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        facts.insert(key.to_owned(), line.to_owned());
    }
    for file in ["oom_score_adj", "environ", "limits", "mountinfo", "coredump_filter"] {
        let text = fs::read(format!("/proc/self/{file}")).expect("/proc is there");
        facts.insert(file.to_owned(), String::from_utf8_lossy(&text).into_owned());
    }
    for link in ["cwd", "root", "exe", "ns/mnt", "ns/pid_for_children", "ns/uts", "ns/user"] {
        let target = fs::read_link(format!("/proc/thread-self/{link}")).expect("/proc is there");
        facts.insert(link.to_owned(), target.display().to_string());
    }
    // Owned by root when not dumpable, by the owner otherwise: readable at all?
    let dumpable = nix::sys::prctl::get_dumpable().expect("prctl answers");
    facts.insert("dumpable".to_owned(), dumpable.to_string());
    let children = format!("/proc/self/task/{}/children", nix::unistd::gettid());
    facts.insert("children".to_owned(), fs::read_to_string(children).unwrap_or_default());
    facts
}

fn descriptors() -> BTreeMap<i32, String> {
    let dir = fs::read_dir("/proc/self/fd").expect("/proc is there");
    dir.filter_map(|entry| {
        let path = entry.ok()?.path();
        let number = path.file_name()?.to_str()?.parse().ok()?;
        let target = fs::read_link(&path).ok()?.display().to_string();
        (!target.starts_with("/proc/")).then_some((number, target))
    })
    .collect()
}

#[test]
fn the_caller_is_as_before() {
    if skip_unless_root("the_caller_is_as_before") {
        return;
    }
    // In a process of its own: other tests of this file open descriptors. And with mounts
    // of its own: others on this machine make some.
    let own = std::env::current_exe().expect("we are a file");
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(own)
        .args(["--exact", "the_caller_alone", "--nocapture", "--include-ignored"])
        .env("ORLOP_TEST_ALONE", "1")
        .output()
        .expect("we can run again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_caller_alone() {
    if std::env::var_os("ORLOP_TEST_ALONE").is_none() {
        return; // the body of the test above
    }
    let root = tempfile::tempdir().expect("a temporary folder");
    let plan = plan(root.path(), &["true"]);
    drop(start(&plan)); // makes the program's memfd, which is kept
    let (before, open) = (caller(), descriptors());
    finish(start(&plan), &plan);
    drop(start(&plan));
    let broken = self::plan(root.path(), &["no-such-program"]);
    let mut child = launch(&broken, &Kit::default()).expect("the stage starts");
    child.drive(&broken, &|_, _| Ok(Vec::new()), Path::new("/")).expect_err("no such program");
    drop(child);
    assert_eq!(before, caller());
    assert_eq!(open, descriptors());
}

/// A cgroup of v2 that may take next to no memory.
fn tiny_cgroup() -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let enabled = fs::read_to_string(root.join("cgroup.subtree_control")).ok()?;
    if !enabled.split_whitespace().any(|controller| controller == "memory") {
        return None;
    }
    let path = root.join(format!("orlop-test-{}-tiny", std::process::id()));
    fs::create_dir(&path).expect("root makes cgroups");
    fs::write(path.join("memory.max"), "16384").expect("memory is limited");
    let _ = fs::write(path.join("memory.swap.max"), "0"); // where there is swap
    Some(path)
}

/// The kernel ends what takes most memory, and all that share it: never the caller.
#[test]
fn a_cgroup_without_memory_ends_the_stage_alone() {
    let test = "a_cgroup_without_memory_ends_the_stage_alone";
    if skip_unless_root(test) {
        return;
    }
    let Some(cgroup) = tiny_cgroup() else {
        println!("SKIP {test}: needs the memory controller on cgroup v2");
        return;
    };
    let own = std::env::current_exe().expect("we are a file");
    let output = std::process::Command::new(own)
        .args(["--exact", "a_caller_of_much_memory", "--nocapture", "--include-ignored"])
        .env("ORLOP_TEST_CGROUP", &cgroup)
        .output()
        .expect("we can run again");
    let events = fs::read_to_string(cgroup.join("memory.events")).expect("the cgroup is there");
    fs::remove_dir(&cgroup).expect("all in it have ended");
    assert!(
        output.status.success(),
        "{:?} {}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    let looked = events.lines().find_map(|line| line.strip_prefix("oom "));
    assert_ne!(looked, Some("0"), "there was memory enough, so nothing is shown: {events}");
}

#[test]
fn a_caller_of_much_memory() {
    let Some(cgroup) = std::env::var_os("ORLOP_TEST_CGROUP") else {
        return; // the body of the test above
    };
    let cgroup = fs::File::open(cgroup).expect("the cgroup is there");
    let memory = std::hint::black_box(vec![1_u8; 256 << 20]);
    let root = tempfile::tempdir().expect("a temporary folder");
    let plan = plan(root.path(), &["true"]);
    for _ in 0..20 {
        let kit = Kit { cgroup: Some(cgroup.as_fd()), ..Kit::default() };
        // Whether it comes to an error here or later is the kernel's affair.
        let _ = launch(&plan, &kit)
            .and_then(|mut child| child.drive(&plan, &|_, _| Ok(Vec::new()), Path::new("/")));
    }
    assert_eq!(memory.last(), Some(&1));
}

/// The claim that the whole design rests on: a process whose threads hold the
/// allocator's and the C library's locks all the time can launch. Two thousand times, or
/// with `ORLOP_TEST_EVERY=8` an eighth of that.
#[test]
fn launches_beside_busy_threads() {
    if skip_unless_root("launches_beside_busy_threads") {
        return;
    }
    static DONE: AtomicBool = AtomicBool::new(false);
    let busy: Vec<_> = (0..8)
        .map(|number| {
            thread::spawn(move || {
                while !DONE.load(Ordering::Relaxed) {
                    if number % 2 == 0 {
                        let blocks: Vec<Vec<u8>> =
                            (1..64).map(|size| vec![0; size * 512]).collect();
                        std::hint::black_box(&blocks);
                    } else {
                        thread::spawn(|| std::hint::black_box(vec![0u8; 4096]).len())
                            .join()
                            .expect("the thread ends");
                    }
                }
            })
        })
        .collect();
    let root = tempfile::tempdir().expect("a temporary folder");
    let plan = plan(root.path(), &["true"]);
    let every = std::env::var("ORLOP_TEST_EVERY").map_or(1, |every| every.parse().unwrap());
    for _ in (0..2000).step_by(every) {
        let child = start(&plan);
        assert!(child.pidfd().as_raw_fd() > 2);
        drop(child); // killed and waited for: the launch is what counts
    }
    DONE.store(true, Ordering::Relaxed);
    for thread in busy {
        thread.join().expect("the thread ends");
    }
}
