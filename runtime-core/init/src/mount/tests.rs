//! Every op that mounts, on the running kernel, each in a mount namespace of its
//! own.

use core::ffi::CStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::*;
use crate::testbed::{Bed, attach, failure, new_fs, run, skip};

fn fs_of(fs_type: &'static CStr, at: &'static CStr, target: Target) -> NewMount {
    NewMount {
        fs_type,
        source: c"",
        options: Strs::default(),
        attributes: 0,
        propagation: 0,
        at,
        target,
        below: 0,
        fallback: c"",
        hold: 0,
        label: c"",
    }
}

/// A place that is found by its path alone.
fn at(at: &'static CStr) -> Place {
    Place { at, under: 0, below: c"" }
}

fn tmpfs(at: &'static CStr) -> NewMount {
    fs_of(c"tmpfs", at, Target::DIR)
}

fn host(path: &Path, flags: u32) -> Source {
    Source {
        op: 0,
        slot: Slot::NONE,
        path: std::boxed::Box::leak(crate::testbed::c_string(path).into_boxed_c_str()),
        flags,
        top: abi::MountAttr::default(),
        all: abi::MountAttr::default(),
        propagation: 0,
        hold: 0,
    }
}

fn set(bits: u64) -> abi::MountAttr {
    abi::MountAttr { set: bits, ..abi::MountAttr::default() }
}

fn mode(bed: &Bed, path: &str) -> u32 {
    fs::metadata(bed.path(path)).expect("there").mode() & 0o7777
}

fn errno(result: std::io::Result<()>) -> Option<i32> {
    result.expect_err("it must fail").raw_os_error()
}

#[test]
fn a_file_system_has_its_options_and_attributes() {
    run(|bed| {
        let options = bed.strs(&["size", "64k", "mode", "0711", "sync", ""]);
        let attributes = abi::MOUNT_ATTR_NOSUID | abi::MOUNT_ATTR_NODEV | abi::MOUNT_ATTR_NOATIME;
        let new = NewMount {
            options,
            source: c"swap",
            attributes: attributes as u32,
            propagation: abi::MS_SHARED,
            ..tmpfs(c"/var/run")
        };
        mount(&mut bed.stage, &new, false).expect("mounted");
        let line = bed.mount_line("var/run");
        assert!(line.contains("rw,nosuid,nodev,noatime shared:"), "{line}");
        assert!(line.contains("- tmpfs swap rw,sync,size=64k,mode=711"), "{line}");
    });
}

#[test]
fn an_option_that_the_file_system_does_not_know_is_named() {
    run(|bed| {
        let options = bed.strs(&["bogus", "1"]);
        let new = NewMount { options, ..tmpfs(c"/x") };
        let fail = mount(&mut bed.stage, &new, false).expect_err("unknown option");
        assert_eq!((fail.part, fail.errno.0, fail.text), (Part::Configure, 22, &b"bogus"[..]));
        let new = fs_of(c"orlopfs", c"/x", Target::DIR);
        let result = mount(&mut bed.stage, &new, false);
        assert_eq!(failure(result), (Part::OpenFs, abi::ENODEV));
    });
}

#[test]
fn a_tmpfs_takes_the_mode_of_the_directory_below_it() {
    run(|bed| {
        bed.dir("tmp");
        let sticky = std::os::unix::fs::PermissionsExt::from_mode(0o1770);
        fs::set_permissions(bed.path("tmp"), sticky).expect("ours");
        let new = NewMount { below: BELOW_MODE, ..tmpfs(c"/tmp") };
        mount(&mut bed.stage, &new, false).expect("mounted");
        assert_eq!(mode(bed, "tmp"), 0o1770);
        let new = NewMount { below: BELOW_MODE, ..tmpfs(c"/new") };
        mount(&mut bed.stage, &new, false).expect("mounted");
        assert_eq!(mode(bed, "new"), 0o1777, "the file system's own default");
    });
}

