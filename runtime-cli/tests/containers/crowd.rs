//! Many at once: one id, many ids.

use std::thread;

use crate::harness::{Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![one_of_several_creations_wins, many_run_at_once];

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
