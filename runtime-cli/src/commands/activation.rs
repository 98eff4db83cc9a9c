//! Sockets that systemd listens on and passes to us (sd_listen_fds(3)), which become the
//! container's.

use oci_spec::runtime::Process;

/// Descriptors from 3 on that we were started with.
pub(super) struct Activation {
    /// How many.
    pub(super) count: u32,
    names: Option<String>,
}

impl Activation {
    /// Those that are meant for this process.
    pub(super) fn of_environment() -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        let meant: Option<u32> = variable("LISTEN_PID")?.parse().ok();
        let count = variable("LISTEN_FDS")?.parse().ok().filter(|count| *count > 0)?;
        let ours = meant == Some(std::process::id());
        ours.then(|| Self { count, names: variable("LISTEN_FDNAMES") })
    }

    /// Tells the process that gets them. What is in its environment already comes from
    /// somebody who knew nothing of them.
    ///
    /// COMPAT(runc): the first process of a container is told that its number is 1. That
    /// of a further one is not known, and so it is told none.
    pub(super) fn tell(&self, process: &mut Process, first: bool) {
        let env = process.env_mut().get_or_insert_default();
        env.retain(|entry| {
            let name = entry.split('=').next().unwrap_or_default();
            !matches!(name, "LISTEN_FDS" | "LISTEN_PID" | "LISTEN_FDNAMES")
        });
        env.push(format!("LISTEN_FDS={}", self.count));
        env.extend(first.then(|| "LISTEN_PID=1".to_owned()));
        env.extend(self.names.as_ref().map(|names| format!("LISTEN_FDNAMES={names}")));
    }
}
