//! The lab: a machine with systemd and a stock kernel, whatever the host is. It is a
//! virtual one, made of Debian's packages.
//!
//! [`recipe`] says what it is made of, [`image`] makes that, [`packages`] has the
//! tools. [`machine`] starts and ends it with the command line of [`qemu`],
//! [`boot`] waits for it, [`ssh`] gets in, [`transfer`] brings programs and
//! [`session`] runs them. [`cache`] is where all of it is kept, [`list`] shows it.
//! The disk's changes end with the machine: every boot is of a fresh one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub mod boot;
pub mod cache;
pub mod image;
pub mod list;
pub mod machine;
pub mod monitor;
pub mod packages;
pub mod progress;
pub mod qemu;
pub mod recipe;
pub mod session;
pub mod ssh;
pub mod transfer;

use cache::Cache;
use machine::Machine;
use progress::Progress;
use recipe::{Recipe, Which};
use ssh::{Ssh, User};
use transfer::Load;

/// What a copy may take.
const COPY: Duration = Duration::from_secs(20 * 60);

/// One machine of the lab, on or off.
#[derive(Debug)]
pub struct Lab {
    cache: Cache,
    which: Which,
    install: bool,
}

impl Lab {
    /// That one. `install` allows to install packages on the host.
    #[must_use]
    pub fn new(cache: Cache, which: Which, install: bool) -> Self {
        Self { cache, which, install }
    }

    /// Boots it if it is off; makes its image if there is none.
    ///
    /// # Errors
    /// It does not come up, or what runs is of an older recipe.
    pub fn up(&self) -> Result<Ssh> {
        let machine = self.machine();
        let _lock = cache::lock(&machine.folder)?;
        let recipe = Recipe { kernel: self.which.kernel };
        let Some(running) = machine.running()? else {
            packages::ensure(&self.cache, self.install)?;
            let image = image::ensure(&self.cache, &recipe)?;
            return boot::boot(&self.cache, &machine, &image);
        };
        ensure!(
            running.image == recipe.name(),
            "what runs is {}, but the recipe's image is now {}: end it with \"lab down\" first",
            running.image,
            recipe.name()
        );
        let port = monitor::Monitor::connect(&machine.folder)?.port()?;
        let ssh = Ssh { folder: machine.folder.clone(), port };
        if ssh.connected(User::Root) {
            return Ok(ssh);
        }
        boot::wait(&machine, running.accelerator, &format!("waiting for {}", self.which))
    }

    /// The same, with a connection of that user's and with these programs in it.
    ///
    /// # Errors
    /// As [`Lab::up`], and when a program cannot be copied.
    pub fn enter(&self, user: User, loads: &[Load]) -> Result<Ssh> {
        let ssh = self.up()?;
        // Two who come at once must not write one program together.
        let _lock = cache::lock(&ssh.folder)?;
        ssh.connect(user)?;
        if !loads.is_empty() {
            transfer::put(&ssh, loads)?;
        }
        Ok(ssh)
    }

    /// Ends it. False when it is off.
    ///
    /// # Errors
    /// It does not end.
    pub fn down(&self) -> Result<bool> {
        let machine = self.machine();
        let _lock = cache::lock(&machine.folder)?;
        machine.stop()
    }

    /// Copies files and folders into it, as root.
    ///
    /// # Errors
    /// scp's.
    pub fn copy(&self, files: &[PathBuf], to: &str) -> Result<()> {
        let files: Result<Vec<_>> = files
            .iter()
            .map(|file| file.canonicalize().with_context(|| format!("no {}", file.display())))
            .collect();
        let ssh = self.up()?;
        let log = ssh.folder.join("transfer.log");
        let (out, err) = progress::log(&log)?;
        let mut copy = ssh.copy(User::Root, &files?, to);
        let mut child = copy.stdout(out).stderr(err).spawn().context("starting scp")?;
        let mut progress = Progress::new(&format!("copying to {to}"));
        progress.wait(&mut child, COPY, &log)?;
        progress.done();
        Ok(())
    }

    /// All machines that run and all images, for a person.
    ///
    /// # Errors
    /// A machine's record cannot be read.
    pub fn list(&self) -> Result<String> {
        list::list(&self.cache)
    }

    fn machine(&self) -> Machine {
        Machine { folder: self.cache.machine(self.which), which: self.which }
    }
}

/// Cargo's target directory: three levels above this program.
///
/// # Errors
/// This program is somewhere else.
pub fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3).map(Path::to_owned);
    target.context("the target directory of this program")
}

/// Builds the runtime, and returns its program.
///
/// # Errors
/// When cargo cannot be started, or the build fails.
pub fn build_runtime(release: bool) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", "orlop-cli", "--bin", "orlop"]);
    if release {
        build.arg("--release");
    }
    // Cargo's settings are found from where it runs, and a relative CARGO_TARGET_DIR
    // is meant from where somebody else ran it: the one that built this program.
    build.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--target-dir").arg(target()?);
    let status = build.status().context("starting cargo")?;
    ensure!(status.success(), "the build of the runtime failed: {status}");
    let this = std::env::current_exe()?;
    let profiles = this.ancestors().nth(2).context("the directory of this program")?;
    Ok(profiles.join(if release { "release" } else { "debug" }).join("orlop"))
}
