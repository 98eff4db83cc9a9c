//! The class of service of a container, in a file system that plays resctrl.

use std::fs;
use std::process::Command;

use orlop_spec_tests::resctrl::Resctrl;
use serde_json::{Value, json};

use crate::harness::{Bundle, Lab, Output, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_container_has_a_class_of_its_own,
    a_class_with_a_name_stays,
    a_class_that_is_there_is_joined,
    what_a_class_gets_is_changed,
    what_is_refused_leaves_nothing,
    the_root_class_may_be_meant,
    what_was_used_is_told,
];

/// The default bundle, asleep, with this class.
fn bundle(lab: &Lab, class: &Value) -> Bundle {
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["linux"]["intelRdt"] = class.clone();
    bundle
}

fn played(lab: &Lab) -> Resctrl {
    if !Resctrl::can_be() {
        lab.skip("needs FUSE");
    }
    Resctrl::new(lab.folder()).unwrap()
}

/// The same command where the mount table says that this is resctrl.
fn seen_by(resctrl: &Resctrl, command: &Command) -> Command {
    let [program, arguments @ ..] = resctrl.before();
    let mut seeing = Command::new(program);
    seeing.args(arguments).arg(command.get_program()).args(command.get_args());
    seeing
}

fn create(lab: &Lab, resctrl: &Resctrl, class: &Value) -> Output {
    let create = lab.start_of("create", &bundle(lab, class), "a", &[]);
    lab.begin(seen_by(resctrl, &create)).end()
}

/// The container's init as a number.
fn init(lab: &Lab) -> u32 {
    u32::try_from(lab.state("a")["pid"].as_i64().unwrap()).unwrap()
}

