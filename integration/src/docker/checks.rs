//! What is asked of an engine with the runtime under test: one function a check,
//! and its error says what was wrong.

use anyhow::Result;

use super::daemon::{Daemon, IMAGE};
use crate::command::Output;
use crate::engine::Check;

mod isolation;
mod life;
mod limits;
mod network;
mod recovery;
mod shim;
mod storage;
mod watch;

/// All checks, in the order in which they run.
pub const ALL: &[Check<Daemon>] = &[
    Check { name: "run", run: life::run },
    Check { name: "detached", run: life::detached },
    Check { name: "exit-codes", run: life::exit_codes },
    Check { name: "exec", run: life::exec },
    Check { name: "exec-terminal", run: life::exec_terminal },
    Check { name: "run-terminal", run: life::run_terminal },
    Check { name: "init", run: life::init },
    Check { name: "ps", run: life::ps },
    Check { name: "pause", run: life::pause },
    Check { name: "commit", run: life::commit },
    Check { name: "build", run: life::build },
    Check { name: "follow", run: watch::follow },
    Check { name: "restart", run: watch::restart },
    Check { name: "health", run: watch::health },
    Check { name: "restart-always", run: watch::restart_always },
    Check { name: "exec-storm", run: watch::exec_storm },
    Check { name: "stats", run: watch::stats },
    Check { name: "events", run: watch::events },
    Check { name: "limits", run: limits::limits },
    Check { name: "out-of-memory", run: limits::out_of_memory },
    Check { name: "out-of-memory-child", run: limits::out_of_memory_child },
    Check { name: "update", run: limits::update },
    Check { name: "oom-score", run: limits::oom_score },
    Check { name: "cgroup-parent", run: limits::cgroup_parent },
    Check { name: "bind-volume", run: storage::bind_volume },
    Check { name: "named-volume", run: storage::named_volume },
    Check { name: "tmpfs", run: storage::tmpfs },
    Check { name: "read-only", run: storage::read_only },
    Check { name: "copy", run: storage::copy },
    Check { name: "capabilities", run: isolation::capabilities },
    Check { name: "privileged", run: isolation::privileged },
    Check { name: "user", run: isolation::user },
    Check { name: "seccomp", run: isolation::seccomp },
    Check { name: "masked-paths", run: isolation::masked_paths },
    Check { name: "devices", run: isolation::devices },
    Check { name: "sysctl", run: isolation::sysctl },
    Check { name: "namespaces", run: isolation::namespaces },
    Check { name: "shared-namespaces", run: isolation::shared_namespaces },
    Check { name: "network-host", run: network::host },
    Check { name: "network-none", run: network::none },
    Check { name: "network-bridge", run: network::bridge },
    Check { name: "shim", run: shim::default },
    Check { name: "shim-by-name", run: shim::by_name },
    Check { name: "shim-in-place", run: shim::in_place },
    Check { name: "shim-killed", run: shim::killed },
    Check { name: "daemon-restarted", run: recovery::restarted },
    Check { name: "daemon-killed", run: recovery::killed },
    Check { name: "ended-meanwhile", run: recovery::ended_meanwhile },
];

/// `docker run --rm OPTIONS IMAGE sh -c SCRIPT`
fn shell(daemon: &Daemon, options: &[&str], script: &str) -> Result<Output> {
    daemon.docker(&[&["run", "--rm"], options, &[IMAGE, "sh", "-c", script]].concat())
}
