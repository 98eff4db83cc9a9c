//! The command line of the machine. PURE.
//!
//! As little hardware as a stock kernel boots on: each device that is not there
//! is a driver that an emulated processor need not load.

use std::fmt;

use anyhow::{Context, Result};

use super::recipe::{Cgroups, Lsm, Which};

/// The program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// The first that emulates what current kernels use; 7.2 crashes them in cmpxchg16b.
pub const EMULATES_SINCE: u32 = 10;

/// The disk's own, the console's and the network's names are what the image expects.
const APPEND: &str = "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=-1 \
    systemd.ssh_auto=no";

const CPUS: &str = "2";
const MEMORY: &str = "3G";

/// Files in the machine's folder, which is QEMU's working directory: a socket's
/// path must be short.
pub const PID: &str = "qemu.pid";
/// QEMU's monitor.
pub const MONITOR: &str = "monitor.sock";
/// What QEMU itself says.
pub const LOG: &str = "qemu.log";
/// What the kernel and systemd say.
pub const CONSOLE: &str = "console.log";
/// A link to the image.
pub const IMAGE: &str = "image";

/// Who executes the instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's compiler.
    Tcg,
}

impl Accelerator {
    /// QEMU's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Kvm, Self::Tcg].into_iter().find(|one| one.name() == name)
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// QEMU's arguments. It goes to the background once everything is set up. The
/// disk's changes are in a file that has no name, and end with the machine.
#[must_use]
pub fn arguments(accelerator: Accelerator, which: Which) -> Vec<String> {
    let engine = match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg,thread=multi",
    };
    let file = |name: &str| format!("{IMAGE}/{name}");
    // Port 0: the kernel finds a free one, and the monitor tells which. Nothing
    // goes out of there.
    let network = "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22";
    let drive = format!("file={},format=raw,if=none,id=disk,snapshot=on", file("disk.ext4"));
    let cgroups = hierarchies(which.cgroups);
    let mut append = format!("{APPEND} {cgroups} security={}", which.lsm.name());
    if which.lsm == Lsm::Selinux {
        append.push_str(" enforcing=1"); // its package would only have it warn
    }
    let (kernel, initrd) = (file("kernel"), file("initrd"));
    let (console, monitor) =
        (format!("file:{CONSOLE}"), format!("unix:{MONITOR},server=on,wait=off"));
    let words = [
        // Its clocks let a kernel find out how fast its processor is, however loaded the
        // host is; QEMU's smallest machine has none.
        &["-machine", "q35,sata=off,smbus=off,i8042=off,usb=off,vmport=off,graphics=off"],
        &["-accel", engine],
        // No machines inside of the machine.
        &["-cpu", "max,-svm,-vmx"],
        &["-smp", CPUS],
        &["-m", MEMORY],
        &["-drive", &drive],
        &["-device", "virtio-blk-pci,drive=disk"],
        &["-netdev", network],
        &["-device", "virtio-net-pci,netdev=net,romfile="],
        &["-device", "virtio-rng-pci"],
        &["-kernel", &kernel],
        &["-initrd", &initrd],
        &["-append", &append],
        &["-serial", &console],
        &["-qmp", &monitor],
        &["-display", "none"],
        &["-pidfile", PID],
        &["-D", LOG],
    ];
    let flags = ["-nodefaults", "-no-user-config", "-no-reboot", "-daemonize"];
    flags.into_iter().chain(words.into_iter().flatten().copied()).map(str::to_owned).collect()
}

/// What tells systemd how to mount cgroups. One that calls v1 legacy (256 and later)
/// wants to be told twice.
fn hierarchies(cgroups: Cgroups) -> &'static str {
    match cgroups {
        Cgroups::V2 => "systemd.unified_cgroup_hierarchy=1",
        Cgroups::Hybrid => {
            "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
        }
        Cgroups::V1 => {
            "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 \
             systemd.legacy_systemd_cgroup_controller=1"
        }
    }
}

