//! `exec`: a further process of a container, from a file or from the container's own
//! process and flags.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};
use orlop::bundle::Bundle;
use orlop::cgroup::Inner;
use orlop::container::{ExecOptions, Terminal};

use super::Call;
use super::activation::Activation;
use crate::foreground::{self, Foreground};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Send the master of the process's terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Return as soon as the process has started
    #[arg(short, long)]
    detach: bool,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send a pidfd of the process to this socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Pass this many descriptors after stdio
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,
    /// Exec in a paused container too; the process starts when it is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// Put the process into this cgroup below the container's; with cgroup v1 for
    /// these controllers alone
    #[arg(long, value_name = "[CONTROLLERS:]CGROUP")]
    cgroup: Vec<String>,
    /// Read the process from this file; the flags below do not count then
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    /// The container, and the command with its arguments
    #[arg(trailing_var_arg = true, required = true, value_names = ["CONTAINER-ID", "COMMAND"], num_args = 1..)]
    arguments: Vec<String>,
}

/// What differs from the container's own process.
#[derive(Debug, Default, Args)]
struct Changes {
    /// The working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// A further environment variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    tty: bool,
    /// The user, and the group
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// A further group
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// The SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// The AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Whether the process may gain privileges no more
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = crate::args::bool_of_go)]
    no_new_privs: Option<bool>,
    /// A further capability; an ambient one too if the process has inheritable ones
    #[arg(short, long, value_name = "CAPABILITY")]
    cap: Vec<String>,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let mut arguments: Arguments = call.parse()?;
    let id = arguments.arguments.remove(0);
    let container = call.open(&id)?;
    let (process, owner) = match (&arguments.process, arguments.detach) {
        (Some(file), true) => (read(file)?, None),
        (file, _) => {
            let spec = container.spec()?;
            let process = match file {
                Some(file) => read(file)?,
                None => arguments.changes.apply(own(&spec)?, arguments.arguments)?,
            };
            let owner = foreground::owner(&spec, &process);
            (process, owner)
        }
    };
    let wants_terminal = process.terminal() == Some(true);
    let mut options = ExecOptions {
        process,
        terminal: arguments.console_socket.map_or(Terminal::None, Terminal::Socket),
        stdio: None,
        pid_file: arguments.pid_file,
        pidfd_socket: arguments.pidfd_socket,
        preserve_fds: arguments.preserve_fds,
        cgroups: inner_cgroups(&arguments.cgroup)?,
        ignore_paused: arguments.ignore_paused,
    };
    if let Some(listening) = Activation::of_environment() {
        options.preserve_fds = options.preserve_fds.saturating_add(listening.count);
        listening.tell(&mut options.process, false);
    }
    if arguments.detach {
        super::warn(&container.exec(&options)?.warnings);
        return Ok(0);
    }
    let mut foreground = Foreground::new()?;
    if !wants_terminal {
        options.stdio = Some(foreground.pipes(owner)?);
    } else if matches!(options.terminal, Terminal::None) {
        options.terminal = foreground.terminal(&mut options.process)?;
    }
    let container = container.interrupted_by(foreground.interrupt()?);
    let started = container.exec(&options)?;
    super::warn(&started.warnings);
    drop(options);
    let status = foreground.wait(&started)?;
    foreground.finish(true)?;
    u8::try_from(status).context("the exit status is out of range")
}

/// COMPAT(runc): the form and the texts.
fn inner_cgroups(values: &[String]) -> anyhow::Result<Vec<Inner>> {
    let mut known: Vec<String> = Vec::new();
    let one = |value: &String| {
        let Some((names, path)) = value.split_once(':') else {
            let alone = values.len() == 1;
            ensure!(alone, "invalid --cgroup argument: {value} (missing <controller>: prefix)");
            return Ok(Inner { controllers: Vec::new(), path: value.into() });
        };
        let controllers: Vec<String> = names.split(',').map(ToOwned::to_owned).collect();
        for name in &controllers {
            let given = !name.is_empty();
            ensure!(given, "invalid --cgroup argument: {value} (empty <controller> prefix)");
            let twice = known.contains(name);
            ensure!(
                !twice,
                "invalid --cgroup argument(s): controller {name} specified multiple times"
            );
            known.push(name.clone());
        }
        Ok(Inner { controllers, path: path.into() })
    };
    values.iter().map(one).collect()
}

fn read(file: &Path) -> anyhow::Result<Process> {
    let parsed = Bundle::parse_process(super::text_of(file)?.as_bytes())
        .with_context(|| format!("reading the process in {file:?}"))?;
    super::warn(&parsed.warnings);
    Ok(parsed.value)
}

/// The process of the container's configuration.
fn own(spec: &Spec) -> anyhow::Result<Process> {
    spec.process().clone().context("the container's config.json has no process: use --process")
}

impl Changes {
    /// `process` with another command and with these changes.
    fn apply(self, mut process: Process, command: Vec<String>) -> anyhow::Result<Process> {
        ensure!(!command.is_empty(), "exec args cannot be empty");
        process.set_args(Some(command)).set_terminal(Some(self.tty));
        // COMPAT(runc): an empty one is none. Not so of the user: who has none to say would be
        // root (CVE-2026-30892).
        if let Some(cwd) = self.cwd.filter(|cwd| !cwd.as_os_str().is_empty()) {
            process.set_cwd(cwd);
        }
        if !self.env.is_empty() {
            process.env_mut().get_or_insert_default().extend(self.env);
        }
        if let Some(user) = &self.user {
            let (uid, gid) = user.split_once(':').map_or((&**user, None), |(u, g)| (u, Some(g)));
            process.user_mut().set_uid(number(uid).context("bad uid")?);
            if let Some(gid) = gid {
                process.user_mut().set_gid(number(gid).context("bad gid")?);
            }
        }
        if !self.additional_gids.is_empty() {
            let gids = process.user_mut().additional_gids_mut().get_or_insert_default();
            gids.extend(self.additional_gids);
        }
        if self.process_label.is_some() {
            process.set_selinux_label(self.process_label);
        }
        if self.apparmor.is_some() {
            process.set_apparmor_profile(self.apparmor);
        }
        if self.no_new_privs.is_some() {
            process.set_no_new_privileges(self.no_new_privs);
        }
        if !self.cap.is_empty() {
            let mut capabilities = process.capabilities().clone().unwrap_or_else(none);
            for name in &self.cap {
                add(&mut capabilities, name);
            }
            process.set_capabilities(Some(capabilities));
        }
        Ok(process)
    }
}

