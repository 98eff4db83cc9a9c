//! The root and what is mounted in it, as the container's own mount table tells.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::harness::{Bundle, Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    options_are_in_the_table,
    a_read_only_root_and_its_tmpfs,
    a_covered_mount_is_the_one_that_is_read_only,
    masked_and_read_only_paths,
    a_bind_is_read_only_to_its_depth,
    a_tmpfs_takes_over_what_was_there,
    a_mask_is_over_what_came_last_by_another_name,
    propagation_is_as_told,
    kinds_of_propagation_keep_their_order,
    what_is_mounted_below_a_bind_stays_in_the_container,
    a_source_in_the_root_has_what_was_mounted_there,
    options_of_a_bind_are_all_that_it_has,
    a_bind_with_mapped_ids,
    a_source_in_the_root_with_mapped_ids,
    ids_that_the_kernel_refuses_are_those_of_the_mount,
    devices_are_made,
    a_device_where_something_is_mounted_is_told_of,
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

// What a later entry has mounted over it, on its place or on a directory above it, has the
// options of its own entry.
fn a_covered_mount_is_the_one_that_is_read_only(lab: &Lab) {
    let mut bundle = lab.bundle(&["write-each", "x", "/work/x", "/tmp/x"]);
    bundle.mount("/work", "tmpfs", "covered", &["ro"]);
    bundle.mount("/work", "tmpfs", "above", &["mode=755"]);
    bundle.mount("/tmp/below", "tmpfs", "hidden", &["ro"]);
    bundle.mount("/tmp", "tmpfs", "hiding", &["mode=755"]);
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "/work/x ok\n/tmp/x ok\n");
    bundle.args(&["cat", "/proc/self/mountinfo"]);
    let text = lab.run(&bundle, "b", &[]).ok();
    for (source, first) in [("covered", "ro"), ("above", "rw"), ("hidden", "ro"), ("hiding", "rw")]
    {
        let named = format!(" - tmpfs {source} ");
        let line = text.lines().find(|line| line.contains(&named)).unwrap();
        let options = line.split(' ').nth(5).unwrap();
        assert_eq!(options.split(',').next(), Some(first), "{line}");
    }
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
    let flags = MsFlags::empty();
    mount(Some("tmpfs"), &inner, Some("tmpfs"), flags, none).unwrap();
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

// As with mount(8): a slave that is made shared is both, and what is said of the whole
// tree is not taken back by what is said of its top alone.
fn kinds_of_propagation_keep_their_order(lab: &Lab) {
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    let mounted = |at: &std::path::Path, flags: MsFlags| {
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        mount(None::<&str>, at, None::<&str>, flags, None::<&str>).unwrap();
    };
    mounted(&source, MsFlags::MS_SHARED);
    fs::create_dir(source.join("below")).unwrap();
    mounted(&source.join("below"), MsFlags::MS_SHARED);
    let cases: [(&[&str], &[&str], &[&str]); 4] = [
        (&["rslave", "shared"], &["shared", "master"], &["master"]),
        (&["private", "rshared"], &["shared"], &["shared", "master"]),
        (&["rshared", "private"], &[], &["shared", "master"]),
        (&["shared", "rslave"], &["master"], &["master"]),
    ];
    for (kinds, top, below) in cases {
        let mut bundle = lab.bundle(&[]);
        let options: Vec<&str> = ["rbind"].iter().chain(kinds).copied().collect();
        bundle.mount("/work", "bind", source.to_str().unwrap(), &options);
        for (place, wanted) in [("/work", top), ("/work/below", below)] {
            let (own, _) = table(lab, &mut bundle, place);
            let fields = own.split(' ').skip(1);
            let found: Vec<_> = fields.map(|field| field.split(':').next().unwrap()).collect();
            assert_eq!(found, wanted, "{kinds:?}, {place}: {own}");
        }
    }
    umount2(&source, MntFlags::MNT_DETACH).unwrap();
}

