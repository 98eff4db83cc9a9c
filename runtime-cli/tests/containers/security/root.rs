//! The root and what is mounted in it, when the image has links everywhere.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::stat::{Mode, SFlag, mknod};
use serde_json::json;

use crate::harness::{Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_read_only_root_is_read_only,
    places_are_found_inside,
    what_is_missing_is_made_inside,
    a_passwd_file_is_only_read,
];

// CVE-2026-115521: the root was made read-only through the container's own /proc.
fn a_read_only_root_is_read_only(lab: &Lab) {
    for proc in ["missing", "empty", "a decoy", "a link", "the kernel's"] {
        let mut bundle = lab.bundle(&["write", "/work/new", "x"]);
        let place = bundle.rootfs().join("proc");
        if proc != "the kernel's" {
            let mounts = bundle.config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/proc");
            bundle.config["linux"]["maskedPaths"] = json!([]);
            bundle.config["linux"]["readonlyPaths"] = json!([]);
        }
        match proc {
            "missing" => fs::remove_dir(&place).unwrap(),
            "a decoy" => {
                fs::create_dir_all(place.join("self/fd")).unwrap();
                for number in 0..30 {
                    symlink("/tmp", place.join(format!("self/fd/{number}"))).unwrap();
                }
            }
            "a link" => {
                fs::remove_dir(&place).unwrap();
                symlink("/work", &place).unwrap();
            }
            _ => {}
        }
        assert_eq!(bundle.config["root"]["readonly"], json!(true));
        let output = lab.run(&bundle, "a", &[]);
        assert_eq!(output.code, 99, "{proc}: {}", output.stderr);
        assert!(output.stderr.contains("Read-only file system"), "{proc}: {}", output.stderr);
        assert!(!bundle.rootfs().join("work/new").exists(), "{proc}");
        lab.delete("a");
    }
}

/// Links of an image, and where each leads inside the root. `OUT` is a directory of
/// the host.
const LINKS: [(&str, &[(&str, &str)]); 5] = [
    ("absolute", &[("work/link", "OUT")]),
    ("by dots", &[("work/link", "../../../../../../../../OUT")]),
    ("chained", &[("work/link", "/tmp/two"), ("tmp/two", "../work/three"), ("work/three", "OUT")]),
    ("a directory above", &[("work/up", "/.."), ("work/link", "up/OUT")]),
    ("dangling", &[("work/link", "OUT/not/there")]),
];

fn listing(path: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap().flatten() {
        let path = entry.path();
        found.push(path.display().to_string());
        if entry.file_type().unwrap().is_dir() {
            found.extend(listing(&path));
        }
    }
    found.sort();
    found
}

// CVE-2019-18837, CVE-2021-30465, CVE-2024-45310, CVE-2025-24965.
fn inside(lab: &Lab, at: &str) {
    let outside = lab.path("outside");
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::write(outside.join("file"), "the host's\n").unwrap();
    fs::write(lab.path("source"), "mounted\n").unwrap();
    let before = listing(&outside);
    for (name, links) in LINKS {
        for kind in ["tmpfs", "directory", "file"] {
            let mut bundle = lab.bundle(&["cat", "/proc/self/mountinfo"]);
            for (from, to) in links {
                let to = to.replace("OUT", outside.to_str().unwrap());
                symlink(to, bundle.rootfs().join(from)).unwrap();
            }
            let (source, file) = (lab.folder().join("outside/sub"), lab.path("source"));
            let known = match kind {
                "tmpfs" => {
                    bundle.mount(at, "tmpfs", "known-by-this", &["mode=755"]);
                    "known-by-this"
                }
                "directory" => {
                    bundle.mount(at, "bind", source.to_str().unwrap(), &["bind"]);
                    "/outside/sub "
                }
                _ => {
                    bundle.mount(at, "bind", file.to_str().unwrap(), &["bind"]);
                    "/source "
                }
            };
            let output = lab.run(&bundle, "a", &[]);
            // What was mounted outside would be gone with the old root.
            let inside = output.stdout.contains(known);
            assert!(output.code != 0 || inside, "{name}, {kind}: {}", output.stdout);
            if output.code != 0 {
                output.fails();
            }
            assert_eq!(listing(&outside), before, "{name}, {kind}");
            assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "the host's\n");
            lab.delete("a");
        }
    }
}

fn places_are_found_inside(lab: &Lab) {
    inside(lab, "/work/link");
}

fn what_is_missing_is_made_inside(lab: &Lab) {
    inside(lab, "/work/link/new/deep");
    inside(lab, "/work/link/file");
}

// The home directory is looked up in a file of the image, which may be anything.
fn a_passwd_file_is_only_read(lab: &Lab) {
    for kind in ["a FIFO", "a link out", "endless", "a directory", "the null device's number"] {
        let bundle = lab.bundle(&["env"]);
        let passwd = bundle.rootfs().join("etc/passwd");
        match kind {
            "a FIFO" => mknod(&passwd, SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap(),
            "a link out" => {
                fs::write(lab.path("passwd"), "root:x:0:0::/from/outside:/bin/sh\n").unwrap();
                symlink(lab.path("passwd"), &passwd).unwrap();
            }
            "endless" => {
                let file = fs::File::create(&passwd).unwrap();
                file.set_len(1 << 40).unwrap();
            }
            "a directory" => fs::create_dir(&passwd).unwrap(),
            _ => symlink("/dev/zero", &passwd).unwrap(),
        }
        let printed = lab.run(&bundle, "a", &[]).ok();
        assert!(printed.contains("HOME=/\n"), "{kind}: {printed}");
    }
}
