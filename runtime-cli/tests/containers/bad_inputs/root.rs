//! Rows 20 to 23, 28 and 29: the root, what is mounted in it, and its devices.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::case::{Case, check};
use super::namespaces::map;
use crate::harness::{Bundle, Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    row_20_root,
    row_21_mounts,
    row_22_links_out_of_the_root,
    row_23_options_of_mounts,
    row_28_covered_paths,
    row_29_devices,
];

fn row_20_root(lab: &Lab) {
    let path = |path| json!({"root": {"path": path}});
    let link = |to: &'static str| {
        move |bundle: &mut Bundle| symlink(to, bundle.path.join("link")).unwrap()
    };
    check(
        lab,
        &[
            Case::patch("no root", json!({"root": null}))
                .fails("the container has no root (config.json: /root)"),
            Case::patch("no path", json!({"root": {"path": null}}))
                .fails("exec: \"/bin/probe\": opening the program (config.json: /process/args/0): no such file or directory"),
            Case::patch("an empty path", path(""))
                .fails("exec: \"/bin/probe\": opening the program (config.json: /process/args/0): no such file or directory"),
            Case::patch("missing", path("nope"))
                .fails("invalid rootfs: stat \"BUNDLE/nope\": no such file or directory"),
            Case::patch("a file", path("config.json"))
                .fails("invalid rootfs \"BUNDLE/config.json\": not a directory"),
            Case::patch("a link", path("link")).and(link("rootfs")),
            Case::patch("a dangling link", path("link")).and(link("nope"))
                .fails("invalid rootfs: stat \"BUNDLE/link\": no such file or directory"),
            Case::patch("a link to itself", path("link")).and(link("link"))
                .fails("invalid rootfs: stat \"BUNDLE/link\": too many levels of symbolic links"),
        ],
    );
}

fn row_21_mounts(lab: &Lab) {
    let mount = |at: &str, kind: &str, source: &str, options: &[&str]| {
        let (at, kind, source) = (at.to_owned(), kind.to_owned(), source.to_owned());
        let options: Vec<String> = options.iter().map(|one| (*one).to_owned()).collect();
        move |bundle: &mut Bundle| {
            let options: Vec<_> = options.iter().map(String::as_str).collect();
            bundle.mount(&at, &kind, &source, &options);
        }
    };
    let long = format!("/{}", "long/".repeat(840));
    check(
        lab,
        &[
            Case::change("a relative destination", mount("tmp", "tmpfs", "tmpfs", &[]))
                .warns(&["/mounts/7: the mount point \"tmp\" is not absolute, using \"/tmp\""]),
            Case::change("the root as destination", mount("/", "tmpfs", "tmpfs", &[]))
                .fails("the mount point \"/\" is the root itself (config.json: /mounts/7/destination)"),
            Case::change("the root by other words", mount("/tmp/..", "tmpfs", "tmpfs", &[]))
                .fails("the mount point \"/tmp/..\" is the root itself (config.json: /mounts/7/destination)"),
            Case::change("an unknown file system", mount("/tmp", "foofs", "x", &[]))
                .fails("mounting foofs on \"/tmp\": opening the file system type (config.json: /mounts/7): no such device"),
            Case::change("an unknown option", mount("/tmp", "tmpfs", "x", &["foo"]))
                .fails("mounting tmpfs on \"/tmp\": setting an option: \"foo\" (config.json: /mounts/7): invalid argument"),
            Case::change("a bad value", mount("/tmp", "tmpfs", "x", &["size=x"]))
                .fails("mounting tmpfs on \"/tmp\": setting an option: \"size\" (config.json: /mounts/7): invalid argument"),
            Case::change("a missing source", mount("/tmp", "bind", "/proc/nope", &["bind"]))
                .fails("binding \"/proc/nope\" on \"/tmp\": opening it (config.json: /mounts/7): no such file or directory"),
            Case::change("below a file", mount("/bin/probe/x", "tmpfs", "x", &[]))
                .fails("mounting tmpfs on \"/bin/probe/x\": finding the place in the root (config.json: /mounts/7): not a directory"),
            Case::change("a link to itself", mount("/work/link/x", "tmpfs", "x", &[]))
                .and(|bundle| symlink("link", bundle.rootfs().join("work/link")).unwrap())
                .fails("mounting tmpfs on \"/work/link/x\": finding the place in the root (config.json: /mounts/7): too many levels of symbolic links"),
            Case::change("a destination of 4200 letters", mount(&long, "tmpfs", "x", &[]))
                .fails("a path is longer than 4095 bytes (config.json: /mounts/7/destination)"),
            Case::change("a name of 300 letters", mount(&"x".repeat(300), "tmpfs", "x", &[]))
                .fails("mounting tmpfs on \"/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\": finding the place in the root (config.json: /mounts/7): file name too long"),
            Case::change("no type", mount("/tmp", "", "x", &[]))
                .fails("the mount on \"/tmp\" has no type (config.json: /mounts/7)"),
        ],
    );
}