// The mounts of a machine are shared (systemd makes them so). A bind that was the host's
// peer had the host see what a later entry mounted below it: over /sys/fs/cgroup, say.
fn what_is_mounted_below_a_bind_stays_in_the_container(lab: &Lab) {
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    mount(Some("tmpfs"), &source, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    mount(None::<&str>, &source, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    fs::create_dir(source.join("inner")).unwrap();
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.mount("/work", "bind", source.to_str().unwrap(), &["rbind"]);
    bundle.mount("/work/inner", "tmpfs", "tmpfs", &[]);
    for user_namespace in [false, true] {
        if user_namespace {
            bundle.user_namespace();
        }
        lab.run(&bundle, "a", &["--detach"]).ok();
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        lab.delete("a");
        let inner = host.lines().find(|line| line.contains(source.join("inner").to_str().unwrap()));
        assert_eq!(inner, None, "user namespace: {user_namespace}");
    }
    umount2(&source, MntFlags::MNT_DETACH).unwrap();
}

// COMPAT(runc): also where its path, and that of the mount point, are the host's.
fn a_source_in_the_root_has_what_was_mounted_there(lab: &Lab) {
    let source = lab.path("source");
    fs::create_dir_all(source.join("deep")).unwrap();
    fs::write(source.join("deep/file"), "it is there").unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o700)).unwrap();
    let mut bundle = lab.bundle(&["cat", "/tmp/deep/file"]);
    let root = bundle.rootfs();
    let in_root = |path: &str| root.join(path).to_str().unwrap().to_owned();
    bundle.mount("/work", "bind", source.to_str().unwrap(), &["bind"]);
    bundle.mount(&in_root("tmp"), "bind", &in_root("work"), &["rbind"]);
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "it is there");
    // A link in the root leads to what is in the root.
    std::os::unix::fs::symlink("/etc", root.join("bin/link")).unwrap();
    fs::write(root.join("etc/file"), "of the root").unwrap();
    let mut linked = lab.bundle(&["cat", "/work/file"]);
    linked.config["root"]["path"] = json!(root);
    linked.mount("/work", "bind", &in_root("bin/link"), &["bind"]);
    assert_eq!(lab.run(&linked, "a", &[]).ok(), "of the root");
    bundle.user_namespace();
    // Where even its root may not go.
    fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "it is there");
}

