//! Devices that an image puts in the place of the kernel's.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use crate::harness::{Bundle, Lab, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    dev_is_a_link_out,
    null_is_no_cover,
    null_is_no_stream,
    a_device_stays_whose_it_is,
    a_console_is_made_inside,
    a_terminal_is_the_kernels,
];

/// A place of the host that must stay as it is.
pub(super) struct Outside {
    pub(super) path: PathBuf,
    names: &'static [&'static str],
}

impl Outside {
    pub(super) fn new(lab: &Lab) -> Self {
        Self::with(lab, &["marker", "null", "ptmx"])
    }

    pub(super) fn with(lab: &Lab, names: &'static [&'static str]) -> Self {
        let path = lab.path("outside");
        fs::create_dir(&path).unwrap();
        for name in names {
            fs::write(path.join(name), "the host's\n").unwrap();
        }
        Self { path, names }
    }

    pub(super) fn check(&self, what: &str) {
        let mut names: Vec<_> =
            fs::read_dir(&self.path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, self.names, "{what}");
        for name in self.names {
            let file = self.path.join(name);
            assert_eq!(fs::read_to_string(&file).unwrap(), "the host's\n", "{what}");
            let metadata = fs::symlink_metadata(file).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{what}");
        }
    }
}

pub(super) fn without_dev_mounts(bundle: &mut Bundle) {
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
}

/// Makes `at` what the name says.
pub(super) fn put(kind: &str, at: &Path, outside: &Outside) {
    let _ = fs::remove_dir_all(at).or_else(|_| fs::remove_file(at));
    let node = |kind, major, minor| {
        mknod(at, kind, Mode::from_bits_truncate(0o666), makedev(major, minor)).unwrap();
    };
    match kind {
        "nothing" => {}
        "a file" => fs::write(at, "the image's\n").unwrap(),
        "a directory" => fs::create_dir(at).unwrap(),
        "an absolute link" => symlink(outside.path.join("null"), at).unwrap(),
        "a link to what is not there" => symlink(outside.path.join("new"), at).unwrap(),
        "a link up" => symlink("../../../../../../../etc/passwd", at).unwrap(),
        "a link inside" => symlink("/work/decoy", at).unwrap(),
        "another device" => node(SFlag::S_IFCHR, 1, 5),
        "a block device of that number" => node(SFlag::S_IFBLK, 1, 3),
        "a FIFO" => node(SFlag::S_IFIFO, 0, 0),
        _ => unreachable!("{kind}"),
    }
}

pub(super) const FAKES: [&str; 9] = [
    "nothing",
    "a file",
    "a directory",
    "an absolute link",
    "a link to what is not there",
    "a link up",
    "a link inside",
    "another device",
    "a block device of that number",
];

// CVE-2026-41579, CVE-2026-47766: ptmx was removed and links were made in a
// directory of the host.
fn dev_is_a_link_out(lab: &Lab) {
    // Without what a device would not be made over.
    let outside = Outside::with(lab, &["marker", "ptmx"]);
    let absolute = outside.path.display().to_string();
    for to in [absolute.clone(), format!("../../../../../../..{absolute}")] {
        for terminal in [false, true] {
            let mut bundle = lab.bundle(&["exit", "0"]);
            without_dev_mounts(&mut bundle);
            fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
            symlink(&to, bundle.rootfs().join("dev")).unwrap();
            bundle.config["process"]["terminal"] = json!(terminal);
            lab.run(&bundle, "a", &[]);
            outside.check(&to);
            lab.delete("a");
        }
    }
}

/// A command whose standard input is a file, and not the null device, which would be
/// opened again inside, and refused.
pub(super) fn reading(file: &Path, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" <\"$0\""]).arg(file);
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

/// /dev comes from the host, as a volume that another container may write to.
fn with_dev(bundle: &mut Bundle, dev: &Path) {
    without_dev_mounts(bundle);
    bundle.mount("/dev", "bind", dev.to_str().unwrap(), &["bind", "rw"]);
}