#[test]
fn a_tmpfs_gets_what_lay_below_it() {
    run(|bed| {
        bed.dir("etc/deep/er");
        bed.file("etc/deep/file", "content");
        bed.link("etc/link", "/nowhere");
        let group_only = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        fs::set_permissions(bed.path("etc/deep/file"), group_only).expect("ours");
        // In a user namespace with one id there is nobody to give it to.
        let given = std::os::unix::fs::chown(bed.path("etc/deep"), Some(5), Some(6)).is_ok();
        let new = NewMount { below: BELOW_COPY | BELOW_MODE, ..tmpfs(c"/etc") };
        mount(&mut bed.stage, &new, false).expect("mounted");
        assert!(bed.mount_line("etc").contains("- tmpfs"));
        assert_eq!(fs::read_to_string(bed.path("etc/deep/file")).expect("copied"), "content");
        assert_eq!(mode(bed, "etc/deep/file"), 0o640);
        let deep = fs::metadata(bed.path("etc/deep")).expect("copied");
        assert_eq!((deep.uid(), deep.gid()), if given { (5, 6) } else { (0, 0) });
        assert!(bed.path("etc/deep/er").is_dir());
        assert_eq!(fs::read_link(bed.path("etc/link")).expect("copied").to_str(), Some("/nowhere"));
    });
}

#[test]
fn a_mount_point_that_links_outside_lands_inside() {
    run(|bed| {
        fs::create_dir("/host").expect("ours");
        bed.link("absolute", "/host");
        bed.link("climbing", "../../../../../../up");
        mount(&mut bed.stage, &tmpfs(c"/absolute"), false).expect("inside");
        mount(&mut bed.stage, &tmpfs(c"/climbing"), false).expect("inside");
        assert!(bed.mount_line("up").contains("- tmpfs"));
        assert!(bed.mount_line("host").contains("- tmpfs"));
        let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("ours");
        assert!(!table.contains(" /host ") && !table.contains(" /up "), "{table}");
    });
}

#[test]
fn a_link_back_to_the_root_is_no_mount_point() {
    run(|bed| {
        bed.link("here", "/");
        bed.link("up", "../..");
        for at in [c"/here", c"/up", c"/here/here"] {
            let result = mount(&mut bed.stage, &tmpfs(at), false);
            assert_eq!(failure(result), (Part::Verify, abi::EBUSY), "{at:?}");
        }
    });
}

#[test]
fn a_linked_proc_is_refused() {
    run(|bed| {
        bed.dir("evil/proc");
        bed.link("proc", "/evil/proc");
        bed.link("sys", "evil");
        let strict = Target::DIR.and(Target::NO_SYMLINK);
        let result = mount(&mut bed.stage, &fs_of(c"proc", c"/proc", strict), false);
        assert_eq!(failure(result), (Part::NotDirectory, abi::ELOOP));
        let result = mount(&mut bed.stage, &fs_of(c"sysfs", c"/sys", strict), false);
        assert_eq!(failure(result), (Part::NotDirectory, abi::ELOOP));
        bed.file("file", "");
        let result = mount(&mut bed.stage, &fs_of(c"proc", c"/file", strict), false);
        assert_eq!(failure(result), (Part::NotDirectory, abi::ENOTDIR));
    });
}

#[test]
fn inside_a_procfs_only_the_few_files_are_covered() {
    run(|bed| {
        let strict = Target::DIR.and(Target::NO_SYMLINK);
        mount(&mut bed.stage, &fs_of(c"proc", c"/proc", strict), true).expect("mounted");
        assert_eq!(sys::fs_magic(bed.stage.proc), Ok(abi::PROC_SUPER_MAGIC));
        bed.link("hidden", "/proc/sys");
        for at in [c"/proc/sys", c"/hidden", c"/proc/self/attr"] {
            let result = mount(&mut bed.stage, &tmpfs(at), false);
            assert_eq!(failure(result), (Part::InsideProc, abi::EPERM), "{at:?}");
        }
        fs::write(Path::new("/uptime"), "1 1\n").expect("ours");
        let source = host(Path::new("/uptime"), 0);
        bind(&mut bed.stage, &source, c"/proc/uptime", Target::IN_PROC).expect("covered");
        assert_eq!(fs::read_to_string(bed.path("proc/uptime")).expect("ours"), "1 1\n");
        let decoy = Path::new("/decoy");
        fs::create_dir(decoy).expect("ours");
        let source = host(decoy, BIND_RECURSIVE);
        let target = Target::LIKE_SOURCE.and(Target::NO_SYMLINK).and(Target::FROM_PROC);
        let result = bind(&mut bed.stage, &source, c"/proc", target);
        assert_eq!(failure(result), (Part::NotProc, abi::EPERM));
    });
}