// COMPAT(runc): any option takes back what the host had restricted, but for a user
// namespace, where it is locked.
fn options_of_a_bind_are_all_that_it_has(lab: &Lab) {
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    mount(Some("tmpfs"), &source, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let restrict = |flags| {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags;
        mount(None::<&str>, &source, None::<&str>, flags, None::<&str>).unwrap();
    };
    let bundle = |options: &[&str]| {
        let mut bundle = lab.bundle(&[]);
        bundle.mount("/work", "bind", source.to_str().unwrap(), options);
        bundle
    };
    let seen = |options: &[&str], user_namespace: bool| {
        let mut bundle = bundle(options);
        if user_namespace {
            bundle.user_namespace();
        }
        table(lab, &mut bundle, "/work").0.split(' ').next().unwrap().to_owned()
    };
    let (read_only, no_exec) = (MsFlags::MS_RDONLY, MsFlags::MS_NOEXEC);
    restrict(read_only | no_exec | MsFlags::MS_NOATIME);
    for (options, free, locked) in [
        (&["bind"][..], "ro,noexec,noatime", "ro,noexec,noatime"),
        (&["bind", "rprivate"], "ro,noexec,noatime", "ro,noexec,noatime"),
        (&["bind", "nodev"], "rw,nodev,noatime", "ro,nodev,noexec,noatime"),
        (&["bind", "ro", "atime"], "ro,noatime", "ro,noexec,noatime"),
    ] {
        assert_eq!(seen(options, false), free, "{options:?}");
        assert_eq!(seen(options, true), locked, "{options:?}, in a user namespace");
    }
    for (options, free) in [
        (["bind", "rw"], "rw,noatime"),
        (["bind", "exec"], "rw,noatime"),
        (["bind", "relatime"], "rw,relatime"),
        (["bind", "strictatime"], "rw"),
    ] {
        assert_eq!(seen(&options, false), free, "{options:?}");
        let mut bundle = bundle(&options);
        bundle.user_namespace();
        let said = lab.run(&bundle, "a", &[]).fails();
        assert!(said.contains("error mounting: binding"), "{said}");
        assert!(said.ends_with("operation not permitted"), "{said}");
    }
    umount2(&source, MntFlags::MNT_DETACH).unwrap();
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

fn ids_that_the_kernel_refuses_are_those_of_the_mount(lab: &Lab) {
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    let mut bundle = lab.bundle(&[]);
    bundle.mount("/work", "bind", source.to_str().unwrap(), &["bind", "idmap"]);
    // As many lines as the kernel takes, and more bytes.
    let line =
        |at: u32| json!({ "containerID": at, "hostID": 4_000_000_000_u32 + 2 * at, "size": 1 });
    let index = bundle.config["mounts"].as_array().unwrap().len() - 1;
    let last = bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
    last["uidMappings"] = (0..340).map(line).collect();
    last["gidMappings"] = json!([line(0)]);
    let output = lab.run(&bundle, "a", &[]);
    let end = format!(
        "a map must be smaller than a page, 4096 (config.json: /mounts/{index}) (user_namespaces(7))"
    );
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains(&end), "{output:?}");
    assert!(output.stderr.len() < 2000, "{output:?}");
}

// Only the stage sees what it has mounted there, and only the launcher may map it.
fn a_source_in_the_root_with_mapped_ids(lab: &Lab) {
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    let map = |outside: u32| json!([{ "containerID": 0, "hostID": outside, "size": 1000 }]);
    for user_namespace in [false, true] {
        let mut bundle = lab.bundle(&["stat", "/tmp/file", "/etc/file"]);
        if user_namespace {
            bundle.user_namespace();
        }
        let first = if user_namespace { 100_000 } else { 0 };
        chown(source.join("file"), Some(10), Some(20)).unwrap();
        fs::set_permissions(bundle.rootfs(), fs::Permissions::from_mode(0o755)).unwrap();
        let inside = bundle.rootfs().join("work").to_str().unwrap().to_owned();
        bundle.mount("/work", "bind", source.to_str().unwrap(), &["bind"]);
        for (place, shift) in [("/tmp", 3), ("/etc", 5)] {
            bundle.mount(place, "bind", &inside, &["rbind", "idmap"]);
            let last = bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
            last["uidMappings"] = map(first + shift);
            last["gidMappings"] = map(first + shift);
        }
        let text = "/tmp/file file 644 13:23\n/etc/file file 644 15:25\n";
        assert_eq!(lab.run(&bundle, "a", &[]).ok(), text, "user namespace: {user_namespace}");
    }
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

// A file that is there and is not the device is an error; what the config itself has
// mounted there is its own wish, but nobody shall believe that the device is there.
fn a_device_where_something_is_mounted_is_told_of(lab: &Lab) {
    let mut bundle = lab.bundle(&["stat", "/dev/own"]);
    bundle.mount("/dev/own", "bind", "/dev/zero", &["bind"]);
    bundle.config["linux"]["devices"] = json!([
        { "path": "/dev/own", "type": "c", "major": 1, "minor": 3 },
    ]);
    let output = lab.run(&bundle, "a", &[]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.stdout, "/dev/own char 1:5 666 0:0\n");
    let warning = r#"/linux/devices/0: ignored, since \"/dev/own\" is there already"#;
    assert!(output.stderr.contains(warning), "{output:?}");
}
