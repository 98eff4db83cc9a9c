//! The seccomp compiler against a simulator of the kernel's BPF, a naive reading
//! of the same profile, and the kernel itself.

mod figures;
mod profiles;
mod reference;
mod simulator;
