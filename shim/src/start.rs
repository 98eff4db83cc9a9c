//! `start`: a socket, a server behind it, and where that is for containerd.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use orlop::bundle::LARGEST;
use orlop::host::Cgroups;
use orlop_init::sys::{self, Errno, abi};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::args::Args;
use crate::messages::Any;
use crate::messages::bootstrap::{BootstrapParams, BootstrapResult};
use crate::messages::options::{GENERIC, Options, RUNC};
use crate::outbox::Outbox;
use crate::shim::Shim;
use crate::stream::AT_ONCE;
use crate::{socket, step};

/// Where containerd has its shims' sockets.
const SOCKETS: &str = "/run/containerd/s";

/// The level of containerd's log from which on all is told.
const DEBUG: i32 = -4;

/// What tells which containers share a shim, the first that is there.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

pub(crate) fn start(args: &Args) -> Result<()> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).context("reading what containerd says")?;
    // What an older containerd says, options alone, can be read as these too, but does not
    // name what the arguments name.
    let params = BootstrapParams::decode(&*input)
        .ok()
        .filter(|params| params.instance_id == args.id && params.namespace == args.namespace);
    let options = options_of(params.as_ref(), &input)?;
    let sockets = params.as_ref().map(|params| params.socket_dir.as_str());
    let sockets = sockets.filter(|sockets| !sockets.is_empty()).unwrap_or(SOCKETS);
    let group = group_of(Path::new("."), &args.id)?;
    let path = socket_of(Path::new(sockets), args, &group);
    let address = format!("unix://{}", path.display());
    let debug = args.debug || params.as_ref().is_some_and(|params| params.log_level <= DEBUG);
    let events = params.as_ref().map(|params| params.ttrpc_address.clone());
    let events = events.filter(|address| !address.is_empty());
    let events = events.or_else(|| std::env::var("TTRPC_ADDRESS").ok()).unwrap_or_default();
    let parent = std::os::unix::process::parent_id();
    if params.is_none() {
        socket::tell(&address)?;
    }
    // What fails leaves no socket.
    share_cores_with_nobody()?;
    if let Some(listener) = socket::bind(&path)? {
        // Who is alone can be copied: the child serves, and the answer waits for nobody.
        match sys::copy::fork_alone() {
            Err(Errno(errno)) => {
                let _ = fs::remove_file(&path);
                bail!("forking: {}", orlop::error::errno_text(errno));
            }
            Ok(0) => {
                let served = serve(listener, path.clone(), args, (&events, parent, debug));
                sys::exit(i32::from(served.is_err()));
            }
            Ok(server) => {
                // Before there is any container, which would be born where it is.
                if let Err(error) = join(server, &options.shim_cgroup) {
                    end(server);
                    let _ = fs::remove_file(&path);
                    return Err(error);
                }
            }
        }
    }
    let reply = match params {
        Some(_) => {
            let protocol = "ttrpc".to_owned();
            BootstrapResult { version: 3, address, protocol, ..Default::default() }.encode_to_vec()
        }
        None => address.into_bytes(),
    };
    let mut stdout = std::io::stdout();
    stdout.write_all(&reply).and_then(|()| stdout.flush()).context("answering")
}

/// What containerd says of the runtime, in either way; and the host.
fn options_of(params: Option<&BootstrapParams>, input: &[u8]) -> Result<Options> {
    let any = match params {
        Some(params) => params.extensions.iter().find_map(|extension| extension.value.clone()),
        None => Any::decode(input).ok(),
    };
    let any = any.filter(|any| matches!(any.name(), RUNC | GENERIC));
    crate::options::of(any).map_err(|failure| anyhow!(failure.message))
}

/// Where containerd is told to (`SCHED_CORE`), nobody else runs on the other threads of a
/// processor core that a process of this shim runs on. The server inherits that, and from
/// it each container (core-scheduling.rst).
fn share_cores_with_nobody() -> Result<()> {
    if std::env::var_os("SCHED_CORE").is_none_or(|value| value.is_empty()) {
        return Ok(());
    }
    let (create, group) = (abi::PR_SCHED_CORE_CREATE, abi::PR_SCHED_CORE_SCOPE_PROCESS_GROUP);
    sys::prctl(abi::PR_SCHED_CORE, create, 0, group).map(drop).map_err(|Errno(errno)| {
        anyhow!("SCHED_CORE: core scheduling: {}", orlop::error::errno_text(errno))
    })
}

