//! Devices and links in a root, on the running kernel.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::*;
use crate::testbed::{failure, run, skip};

fn node(kind: u32, major: u32, minor: u32) -> Node {
    Node { mode: kind | 0o600, major, minor, uid: 0, gid: 0 }
}

/// Whether this machine lets us make device nodes at all.
fn may_make() -> bool {
    let mode = abi::S_IFCHR | 0o600;
    let made = sys::mknodat(abi::AT_FDCWD, c"/probe", mode, abi::device_number(1, 3));
    if made.is_err() {
        skip("this machine does not let us make device nodes");
    }
    made.is_ok()
}

#[test]
fn a_node_is_made_and_belongs_to_its_owner() {
    run(|bed| {
        if !may_make() {
            return;
        }
        let wanted = Node { uid: 7, gid: 8, ..node(abi::S_IFCHR, 1, 3) };
        device(&mut bed.stage, c"/dev/mine", &wanted, DEVICE_MADE).expect("made");
        let made = fs::symlink_metadata(bed.path("dev/mine")).expect("made");
        assert!(made.file_type().is_char_device());
        assert_eq!((made.rdev(), made.uid(), made.gid()), (0x103, 7, 8));
        // A second time it is already there.
        device(&mut bed.stage, c"/dev/mine", &wanted, DEVICE_MADE).expect("the same device");
    });
}

/// Its directory may be one of the host.
#[test]
fn a_node_that_is_there_is_left_as_it_is() {
    run(|bed| {
        if !may_make() {
            return;
        }
        let there = Node { uid: 1, gid: 2, ..node(abi::S_IFCHR, 1, 3) };
        device(&mut bed.stage, c"/dev/net/tun", &there, DEVICE_MADE).expect("made");
        let wanted = Node { mode: abi::S_IFCHR | 0o666, ..node(abi::S_IFCHR, 1, 3) };
        device(&mut bed.stage, c"/dev/net/tun", &wanted, DEVICE_MADE).expect("the same device");
        let left = fs::symlink_metadata(bed.path("dev/net/tun")).expect("made");
        assert_eq!((left.uid(), left.gid(), left.mode() & 0o7777), (1, 2, 0o600));
    });
}

#[test]
fn what_an_image_put_in_a_devices_place_is_refused() {
    run(|bed| {
        bed.dir("dev");
        bed.file("dev/null", "fake");
        bed.link("dev/zero", "/dev/null");
        let result = device(&mut bed.stage, c"/dev/null", &node(abi::S_IFCHR, 1, 3), DEVICE_MADE);
        assert_eq!(failure(result), (Part::Verify, abi::EEXIST));
        let result = device(&mut bed.stage, c"/dev/zero", &node(abi::S_IFCHR, 1, 5), DEVICE_MADE);
        assert_eq!(failure(result), (Part::Verify, abi::EEXIST));
    });
}

#[test]
fn a_bound_device_is_the_hosts_and_the_one_that_was_meant() {
    run(|bed| {
        bed.dir("dev");
        bed.link("dev/zero", "/etc/passwd");
        device(&mut bed.stage, c"/dev/null", &node(abi::S_IFCHR, 1, 3), DEVICE_BOUND)
            .expect("bound");
        device(&mut bed.stage, c"/dev/zero", &node(abi::S_IFCHR, 1, 5), DEVICE_BOUND)
            .expect("over a link");
        let bound = fs::symlink_metadata(bed.path("dev/null")).expect("bound");
        assert_eq!((bound.file_type().is_char_device(), bound.rdev()), (true, 0x103));
        let bound = fs::symlink_metadata(bed.path("dev/zero")).expect("bound");
        assert_eq!((bound.file_type().is_char_device(), bound.rdev()), (true, 0x105));
        // The host's /dev/full is not this number.
        let result = device(&mut bed.stage, c"/dev/full", &node(abi::S_IFCHR, 1, 8), DEVICE_BOUND);
        assert_eq!(failure(result), (Part::Verify, abi::EEXIST));
        let result =
            device(&mut bed.stage, c"/dev/orlop-none", &node(abi::S_IFCHR, 1, 8), DEVICE_BOUND);
        assert_eq!(failure(result), (Part::Open, abi::ENOENT));
    });
}

#[test]
fn a_fifo_is_made_for_everybody() {
    run(|bed| {
        device(&mut bed.stage, c"/run/pipe", &node(abi::S_IFIFO, 0, 0), DEVICE_MADE).expect("made");
        let made = fs::symlink_metadata(bed.path("run/pipe")).expect("made");
        assert!(made.file_type().is_fifo());
    });
}

#[test]
fn a_link_stays_or_is_replaced_as_asked() {
    run(|bed| {
        bed.dir("dev");
        bed.file("dev/fd", "the image's");
        bed.file("dev/ptmx", "the image's");
        bed.dir("dev/core");
        symlink(&mut bed.stage, c"/dev/fd", c"/proc/self/fd", false).expect("left alone");
        symlink(&mut bed.stage, c"/dev/ptmx", c"pts/ptmx", true).expect("replaced");
        symlink(&mut bed.stage, c"/dev/core", c"/proc/kcore", true).expect("a directory stays");
        symlink(&mut bed.stage, c"/new/link", c"to", true).expect("made");
        if may_make() {
            let multiplexer = node(abi::S_IFCHR, 5, 2);
            device(&mut bed.stage, c"/host/ptmx", &multiplexer, DEVICE_MADE).expect("made");
            symlink(&mut bed.stage, c"/host/ptmx", c"pts/ptmx", true).expect("left alone");
            assert!(!bed.path("host/ptmx").is_symlink());
        }
        assert!(bed.path("dev/fd").is_file());
        assert_eq!(fs::read_link(bed.path("dev/ptmx")).expect("a link").to_str(), Some("pts/ptmx"));
        assert!(bed.path("dev/core").is_dir());
        assert!(bed.path("new/link").is_symlink());
    });
}

/// An image whose /dev leads outside (CVE-2026-41579).
#[test]
fn nothing_is_made_outside_through_a_linked_dev() {
    run(|bed| {
        let host = std::path::Path::new("/host");
        fs::create_dir(host).expect("in our tmpfs");
        fs::write(host.join("ptmx"), "marker").expect("in our tmpfs");
        bed.link("dev", host.to_str().expect("ours"));
        symlink(&mut bed.stage, c"/dev/ptmx", c"pts/ptmx", true).expect("inside");
        symlink(&mut bed.stage, c"/dev/fd", c"/proc/self/fd", false).expect("inside");
        device(&mut bed.stage, c"/dev/null", &node(abi::S_IFCHR, 1, 3), DEVICE_BOUND)
            .expect("inside");
        mkdir(&bed.stage, c"/dev/shm", 0o755).expect("inside");
        assert_eq!(fs::read_to_string(host.join("ptmx")).expect("there"), "marker");
        assert_eq!(fs::read_dir(host).expect("there").count(), 1);
    });
}
