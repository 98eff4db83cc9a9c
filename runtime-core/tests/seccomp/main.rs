//! The seccomp compiler against a simulator of the kernel's BPF, a naive reading
//! of the same profile, and the kernel itself.

mod errors;
mod figures;
mod kernel;
mod numbers;
mod profiles;
mod random;
mod reference;
mod rules;
mod simulator;