// CVE-2019-18837: the place is found inside the root, whatever the image says.
fn row_22_links_out_of_the_root(lab: &Lab) {
    let outside = lab.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("marker"), "here").unwrap();
    let links = [
        ("absolute", outside.to_str().unwrap().to_owned()),
        ("by dots", format!("../../../../../../../..{}", outside.display())),
        ("to the root above", "/..".to_owned()),
    ];
    for (name, to) in links {
        let mut bundle = lab.bundle(&["cat", "/work/link/file", "/../../../etc/hosts"]);
        bundle.config["root"]["readonly"] = json!(false);
        symlink(&to, bundle.rootfs().join("work/link")).unwrap();
        fs::write(bundle.path.join("file"), "mounted").unwrap();
        fs::write(bundle.rootfs().join("etc/hosts"), " inside").unwrap();
        bundle.mount(
            "/work/link/file",
            "bind",
            bundle.path.join("file").to_str().unwrap(),
            &["bind"],
        );
        assert_eq!(lab.run(&bundle, "a", &[]).ok(), "mounted inside", "{name}");
        let found: Vec<_> =
            fs::read_dir(&outside).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(found, ["marker"], "{name}");
    }
}

fn row_23_options_of_mounts(lab: &Lab) {
    let many = |bundle: &mut Bundle| {
        for number in 0..2000 {
            bundle.mount(&format!("/tmp/{number}"), "tmpfs", "tmpfs", &["size=4k"]);
        }
    };
    let half = |field: &'static str| {
        move |bundle: &mut Bundle| {
            bundle.mount("/tmp", "bind", "/etc", &["bind"]);
            let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
            let mount = bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
            mount[field] = map;
        }
    };
    let mapped = |uid: Value| {
        move |bundle: &mut Bundle| {
            bundle.mount("/tmp", "bind", "/etc", &["bind"]);
            let mount = bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
            mount["uidMappings"] = uid.clone();
            mount["gidMappings"] = json!([map(0, 1000, 1)]);
        }
    };
    check(
        lab,
        &[
            Case::change("maps that overlap", mapped(json!([map(0, 1000, 9), map(20, 1008, 1)])))
                .fails("uid mapping overlaps an earlier one (config.json: /mounts/7/uidMappings/1)"),
            Case::change("an empty map", mapped(json!([map(0, 1000, 0)])))
                .fails("uid mapping has size 0 (config.json: /mounts/7/uidMappings/0)"),
            Case::change("the id that is none", mapped(json!([map(0, u32::MAX, 1)])))
                .fails("uid mapping goes beyond the last id 4294967294 (config.json: /mounts/7/uidMappings/0)"),
            Case::change("more lines than the kernel takes", mapped((0..341).map(|line| map(2 * line, 2 * line, 1)).collect()))
                .fails("more than 340 uid mappings: the kernel takes no more (config.json: /mounts/7/uidMappings)"),
            Case::change("a bind with a size", |bundle| {
                bundle.mount("/tmp", "bind", "/etc", &["bind", "size=4k"]);
            })
            .fails("bind mounts cannot have any filesystem-specific options applied (config.json: /mounts/7/options) (such as \"size\")"),
            Case::change("a bind of another type with a size", |bundle| {
                bundle.mount("/tmp", "tmpfs", "/etc", &["rbind", "size=4k"]);
            })
            .fails("bind mounts cannot have any filesystem-specific options applied (config.json: /mounts/7/options) (such as \"size\")"),
            Case::change("maps for users alone", half("uidMappings"))
                .fails("a mount with uidMappings needs gidMappings too (config.json: /mounts/7)"),
            Case::change("maps for groups alone", half("gidMappings"))
                .fails("a mount with gidMappings needs uidMappings too (config.json: /mounts/7)"),
            Case::change("maps for what is made", |bundle| {
                bundle.mount("/tmp", "tmpfs", "x", &["idmap"]);
            })
            .fails("an id-mapped mount needs mappings or a container with a user namespace (config.json: /mounts/7/options)"),
            Case::change("2000 of them", many),
        ],
    );
}

