//! The root and what is mounted in it, as the container's own mount table tells.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use serde_json::json;

use crate::harness::{Bundle, Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    options_are_in_the_table,
    a_read_only_root_and_its_tmpfs,
    masked_and_read_only_paths,
    a_bind_is_read_only_to_its_depth,
    a_tmpfs_takes_over_what_was_there,
    a_mask_is_over_what_came_last_by_another_name,
    propagation_is_as_told,
    a_bind_with_mapped_ids,
    devices_are_made,
];

/// `options / super options` of the last mount at `place` in the container.
fn table(lab: &Lab, bundle: &mut Bundle, place: &str) -> (String, String) {
    bundle.args(&["cat", "/proc/self/mountinfo"]);
    let text = lab.run(bundle, "a", &[]).ok();
    let line = text.lines().rfind(|line| line.split(' ').nth(4) == Some(place)).unwrap();
    let (own, rest) = line.split_once(" - ").unwrap();
    let own: Vec<_> = own.split(' ').skip(5).collect();
    (own.join(" "), rest.split(' ').next_back().unwrap().to_owned())
}

fn options_are_in_the_table(lab: &Lab) {
    let mut bundle = lab.bundle(&[]);
    let options =
        ["nosuid", "nodev", "noexec", "noatime", "ro", "size=1m", "mode=700", "nr_inodes=99"];
    bundle.mount("/work", "tmpfs", "tmpfs", &options);
    let (own, of_fs) = table(lab, &mut bundle, "/work");
    assert_eq!(own, "ro,nosuid,nodev,noexec,noatime");
    // Only the mount is read-only: the file system is the container's alone.
    assert!(of_fs.starts_with("rw,size=1024k,nr_inodes=99,mode=700"), "{of_fs}");
    let (own, _) = table(lab, &mut bundle, "/dev/shm");
    assert_eq!(own, "rw,nosuid,nodev,noexec,relatime");
}

fn a_read_only_root_and_its_tmpfs(lab: &Lab) {
    let mut bundle = lab.bundle(&["write-each", "x", "/etc/x", "/work/x", "/dev/shm/x", "/new/x"]);
    bundle.mount("/work", "tmpfs", "tmpfs", &[]);
    assert_eq!(
        lab.run(&bundle, "a", &[]).ok(),
        "/etc/x EROFS\n/work/x ok\n/dev/shm/x ok\n/new/x ENOENT\n"
    );
    bundle.config["root"]["readonly"] = json!(false);
    bundle.args(&["write-each", "x", "/etc/x"]);
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "/etc/x ok\n");
    assert_eq!(fs::read_to_string(bundle.rootfs().join("etc/x")).unwrap(), "x");
}

fn masked_and_read_only_paths(lab: &Lab) {
    let mut bundle = lab.bundle(&["cat", "/etc/secret", "/etc/plain"]);
    fs::create_dir(bundle.rootfs().join("work/hidden")).unwrap();
    for (name, text) in [("etc/secret", "secret"), ("etc/plain", "plain"), ("work/hidden/x", "x")] {
        fs::write(bundle.rootfs().join(name), text).unwrap();
    }
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/secret", "/work/hidden", "/no/such"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/etc/plain", "/proc/sys", "/no/such"]);
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "plain");
    bundle.args(&["ls", "/work/hidden"]);
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "");
    bundle.args(&[
        "write-each",
        "x",
        "/etc/plain",
        "/work/hidden/y",
        "/proc/sys/kernel/shmmni",
        "/etc/new",
    ]);
    assert_eq!(
        lab.run(&bundle, "a", &[]).ok(),
        "/etc/plain EROFS\n/work/hidden/y EROFS\n/proc/sys/kernel/shmmni EROFS\n/etc/new ok\n"
    );
}

fn a_bind_is_read_only_to_its_depth(lab: &Lab) {
    let source = lab.path("source");
    let inner = source.join("inner");
    fs::create_dir_all(&inner).unwrap();
    let none = None::<&str>;
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &inner, Some("tmpfs"), flags, none).unwrap();
    for (option, expected) in [("ro", "EROFS ok"), ("rro", "EROFS EROFS"), ("rw", "ok ok")] {
        let mut bundle = lab.bundle(&["write-each", "x", "/work/x", "/work/inner/x"]);
        bundle.mount("/work", "none", source.to_str().unwrap(), &["rbind", option]);
        let text = lab.run(&bundle, "a", &[]).ok();
        let ends: Vec<_> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(ends.join(" "), expected, "{option}");
    }
    nix::mount::umount(&inner).unwrap();
}