/// The major number in what `--version` prints.
///
/// # Errors
/// There is none.
pub fn version(text: &str) -> Result<u32> {
    let number = text.split("version ").nth(1).and_then(|rest| rest.split('.').next());
    number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("QEMU does not say its version: {text}"))
}

/// The forwarded port in what the monitor's `info usernet` prints.
#[must_use]
pub fn port(usernet: &str) -> Option<u16> {
    let line = usernet.lines().find(|line| line.contains("TCP[HOST_FORWARD]"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::recipe::Kernel;
    use super::*;

    const USUAL: Which = Which { kernel: Kernel::Trixie, lsm: Lsm::Apparmor, cgroups: Cgroups::V2 };

    fn value(words: &[String], option: &str) -> String {
        let at = words.iter().position(|word| word == option).unwrap();
        words[at + 1].clone()
    }

    #[test]
    fn the_machine_has_one_way_in_and_none_out() {
        for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
            let words = arguments(accelerator, USUAL);
            let network = value(&words, "-netdev");
            assert!(network.contains("restrict=on"), "{network}");
            let forwards: Vec<_> = network.match_indices("hostfwd=").collect();
            assert_eq!(forwards.len(), 1, "{network}");
            assert!(network.ends_with("hostfwd=tcp:127.0.0.1:0-:22"), "{network}");
            assert_eq!(words.iter().filter(|word| *word == "-netdev").count(), 1);
        }
    }

    #[test]
    fn the_image_is_not_written() {
        let words = arguments(Accelerator::Tcg, USUAL);
        let drive = value(&words, "-drive");
        assert!(drive.starts_with("file=image/disk.ext4,") && drive.ends_with("snapshot=on"));
        assert_eq!(words.iter().filter(|word| *word == "-drive").count(), 1);
    }

    #[test]
    fn the_accelerator_is_the_one_that_was_asked_for() {
        assert_eq!(value(&arguments(Accelerator::Kvm, USUAL), "-accel"), "kvm");
        assert_eq!(value(&arguments(Accelerator::Tcg, USUAL), "-accel"), "tcg,thread=multi");
        for one in [Accelerator::Kvm, Accelerator::Tcg] {
            assert_eq!(Accelerator::named(one.name()), Some(one));
        }
        assert_eq!(Accelerator::named("xen"), None);
    }

    #[test]
    fn the_security_module_is_the_one_that_was_asked_for() {
        for lsm in [Lsm::Apparmor, Lsm::Selinux] {
            let append = value(&arguments(Accelerator::Tcg, Which { lsm, ..USUAL }), "-append");
            assert!(append.contains(&format!(" security={}", lsm.name())), "{append}");
            assert_eq!(append.contains("enforcing=1"), lsm == Lsm::Selinux);
        }
    }

    #[test]
    fn cgroups_are_mounted_as_was_asked_for() {
        let append =
            |cgroups| value(&arguments(Accelerator::Tcg, Which { cgroups, ..USUAL }), "-append");
        let (legacy, alone) = ("unified_cgroup_hierarchy=0", "legacy_systemd_cgroup_controller=1");
        assert!(append(Cgroups::V2).contains("unified_cgroup_hierarchy=1"));
        let hybrid = append(Cgroups::Hybrid);
        assert!(hybrid.contains(legacy) && !hybrid.contains(alone), "{hybrid}");
        let v1 = append(Cgroups::V1);
        assert!(v1.contains(legacy) && v1.contains(alone), "{v1}");
    }

    #[test]
    fn versions_are_read() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\n";
        assert_eq!(version(debian).unwrap(), 10);
        assert_eq!(version("QEMU emulator version 7.2.22 (x)").unwrap(), 7);
        assert!(version("").is_err() && version("version x.y").is_err());
    }

    #[test]
    fn the_port_is_read() {
        let text = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest.\r\n  \
                    TCP[HOST_FORWARD]  13       127.0.0.1 38939       10.0.2.15    22     0     0\r\n";
        assert_eq!(port(text), Some(38939));
        assert_eq!(port("Hub -1 (net):\r\n"), None);
    }
}
