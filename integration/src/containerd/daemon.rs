//! The engine: a containerd of our own, and its client.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::cri::messages::Empty;
use super::cri::{self, BY_PATH, HANDLER};
use super::image;
use crate::apt;
use crate::command::{self, Output};
use crate::engine::server::Server;
use crate::engine::{self, PATIENCE};

/// The name of the imported image.
pub const IMAGE: &str = "docker.io/library/busybox:orlop";

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    server: Server,
    directory: TempDir,
    /// The root file system, for containers without a snapshot.
    root: PathBuf,
    namespace: String,
    pods: String,
    runtime: String,
    last: Cell<u32>,
}

impl Daemon {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It does not come up; the error names its log.
    pub fn start(shim: &Path, runtime: &str, systemd_cgroup: bool, log: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("orlop-engines-").tempdir()?;
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("shim.toml"), systemd(systemd_cgroup))?;
        fs::write(path("config.toml"), config(&path, runtime, shim, systemd_cgroup))?;
        let program = apt::installed("containerd").context("containerd is not installed")?;
        let shims = shim.parent().context("the directory of the shim")?.display();
        let mut containerd = Command::new(program);
        containerd.arg("--config").arg(path("config.toml"));
        // As with the client: a folder of a session, in which it would have files.
        containerd.env("PATH", format!("{shims}:{SYSTEM}")).env_remove("XDG_RUNTIME_DIR");
        let daemon = Self {
            server: Server::start(containerd, log)?,
            root: image::root(directory.path())?,
            namespace: engine::cgroup_parent(false),
            pods: engine::cgroup_parent(systemd_cgroup),
            runtime: runtime.to_owned(),
            last: Cell::new(0),
            directory,
        };
        if let Err(error) = daemon.wait() {
            drop(daemon.stop());
            return Err(error.context(format!("its log is {}", log.display())));
        }
        Ok(daemon)
    }

    fn wait(&self) -> Result<()> {
        // Its plugin for Kubernetes looks for pods of an earlier time before it answers.
        self.server.wait(|| {
            self.ctr(&["version"]).is_ok_and(|output| output.code == 0)
                && cri::call::<Empty>(&self.socket(), "Version", &Empty {}).is_ok()
        })
    }

    /// Ends it as the kernel would, and waits for its end. Its shims stay.
    ///
    /// # Errors
    /// The kernel's.
    pub fn kill(&self) -> Result<()> {
        self.server.kill()
    }

    /// Starts it again after that.
    ///
    /// # Errors
    /// It does not come up.
    pub fn revive(&self) -> Result<()> {
        self.server.again()?;
        self.wait()
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The name of the runtime under test.
    #[must_use]
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    /// containerd's namespace, which is also the cgroup below which its containers are.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The cgroup below which pods are: that one too, or a slice of systemd's.
    #[must_use]
    pub fn pods(&self) -> &str {
        &self.pods
    }

    /// Where a check may put files of the host.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A root file system that no snapshotter made.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a container, as containerd keeps it while there is a task.
    #[must_use]
    pub fn bundle(&self, id: &str) -> PathBuf {
        let tasks = self.directory.path().join("state/io.containerd.runtime.v2.task");
        tasks.join(&self.namespace).join(id)
    }

    /// A name that no container or process has had.
    #[must_use]
    pub fn fresh(&self, word: &str) -> String {
        self.last.set(self.last.get() + 1);
        format!("{word}-{}", self.last.get())
    }

    /// A client command that is still to be run.
    ///
    /// # Errors
    /// ctr is not installed.
    pub fn client(&self, arguments: &[&str]) -> Result<Command> {
        let mut ctr = Command::new(apt::installed("ctr").context("no ctr")?);
        ctr.arg("--address").arg(self.socket());
        ctr.args(["--namespace", &self.namespace]).args(arguments);
        // Neither folders of a session, of which there are none in our /run, nor words
        // about the daemon among those of a container.
        ctr.env_remove("XDG_RUNTIME_DIR").env("CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS", "true");
        Ok(ctr)
    }

    /// Runs a client command to its end.
    ///
    /// # Errors
    /// It cannot be started or does not end; its own failure is in the output.
    pub fn ctr(&self, arguments: &[&str]) -> Result<Output> {
        let mut output = command::run(&mut self.client(arguments)?, "", PATIENCE)?;
        output.line = format!("ctr {}", arguments.join(" "));
        Ok(output)
    }

    /// The same with standard input, which ends some time after the process was started:
    /// ctr forgets the end of one that it sees earlier.
    ///
    /// # Errors
    /// As [`Daemon::ctr`].
    pub fn ctr_with_input(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let client = self.client(arguments)?;
        let mut shell = Command::new("sh");
        shell.args(["-c", "{ cat; sleep 2; } | \"$@\"", "sh"]);
        shell.arg(client.get_program()).args(client.get_args());
        for (name, value) in client.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let mut output = command::run(&mut shell, input, PATIENCE)?;
        output.line = format!("ctr {}", arguments.join(" "));
        Ok(output)
    }

    /// Standard output of a client command that must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn must(&self, arguments: &[&str]) -> Result<String> {
        self.ctr(arguments)?.success()
    }

    /// `ctr run --rm OPTIONS IMAGE ID PROGRAM`
    ///
    /// # Errors
    /// As [`Daemon::ctr`].
    pub fn run(&self, options: &[&str], program: &[&str]) -> Result<Output> {
        let id = self.fresh("run");
        let run = ["run", "--rm", "--runtime", &self.runtime];
        self.ctr(&[&run[..], options, &[IMAGE, &id], program].concat())
    }

    /// Makes the image, and one for Kubernetes.
    ///
    /// # Errors
    /// The client's.
    pub fn import_image(&self) -> Result<()> {
        let folder = self.directory.path().join("image");
        fs::create_dir_all(&folder)?;
        let archive = image::archive(&self.root, &folder, IMAGE)?;
        let import = ["images", "import", &archive.to_string_lossy()];
        self.must(&import).context("importing")?;
        self.must(&[&["--namespace", cri::NAMESPACE], &import[..]].concat())
            .context("importing")?;
        cri::wait_for_image(self)?;
        fs::remove_dir_all(folder).context("removing the archive")
    }

    /// The names of containers, tasks, or snapshots.
    ///
    /// # Errors
    /// The client's.
    pub fn list(&self, command: &[&str]) -> Result<Vec<String>> {
        let text = self.must(command)?;
        let names = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        Ok(names.map(ToOwned::to_owned).collect())
    }

    /// Removes all tasks, containers and pods.
    ///
    /// # Errors
    /// One that cannot be removed.
    pub fn clear(&self) -> Result<()> {
        for task in self.list(&["tasks", "list"])? {
            self.must(&["tasks", "delete", "--force", &task])?;
        }
        for container in self.list(&["containers", "list"])? {
            self.must(&["containers", "delete", &container])?;
        }
        cri::clear(self)
    }

    /// Stops it. Returns its directory, for a look at what is left, and whether it
    /// ended by itself.
    #[must_use]
    pub fn stop(self) -> (TempDir, bool) {
        let ended = self.server.end();
        (self.directory, ended)
    }
}