// CVE-2025-31133, CVE-2025-62161: a masked path was covered by what the image
// calls /dev/null, or not at all.
fn null_is_no_cover(lab: &Lab) {
    let outside = Outside::new(lab);
    fs::write(lab.path("input"), "").unwrap();
    let dev = lab.path("dev");
    fs::create_dir(&dev).unwrap();
    for fake in FAKES {
        put(fake, &dev.join("null"), &outside);
        let mut bundle = lab.bundle(&["cat", "/work/secret"]);
        with_dev(&mut bundle, &dev);
        fs::write(bundle.rootfs().join("work/secret"), "secret\n").unwrap();
        fs::write(bundle.rootfs().join("work/decoy"), "decoy\n").unwrap();
        bundle.config["linux"]["maskedPaths"] = json!(["/work/secret", "/proc/kcore"]);
        let run = lab.start_of("run", &bundle, "a", &[]);
        let output = lab.begin(reading(&lab.path("input"), &run)).end();
        assert_eq!(output.stdout, "", "{fake}");
        outside.check(fake);
        lab.delete("a");
    }
}

// CVE-2026-88265: a stream became a file of the host, and that file the user's.
fn null_is_no_stream(lab: &Lab) {
    let outside = Outside::new(lab);
    let dev = lab.path("dev");
    fs::create_dir(&dev).unwrap();
    chown(&dev, Some(1000), Some(1000)).unwrap();
    for fake in FAKES {
        put(fake, &dev.join("null"), &outside);
        for verb in ["run", "exec"] {
            let mut bundle = lab.bundle(&["node", "/proc/self/fd/0"]);
            with_dev(&mut bundle, &dev);
            fs::write(bundle.rootfs().join("work/decoy"), "decoy\n").unwrap();
            let user = json!({"uid": 1000, "gid": 1000});
            // In the background, where the caller's streams are its own.
            let command = if verb == "run" {
                bundle.config["process"]["user"] = user;
                lab.start_of("run", &bundle, "a", &["--detach"])
            } else {
                bundle.args(&["sleep"]);
                let create = lab.start_of("create", &bundle, "a", &[]);
                lab.begin(reading(&outside.path.join("marker"), &create)).end().ok();
                let mut exec = lab.command(&["exec", "--detach", "--user", "1000:1000"]);
                exec.arg(lab.id("a")).args(["/bin/probe", "node", "/proc/self/fd/0"]);
                exec
            };
            let said = lab.path("said");
            let mut shell = Command::new("sh");
            shell.args(["-c", "exec \"$@\" >\"$SAID\"", "sh"]).env("SAID", &said);
            shell.arg(command.get_program()).args(command.get_args());
            if lab.begin(shell).end().code == 0 {
                let node = || fs::read_to_string(&said).unwrap();
                until("the program's word", || node().ends_with('\n'));
                assert_eq!(node(), "char 1:3\n", "{fake}, {verb}");
            }
            outside.check(fake);
            let decoy = fs::metadata(bundle.rootfs().join("work/decoy")).unwrap();
            assert_eq!(decoy.uid(), 0, "{fake}, {verb}");
            lab.delete("a");
        }
    }
}

/// The host's null device became a container's, and with it the whole host's.
fn a_device_stays_whose_it_is(lab: &Lab) {
    // Temporary folders may be mounted without devices. A tmpfs is open to all and
    // sticky if not told otherwise, and there a ">" to another's file is refused.
    let place = lab.path("streams");
    fs::create_dir(&place).unwrap();
    mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some("mode=700")).unwrap();
    let streams = ["null", "zero", "file"].map(|name| place.join(name));
    for (path, minor) in streams.iter().zip([3, 5]) {
        mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, minor)).unwrap();
    }
    fs::write(&streams[2], "").unwrap();
    for verb in ["run", "exec"] {
        for path in &streams {
            chown(path, Some(5), None).unwrap();
        }
        let mut bundle = lab.bundle(&["exit", "0"]);
        let user = json!({"uid": 1000, "gid": 1000});
        let command = if verb == "run" {
            bundle.config["process"]["user"] = user;
            lab.start_of("run", &bundle, "a", &["--detach"])
        } else {
            bundle.args(&["sleep"]);
            lab.run(&bundle, "a", &["--detach"]).ok();
            let mut exec = lab.command(&["exec", "--detach", "--user", "1000:1000"]);
            exec.arg(lab.id("a")).args(["/bin/probe", "exit", "0"]);
            exec
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" <\"$NULL\" >\"$FILE\" 2>\"$ZERO\"", "sh"]);
        shell.env("NULL", &streams[0]).env("ZERO", &streams[1]).env("FILE", &streams[2]);
        shell.arg(command.get_program()).args(command.get_args());
        lab.begin(shell).end().ok();
        let owners = streams.each_ref().map(|path| fs::metadata(path).unwrap().uid());
        assert_eq!(owners, [5, 5, 1000], "{verb}");
        lab.delete("a");
    }
    umount(&place).unwrap();
}

