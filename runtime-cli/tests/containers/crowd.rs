//! Many at once: one id, many ids.

use std::fs::{self, File};
use std::thread;

use nix::fcntl::{Flock, FlockArg};
use oci_spec::runtime::LinuxResources;
use orlop::Kind;
use orlop::container::Store;

use crate::harness::{Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    one_of_several_creations_wins,
    many_run_at_once,
    what_was_opened_before_never_touches_the_next_of_its_id,
    a_forced_deletion_that_comes_too_late_is_fine,
    a_forced_deletion_that_comes_too_early_ends_what_is_created,
];

/// How many containers each of the eight runs, unless ORLOP_TEST_RUNS says more.
const RUNS: usize = 25;

fn one_of_several_creations_wins(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    for round in 0..10 {
        let name = format!("r{round}");
        let running: Vec<_> =
            (0..4).map(|_| lab.begin(lab.start_of("create", &bundle, &name, &[]))).collect();
        let ends: Vec<_> = running.into_iter().map(|one| one.end()).collect();
        let won = ends.iter().filter(|end| end.code == 0).count();
        assert_eq!(won, 1, "{ends:?}");
        for end in ends.into_iter().filter(|end| end.code != 0) {
            let message = end.fails();
            let fits = message.contains("already exists") || message.contains("not empty");
            assert!(fits, "{message}");
        }
        lab.on(&name, &["start"], &[]).ok();
        lab.delete(&name);
    }
}

fn many_run_at_once(lab: &Lab) {
    let runs = std::env::var("ORLOP_TEST_RUNS").map_or(RUNS, |text| text.parse().unwrap());
    let bundle = lab.bundle(&["say", "hello"]);
    bundle.write();
    thread::scope(|scope| {
        for worker in 0..8 {
            let bundle = &bundle;
            scope.spawn(move || {
                for run in 0..runs {
                    let mut command = lab.command(&["run", "--bundle"]);
                    command.arg(&bundle.path).arg(lab.id(&format!("{worker}-{run}")));
                    assert_eq!(lab.begin(command).end().ok(), "hello\n");
                }
            });
        }
    });
}

/// The cgroup's name is the id's, so what goes by an old record reaches the new one.
fn what_was_opened_before_never_touches_the_next_of_its_id(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    lab.run(&bundle, "a", &["--detach"]).ok();
    let old = Store::new(lab.root()).open(&lab.id("a")).unwrap();
    lab.delete("a");
    lab.create(&bundle, "a", &[]).ok();
    let is = |what: &str| assert_eq!(lab.status("a"), what);
    let not_found = |result: orlop::error::Result<()>, what: &str| {
        assert_eq!(result.unwrap_err().kind(), Kind::NotFound, "{what}");
    };
    not_found(old.start(), "start");
    is("created");
    lab.on("a", &["start"], &[]).ok();
    not_found(old.pause(), "pause");
    is("running");
    lab.on("a", &["pause"], &[]).ok();
    not_found(old.resume(), "resume");
    is("paused");
    lab.on("a", &["resume"], &[]).ok();
    not_found(old.update(&LinuxResources::default()), "update");
    not_found(old.signal_all(libc::SIGKILL), "kill --all");
    not_found(old.delete(), "delete");
    assert_eq!(old.kill(libc::SIGKILL).unwrap_err().kind(), Kind::WrongState);
    is("running");
    lab.delete("a");
}

fn a_forced_deletion_that_comes_too_late_is_fine(lab: &Lab) {
    let mut next = lab.bundle(&["sleep"]);
    next.cgroup(lab, &lab.id("next"));
    for replaced in [false, true] {
        lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
        let (folder, aside) = (lab.root().join(lab.id("a")), lab.path("aside"));
        let lock = Flock::lock(File::open(&folder).unwrap(), FlockArg::LockExclusive);
        let running = lab.begin(lab.command(&["delete", "--force", &lab.id("a")]));
        // It has read the record, waits for us, and has killed whom it wanted to.
        until("the deletion", || lab.status("a") == "stopped");
        // As if somebody else had deleted it.
        fs::rename(&folder, &aside).unwrap();
        if replaced {
            lab.run(&next, "a", &["--detach"]).ok();
        }
        drop(lock.unwrap());
        let output = running.end();
        assert_eq!(output.stderr, "");
        output.ok();
        if replaced {
            assert_eq!(lab.status("a"), "running");
            lab.delete("a");
        }
        fs::rename(&aside, &folder).unwrap();
        lab.delete("a");
    }
}

/// Nothing but the record tells of the process: there is no cgroup.
fn a_forced_deletion_that_comes_too_early_ends_what_is_created(lab: &Lab) {
    let bundle = lab.bundle(&["sleep"]);
    bundle.write();
    let id = lab.id("a");
    let mut command = lab.command(&["--cgroup-manager", "disabled", "run", "--detach", "--bundle"]);
    command.arg(&bundle.path).arg(&id);
    lab.begin(command).end().ok();
    let (folder, aside) = (lab.root().join(&id), lab.path("aside"));
    let lock = Flock::lock(File::open(&folder).unwrap(), FlockArg::LockExclusive);
    // As if it was being created.
    let record = folder.join("state.json");
    fs::rename(&record, &aside).unwrap();
    let running = lab.begin(lab.command(&["delete", "--force", &id]));
    until("the deletion", || running.has_open(&folder));
    fs::rename(&aside, &record).unwrap();
    drop(lock.unwrap());
    running.end().ok();
}
