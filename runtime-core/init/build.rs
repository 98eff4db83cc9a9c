//! Builds the init stage: one call of the compiler, because the stage has no
//! dependency, and the library that embeds it must not need a second tool.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=stage.ld");
    println!("cargo::rustc-check-cfg=cfg(stage)");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("stage");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    rustc.args(["--crate-name", "orlop_stage", "--crate-type", "bin", "--edition", "2024"]);
    rustc.args(["--cfg", "stage", "--target", &target]).arg("-o").arg(&out);
    // The same code in every profile: small, without overflow checks and without
    // a panic path, whatever the embedding build asks for.
    for option in [
        "opt-level=s",
        "panic=abort",
        "lto=fat",
        "codegen-units=1",
        "overflow-checks=off",
        "debug-assertions=off",
        "relocation-model=static",
        "target-feature=+crt-static",
        "default-linker-libraries=no",
        "strip=debuginfo",
        // Nothing is loaded at run time: no libc, no start files, no interpreter.
        "link-arg=-nostdlib",
        "link-arg=-nostartfiles",
        "link-arg=-static",
        "link-arg=-Wl,--build-id=none,-z,norelro,-z,noexecstack,--gc-sections",
        "link-arg=-T",
    ] {
        rustc.arg("-C").arg(option);
    }
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    rustc.arg("-C").arg(format!("link-arg={}", manifest.join("stage.ld").display()));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={}", linker.to_string_lossy()));
    }
    rustc.arg("src/lib.rs");
    let status = rustc.status().expect("the compiler that runs this script can be started");
    assert!(status.success(), "the init stage does not build: {status}");
}