#[test]
fn a_bind_is_like_its_source_and_has_its_attributes() {
    run(|bed| {
        let source = Path::new("/source");
        fs::create_dir_all(source.join("below")).expect("ours");
        attach(new_fs(c"tmpfs"), &source.join("below"));
        fs::write(source.join("below/file"), "text").expect("ours");
        let read_only = Source {
            top: set(abi::MOUNT_ATTR_RDONLY),
            all: set(abi::MOUNT_ATTR_NOSUID),
            ..host(source, BIND_RECURSIVE)
        };
        bind(&mut bed.stage, &read_only, c"/made/dir", Target::LIKE_SOURCE).expect("bound");
        assert!(bed.mount_line("made/dir").contains(" ro,nosuid,relatime "));
        assert!(bed.mount_line("made/dir/below").contains(" rw,nosuid,relatime "));
        let all = Source { all: set(abi::MOUNT_ATTR_RDONLY), ..host(source, BIND_RECURSIVE) };
        bind(&mut bed.stage, &all, c"/all", Target::LIKE_SOURCE).expect("bound");
        assert_eq!(errno(fs::write(bed.path("all/below/file"), "x")), Some(abi::EROFS));
        let file = host(&source.join("below/file"), 0);
        bind(&mut bed.stage, &file, c"/etc/resolv.conf", Target::LIKE_SOURCE).expect("bound");
        assert_eq!(fs::read_to_string(bed.path("etc/resolv.conf")).expect("bound"), "text");
        fs::write(source.join("below/file"), "still writable").expect("the source is");
        let result = bind(&mut bed.stage, &file, c"/made/dir", Target::LIKE_SOURCE);
        assert_eq!(failure(result), (Part::Attach, abi::ENOTDIR));
        let result =
            bind(&mut bed.stage, &host(&source.join("none"), 0), c"/x", Target::LIKE_SOURCE);
        assert_eq!(failure(result), (Part::Open, abi::ENOENT));
        assert!(!bed.path("x").exists(), "nothing is made for a source that is missing");
    });
}

#[test]
fn a_flat_bind_leaves_the_mounts_below_behind() {
    run(|bed| {
        let source = Path::new("/source");
        fs::create_dir_all(source.join("below")).expect("ours");
        attach(new_fs(c"tmpfs"), &source.join("below"));
        fs::write(source.join("below/file"), "").expect("ours");
        bind(&mut bed.stage, &host(source, 0), c"/flat", Target::LIKE_SOURCE).expect("bound");
        assert!(!bed.path("flat/below/file").exists());
        let recursive = abi::MS_SHARED;
        let tree = Source { propagation: recursive, ..host(source, BIND_RECURSIVE | 2) };
        bind(&mut bed.stage, &tree, c"/tree", Target::LIKE_SOURCE).expect("bound");
        assert!(bed.path("tree/below/file").exists());
        assert!(bed.mount_line("tree").contains(" shared:"));
        assert!(bed.mount_line("tree/below").contains(" shared:"));
    });
}

#[test]
fn a_masked_path_shows_nothing() {
    run(|bed| {
        bed.dir("secret");
        bed.dir("other");
        bed.file("secret/file", "secret");
        bed.file("key", "secret");
        bed.dir("dev");
        bed.file("dev/null", "the image's own is not asked");
        bed.link("to-key", "/key");
        for path in [c"/secret", c"/other", c"/to-key", c"/missing", c"/key/below"] {
            mask(&mut bed.stage, &at(path), c"").expect("masked or not there");
        }
        for dir in ["secret", "other"] {
            assert_eq!(fs::read_dir(bed.path(dir)).expect("masked").count(), 0);
            let full = fs::write(bed.path(dir).join("new"), "");
            assert_eq!(errno(full), Some(abi::EROFS), "{dir}");
        }
        assert_eq!(fs::read_to_string(bed.path("key")).expect("masked"), "");
        assert_eq!(fs::metadata(bed.path("key")).expect("masked").rdev(), 0x103);
        assert!(!bed.path("missing").exists());
    });
}

#[test]
fn a_read_only_path_covers_the_mounts_below() {
    run(|bed| {
        bed.dir("sys/net");
        attach(new_fs(c"tmpfs"), &bed.path("sys/net"));
        bed.file("sys/net/value", "1");
        bed.file("sys/other", "1");
        read_only(&mut bed.stage, &at(c"/sys")).expect("covered");
        read_only(&mut bed.stage, &at(c"/missing")).expect("left alone");
        for path in ["sys/net/value", "sys/other"] {
            assert_eq!(errno(fs::write(bed.path(path), "2")), Some(abi::EROFS), "{path}");
            assert_eq!(fs::read_to_string(bed.path(path)).expect("readable"), "1");
        }
    });
}

