//! The compiler: what a bundle says becomes what the stage does. Pure.

pub mod seccomp;