fn a_tmpfs_takes_over_what_was_there(lab: &Lab) {
    let mut bundle = lab.bundle(&["cat", "/work/there"]);
    fs::write(bundle.rootfs().join("work/there"), "copied").unwrap();
    bundle.mount("/work", "tmpfs", "tmpfs", &["tmpcopyup"]);
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "copied");
    // What an earlier mount shows there is there too.
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("there"), "from a mount").unwrap();
    let mut bundle = lab.bundle(&["cat", "/work/inner/there"]);
    bundle.mount("/work/inner", "none", source.to_str().unwrap(), &["bind"]);
    bundle.mount("/work", "tmpfs", "tmpfs", &["tmpcopyup"]);
    assert_eq!(lab.run(&bundle, "b", &[]).ok(), "from a mount");
}

fn a_mask_is_over_what_came_last_by_another_name(lab: &Lab) {
    let volume = lab.path("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("secret"), "secret").unwrap();
    let mut bundle = lab.bundle(&["cat", "/work/a/secret"]);
    fs::create_dir(bundle.rootfs().join("work/a")).unwrap();
    std::os::unix::fs::symlink("/work/a", bundle.rootfs().join("work/b")).unwrap();
    bundle.mount("/work/a", "tmpfs", "tmpfs", &[]);
    // Somebody has looked for the first before the link leads over it.
    bundle.mount("/work/a", "none", "none", &["bind", "remount", "nosuid"]);
    bundle.mount("/work/b", "none", volume.to_str().unwrap(), &["bind"]);
    // Twice is once: each is a clone of what was there.
    bundle.config["linux"]["readonlyPaths"] = json!(vec!["/work/a"; 30]);
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "secret");
    bundle.config["linux"]["maskedPaths"] = json!(["/work/a/secret", "/work/a/secret"]);
    assert_eq!(lab.run(&bundle, "b", &[]).ok(), "");
}

fn propagation_is_as_told(lab: &Lab) {
    for (option, part) in [("rshared", "shared:"), ("rprivate", ""), ("runbindable", "unbindable")]
    {
        let mut bundle = lab.bundle(&[]);
        bundle.mount("/work", "tmpfs", "tmpfs", &[option]);
        let (own, _) = table(lab, &mut bundle, "/work");
        let optional = own.split_once(' ').map_or("", |(_, optional)| optional);
        assert!(
            optional.starts_with(part) && (part.is_empty() == optional.is_empty()),
            "{option}: {own}"
        );
    }
    let mut bundle = lab.bundle(&[]);
    bundle.config["linux"]["rootfsPropagation"] = json!("shared");
    let (own, _) = table(lab, &mut bundle, "/");
    assert!(own.contains("shared:"), "{own}");
}

fn a_bind_with_mapped_ids(lab: &Lab) {
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    chown(source.join("file"), Some(10), Some(20)).unwrap();
    let mut bundle = lab.bundle(&["stat", "/work/file"]);
    bundle.mount("/work", "bind", source.to_str().unwrap(), &["bind", "idmap"]);
    let map = |outside: u32| json!([{ "containerID": 0, "hostID": outside, "size": 1000 }]);
    let last = bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
    last["uidMappings"] = map(3000);
    last["gidMappings"] = map(4000);
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "/work/file file 644 3010:4020\n");
}

fn devices_are_made(lab: &Lab) {
    let names =
        ["null", "zero", "full", "random", "urandom", "tty"].map(|name| format!("/dev/{name}"));
    let mut arguments = vec!["stat"];
    arguments.extend(names.iter().map(String::as_str));
    arguments.extend(["/dev/own", "/dev/ptmx", "/dev/fd", "/dev/stdout"]);
    let mut bundle = lab.bundle(&arguments);
    bundle.config["linux"]["devices"] = json!([
        { "path": "/dev/own", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8 },
    ]);
    let text = lab.run(&bundle, "a", &[]).ok();
    let expected = "\
        /dev/null char 1:3 666 0:0\n\
        /dev/zero char 1:5 666 0:0\n\
        /dev/full char 1:7 666 0:0\n\
        /dev/random char 1:8 666 0:0\n\
        /dev/urandom char 1:9 666 0:0\n\
        /dev/tty char 5:0 666 0:0\n\
        /dev/own char 1:3 640 7:8\n\
        /dev/ptmx link pts/ptmx 777 0:0\n\
        /dev/fd link /proc/self/fd 777 0:0\n\
        /dev/stdout link /proc/self/fd/1 777 0:0\n";
    assert_eq!(text, expected);
    assert_eq!(fs::metadata("/dev/null").unwrap().rdev(), nix::sys::stat::makedev(1, 3));
}