/// Another container over the same files, where nothing is mounted on a directory:
/// puts another one in its place.
fn swap(bed: &Bed, dir: &str) {
    let path = bed.path(dir);
    let swap = move || {
        sys::unshare(abi::CLONE_NEWNS).expect("as the bed did");
        propagation(abi::MS_PRIVATE, true).expect("our own");
        let mounted = crate::testbed::c_string(&path);
        sys::umount(&mounted, abi::MNT_DETACH).expect("in this namespace alone");
        fs::rename(&path, path.with_extension("away")).expect("nothing is mounted here");
        fs::create_dir(&path).expect("nothing is there");
    };
    std::thread::spawn(swap).join().expect("swapped");
}

#[test]
fn a_mount_is_found_wherever_its_directory_is_by_now() {
    run(|bed| {
        let held = NewMount { hold: 1, ..tmpfs(c"/proc") };
        mount(&mut bed.stage, &held, false).expect("mounted");
        for dir in ["proc/sys/kernel", "proc/secret", "proc/link"] {
            bed.dir(dir);
        }
        bed.link("proc/out", "/elsewhere");
        bed.dir("elsewhere");
        let source = Source { hold: 2, ..host(&bed.path("proc/link"), 0) };
        bind(&mut bed.stage, &source, c"/bound", Target::LIKE_SOURCE).expect("bound");
        for dir in ["proc", "bound"] {
            swap(bed, dir);
        }
        let below = |at, under, below| Place { at, under, below };
        read_only(&mut bed.stage, &below(c"/proc/sys", 1, c"sys")).expect("covered");
        mask(&mut bed.stage, &below(c"/proc/secret", 1, c"secret"), c"").expect("masked");
        let attributes = set(abi::MOUNT_ATTR_RDONLY);
        change(&mut bed.stage, &below(c"/bound", 2, c""), false, &attributes).expect("changed");
        let full = Some(abi::EROFS);
        for dir in ["proc.away/sys/kernel", "proc.away/secret", "bound.away"] {
            assert_eq!(errno(fs::write(bed.path(dir).join("new"), "")), full, "{dir}");
        }
        // What leads out of the mount is in the root.
        mask(&mut bed.stage, &below(c"/proc.away/out", 1, c"out"), c"").expect("masked");
        assert_eq!(errno(fs::write(bed.path("elsewhere/new"), "")), full);
    });
}

#[test]
fn a_file_that_is_mounted_is_covered_too() {
    run(|bed| {
        for (name, at, hold) in [("a", c"/etc/a", 1), ("b", c"/etc/b", 2), ("c", c"/etc/c", 3)] {
            bed.file(name, "secret");
            let source = Source { hold, ..host(&bed.path(name), 0) };
            bind(&mut bed.stage, &source, at, Target::LIKE_SOURCE).expect("bound");
        }
        let whole = |at, under| Place { at, under, below: c"" };
        mask(&mut bed.stage, &whole(c"/etc/a", 1), c"").expect("masked");
        read_only(&mut bed.stage, &whole(c"/etc/b", 2)).expect("covered");
        let attributes = set(abi::MOUNT_ATTR_RDONLY);
        change(&mut bed.stage, &whole(c"/etc/c", 3), false, &attributes).expect("changed");
        assert_eq!(fs::read_to_string(bed.path("etc/a")).expect("masked"), "");
        for path in ["etc/b", "etc/c"] {
            assert_eq!(errno(fs::write(bed.path(path), "2")), Some(abi::EROFS), "{path}");
        }
    });
}

/// A place that was spelled in two ways, and covered since by the other one.
#[test]
fn what_is_seen_is_covered_too() {
    run(|bed| {
        bed.dir("run");
        bed.link("var", "/run");
        for (at, hold) in [(c"/var/q", 1), (c"/run/q", 2)] {
            mount(&mut bed.stage, &NewMount { hold, ..tmpfs(at) }, false).expect("mounted");
        }
        bed.file("run/q/key", "secret");
        let place = |at, below| Place { at, under: 1, below };
        mask(&mut bed.stage, &place(c"/var/q/key", c"key"), c"").expect("masked");
        assert_eq!(fs::read_to_string(bed.path("run/q/key")).expect("masked"), "");
        read_only(&mut bed.stage, &place(c"/var/q", c"")).expect("covered");
        assert_eq!(errno(fs::write(bed.path("run/q/new"), "")), Some(abi::EROFS));
        assert_eq!(fs::read_to_string(bed.path("run/q/key")).expect("masked"), "");
    });
}

