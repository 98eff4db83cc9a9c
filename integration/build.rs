//! Builds the two programs that run inside the benchmark's containers: a few
//! instructions each, with the C compiler that the linking of Rust needs anyway.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let cc = env::var_os("CC").unwrap_or_else(|| "cc".into());
    for name in ["true", "pause"] {
        let source = format!("programs/{name}.S");
        println!("cargo::rerun-if-changed={source}");
        let status = Command::new(&cc)
            .args(["-nostdlib", "-static", "-s", "-Wl,--build-id=none", "-o"])
            .arg(out.join(name))
            .arg(&source)
            .status()
            .expect("the C compiler can be started");
        assert!(status.success(), "\"{source}\" does not build: {status}");
    }
}
