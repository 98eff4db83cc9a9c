//! Rows 1 to 7: config.json as a file, its types, and numbers that are none.

use std::fs;

use serde_json::json;

use super::case::{Case, check, refused};
use crate::harness::{Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    row_01_no_config,
    row_02_more_than_a_config,
    row_03_deep_double_and_unknown,
    row_04_wrong_types,
    row_05_the_id_that_is_none,
    row_06_groups,
    row_07_version,
];

const SMALL: &str =
    r#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"cwd":"/","args":["sh"]}}"#;

fn row_01_no_config(lab: &Lab) {
    check(
        lab,
        &[
            Case::text("empty", "").fails("config is empty \"BUNDLE/config.json\""),
            Case::text("white space", " \n\t").fails("config is empty \"BUNDLE/config.json\""),
            Case::text("cut", &SMALL[..40])
                .fails("EOF while parsing a value (config.json: /process/user)"),
            Case::text("null", "null").fails("config cannot be null \"BUNDLE/config.json\""),
            Case::text("array", "[]").fails("config must be a JSON object \"BUNDLE/config.json\""),
        ],
    );
    let bundle = lab.bundle(&["sleep"]);
    fs::remove_file(bundle.path.join("config.json")).unwrap();
    let output = lab.runtime(&["create", "--bundle", bundle.path.to_str().unwrap(), &lab.id("a")]);
    assert_eq!(
        refused(&output, 1),
        "orlop create failed: JSON specification file config.json not found"
    );
    lab.delete("a");
}

fn row_02_more_than_a_config(lab: &Lab) {
    check(
        lab,
        &[
            Case::text("garbage behind", format!("{SMALL} x"))
                .fails("trailing characters \"BUNDLE/config.json\""),
            Case::text("a second config", format!("{SMALL}{SMALL}"))
                .fails("trailing characters \"BUNDLE/config.json\""),
            Case::text("a byte order mark", format!("\u{feff}{SMALL}"))
                .fails("config begins with a byte order mark \"BUNDLE/config.json\""),
            Case::text("invalid UTF-8", b"{\"hostname\":\"\xff\"}")
                .fails("config is not UTF-8 at byte 13 \"BUNDLE/config.json\""),
        ],
    );
}

fn row_03_deep_double_and_unknown(lab: &Lab) {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let args = SMALL.replace("[\"sh\"]", &deep);
    check(
        lab,
        &[
            Case::text("deep where it is read", args)
                .fails("invalid type: sequence, expected a string (config.json: /process/args/0)"),
            Case::text("a field twice", SMALL.replace("\"cwd\"", "\"cwd\":\"/tmp\",\"cwd\""))
                .fails("duplicate field `cwd` (config.json: /process)"),
            Case::patch("unknown fields", json!({"future": {"a": [[[1]]]}, "linux": {"x": 1}})),
        ],
    );
}

fn row_04_wrong_types(lab: &Lab) {
    let user = |uid| json!({"process": {"user": {"uid": uid}}});
    check(
        lab,
        &[
            Case::patch("args a string", json!({"process": {"args": "sh"}}))
                .fails("invalid type: string \"sh\", expected a sequence (config.json: /process/args)"),
            Case::patch("uid a string", user(json!("0")))
                .fails("invalid type: string \"0\", expected u32 (config.json: /process/user/uid)"),
            Case::patch("uid -1", user(json!(-1)))
                .fails("invalid value: integer `-1`, expected u32 (config.json: /process/user/uid)"),
            Case::patch("uid 1.5", user(json!(1.5)))
                .fails("invalid type: floating point `1.5`, expected u32 (config.json: /process/user/uid)"),
            Case::patch("uid 2^32", user(json!(1_u64 << 32)))
                .fails("invalid value: integer `4294967296`, expected u32 (config.json: /process/user/uid)"),
        ],
    );
}

fn row_05_the_id_that_is_none(lab: &Lab) {
    let user = |field: &str, id| json!({"process": {"user": {field: id}}});
    check(
        lab,
        &[
            Case::patch("uid", user("uid", json!(u32::MAX)))
                .fails("cannot setuid to unmapped uid 4294967295 in user namespace (config.json: /process/user/uid)"),
            Case::patch("gid", user("gid", json!(u32::MAX)))
                .fails("cannot setgid to unmapped gid 4294967295 in user namespace (config.json: /process/user/gid)"),
            Case::patch("a further group", user("additionalGids", json!([1, u32::MAX])))
                .fails("cannot set unmapped group 4294967295 in user namespace (config.json: /process/user/additionalGids/1)"),
        ],
    );
    let bundle = lab.bundle(&["sleep"]);
    lab.create(&bundle, "a", &[]).ok();
    lab.on("a", &["start"], &[]).ok();
    for user in ["-1", "4294967295", "1:-1", "1:4294967295", "", "x", "1x", " 1", "1:", ":1"] {
        let output = lab.exec("a", &["--user", user], &["ids"]);
        let said = refused(&output, 255);
        assert!(said.starts_with("exec failed: bad "), "{user:?}: {said}");
    }
    let mut process = bundle.config["process"].clone();
    process["user"]["uid"] = json!(u32::MAX);
    let file = lab.path("process.json");
    fs::write(&file, process.to_string()).unwrap();
    let output = lab.on("a", &["exec", "--process", file.to_str().unwrap()], &[]);
    assert_eq!(
        refused(&output, 255),
        "exec failed: cannot setuid to unmapped uid 4294967295 in user namespace \
         (process: /user/uid)"
    );
    // The kernel's answers have it, too.
    let output = lab.exec("a", &["--cwd", "/bin/probe"], &["ids"]);
    let said = refused(&output, 255);
    assert!(said.ends_with(" (process: /cwd): not a directory"), "{said}");
    lab.delete("a");
}

fn row_06_groups(lab: &Lab) {
    let groups = |gids: Vec<u32>| json!({"process": {"user": {"additionalGids": gids}}});
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let own = json!({
        "process": {"user": {"gid": 65_536}},
        "linux": {"uidMappings": map, "gidMappings": map},
    });
    check(
        lab,
        &[
            Case::patch("100000 of them", groups((0..100_000).collect()))
                .fails("more than 65536 additional groups (config.json: /process/user/additionalGids)"),
            Case::patch("one that is not mapped", own)
                .and(|bundle| bundle.namespace("user", None))
                .fails("cannot setgid to unmapped gid 65536 in user namespace (config.json: /process/user/gid)"),
        ],
    );
}

fn row_07_version(lab: &Lab) {
    let version = |version| json!({ "ociVersion": version });
    check(
        lab,
        &[
            Case::patch("missing", version(json!(null)))
                .fails("\"\" is not a version of the runtime spec (config.json: /ociVersion)"),
            Case::patch("garbage", version(json!("garbage"))).fails(
                "\"garbage\" is not a version of the runtime spec (config.json: /ociVersion)",
            ),
            Case::patch("99.0.0", version(json!("99.0.0")))
                .fails("runtime spec 99.x is not supported, only 1.x (config.json: /ociVersion)"),
            Case::patch("an array", version(json!(["1.0.0"])))
                .fails("invalid type: sequence, expected a string (config.json: /ociVersion)"),
        ],
    );
}