#[test]
fn a_mount_that_is_there_can_be_changed() {
    run(|bed| {
        mount(&mut bed.stage, &tmpfs(c"/run"), false).expect("mounted");
        let options = bed.strs(&["size", "32k"]);
        reconfigure(&mut bed.stage, &at(c"/run"), options).expect("changed");
        change(&mut bed.stage, &at(c"/run"), false, &set(abi::MOUNT_ATTR_RDONLY)).expect("changed");
        let line = bed.mount_line("run");
        assert!(line.contains(" ro,relatime ") && line.contains("rw,size=32k"), "{line}");
        // What is no mount has no attributes of its own.
        bed.dir("plain");
        let result = change(&mut bed.stage, &at(c"/plain"), false, &set(abi::MOUNT_ATTR_RDONLY));
        assert_eq!(failure(result), (Part::SetAttributes, abi::EINVAL));
    });
}

#[test]
fn the_root_becomes_the_root_and_the_host_is_gone() {
    run(|bed| {
        bed.file("inside", "");
        crate::root::pivot(&bed.stage).expect("pivoted");
        crate::root::read_only(&bed.stage).expect("read-only");
        let names: std::vec::Vec<_> = fs::read_dir("/")
            .expect("the root")
            .map(|entry| entry.expect("ours").file_name())
            .collect();
        assert_eq!(names, ["inside"]);
        assert_eq!(errno(fs::write("/new", "")), Some(abi::EROFS));
        assert!(fs::symlink_metadata("/../../etc").is_err());
    });
}

#[test]
fn a_moved_root_leaves_no_procfs_behind() {
    run(|bed| {
        bed.dir("proc");
        bed.file("inside", "");
        // Opened before: afterwards there is no procfs to open it in.
        let proc = sys::openat(abi::AT_FDCWD, c"/proc/thread-self/mountinfo", abi::O_RDONLY)
            .expect("ours");
        // One elsewhere, and what is mounted on another.
        let again = sys::open_tree(abi::AT_FDCWD, c"/proc", abi::OPEN_TREE_CLONE).expect("ours");
        fs::create_dir_all("/run/again").expect("ours");
        attach(again, Path::new("/run/again"));
        let again = sys::open_tree(abi::AT_FDCWD, c"/proc", abi::OPEN_TREE_CLONE).expect("ours");
        attach(again, Path::new("/proc"));
        let revealing = [c"/proc", c"/sys", c"/run/again", c"/none"].into_iter();
        crate::root::move_over(&bed.stage, revealing).expect("moved");
        assert!(fs::metadata("/inside").is_ok());
        assert!(fs::metadata("/../etc/passwd").is_err());
        let mut table = std::string::String::new();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = sys::read(proc, &mut buffer) {
            table.push_str(&std::string::String::from_utf8_lossy(&buffer[..length]));
        }
        let left = table.lines().filter(|line| line.contains(" - proc ")).count();
        assert_eq!(left, 0, "{table}");
    });
}

/// A file system that the kernel keeps from us gives way to the host's tree.
#[test]
fn a_refused_file_system_is_replaced_by_the_hosts_tree_read_only() {
    run(|bed| {
        fs::create_dir_all("/sys/below").expect("ours");
        attach(new_fs(c"tmpfs"), Path::new("/sys/below"));
        fs::write("/sys/value", "1").expect("ours");
        let refused = NewMount { fallback: c"/sys", ..fs_of(c"sysfs", c"/sys", Target::DIR) };
        mount(&mut bed.stage, &refused, false).expect("mounted or bound");
        let line = bed.mount_line("sys");
        if line.contains(" - sysfs ") {
            return skip("only a user namespace without its own network shows this");
        }
        assert!(line.contains(" ro,"), "{line}");
        assert!(bed.mount_line("sys/below").contains(" ro,"));
        assert_eq!(errno(fs::write(bed.path("sys/value"), "2")), Some(abi::EROFS));
    });
}
