//! From a machine that is off to one that lets us in.
//!
//! `/dev/kvm` can be there and yet boot no stock kernel, so the first boot tries
//! it with a deadline, and what came of it is remembered.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::cache::Cache;
use super::image::Image;
use super::machine::{self, Machine};
use super::monitor::Monitor;
use super::packages;
use super::progress::{self, Progress};
use super::qemu::{self, Accelerator};
use super::ssh::{Ssh, User};

/// When a kernel that boots has said its first word.
const FIRST_WORD: Duration = Duration::from_secs(20);

/// What a question to systemd may take.
const ANSWER: Duration = Duration::from_secs(60);

/// What a whole boot may take.
fn limit(accelerator: Accelerator) -> Duration {
    match accelerator {
        Accelerator::Kvm => Duration::from_secs(90),
        // 25 to 60 s on two cores that do nothing else.
        Accelerator::Tcg => Duration::from_secs(400),
    }
}

/// Boots an image. The caller has the machine's lock, and knows that it is off.
///
/// # Errors
/// It does not boot; the error names the logs.
pub fn boot(cache: &Cache, machine: &Machine, image: &Image) -> Result<Ssh> {
    let Some(host) = kvm_host()? else { return boot_with(machine, image, Accelerator::Tcg) };
    let file = cache.accelerator();
    let text = fs::read_to_string(&file).unwrap_or_default();
    if let Some(accelerator) = verdict(&text, &host) {
        return boot_with(machine, image, accelerator);
    }
    let (word, result) = match boot_with(machine, image, Accelerator::Kvm) {
        Ok(ssh) => (Accelerator::Kvm, Ok(ssh)),
        Err(error) => {
            eprintln!("/dev/kvm is there but boots nothing: {error:#}");
            machine.kill()?;
            (Accelerator::Tcg, boot_with(machine, image, Accelerator::Tcg))
        }
    };
    // One that boots with neither says nothing about KVM.
    if result.is_ok() {
        fs::write(&file, format!("{word} {host}\n"))
            .with_context(|| format!("writing {}", file.display()))?;
    }
    result
}

/// What the verdict about KVM depends on; `None` when there is no KVM for us.
fn kvm_host() -> Result<Option<String>> {
    let kvm = Path::new("/dev/kvm");
    if File::options().read(true).write(true).open(kvm).is_err() {
        return Ok(None);
    }
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let (_, version) = packages::qemu()?;
    Ok(Some(format!("Linux {} QEMU {version}", kernel.trim())))
}

/// The verdict for this host in the file's text.
fn verdict(text: &str, host: &str) -> Option<Accelerator> {
    let (word, rest) = text.trim_end().split_once(' ')?;
    Accelerator::named(word).filter(|_| rest == host)
}

fn boot_with(machine: &Machine, image: &Image, accelerator: Accelerator) -> Result<Ssh> {
    machine.start(image, accelerator)?;
    let what = format!("booting {}, Linux {}, {accelerator}", machine.which, image.release());
    let ssh = wait(machine, accelerator, &what)?;
    let state = ssh.ask("systemctl is-system-running", ANSWER)?;
    if state.stdout != "running" {
        let failed = ssh.ask("systemctl list-units --failed --plain --no-legend", ANSWER)?;
        let console = machine.folder.join(qemu::CONSOLE);
        bail!("systemd is {} after the boot: {}; {}", state.stdout, failed.stdout, said(&console));
    }
    Ok(ssh)
}

/// Waits until a machine that was started has booted, and connects.
///
/// # Errors
/// It ends or does not get there in time; the error names the logs.
pub fn wait(machine: &Machine, accelerator: Accelerator, what: &str) -> Result<Ssh> {
    let console = machine.folder.join(qemu::CONSOLE);
    let (limit, log) = (limit(accelerator), machine.folder.join(qemu::LOG));
    let mut progress = Progress::new(what);
    let port = Monitor::connect(&machine.folder).and_then(|mut monitor| monitor.port());
    let port = port.with_context(|| said(&log))?;
    let ssh = Ssh { folder: machine.folder.clone(), port };
    while !ssh.answers() {
        let seconds = progress.elapsed();
        ensure!(
            machine::runs(&machine.folder),
            "the machine ended while booting: {} and {}",
            said(&log),
            said(&console)
        );
        let silent = fs::metadata(&console).map_or(0, |data| data.len()) == 0;
        if accelerator == Accelerator::Kvm && silent && seconds > FIRST_WORD {
            bail!("the kernel has said nothing in {seconds:.0?}: {}", said(&log));
        }
        ensure!(seconds < limit, "not up after {seconds:.0?}: {}", said(&console));
        thread::sleep(Duration::from_millis(200));
        progress.tick(|| progress::last_line(&console));
    }
    ssh.connect(User::Root)?;
    let rest = limit.saturating_sub(progress.elapsed());
    // What it says is of the boot only: later on a command may have left it degraded.
    ssh.ask("systemctl is-system-running --wait", rest)?;
    progress.done();
    Ok(ssh)
}

/// What a log ends with, and where it is.
fn said(log: &Path) -> String {
    format!("{:?}, the log is {}", progress::last_line(log), log.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_for_one_host() {
        let host = "Linux 6.1.0 QEMU 10";
        assert_eq!(verdict("tcg Linux 6.1.0 QEMU 10\n", host), Some(Accelerator::Tcg));
        assert_eq!(verdict("kvm Linux 6.1.0 QEMU 10\n", host), Some(Accelerator::Kvm));
        assert_eq!(verdict("kvm Linux 6.1.0 QEMU 11\n", host), None);
        assert_eq!(verdict("xen Linux 6.1.0 QEMU 10\n", host), None);
        assert_eq!(verdict("", host), None);
    }
}