fn a_container_has_a_class_of_its_own(lab: &Lab) {
    let resctrl = played(lab);
    let class = json!({
        "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:1=20", "schemata": ["L3:1=3"],
        "enableMonitoring": true,
    });
    create(lab, &resctrl, &class).ok();
    let name = lab.id("a");
    let monitoring = format!("{name}/mon_groups/{name}");
    assert_eq!(resctrl.groups(), ["", &name, &monitoring]);
    let group = resctrl.group(&name).unwrap();
    assert_eq!(group.schemata(), "    L3:0=f;1=3\n    MB:0=100;1=20\n");
    assert_eq!(group.tasks, [init(lab)]);
    assert_eq!(resctrl.group(&monitoring).unwrap().tasks, [init(lab)]);
    let state = fs::read(lab.root().join(&name).join("state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["intel_rdt"]["path"], json!(resctrl.path().join(&name)));
    lab.on("a", &["start"], &[]).ok();
    // Whatever the mount table says by now.
    lab.exec("a", &[], &["say", "in"]).ok();
    for group in [&name, &monitoring] {
        assert_eq!(resctrl.group(group).unwrap().tasks.len(), 2, "{group}");
    }
    lab.delete("a");
    assert_eq!(resctrl.groups(), [""]);
}

fn a_class_with_a_name_stays(lab: &Lab) {
    let resctrl = played(lab);
    let mut class = json!({"closID": "gold", "schemata": ["L3:0=f"], "enableMonitoring": true});
    create(lab, &resctrl, &class).ok();
    let monitoring = format!("gold/mon_groups/{}", lab.id("a"));
    assert_eq!(resctrl.groups(), ["", "gold", &monitoring]);
    lab.delete("a");
    assert_eq!(resctrl.groups(), ["", "gold"]);
    // One that has the name must get the same, whoever made it.
    class = json!({"closID": "gold", "l3CacheSchema": "L3:0=000F;1=fffff"});
    create(lab, &resctrl, &class).ok();
    assert_eq!(resctrl.group("gold").unwrap().tasks.last(), Some(&init(lab)));
    lab.delete("a");
    class["l3CacheSchema"] = json!("L3:0=ff");
    let error = create(lab, &resctrl, &class).fails();
    assert!(error.contains("is there and does not get \"L3:0=ff\""), "{error}");
    assert!(error.contains("(config.json: /linux/intelRdt/l3CacheSchema)"), "{error}");
    assert_eq!(resctrl.groups(), ["", "gold"]);
}

fn a_class_that_is_there_is_joined(lab: &Lab) {
    let resctrl = played(lab);
    let class = json!({"closID": "gold"});
    let error = create(lab, &resctrl, &class).fails();
    let words = "clos dir not accessible (must be pre-created when schemata, l3CacheSchema and \
                 memBwSchema are empty)";
    assert!(error.contains(words) && error.contains("(config.json: /linux/intelRdt/closID)"));
    assert_eq!(resctrl.groups(), [""]);
    fs::create_dir(resctrl.path().join("gold")).unwrap();
    let before = resctrl.group("gold").unwrap().schemata();
    create(lab, &resctrl, &class).ok();
    let group = resctrl.group("gold").unwrap();
    assert_eq!((group.tasks.as_slice(), group.schemata()), (&[init(lab)][..], before));
    lab.delete("a");
    assert_eq!(resctrl.groups(), ["", "gold"]);
    // Also one of the container's own name that it has not made.
    let name = lab.id("a");
    fs::create_dir(resctrl.path().join(&name)).unwrap();
    create(lab, &resctrl, &json!({"memBwSchema": "MB:0=50"})).ok();
    lab.delete("a");
    assert!(resctrl.group(&name).is_some());
}

fn the_root_class_may_be_meant(lab: &Lab) {
    let resctrl = played(lab);
    create(lab, &resctrl, &json!({"closID": "/", "enableMonitoring": true})).ok();
    let monitoring = format!("mon_groups/{}", lab.id("a"));
    assert_eq!(resctrl.groups(), ["", &monitoring]);
    assert_eq!(resctrl.group("").unwrap().tasks, [init(lab)]);
    lab.delete("a");
    assert_eq!(resctrl.groups(), [""]);
}

/// Wherever the record says that the class is: `events` looks at no mount table.
fn what_was_used_is_told(lab: &Lab) {
    let resctrl = played(lab);
    let told = || -> Value {
        let printed = lab.on("a", &["events", "--stats"], &[]).ok();
        serde_json::from_str::<Value>(&printed).unwrap()["data"]["intel_rdt"].clone()
    };
    let class =
        json!({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:1=20", "enableMonitoring": true});
    create(lab, &resctrl, &class).ok();
    lab.on("a", &["start"], &[]).ok();
    let traffic = json!([
        {"mbm_total_bytes": 300, "mbm_local_bytes": 10},
        {"mbm_total_bytes": 20, "mbm_local_bytes": 10},
    ]);
    let mut wanted = json!({
        "l3_cache_info": {"cbm_mask": "fffff", "min_cbm_bits": 1, "num_closids": 3},
        "l3_cache_schema_root": "L3:0=fffff;1=fffff",
        "l3_cache_schema": "L3:0=f;1=fffff",
        "mem_bw_info":
            {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 3},
        "mem_bw_schema_root": "MB:0=100;1=100",
        "mem_bw_schema": "MB:0=100;1=20",
        "schemata": ["L3:0=f;1=fffff", "MB:0=100;1=20"],
        "mbm_stats": traffic,
        "cmt_stats": [{"llc_occupancy": 4096}, {"llc_occupancy": 0}],
    });
    assert_eq!(told(), wanted);
    lab.delete("a");
    // Without a group of its own, what its whole class has used.
    fs::create_dir(resctrl.path().join("gold")).unwrap();
    for name in ["b", "a"] {
        let create = lab.start_of("create", &bundle(lab, &json!({"closID": "gold"})), name, &[]);
        lab.begin(seen_by(&resctrl, &create)).end().ok();
    }
    wanted["l3_cache_schema"] = json!("L3:0=fffff;1=fffff");
    wanted["mem_bw_schema"] = json!("MB:0=100;1=100");
    wanted["schemata"] = json!(["L3:0=fffff;1=fffff", "MB:0=100;1=100"]);
    wanted["cmt_stats"] = json!([{"llc_occupancy": 8192}, {"llc_occupancy": 0}]);
    assert_eq!(told(), wanted);
    lab.delete("b");
    lab.delete("a");
}

fn what_a_class_gets_is_changed(lab: &Lab) {
    let resctrl = played(lab);
    let update = |flags: &[&str]| {
        let mut command = lab.command(&[&["update"], flags].concat());
        command.arg(lab.id("a"));
        lab.begin(seen_by(&resctrl, &command)).end()
    };
    create(lab, &resctrl, &json!({"l3CacheSchema": "L3:0=f"})).ok();
    lab.on("a", &["start"], &[]).ok();
    update(&["--l3-cache-schema", "L3:1=3", "--mem-bw-schema", "MB:0=30"]).ok();
    let schemata = || resctrl.group(&lab.id("a")).unwrap().schemata();
    assert_eq!(schemata(), "    L3:0=f;1=3\n    MB:0=30;1=100\n");
    let error = update(&["--mem-bw-schema", "L9:0=1"]).fails();
    assert!(error.contains("invalid argument (last_cmd_status: Unknown or unsupported"), "{error}");
    // Where the file system is not seen, nothing is shared out.
    let error = lab.on("a", &["update", "--l3-cache-schema", "L3:0=1"], &[]).fails();
    assert!(error.contains("Intel RDT/CAT: l3 cache schema is not enabled"), "{error}");
    lab.delete("a");
    lab.run(&lab.bundle(&["sleep"]), "a", &["--detach"]).ok();
    let error = update(&["--l3-cache-schema", "L3:0=1"]).fails();
    assert!(error.contains("updating a non-existent Intel RDT configuration"), "{error}");
    lab.delete("a");
}

fn what_is_refused_leaves_nothing(lab: &Lab) {
    let resctrl = played(lab);
    for (class, words) in [
        (
            json!({"closID": ".."}),
            "invalid intelRdt.ClosID \"..\" (config.json: /linux/intelRdt/closID)",
        ),
        (
            json!({"closID": "a/b"}),
            "invalid intelRdt.ClosID \"a/b\" (config.json: /linux/intelRdt/closID)",
        ),
        (json!({"memBwSchema": "MB:0=1\nL3:0=1"}), "(config.json: /linux/intelRdt/memBwSchema)"),
        (json!({"memBwSchema": "L3:0=1"}), "(config.json: /linux/intelRdt/memBwSchema)"),
        (json!({"schemata": ["L3:0=1", "a\nb"]}), "(config.json: /linux/intelRdt/schemata/1)"),
        (
            json!({"schemata": ["L2:0=1"]}),
            "schemata\" (config.json: /linux/intelRdt/schemata): invalid argument (last_cmd_status: Unknown or unsupported resource name 'L2')",
        ),
        (
            json!({"closID": "x", "schemata": ["L2:0=1"]}),
            "(config.json: /linux/intelRdt/schemata): invalid argument",
        ),
        (json!({"closID": "info", "l3CacheSchema": "L3:0=1"}), "no such file or directory"),
    ] {
        let error = create(lab, &resctrl, &class).fails();
        assert!(error.contains(words), "{class}: {error}");
        assert_eq!(resctrl.groups(), [""], "{class}");
        assert!(!lab.root().join(lab.id("a")).exists(), "{class}");
    }
    // The processor has no more, and what failed after it was made goes again.
    for name in ["gold", "silver"] {
        fs::create_dir(resctrl.path().join(name)).unwrap();
    }
    let error = create(lab, &resctrl, &json!({})).fails();
    let words =
        "(config.json: /linux/intelRdt): no space left on device (last_cmd_status: Out of CLOSIDs)";
    assert!(error.contains(words), "{error}");
    fs::remove_dir(resctrl.path().join("gold")).unwrap();
    for class in [json!({}), json!({"closID": "new", "schemata": ["L3:0=1"]})] {
        let mut bundle = bundle(lab, &class);
        bundle.config["process"]["args"] = json!(["/nope"]);
        let create = lab.start_of("create", &bundle, "a", &[]);
        lab.begin(seen_by(&resctrl, &create)).end().fails();
        assert_eq!(resctrl.groups(), ["", "silver"], "{class}");
    }
}