/// Where everything else is that it starts.
const SYSTEM: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration, in a version that all of them read.
fn config(
    path: &impl Fn(&str) -> String,
    runtime: &str,
    shim: &Path,
    systemd_cgroup: bool,
) -> String {
    // A sandbox is to be killed late, which some hosts do not let us say.
    let restricted = !lowers_oom_scores();
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    let [root, state, plugins] = ["root", "state", "plugins"].map(path);
    let [socket, networks, programs] = ["socket", "networks", "network-programs"].map(path);
    let (shim_config, systemd) = (path("shim.toml"), systemd(systemd_cgroup));
    format!(
        "version = 2\nroot = {root:?}\nstate = {state:?}\nplugin_dir = {plugins:?}\n\
         disabled_plugins = [\"io.containerd.internal.v1.opt\"]\n\
         [grpc]\naddress = {socket:?}\n\
         [{cri}]\nsandbox_image = {IMAGE:?}\nrestrict_oom_score_adj = {restricted}\n\
         [{cri}.cni]\nconf_dir = {networks:?}\nbin_dir = {programs:?}\n\
         [{cri}.containerd]\ndefault_runtime_name = {HANDLER:?}\n\
         [{cri}.containerd.runtimes.{HANDLER}]\nruntime_type = {runtime:?}\n\
         [{cri}.containerd.runtimes.{HANDLER}.options]\nConfigPath = {shim_config:?}\n\
         [{cri}.containerd.runtimes.{BY_PATH}]\nruntime_type = \"io.containerd.runc.v2\"\n\
         runtime_path = {shim:?}\n\
         [{cri}.containerd.runtimes.{BY_PATH}.options]\n{systemd}"
    )
}

/// What a shim is told of who makes the cgroups.
fn systemd(asked: bool) -> String {
    format!("SystemdCgroup = {asked}\n")
}

/// Whether we have `CAP_SYS_RESOURCE`.
fn lowers_oom_scores() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:\t"));
    set.is_some_and(|set| u64::from_str_radix(set, 16).is_ok_and(|set| set & 1 << 24 != 0))
}
