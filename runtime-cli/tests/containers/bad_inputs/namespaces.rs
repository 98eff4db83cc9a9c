//! Rows 24 to 27 and 36: namespaces, what needs one, and what changes a whole host.

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use super::case::{Case, check};
use crate::harness::{Bundle, Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    row_24_namespaces,
    row_25_names,
    row_26_maps,
    row_27_parameters,
    row_36_what_is_rarely_asked_for,
];

fn namespace(value: Value) -> impl Fn(&mut Bundle) {
    move |bundle| bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(value.clone())
}

fn row_24_namespaces(lab: &Lab) {
    let network =
        |path: &'static str| move |bundle: &mut Bundle| bundle.namespace("network", Some(path));
    check(
        lab,
        &[
            Case::change("twice", namespace(json!({"type": "pid"})))
                .fails("malformed spec file: duplicated ns \"pid\" (config.json: /linux/namespaces/*)"),
            Case::change("unknown", namespace(json!({"type": "foo"})))
                .fails("unknown variant `foo`, expected one of *"),
            Case::change("a path that is missing", network("/nope"))
                .fails("opening the namespace \"/nope\" (config.json: /linux/namespaces/*/path): no such file or directory"),
            Case::change("another type", network("/proc/self/ns/uts"))
                .fails("joining a namespace of another type \"/proc/self/ns/uts\" (config.json: /linux/namespaces/*/path): invalid argument"),
            Case::change("a plain file", network("/etc/passwd"))
                .fails("joining what is not a namespace file \"/etc/passwd\" (config.json: /linux/namespaces/*/path): invalid argument"),
            Case::change("a directory", network("/etc"))
                .fails("joining what is not a namespace file \"/etc\" (config.json: /linux/namespaces/*/path): invalid argument"),
            Case::change("a FIFO", |bundle| {
                let path = bundle.path.join("fifo");
                mkfifo(&path, Mode::S_IRUSR).unwrap();
                bundle.namespace("network", path.to_str());
            })
            .fails("joining what is not a namespace file \"BUNDLE/fifo\" (config.json: /linux/namespaces/*/path): invalid argument"),
            Case::change("a relative path", network("proc/self/ns/net"))
                .fails("namespace path \"proc/self/ns/net\" must be absolute (config.json: /linux/namespaces/*"),
        ],
    );
}

fn row_25_names(lab: &Lab) {
    let long = "h".repeat(65);
    check(
        lab,
        &[
            Case::change("a hostname of all", |bundle| bundle.without_namespace("uts"))
                .fails("unable to set hostname without a private UTS namespace (config.json: /hostname)"),
            Case::patch("a long hostname", json!({ "hostname": long }))
                .fails("hostname is longer than 64 bytes (config.json: /hostname)"),
            Case::patch("a long domainname", json!({ "domainname": long }))
                .fails("domainname is longer than 64 bytes (config.json: /domainname)"),
            Case::change("no mount namespace", |bundle| bundle.without_namespace("mount"))
                .fails("unable to restrict sys entries without a private MNT namespace (config.json: /linux/maskedPaths); unable to restrict sys entries without a private MNT namespace (config.json: /linux/readonlyPaths)"),
            Case::change("a joined mount namespace", |bundle| {
                bundle.namespace("mount", Some("/proc/self/ns/mnt"));
            })
            .fails("nothing can be mounted without a mount namespace of the container's own (config.json: /mounts)*"),
        ],
    );
}

pub(super) fn map(inside: u32, outside: u32, size: u32) -> Value {
    json!({"containerID": inside, "hostID": outside, "size": size})
}

fn row_26_maps(lab: &Lab) {
    let maps = |uid: Value| json!({"linux": {"uidMappings": uid, "gidMappings": [map(0, 100_000, 65_536)]}});
    let user = |bundle: &mut Bundle| bundle.namespace("user", None);
    let many: Vec<_> = (0..341).map(|n| map(n, 100_000 + n, 1)).collect();
    let long = (0..200).map(|n| map(1_000_000_000 + n, 2_000_000_000 + n, 1));
    let long: Vec<_> = std::iter::once(map(0, 100_000, 1)).chain(long).collect();
    let with = |name, uid| Case::patch(name, maps(uid)).and(user);
    check(
        lab,
        &[
            Case::change("none", user)
                .fails("no uid mappings found (config.json: /linux/uidMappings); no gid mappings found (config.json: /linux/gidMappings)"),
            Case::patch("maps for nothing", maps(json!([map(0, 100_000, 65_536)])))
                .warns(&["/linux/uidMappings: ignored, since there is no user namespace", "/linux/gidMappings: ignored, since there is no user namespace"]),
            with("an empty one", json!([map(0, 100_000, 0)])).fails("uid mapping has size 0 (config.json: /linux/uidMappings/0); no mapping found for uid 0 (config.json: /linux/uidMappings); cannot setuid to unmapped uid 0 in user namespace (config.json: /process/user/uid)"),
            with("root left out", json!([map(1, 100_000, 10)])).fails("no mapping found for uid 0 (config.json: /linux/uidMappings); cannot setuid to unmapped uid 0 in user namespace (config.json: /process/user/uid)"),
            with("overlap inside", json!([map(0, 100_000, 10), map(9, 200_000, 5)])).fails("uid mapping overlaps an earlier one (config.json: /linux/uidMappings/1)"),
            with("overlap outside", json!([map(0, 100_000, 10), map(50, 100_009, 5)])).fails("uid mapping overlaps an earlier one (config.json: /linux/uidMappings/1)"),
            with("too many", json!(many)).fails("more than 340 uid mappings: the kernel takes no more (config.json: /linux/uidMappings)"),
            with("too many digits", json!(long)).fails("the uid mappings take 4811 bytes: a map must be smaller than a page, 4096 (config.json: /linux/uidMappings) (user_namespaces(7))"),
            with("overflow", json!([map(0, 10, u32::MAX - 5)])).fails("uid mapping goes beyond the last id 4294967294 (config.json: /linux/uidMappings/0)"),
            with("the id that is none", json!([map(0, u32::MAX, 1)])).fails("uid mapping goes beyond the last id 4294967294 (config.json: /linux/uidMappings/0)"),
        ],
    );
}

