//! Mounts of the host that a container is given though its config names none.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::harness::{Bundle, Lab, Test, tests};

pub(crate) const TESTS: &[Test] =
    tests![the_place_of_the_notify_socket_is_no_peer, all_below_the_hosts_sys_is_read_only];

fn lines<'a>(table: &'a str, at: &str) -> Vec<&'a str> {
    let below = format!("{at}/");
    let is_there = |place: &str| place == at || place.starts_with(&below);
    table.lines().filter(|line| line.split(' ').nth(4).is_some_and(is_there)).collect()
}

// crun 1.31: what was mounted there by a container came up at the host.
fn the_place_of_the_notify_socket_is_no_peer(lab: &Lab) {
    let _socket = UnixDatagram::bind(lab.path("host.sock")).unwrap();
    // The host's mounts are shared where systemd runs.
    let state = lab.root();
    fs::create_dir(&state).unwrap();
    mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    mount(None::<&str>, &state, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    for propagation in [None, Some("private"), Some("slave"), Some("shared")] {
        let mut bundle = lab.bundle(&["cat", "/proc/self/mountinfo"]);
        if let Some(propagation) = propagation {
            bundle.config["linux"]["rootfsPropagation"] = json!(propagation);
        }
        let mut run = lab.start_of("run", &bundle, "a", &[]);
        run.env("NOTIFY_SOCKET", lab.path("host.sock"));
        let table = lab.begin(run).end().ok();
        let [line] = lines(&table, "/run/notify")[..] else { panic!("{table}") };
        let peers = line.contains(" shared:") || line.contains(" master:");
        assert!(!peers, "{propagation:?}: {line}");
    }
    umount2(&state, MntFlags::MNT_DETACH).unwrap();
}

/// The host's, as a sysfs of its own is refused by the kernel.
fn without_network(lab: &Lab, options: &[&str]) -> Bundle {
    let mut bundle = lab.bundle(&["cat", "/proc/self/mountinfo"]);
    bundle.user_namespace();
    bundle.without_namespace("network");
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["destination"] == "/sys" {
            mount["options"] = json!(options);
        }
    }
    bundle
}

// crun 1.31: what is mounted in the host's /sys could be written.
fn all_below_the_hosts_sys_is_read_only(lab: &Lab) {
    let place = Path::new("/sys/kernel/debug");
    if !place.exists() {
        lab.skip("there is no place for a mount in /sys");
    }
    let source = Some("known-by-this");
    mount(source, place, Some("tmpfs"), MsFlags::empty(), Some("mode=777")).unwrap();
    for options in [&["nosuid", "noexec", "nodev", "ro"][..], &[], &["rw"]] {
        let bundle = without_network(lab, options);
        let table = lab.run(&bundle, "a", &[]).ok();
        let found = lines(&table, "/sys");
        assert!(found.iter().any(|line| line.contains("known-by-this")), "{table}");
        for line in found {
            let writes = line.split(' ').nth(5).is_none_or(|options| !options.starts_with("ro"));
            assert!(!writes, "{options:?}: {line}");
        }
    }
    let mut bundle = without_network(lab, &[]);
    bundle.args(&["write-each", "x", "/sys/kernel/debug/new"]);
    assert_eq!(lab.run(&bundle, "a", &[]).ok(), "/sys/kernel/debug/new EROFS\n");
    umount2(place, MntFlags::MNT_DETACH).unwrap();
}
