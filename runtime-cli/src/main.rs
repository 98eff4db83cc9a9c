//! Orlop command line.
fn main() {}