fn row_27_parameters(lab: &Lab) {
    let sysctl = |key: &str, value: &str| json!({"linux": {"sysctl": {key: value}}});
    check(
        lab,
        &[
            Case::patch("of the host", sysctl("vm.swappiness", "1"))
                .fails("sysctl \"vm.swappiness\" is not in a separate kernel namespace (config.json: /linux/sysctl/vm.swappiness)"),
            Case::patch("a way out", sysctl("net/../vm/swappiness", "1"))
                .fails("sysctl \"net/../vm/swappiness\" is not a parameter's name (config.json: /linux/sysctl/net~1..~1vm~1swappiness)"),
            Case::patch("a way out by slashes", sysctl("net.ipv4/../../vm/swappiness", "1"))
                .fails("sysctl \"net.ipv4/../../vm/swappiness\" is not a parameter's name (config.json: /linux/sysctl/net.ipv4~1..~1..~1vm~1swappiness)"),
            Case::patch("a missing one", sysctl("net.nope", "1"))
                .fails("writing the sysctl \"net.nope\": opening it (config.json: /linux/sysctl/net.nope): no such file or directory"),
            Case::patch("a bad value", sysctl("kernel.shmmax", "x"))
                .fails("writing the sysctl \"kernel.shmmax\": writing: \"x\" (config.json: /linux/sysctl/kernel.shmmax): invalid argument"),
            Case::patch("a number too large", sysctl("net.ipv4.ip_default_ttl", "9999"))
                .fails("writing the sysctl \"net.ipv4.ip_default_ttl\": writing: \"9999\" (config.json: /linux/sysctl/net.ipv4.ip_default_ttl): invalid argument"),
            Case::patch("the hostname", sysctl("kernel.hostname", "x"))
                .fails("sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field (config.json: /linux/sysctl/kernel.hostname)"),
            Case::patch("of the host's network", sysctl("net.ipv4.ip_forward", "1"))
                .and(|bundle| bundle.without_namespace("network"))
                .fails("sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace (config.json: /linux/sysctl/net.ipv4.ip_forward)"),
            // Written as it is into one file: the kernel reads the number (CVE-2022-0811).
            Case::patch("a new line", sysctl("kernel.shmmni", "1\n+kernel.shmmax=2")),
        ],
    );
}

fn row_36_what_is_rarely_asked_for(lab: &Lab) {
    let linux = |field: &str, value: Value| json!({"linux": {field: value}});
    let offset = json!({"boottime": {"secs": 1}});
    check(
        lab,
        &[
            Case::patch("personality", linux("personality", json!({"domain": "FOO"})))
                .fails("unknown variant `FOO`, expected * (config.json: /linux/personality/domain)"),
            Case::patch("flags of it", linux("personality", json!({"domain": "LINUX", "flags": ["x"]})))
                .fails("personality flags are not supported (config.json: /linux/personality/flags)"),
            Case::patch("time", linux("timeOffsets", offset))
                .fails("time offsets need a new time namespace (config.json: /linux/timeOffsets)"),
            Case::patch("another clock", linux("timeOffsets", json!({"realtime": {"secs": 1}})))
                .and(|bundle| bundle.namespace("time", None))
                .fails("unknown clock \"realtime\": only monotonic and boottime can be offset (config.json: /linux/timeOffsets/realtime)"),
            Case::patch("intel RDT", linux("intelRdt", json!({"closID": "x"})))
                .fails("intelRdt is specified in config, but Intel RDT is not enabled (config.json: /linux/intelRdt) (no resctrl file system is mounted)"),
            Case::patch("network devices", linux("netDevices", json!({"a/b": {}})))
                .fails("invalid network device name \"a/b\" (config.json: /linux/netDevices/a~1b)"),
        ],
    );
}
