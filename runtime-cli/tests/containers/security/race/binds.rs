//! Somebody of the host looks at a mount before it is what it shall be.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::sync::Mutex;

use serde_json::json;

use super::{against, for_a_while};
use crate::harness::{Lab, Output, Test, tests};
use crate::spy::is_stage;

pub(crate) const TESTS: &[Test] = tests![a_read_only_bind_is_never_writable];

// crun 1.31: binds became read-only after all mounts had been made, and what a hook or
// another process saw of them before could be written.
fn a_read_only_bind_is_never_writable(lab: &Lab) {
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "the host's\n").unwrap();
    let mut bundle = lab.bundle(&["write-each", "x", "/all/file", "/one/file", "/file"]);
    fs::write(bundle.rootfs().join("file"), "").unwrap();
    let from = source.to_str().unwrap();
    bundle.mount("/all", "bind", from, &["rbind", "ro"]);
    bundle.mount("/one", "bind", from, &["bind", "ro"]);
    bundle.mount("/file", "bind", &format!("{from}/file"), &["bind", "ro"]);
    // Others come after them.
    for number in 0..8 {
        bundle.mount(&format!("/work/{number}"), "tmpfs", "tmpfs", &[]);
    }
    bundle.config["root"]["readonly"] = json!(false);
    let root = bundle.rootfs().display().to_string();
    let places: Vec<_> = ["/all/file", "/one/file", "/file"]
        .iter()
        .flat_map(|place| [format!("{root}{place}"), (*place).to_owned()])
        .collect();
    let seen = lab.path("seen");
    let hook = [&["into", seen.to_str().unwrap(), "write-each", "x"][..]].concat();
    let before_pivot = places.iter().step_by(2).map(String::as_str);
    bundle.hook("createContainer", &hook.into_iter().chain(before_pivot).collect::<Vec<_>>());

    let opened = Mutex::new((0, Vec::new()));
    let look = || {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().display().to_string();
            for place in places.iter().filter(|_| is_stage(&pid)) {
                let path = format!("/proc/{pid}/root{place}");
                let end = File::options().write(true).open(&path);
                let mut opened = opened.lock().unwrap();
                match end.map_err(|error| error.kind()) {
                    // The image's own file, on which another is mounted later.
                    Ok(file) if file.metadata().is_ok_and(|data| data.len() == 0) => {}
                    Ok(_) => opened.1.push(path),
                    Err(ErrorKind::ReadOnlyFilesystem) => opened.0 += 1,
                    Err(_) => {}
                }
            }
        }
    };
    against(look, || {
        let check = |output: &Output| {
            for said in [&output.stdout, &fs::read_to_string(&seen).unwrap()] {
                assert_eq!(said.matches(" EROFS\n").count(), 3, "{said}");
            }
        };
        for_a_while(lab, |_| lab.run(&bundle, "a", &[]), check);
    });
    let (refused, written) = opened.into_inner().unwrap();
    println!("  {refused} times it was seen as read-only");
    assert!(refused > 0 && written.is_empty(), "{written:?}");
    assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "the host's\n");
}