fn row_28_covered_paths(lab: &Lab) {
    let linux = |field: &str, value: Value| json!({"linux": {field: value}});
    check(
        lab,
        &[
            Case::patch("propagation", linux("rootfsPropagation", json!("foo")))
                .fails("the root can't have the propagation \"foo\" (config.json: /linux/rootfsPropagation)"),
            Case::patch("the root masked", linux("maskedPaths", json!(["/"])))
                .fails("\"/\" is the root itself (config.json: /linux/maskedPaths/0)"),
            Case::patch("the root by dots", linux("maskedPaths", json!(["/proc/.."])))
                .fails("\"/proc/..\" is the root itself (config.json: /linux/maskedPaths/0)"),
            Case::patch("a relative one", linux("maskedPaths", json!(["proc/kcore"])))
                .fails("\"proc/kcore\" is not an absolute path (config.json: /linux/maskedPaths/0)"),
            Case::patch("an empty one", linux("maskedPaths", json!([""])))
                .fails("\"\" is not an absolute path (config.json: /linux/maskedPaths/0)"),
            Case::patch("the root read-only", linux("readonlyPaths", json!(["/"])))
                .fails("\"/\" is the root itself (config.json: /linux/readonlyPaths/0)"),
            Case::patch("relative read-only", linux("readonlyPaths", json!(["proc/sys"])))
                .fails("\"proc/sys\" is not an absolute path (config.json: /linux/readonlyPaths/0)"),
        ],
    );
}

fn row_29_devices(lab: &Lab) {
    let device = |value: Value| json!({"linux": {"devices": [value]}});
    let null_at = |path: &str| json!({"path": path, "type": "c", "major": 1, "minor": 3});
    check(
        lab,
        &[
            Case::patch("type", device(json!({"path": "/dev/x", "type": "z", "major": 1, "minor": 3})))
                .fails("unknown variant `z`, expected one of * (config.json: /linux/devices/0/type)"),
            Case::patch("major", device(json!({"path": "/dev/x", "type": "c", "major": -1, "minor": 3})))
                .fails("the device \"/dev/x\" can't have the major number -1 (config.json: /linux/devices/0/major)"),
            Case::patch("minor", device(json!({"path": "/dev/x", "type": "b", "major": 1, "minor": 1 << 20})))
                .fails("the device \"/dev/x\" can't have the minor number 1048576 (config.json: /linux/devices/0/minor)"),
            Case::patch("all devices", device(json!({"path": "/dev/x", "type": "a", "major": 1, "minor": 3})))
                .fails("the device \"/dev/x\" can't be of type \"a\" (config.json: /linux/devices/0/type)"),
            Case::patch("relative", device(null_at("dev/x")))
                .fails("the device's path \"dev/x\" is not absolute (config.json: /linux/devices/0/path)"),
            Case::patch("the root", device(null_at("/dev/..")))
                .fails("the device \"/dev/..\" would be the root (config.json: /linux/devices/0/path)"),
            Case::patch("outside of /dev", device(null_at("/work/null"))),
            Case::patch("owner", device(json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": u32::MAX})))
                .fails("the device \"/dev/x\" can't belong to the uid 4294967295 (config.json: /linux/devices/0/uid)"),
        ],
    );
    let mut bundle = lab.bundle(&["ls", "/work"]);
    bundle.config["linux"]["devices"] = json!([null_at("/dev/../../../../../work/null")]);
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "null\n");
}