// CVE-2026-88264: the console was made where a link of the image leads.
fn a_console_is_made_inside(lab: &Lab) {
    let outside = Outside::new(lab);
    for fake in FAKES {
        let mut bundle = lab.bundle(&["node", "/dev/console"]);
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/dev");
        put(fake, &bundle.rootfs().join("dev/console"), &outside);
        bundle.config["process"]["terminal"] = json!(true);
        let output = lab.run(&bundle, "a", &[]);
        let fine = output.code != 0 || output.stdout.starts_with("char 136:");
        assert!(fine, "{fake}: {}", output.stdout);
        outside.check(fake);
        lab.delete("a");
    }
}

// CVE-2025-52565: the terminal that was bound on the console was what the image
// calls so.
fn a_terminal_is_the_kernels(lab: &Lab) {
    let outside = Outside::new(lab);
    let dev = lab.path("dev");
    for (name, mounted) in [("pts", false), ("ptmx", false), ("ptmx", true), ("console", true)] {
        for fake in FAKES {
            let _ = fs::remove_dir_all(&dev);
            fs::create_dir_all(dev.join("pts")).unwrap();
            put(fake, &dev.join(name), &outside);
            let mut bundle = lab.bundle(&["node", "/dev/console"]);
            with_dev(&mut bundle, &dev);
            if mounted {
                bundle.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666"]);
            }
            bundle.config["process"]["terminal"] = json!(true);
            let output = lab.run(&bundle, "a", &[]);
            let what = format!("{name} is {fake}, devpts is mounted: {mounted}");
            let fine = output.code != 0 || output.stdout.starts_with("char 136:");
            assert!(fine, "{what}: {}", output.stdout);
            outside.check(&what);
            lab.delete("a");
        }
    }
    // The kernel goes from a node of that number to what is named "pts" beside it.
    let _ = fs::remove_dir_all(&dev);
    fs::create_dir_all(dev.join("pts/pts")).unwrap();
    let everybody = Mode::from_bits_truncate(0o666);
    mknod(&dev.join("pts/ptmx"), SFlag::S_IFCHR, everybody, makedev(5, 2)).unwrap();
    let mut bundle = lab.bundle(&["exit", "0"]);
    with_dev(&mut bundle, &dev);
    bundle.mount("/dev/pts/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666"]);
    bundle.config["process"]["terminal"] = json!(true);
    let said = lab.run(&bundle, "a", &[]).fails();
    assert!(said.contains("terminal"), "{said}");
    lab.delete("a");
    // A devpts by a link, and beside that link what would be the terminal's name.
    for fake in FAKES {
        let _ = fs::remove_dir_all(&dev);
        fs::create_dir_all(dev.join("pts")).unwrap();
        symlink("/work/devpts/ptmx", dev.join("pts/ptmx")).unwrap();
        put(fake, &dev.join("pts/0"), &outside);
        let mut bundle = lab.bundle(&["node", "/dev/console"]);
        with_dev(&mut bundle, &dev);
        let options = ["newinstance", "ptmxmode=0666"];
        bundle.mount("/work/devpts", "devpts", "devpts", &options);
        bundle.config["process"]["terminal"] = json!(true);
        let output = lab.run(&bundle, "a", &[]);
        assert!(
            output.stdout.starts_with("char 136:"),
            "{fake}: {} {}",
            output.stdout,
            output.stderr
        );
        outside.check(fake);
        lab.delete("a");
    }
}
