//! Real containers through the built command line, as root, one test at a time.
//!
//! One program plays three parts: the tests, the world they run in
//! (`harness/view.rs`) and, as `/bin/probe` in every container, the process that
//! looks around there. So nothing but the toolchain is needed to make a root file
//! system. A room is a file of tests with a `TESTS` list; it decides what is
//! tested and may not know how a container is cleaned up after.

mod activation;
mod bad_inputs;
mod checkpoint;
mod crowd;
mod events;
mod extras;
mod harness;
mod hierarchy;
mod hooks;
mod host_mounts;
mod keyring;
mod life;
mod limits;
mod live_mounts;
mod lsm;
mod mounts;
mod namespaces;
mod net_devices;
mod notify;
mod pidfd;
mod probe;
mod process;
mod resctrl;
mod rootless;
mod seccomp;
mod security;
mod sharing;
mod spy;
mod streams;
mod sweep;
mod systemd;
mod terminal;
mod throwaway;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = probe::main().or_else(sweep::tracer::main).or_else(checkpoint::fake::main) {
        return code;
    }
    let rooms: &[&[_]] = &[
        life::TESTS,
        process::TESTS,
        keyring::TESTS,
        namespaces::TESTS,
        net_devices::TESTS,
        notify::TESTS,
        activation::TESTS,
        pidfd::TESTS,
        mounts::TESTS,
        host_mounts::TESTS,
        hooks::TESTS,
        hierarchy::TESTS,
        limits::TESTS,
        events::TESTS,
        extras::TESTS,
        live_mounts::TESTS,
        resctrl::TESTS,
        seccomp::TESTS,
        streams::TESTS,
        terminal::TESTS,
        throwaway::TESTS,
        crowd::TESTS,
        sharing::TESTS,
        sweep::TESTS,
    ];
    let rooms =
        [rooms, rootless::ROOMS, bad_inputs::ROOMS, checkpoint::ROOMS, security::ROOMS].concat();
    let folders = [rootless::FOLDERS, lsm::apparmor::TESTS, lsm::selinux::TESTS].concat();
    harness::main(&rooms, &folders, &[systemd::TESTS, rootless::SCOPES].concat())
}
