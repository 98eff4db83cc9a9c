//! Lookups and creations in a root whose content is against us, on the running
//! kernel.

use core::ffi::CStr;
use std::format;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use std::vec::Vec;

use super::*;
use crate::testbed::{Bed, c_string, failure, run};

fn make(bed: &Bed, path: &CStr, make: Make) {
    sys::close(open_or_make(bed.stage.root, path.to_bytes(), make).expect("it can be made"));
}

#[test]
fn what_is_missing_is_made_with_the_modes_asked_for() {
    run(|bed| {
        make(bed, c"/a/b/c", Make::Dir(0o700));
        make(bed, c"/a/file", Make::File);
        make(bed, c"a//./b/../d/", Make::Dir(0o750));
        // The stage clears the umask; a test may not, it is the whole process's.
        let mode = fs::metadata(bed.path("a/b/c")).expect("made").mode();
        assert_eq!(mode & 0o7777, 0o700);
        assert!(bed.path("a/file").is_file());
        assert!(bed.path("a/d").is_dir());
    });
}

#[test]
fn links_lead_inside_the_root_wherever_they_point() {
    run(|bed| {
        let host = "/host";
        fs::create_dir(host).expect("in our tmpfs");
        bed.link("absolute", host);
        bed.link("upwards", "../../../../../../climbed");
        bed.dir("deep/er");
        bed.link("deep/er/chain", "../../upwards");
        bed.link("etc", "/private/etc");
        make(bed, c"/absolute/x", Make::Dir(0o755));
        make(bed, c"/deep/er/chain/y", Make::Dir(0o755));
        make(bed, c"/etc/resolv.conf", Make::File);
        assert!(bed.path(&format!("{host}/x")).is_dir(), "inside, at the same path");
        assert!(bed.path("climbed/y").is_dir());
        assert!(bed.path("private/etc/resolv.conf").is_file());
        assert_eq!(fs::read_dir(host).expect("there").count(), 0, "outside is untouched");
    });
}

#[test]
fn a_dangling_last_component_is_made_where_it_points() {
    run(|bed| {
        bed.dir("etc");
        bed.link("etc/resolv.conf", "../run/resolv.conf");
        make(bed, c"/etc/resolv.conf", Make::File);
        assert!(bed.path("run/resolv.conf").is_file());
        assert!(bed.path("etc/resolv.conf").is_symlink());
    });
}

#[test]
fn loops_and_files_in_the_way_are_errors() {
    run(|bed| {
        bed.link("a", "b");
        bed.link("b", "a");
        bed.file("file", "");
        let root = bed.stage.root;
        let dir = Make::Dir(0o755);
        assert_eq!(failure(open_or_make(root, b"/a/x", dir)), (Part::Resolve, abi::ELOOP));
        assert_eq!(failure(open_or_make(root, b"/file/x", dir)), (Part::Resolve, abi::ENOTDIR));
        let long = format!("/{}", "x".repeat(PATH_MAX));
        let long = c_string(Path::new(&long));
        assert_eq!(
            failure(open_or_make(root, long.to_bytes(), dir)),
            (Part::Resolve, abi::ENAMETOOLONG)
        );
    });
}

#[test]
fn the_last_component_is_split_off_or_refused() {
    assert_eq!(split_last(c"/dev/null"), Some((&b"/dev/"[..], c"null")));
    assert_eq!(split_last(c"null"), Some((&b""[..], c"null")));
    for path in [c"/", c"", c"/a/..", c".", c"/a/"] {
        assert_eq!(split_last(path), None, "{path:?}");
    }
}

/// Another container that shares a volume swaps a directory for a link to the
/// outside while we resolve and create (CVE-2021-30465, CVE-2024-45310).
#[test]
fn a_race_never_leads_outside() {
    run(|bed| {
        fs::create_dir("/host").expect("in our tmpfs");
        let names = || fs::read_dir("/").expect("ours").map(|entry| entry.expect("ours").path());
        let before: Vec<_> = names().collect();
        let (volume, up) = (bed.path("volume"), "../".repeat(9));
        fs::create_dir_all(volume.join("dir")).expect("in our tmpfs");
        bed.link("volume/absolute", "/host");
        bed.link("volume/climbing", &format!("{up}host"));
        let stop = AtomicBool::new(false);
        let root = bed.stage.root;
        let (mut made, mut refused) = (0u32, 0u32);
        std::thread::scope(|scope| {
            scope.spawn(|| swap(&volume, &stop));
            let begun = Instant::now();
            for number in 0u32.. {
                // Where so little has come of it, there is more time.
                let most = if made > 100 { 2 } else { 60 };
                if begun.elapsed().as_secs() >= most {
                    break;
                }
                let path = format!("/volume/dir/{number}/target");
                let path = c_string(Path::new(&path));
                let result = match number % 2 {
                    0 => open_or_make(root, path.to_bytes(), Make::Dir(0o755)),
                    _ => open_or_make(root, path.to_bytes(), Make::File),
                };
                match result {
                    Ok(fd) => {
                        made += 1;
                        sys::close(fd);
                    }
                    Err(_) => refused += 1,
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        std::println!("made {made}, refused {refused}");
        assert!(made > 100, "the race must be run, not lost: {made}");
        assert_eq!(fs::read_dir("/host").expect("there").count(), 0, "nothing outside");
        assert!(names().eq(before), "nothing beside the root");
    });
}

/// dir → absolute link → climbing link → dir, by renames.
fn swap(volume: &Path, stop: &AtomicBool) {
    let dir = volume.join("dir");
    while !stop.load(Ordering::Relaxed) {
        for link in ["absolute", "climbing"] {
            // Each may fail when the resolver has just made `dir` anew.
            let _ = fs::rename(&dir, volume.join("saved"));
            let _ = fs::rename(volume.join(link), &dir);
            std::thread::yield_now();
            let _ = fs::rename(&dir, volume.join(link));
            let _ = fs::rename(volume.join("saved"), &dir);
        }
    }
}