/// Puts the server into a cgroup, in every hierarchy that has it.
fn join(server: i32, cgroup: &str) -> Result<()> {
    if cgroup.is_empty() {
        return Ok(());
    }
    let path = Path::new(cgroup.trim_start_matches('/'));
    if path.components().any(|part| part == Component::ParentDir) {
        bail!("the shim's cgroup {cgroup:?} leads out of the hierarchy");
    }
    let mounts = match Cgroups::probe()? {
        Cgroups::None => Vec::new(),
        Cgroups::Unified { mount, .. } => vec![mount],
        Cgroups::Legacy { hierarchies } => {
            hierarchies.into_iter().map(|hierarchy| hierarchy.mount).collect()
        }
    };
    let mut joined = false;
    for procs in mounts.iter().map(|mount| mount.join(path).join("cgroup.procs")) {
        match fs::write(&procs, server.to_string()) {
            Ok(()) => joined = true,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("joining {procs:?}")),
        }
    }
    if !joined {
        bail!("there is no cgroup {cgroup:?} for the shim");
    }
    Ok(())
}

fn end(server: i32) {
    if let Some(server) = rustix::process::Pid::from_raw(server) {
        let _ = rustix::process::kill_process(server, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(server), rustix::process::WaitOptions::empty());
    }
}

fn group_of(bundle: &Path, id: &str) -> Result<String> {
    let path = bundle.join("config.json");
    let text = match crate::options::read(&path, LARGEST) {
        Ok(text) => text,
        // A sandbox has none.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(id.to_owned()),
        Err(error) => return Err(error).context("reading config.json"),
    };
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        annotations: Option<std::collections::BTreeMap<String, String>>,
    }
    let config: Config = serde_json::from_str(&text).context("reading config.json")?;
    let annotations = config.annotations.unwrap_or_default();
    let group = GROUPS.iter().find_map(|name| annotations.get(*name));
    Ok(group.map_or(id, String::as_str).to_owned())
}

fn socket_of(sockets: &Path, args: &Args, group: &str) -> PathBuf {
    // As containerd's own shim joins them. A group that looks like a path is a name all the
    // same: it must not be that of another namespace's.
    let name = format!("{}/{}/{group}", args.address, args.namespace);
    let digest = Sha256::digest(name);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    sockets.join(hex)
}

fn serve(
    listener: UnixListener,
    path: PathBuf,
    args: &Args,
    (events, parent, debug): (&str, u32, bool),
) -> Result<()> {
    let _ = rustix::process::setsid();
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    // containerd holds its end open; nobody reads where it is not.
    let log = File::options().read(true).write(true).custom_flags(AT_ONCE).open("log");
    rustix::stdio::dup2_stderr(log.as_ref().unwrap_or(&null))?;
    crate::log::start(log.unwrap_or(null), debug);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    raise_oom_score(parent);
    step::take_descriptors();
    let result = Shim::new(listener, path, &args.namespace, Outbox::new(events, &args.namespace));
    let mut shim = result.inspect_err(|error| ::log::error!("starting: {error}"))?;
    shim.run();
    Ok(())
}

/// The kernel shall rather end the shim than containerd.
fn raise_oom_score(parent: u32) {
    let path = "/proc/self/oom_score_adj";
    let score = fs::read_to_string(format!("/proc/{parent}/oom_score_adj"));
    let score = score.ok().and_then(|score| score.trim().parse::<i32>().ok());
    if let Some(score) = score {
        let _ = fs::write(path, (score + 1).min(1000).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_of_one_namespace_whatever_it_is_called() {
        let of = |namespace: &str, group: &str| {
            let (address, namespace) = ("/daemon".to_owned(), namespace.to_owned());
            socket_of(Path::new("/s"), &Args { address, namespace, ..Args::default() }, group)
        };
        let digest = Sha256::digest("/daemon/one/a");
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(of("one", "a"), Path::new("/s").join(hex));
        for group in ["/a", "../two/a", "a"] {
            assert_ne!(of("one", group), of("two", group), "{group}");
        }
        assert_ne!(of("one", "../two/a"), of("two", "a"));
    }
}
