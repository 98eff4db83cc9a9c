//! Rows 8 to 13: the program, its arguments, its environment, its directory.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::case::{Case, check, refused};
use crate::harness::{Bundle, Lab, Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    row_08_no_program,
    row_09_what_is_no_program,
    row_10_nul,
    row_11_long_arguments,
    row_12_environment,
    row_13_directory,
];

fn process(field: &str, value: Value) -> Value {
    let mut patch = json!({"process": {}});
    patch["process"][field] = value;
    patch
}

fn row_08_no_program(lab: &Lab) {
    check(
        lab,
        &[
            Case::patch("no process", json!({"process": null}))
                .fails("process property must not be empty (config.json: /process)"),
            Case::patch("no args", process("args", json!(null)))
                .fails("args must not be empty (config.json: /process/args)"),
            Case::patch("empty args", process("args", json!([])))
                .fails("args must not be empty (config.json: /process/args)"),
            Case::patch("an empty name", process("args", json!([""]))).fails(
                "exec: \"\": executable file not found in $PATH (config.json: /process/args/0)",
            ),
        ],
    );
    // In the foreground too it is the runtime that says so, and not the container.
    let mut bundle = lab.bundle(&["sleep"]);
    bundle.config["process"]["args"] = json!([]);
    assert_eq!(
        refused(&lab.run(&bundle, "a", &[]), 1),
        "orlop run failed: args must not be empty (config.json: /process/args)"
    );
}

fn row_09_what_is_no_program(lab: &Lab) {
    let args = |name| process("args", json!([name]));
    let file = |mode: u32| {
        move |bundle: &mut Bundle| {
            let path = bundle.rootfs().join("work/file");
            fs::write(&path, "no program\n").unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
    };
    check(
        lab,
        &[
            Case::patch("absent", args("/nope"))
                .fails("exec: \"/nope\": opening the program (config.json: /process/args/0): no such file or directory"),
            Case::patch("absent from PATH", args("nope"))
                .fails("exec: \"nope\": executable file not found in $PATH (config.json: /process/args/0)"),
            Case::patch("a directory", args("/work"))
                .fails("exec: \"/work\": is a directory (config.json: /process/args/0): permission denied"),
            Case::patch("not executable", args("/work/file")).and(file(0o644))
                .fails("exec: \"/work/file\": opening the program (config.json: /process/args/0): permission denied"),
            Case::patch("not a program", args("/work/file")).and(file(0o755)).at_run()
                .says("exec /work/file: exec format error"),
        ],
    );
    let mut bundle = lab.bundle(&["sleep"]);
    file(0o755)(&mut bundle);
    bundle.config["process"]["args"] = json!(["/work/file"]);
    lab.create(&bundle, "a", &[]).ok();
    let output = lab.on("a", &["start"], &[]);
    assert_eq!(
        refused(&output, 1),
        "exec /work/file: exec format error (config.json: /process/args) (it is no program for this machine: another architecture, or a script without #!)"
    );
    lab.delete("a");
}

fn row_10_nul(lab: &Lab) {
    let mount = |field: &'static str, value: Value| {
        move |bundle: &mut Bundle| bundle.config["mounts"][0][field] = value.clone()
    };
    check(
        lab,
        &[
            Case::patch("in an argument", process("args", json!(["/bin/probe", "a\0b"])))
                .fails("a string contains a NUL byte (config.json: /process/args/1)"),
            Case::patch("in the environment", process("env", json!(["A=\0"])))
                .fails("a string contains a NUL byte (config.json: /process/env/0)"),
            Case::change("in a destination", mount("destination", json!("/pr\0oc")))
                .fails("a string contains a NUL byte (config.json: /mounts/0/destination)"),
            Case::change("in a type", mount("type", json!("proc\0")))
                .fails("a string contains a NUL byte (config.json: /mounts/0/type)"),
            Case::change("in a source", mount("source", json!("\0")))
                .fails("a string contains a NUL byte (config.json: /mounts/0/source)"),
            Case::change("in an option", mount("options", json!(["ro", "a\0"])))
                .fails("a string contains a NUL byte (config.json: /mounts/0/options/1)"),
            Case::patch("in the hostname", json!({"hostname": "a\0b"}))
                .fails("a string contains a NUL byte (config.json: /hostname)"),
        ],
    );
}

fn row_11_long_arguments(lab: &Lab) {
    let many: Vec<_> = ["/bin/probe", "sleep"].into_iter().chain(vec!["a"; 100_000]).collect();
    check(
        lab,
        &[
            Case::patch(
                "an argument of 256 KiB",
                process("args", json!(["/bin/probe", "x".repeat(256 << 10)])),
            )
            .at_run()
            .says("exec /bin/probe: argument list too long"),
            Case::patch(
                "an environment of 8 MiB",
                process(
                    "env",
                    json!(
                        (0..80)
                            .map(|n| format!("A{n}={}", "x".repeat(100 << 10)))
                            .collect::<Vec<_>>()
                    ),
                ),
            )
            .at_run()
            .says("exec /bin/probe: argument list too long"),
            Case::patch("100000 arguments", process("args", json!(many))),
        ],
    );
}

fn row_12_environment(lab: &Lab) {
    check(
        lab,
        &[
            Case::patch("no =", process("env", json!(["A=1", "B"])))
                .fails("invalid environment variable: missing '=' (config.json: /process/env/1)"),
            Case::patch("no name", process("env", json!(["=x"]))).fails(
                "invalid environment variable: name cannot be empty (config.json: /process/env/0)",
            ),
        ],
    );
}

fn row_13_directory(lab: &Lab) {
    let cwd = |path| process("cwd", json!(path));
    check(
        lab,
        &[
            Case::patch("empty", cwd(""))
                .fails("Cwd property must not be empty (config.json: /process/cwd)"),
            Case::patch("relative", cwd("tmp"))
                .fails("Cwd must be an absolute path (config.json: /process/cwd)"),
            Case::patch("missing: made", cwd("/work/a/b")).and(|bundle| bundle.config["root"]["readonly"] = json!(false)),
            Case::patch("a file", cwd("/bin/probe"))
                .fails("chdir to cwd (\"/bin/probe\") set in config.json failed (config.json: /process/cwd): not a directory"),
            Case::patch("below a file", cwd("/bin/probe/x"))
                .fails("chdir to cwd (\"/bin/probe/x\") set in config.json failed: finding the place in the root (config.json: /process/cwd): not a directory"),
            Case::patch("a descriptor that the stage has", cwd("/proc/self/fd/4"))
                .fails("chdir to cwd (\"/proc/self/fd/4\") set in config.json failed: finding the place in the root (config.json: /process/cwd): too many levels of symbolic links"),
            Case::patch("one that the lookup itself makes", cwd("/proc/self/fd/3"))
                .fails("chdir to cwd (\"/proc/self/fd/3\") set in config.json failed: finding the place in the root (config.json: /process/cwd): too many levels of symbolic links"),
            Case::patch("one that is not open", cwd("/proc/self/fd/99"))
                .fails("chdir to cwd (\"/proc/self/fd/99\") set in config.json failed: creating the place in the root (config.json: /process/cwd): no such file or directory"),
        ],
    );
}
