//! Has the linker put together what the server runs: see `text.ld`.

fn main() {
    println!("cargo::rerun-if-changed=text.ld");
    // Nobody looks at the memory of another build.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let folder = env!("CARGO_MANIFEST_DIR");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/text.ld");
    }
}
