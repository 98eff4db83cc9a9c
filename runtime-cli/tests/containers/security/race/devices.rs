//! /dev is in a root that somebody else changes, who shares it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use super::{Place, against, for_a_while};
use crate::harness::{Bundle, Lab, Output, Test, tests};
use crate::security::devices::{FAKES, Outside, put, reading, without_dev_mounts};

pub(crate) const TESTS: &[Test] = tests![
    null_that_becomes_something_else,
    a_terminal_whose_places_become_links,
    dev_and_run_that_become_links,
];

/// Nothing of the outside is mounted in the container, where a name may be the same.
fn table_is_inside(table: &str, outside: &Outside) {
    let name = outside.path.file_name().unwrap().to_str().unwrap();
    let mut sources = table.lines().filter_map(|line| line.split(' ').nth(3));
    assert!(!sources.any(|source| source.contains(name)), "{table}");
}

/// The terminal of whoever has none: of a cover that is one, nothing can be read, where
/// another's bytes might have no end.
fn put_tty(at: &Path) {
    let _ = fs::remove_file(at);
    mknod(at, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(5, 0)).unwrap();
}

/// From a file of the test's own.
fn run(lab: &Lab, bundle: &Bundle) -> Output {
    let mut run = lab.start_of("run", bundle, "a", &[]);
    run.env("NOTIFY_SOCKET", lab.path("nobody"));
    lab.begin(reading(&lab.path("input"), &run)).end()
}

// CVE-2025-31133, CVE-2025-62161: what covers a masked path was looked at, and then
// mounted by its name.
fn null_that_becomes_something_else(lab: &Lab) {
    let outside = Outside::new(lab);
    fs::write(lab.path("input"), "").unwrap();
    let mut bundle = lab.bundle(&["cat", "/work/secret", "/proc/self/mountinfo"]);
    without_dev_mounts(&mut bundle);
    fs::write(bundle.rootfs().join("work/secret"), "secret\n").unwrap();
    fs::write(bundle.rootfs().join("work/decoy"), "decoy\n").unwrap();
    bundle.config["linux"]["maskedPaths"] = json!(["/work/secret", "/proc/kcore"]);
    let null = bundle.rootfs().join("dev/null");
    mknod(&null, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)).unwrap();
    let mut place = Place::new(null);
    let mut fakes = FAKES.iter().filter(|fake| **fake != "nothing").cycle();
    against(
        || {
            place.turn(|at| match *fakes.next().unwrap() {
                "another device" => put_tty(at),
                fake => put(fake, at, &outside),
            });
        },
        || {
            let check = |output: &Output| {
                // Nothing is read before the table, in which the cover is none of the image's.
                let table = &output.stdout;
                assert!(table.starts_with(|first: char| first.is_ascii_digit()), "{table}");
                let covers = table.lines().filter(|line| line.contains(" /work/secret "));
                let sources: Vec<_> = covers.filter_map(|line| line.split(' ').nth(3)).collect();
                assert!(matches!(sources[..], [one] if !one.contains(lab.tag())), "{table}");
                table_is_inside(table, &outside);
                outside.check("null");
            };
            for_a_while(lab, |_| run(lab, &bundle), check);
        },
    );
    outside.check("null");
    for (name, text) in [("work/secret", "secret\n"), ("work/decoy", "decoy\n")] {
        assert_eq!(fs::read_to_string(bundle.rootfs().join(name)).unwrap(), text);
    }
}

/// What a directory becomes. A link that leads nowhere is made in the root, and never outside.
fn put_for_directory(turn: usize, at: &Path, outside: &Outside) {
    let _ = fs::remove_dir_all(at).or_else(|_| fs::remove_file(at));
    let absolute = outside.path.display();
    match turn % 4 {
        0 => symlink(&outside.path, at).unwrap(),
        1 => symlink(format!("../../../../../../../..{absolute}"), at).unwrap(),
        2 => symlink("/work", at).unwrap(),
        _ => fs::write(at, "the image's\n").unwrap(),
    }
}

// CVE-2025-52565, CVE-2026-88264: what was bound on the console was what the image had
// put there in time, and the console was made where a link leads.
fn a_terminal_whose_places_become_links(lab: &Lab) {
    let outside = Outside::new(lab);
    fs::write(lab.path("input"), "").unwrap();
    let mut bundle = lab.bundle(&[]);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/dev");
    bundle.config["process"]["terminal"] = json!(true);
    let dev = bundle.rootfs().join("dev");
    fs::create_dir(dev.join("pts")).unwrap();
    fs::write(dev.join("console"), "").unwrap();
    symlink("pts/ptmx", dev.join("ptmx")).unwrap();
    // What the names of a terminal are where a link leads.
    let work = bundle.rootfs().join("work");
    fs::write(work.join("0"), "decoy\n").unwrap();
    let everybody = Mode::from_bits_truncate(0o666);
    mknod(&work.join("ptmx"), SFlag::S_IFCHR, everybody, makedev(5, 2)).unwrap();
    let mut places = ["console", "ptmx", "pts"].map(|name| Place::new(dev.join(name)));
    let mut turn = 0;
    let change = || {
        let place = &mut places[turn / 2 % 3];
        place.turn(|at| match turn / 2 % 3 {
            2 => put_for_directory(turn / 6, at, &outside),
            _ => put(FAKES[1 + turn / 6 % (FAKES.len() - 1)], at, &outside),
        });
        turn += 1;
    };
    against(change, || {
        let make = |number: u32| {
            let words: [&[&str]; 2] =
                [&["node", "/proc/self/fd/0"], &["cat", "/proc/self/mountinfo"]];
            bundle.args(words[number as usize % 2]);
            run(lab, &bundle)
        };
        let check = |output: &Output| {
            outside.check("console");
            if output.stdout.starts_with("char ") {
                assert!(output.stdout.starts_with("char 136:"), "{}", output.stdout);
                return;
            }
            table_is_inside(&output.stdout, &outside);
            // It goes with what it was put on, to another name or away.
            for line in output.stdout.lines().filter(|line| line.contains("console ")) {
                assert!(line.contains(" - devpts ") && !line.contains(" / /"), "{line}");
            }
        };
        for_a_while(lab, make, check);
    });
    outside.check("console");
}

// CVE-2026-41579, CVE-2026-47766, and the place of the socket by which a container says
// that it is ready: /dev and /run were looked at, and then gone through by their names.
fn dev_and_run_that_become_links(lab: &Lab) {
    // Without what a device would not be made over.
    let outside = Outside::with(lab, &["marker", "ptmx"]);
    fs::write(lab.path("input"), "").unwrap();
    let mut bundle = lab.bundle(&["cat", "/proc/self/mountinfo"]);
    without_dev_mounts(&mut bundle);
    fs::create_dir(bundle.rootfs().join("run")).unwrap();
    let mut places = ["dev", "run"].map(|name| Place::new(bundle.rootfs().join(name)));
    let mut turn = 0;
    let change = || {
        places[turn / 2 % 2].turn(|at| put_for_directory(turn / 4, at, &outside));
        turn += 1;
    };
    against(change, || {
        let make = |number: u32| {
            bundle.config["process"]["terminal"] = json!(number % 4 == 3);
            run(lab, &bundle)
        };
        let check = |output: &Output| {
            outside.check("dev");
            table_is_inside(&output.stdout, &outside);
            assert!(output.stdout.contains("/notify /"), "{}", output.stdout);
        };
        for_a_while(lab, make, check);
    });
    outside.check("dev");
}
