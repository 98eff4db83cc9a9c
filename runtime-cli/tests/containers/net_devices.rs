//! Network devices of the host that become the container's.
//!
//! The host's network is one that a test makes for itself.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::harness::{Bundle, Lab, Output, Test, tests, until};

pub(crate) const TESTS: &[Test] = tests![
    a_device_is_moved_with_what_it_has,
    a_device_is_moved_into_a_namespace_of_others,
    the_kernel_numbers_a_name,
    a_device_is_moved_into_a_user_namespace,
    what_is_refused_leaves_the_device,
];

/// A network namespace, by the process that holds it.
pub(crate) struct Network(Child);

impl Network {
    /// With two devices, `spec0` and `spec1`, up and joined.
    pub(crate) fn new(lab: &Lab) -> Self {
        if Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_err() {
            lab.skip("needs ip");
        }
        let this = Self::empty();
        this.ip("link add spec0 mtu 1400 address 02:00:00:00:00:07 type veth peer name spec1");
        for more in [
            "addr add 192.0.2.7/24 broadcast 192.0.2.255 dev spec0",
            "addr add 192.0.2.8 peer 192.0.2.9 dev spec0",
            "addr add 127.9.0.1/32 scope host dev spec0",
            "-6 addr add 2001:db8::7/64 dev spec0 nodad",
            "-6 addr add 2001:db8::8/64 dev spec0 nodad valid_lft 1000 preferred_lft 1000",
            "link set spec0 up",
            "link set spec1 up",
        ] {
            this.ip(more);
        }
        this
    }

    pub(crate) fn empty() -> Self {
        let holder = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
        let this = Self(holder);
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        until("the namespace", || std::fs::read_link(this.path()).is_ok_and(|found| found != own));
        this
    }

    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    fn ip(&self, arguments: &str) -> String {
        ip(&self.path(), arguments)
    }

    /// A command of the runtime in there.
    pub(crate) fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net={}", self.path())).arg(command.get_program());
        inside.args(command.get_args());
        if let Some(directory) = command.get_current_dir() {
            inside.current_dir(directory);
        }
        inside
    }

    fn run(&self, lab: &Lab, verb: &str, bundle: &Bundle) -> Output {
        lab.begin(self.command(&lab.start_of(verb, bundle, "a", &[]))).end()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What ip(8) says in a namespace.
pub(crate) fn ip(namespace: &str, arguments: &str) -> String {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={namespace}")).args(["ip", "-o"]).args(arguments.split(' '));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn bundle(lab: &Lab, devices: serde_json::Value) -> Bundle {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["netDevices"] = devices;
    bundle
}

fn inside(lab: &Lab) -> String {
    format!("/proc/{}/ns/net", lab.state("a")["pid"])
}

/// A device with all that `Network::new` gave it to keep.
pub(crate) fn is_whole(namespace: &str, name: &str) {
    let link = ip(namespace, &format!("link show {name}"));
    assert!(link.contains(",UP") && link.contains("mtu 1400"), "{link}");
    assert!(link.contains("02:00:00:00:00:07"), "{link}");
    let addresses = ip(namespace, &format!("addr show {name}"));
    for kept in [
        "192.0.2.7/24 brd 192.0.2.255 scope global",
        "192.0.2.8 peer 192.0.2.9/32 scope global",
        "2001:db8::7/64 scope global nodad \\",
    ] {
        assert!(addresses.contains(kept), "{kept}: {addresses}");
    }
}

fn a_device_is_moved_with_what_it_has(lab: &Lab) {
    let network = Network::new(lab);
    is_whole(&network.path(), "spec0");
    let bundle = bundle(lab, json!({"spec0": {"name": "inside0"}, "spec1": {}}));
    network.run(lab, "create", &bundle).ok();
    is_whole(&inside(lab), "inside0");
    let addresses = ip(&inside(lab), "addr show inside0");
    // Neither what is of one host alone nor what ends by itself.
    assert!(!addresses.contains("127.9.0.1") && !addresses.contains("2001:db8::8"), "{addresses}");
    assert!(ip(&inside(lab), "link show spec1").contains(",UP"));
    assert!(!network.ip("link").contains("spec"));
    lab.delete("a");
}

fn a_device_is_moved_into_a_namespace_of_others(lab: &Lab) {
    let (network, pod) = (Network::new(lab), Network::empty());
    // Its number is taken there.
    let link = network.ip("link show spec0");
    let index = link.split(':').next().unwrap();
    pod.ip(&format!("link add other index {index} type veth peer name another"));
    let mut bundle = bundle(lab, json!({"spec0": {}}));
    bundle.namespace("network", Some(&pod.path()));
    network.run(lab, "create", &bundle).ok();
    is_whole(&pod.path(), "spec0");
    pod.ip("link set spec0 down mtu 1300");
    lab.delete("a");
    let left = pod.ip("link show spec0");
    assert!(left.contains("mtu 1300") && !left.contains(",UP"), "{left}");
}

fn the_kernel_numbers_a_name(lab: &Lab) {
    let network = Network::new(lab);
    let bundle = bundle(lab, json!({"spec0": {"name": "eth%d"}, "spec1": {"name": "eth%d"}}));
    network.run(lab, "create", &bundle).ok();
    is_whole(&inside(lab), "eth0");
    assert!(ip(&inside(lab), "link show eth1").contains(",UP"));
    lab.delete("a");
}

fn a_device_is_moved_into_a_user_namespace(lab: &Lab) {
    let network = Network::new(lab);
    let mut bundle = bundle(lab, json!({"spec0": {}}));
    bundle.user_namespace();
    network.run(lab, "create", &bundle).ok();
    is_whole(&inside(lab), "spec0");
    lab.delete("a");
}

fn what_is_refused_leaves_the_device(lab: &Lab) {
    let network = Network::new(lab);
    let lost = "looking for the network device \"spec9\" (config.json: /linux/netDevices/spec9): \
                no such device";
    for (devices, words) in [
        (
            json!({"spec0": {"name": "a/b"}}),
            "invalid network device name \"a/b\" (config.json: /linux/netDevices/spec0/name)",
        ),
        (
            json!({"spec0": {"name": "lo"}}),
            "looking for the name \"lo\" in the network namespace (config.json: /linux/netDevices/spec0): file exists",
        ),
        (json!({"spec0": {}, "spec9": {}}), lost),
        (
            json!({"lo": {"name": "inside0"}}),
            "moving the network device \"lo\" (config.json: /linux/netDevices/lo): invalid argument",
        ),
    ] {
        let said = network.run(lab, "create", &bundle(lab, devices)).fails();
        assert!(said.contains(words), "{said}");
        assert!(!lab.root().join(lab.id("a")).exists());
        is_whole(&network.path(), "spec0");
    }
    let mut bundle = bundle(lab, json!({"spec0": {}}));
    bundle.config["mounts"].as_array_mut().unwrap().retain(|one| one["type"] != "sysfs");
    for path in [None, Some(network.path())] {
        match &path {
            None => bundle.without_namespace("network"),
            Some(own) => bundle.namespace("network", Some(own)),
        }
        let said = network.run(lab, "create", &bundle).fails();
        let words = "unable to move network devices without a NET namespace";
        assert!(said.contains(words), "{said}");
        is_whole(&network.path(), "spec0");
    }
}