/// A user or group. The last number means "no change" to the kernel: as an id it
/// would leave the process root.
fn number(text: &str) -> anyhow::Result<u32> {
    match text.parse() {
        Ok(u32::MAX) => bail!("{text} is not an id"),
        parsed => parsed.with_context(|| format!("{text:?}")),
    }
}

/// No capability in any set. (The type's own default has some.)
fn none() -> LinuxCapabilities {
    let mut none = LinuxCapabilities::default();
    none.set_bounding(None).set_effective(None).set_inheritable(None);
    none.set_permitted(None).set_ambient(None);
    none
}

/// COMPAT(runc): into every set but the inheritable one, and into the ambient one
/// only if the inheritable one is given; an unknown name is told and left out.
fn add(capabilities: &mut LinuxCapabilities, name: &str) {
    let known = name.strip_prefix("CAP_").map(str::parse::<Capability>);
    let Some(Ok(capability)) = known else {
        log::warn!("ignoring unknown or unavailable capabilities: [{name}]");
        return;
    };
    let with = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.insert(capability);
        Some(set)
    };
    capabilities.set_bounding(with(capabilities.bounding()));
    capabilities.set_effective(with(capabilities.effective()));
    capabilities.set_permitted(with(capabilities.permitted()));
    if capabilities.inheritable().is_some() {
        capabilities.set_ambient(with(capabilities.ambient()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn process() -> Process {
        serde_json::from_value(json!({
            "terminal": true,
            "user": {"uid": 1, "gid": 2, "additionalGids": [3]},
            "args": ["sh"],
            "env": ["A=1"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {"bounding": ["CAP_KILL"]},
        }))
        .unwrap()
    }

    fn applied(changes: Changes) -> Process {
        changes.apply(process(), vec!["ls".into(), "-l".into()]).unwrap()
    }

    #[test]
    fn without_flags_only_the_command_and_the_terminal_differ() {
        let mut wanted = process();
        wanted.set_args(Some(vec!["ls".into(), "-l".into()])).set_terminal(Some(false));
        assert_eq!(applied(Changes::default()), wanted);
    }

    #[test]
    fn a_command_is_needed() {
        let error = Changes::default().apply(process(), Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "exec args cannot be empty");
    }

    #[test]
    fn flags_override_or_add() {
        let process = applied(Changes {
            cwd: Some("/tmp".into()),
            env: vec!["B=2".into()],
            tty: true,
            user: Some("7:8".into()),
            additional_gids: vec![9],
            process_label: Some("label".into()),
            apparmor: Some("profile".into()),
            no_new_privs: Some(false),
            cap: vec![],
        });
        assert_eq!(process.cwd(), Path::new("/tmp"));
        assert_eq!(process.env().as_ref().unwrap(), &["A=1", "B=2"]);
        assert_eq!(process.terminal(), Some(true));
        assert_eq!((process.user().uid(), process.user().gid()), (7, 8));
        assert_eq!(process.user().additional_gids().as_ref().unwrap(), &[3, 9]);
        assert_eq!(process.selinux_label().as_deref(), Some("label"));
        assert_eq!(process.apparmor_profile().as_deref(), Some("profile"));
        assert_eq!(process.no_new_privileges(), Some(false));
    }

    #[test]
    fn a_user_without_a_group_keeps_the_group() {
        let process = applied(Changes { user: Some("7".into()), ..Changes::default() });
        assert_eq!((process.user().uid(), process.user().gid()), (7, 2));
    }

    #[test]
    fn an_empty_folder_is_not_said() {
        let changed = applied(Changes { cwd: Some("".into()), ..Changes::default() });
        assert_eq!(changed, applied(Changes::default()));
    }

    #[test]
    fn what_is_no_user_is_refused() {
        for user in ["", "-1", "4294967295", "1:4294967295", "root", "1:", "1:2:3", "4294967296"] {
            let changes = Changes { user: Some(user.into()), ..Changes::default() };
            assert!(changes.apply(process(), vec!["x".into()]).is_err(), "{user}");
        }
    }

    #[test]
    fn capabilities_go_where_runc_puts_them() {
        let names = ["CAP_BPF", "CAP_BOGUS", "KILL", "cap_chown", "CAP_CAP_CHOWN"];
        let cap = names.map(Into::into).into();
        let process = applied(Changes { cap, ..Changes::default() });
        let sets = process.capabilities().as_ref().unwrap();
        let bpf = Capabilities::from([Capability::Bpf]);
        assert_eq!(
            sets.bounding().as_ref().unwrap(),
            &Capabilities::from([Capability::Kill, Capability::Bpf])
        );
        assert_eq!(sets.effective().as_ref(), Some(&bpf));
        assert_eq!(sets.permitted().as_ref(), Some(&bpf));
        assert_eq!((sets.inheritable(), sets.ambient()), (&None, &None));
    }
}
