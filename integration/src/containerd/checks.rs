//! What is asked of containerd with the shim under test: one function a check, and its
//! error says what was wrong.

use super::daemon::Daemon;
use crate::engine::Check;

mod cri;
mod endurance;
mod events;
mod life;
mod limits;
mod pods;
mod recovery;
mod storage;

/// All checks, in the order in which they run.
pub const ALL: &[Check<Daemon>] = &[
    Check { name: "run", run: life::run },
    Check { name: "run-terminal", run: life::run_terminal },
    Check { name: "exit-codes", run: life::exit_codes },
    Check { name: "failed-start", run: life::failed_start },
    Check { name: "detached", run: life::detached },
    Check { name: "exec", run: life::exec },
    Check { name: "exec-terminal", run: life::exec_terminal },
    Check { name: "exec-storm", run: life::exec_storm },
    Check { name: "pause", run: life::pause },
    Check { name: "metrics", run: limits::metrics },
    Check { name: "limits", run: limits::limits },
    Check { name: "out-of-memory", run: limits::out_of_memory },
    Check { name: "events", run: events::order },
    Check { name: "events-in-a-row", run: events::in_a_row },
    Check { name: "events-in-parallel", run: events::in_parallel },
    Check { name: "pod", run: pods::pod },
    Check { name: "pod-namespaces", run: pods::namespaces },
    Check { name: "overlay", run: storage::overlay },
    Check { name: "native", run: storage::native },
    Check { name: "root-folder", run: storage::root_folder },
    Check { name: "mounts", run: storage::mounts },
    Check { name: "daemon-killed", run: recovery::daemon_killed },
    Check { name: "fifo-kept", run: recovery::fifo_kept },
    Check { name: "ended-meanwhile", run: recovery::ended_meanwhile },
    Check { name: "pod-kept", run: recovery::pod_kept },
    Check { name: "shim-killed", run: recovery::shim_killed },
    Check { name: "pods-shim-killed", run: recovery::pods_shim_killed },
    Check { name: "cri-handler", run: cri::handler },
    Check { name: "cri-pod", run: cri::pod },
    Check { name: "cri-shared", run: cri::shared },
    Check { name: "cri-exec", run: cri::exec },
    Check { name: "cri-exec-storm", run: cri::exec_storm },
    Check { name: "cri-limits", run: cri::limits },
    Check { name: "cri-ends", run: cri::ends },
    Check { name: "cri-daemon-killed", run: cri::daemon_killed },
    Check { name: "cri-shim-killed", run: cri::shim_killed },
    Check { name: "endurance", run: endurance::endurance },
];
