//! What the machine is made of. PURE: no file is read and nothing is started.
//!
//! Whatever changes the image is in [`Recipe::text`], whose hash is the image's
//! name. The mirror is not: every mirror has the same packages.

use std::fmt;
use std::fmt::Write as _;

use clap::{Args, ValueEnum};

const CUSTOMIZE: &str = include_str!("../../machine/customize.sh");
const DISK: &str = include_str!("../../machine/disk.sh");
const INITRD: &str = include_str!("../../machine/initrd.sh");

/// The release that everything but the kernel is from.
const RELEASE: &str = "trixie";

/// Sparse: what nobody writes takes no room.
const DISK_SIZE: &str = "16G";

const PACKAGES: &[&str] = &[
    "systemd-sysv",
    "udev",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "openssh-server",
    "kmod",
    "iproute2",
    "procps",
    "uidmap",
    "busybox-static",
    "strace",
    "criu",
    "iptables",
    "apparmor",
    "selinux-policy-default",
    "policycoreutils",
    "keyutils",
    "crun",
    "runc",
];

/// What nobody reads in there.
const LEFT_OUT: &[&str] = &["doc", "man", "locale", "info"];

/// Whose kernel the machine runs: that of a release of Debian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// Linux 6.1
    Bookworm,
    /// Linux 6.12
    Trixie,
    /// The newest that Debian had when the image was made
    Sid,
}

impl Kernel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bookworm, Self::Trixie, Self::Sid];

    /// The release's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    fn package(self) -> String {
        format!("linux-image-amd64/{}", self.name())
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The security module that names what a process may do: of these one can be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lsm {
    /// As Debian's kernel has it by itself
    Apparmor,
    /// Enforced, with Debian's policy
    Selinux,
}

impl Lsm {
    /// Its name, which is the kernel's too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Apparmor => "apparmor",
            Self::Selinux => "selinux",
        }
    }
}

/// How systemd has the cgroups mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cgroups {
    /// cgroup v2 alone, as Debian has it
    V2,
    /// The controllers in cgroup v1, and v2 beside them for systemd's own
    Hybrid,
    /// cgroup v1 alone
    V1,
}

impl Cgroups {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
            Self::V1 => "v1",
        }
    }
}

/// Which of the machines: there is one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Which {
    /// Whose kernel it runs; everything else is trixie's
    #[arg(long, global = true, value_enum, default_value = "trixie")]
    pub kernel: Kernel,
    /// Which security module is on in it
    #[arg(long, global = true, value_enum, default_value = "apparmor")]
    pub lsm: Lsm,
    /// How cgroups are mounted in it
    #[arg(long, global = true, value_enum, default_value = "v2")]
    pub cgroups: Cgroups,
}

impl Which {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let cgroups = [Cgroups::V2, Cgroups::Hybrid, Cgroups::V1];
        let lsms = [Lsm::Apparmor, Lsm::Selinux];
        let of = move |(kernel, lsm)| cgroups.map(|cgroups| Self { kernel, lsm, cgroups });
        let pairs = move |kernel| lsms.map(|lsm| (kernel, lsm));
        Kernel::ALL.into_iter().flat_map(pairs).flat_map(of)
    }

    /// Its name: the kernel's, with what is not as Debian has it.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = self.kernel.to_string();
        if self.lsm != Lsm::Apparmor {
            let _ = write!(name, "-{}", self.lsm.name());
        }
        if self.cgroups != Cgroups::V2 {
            let _ = write!(name, "-{}", self.cgroups.name());
        }
        name
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// How an image is made.
#[derive(Debug)]
pub struct Recipe {
    /// Whose kernel.
    pub kernel: Kernel,
}

impl Recipe {
    /// The name of the image: the kernel and a hash of all that makes it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{:016x}", self.kernel, hash(&self.text()))
    }

    /// All that makes the image, for the hash and for a person.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.bootstrap("root", "MIRROR").join("\n");
        for script in [CUSTOMIZE, DISK, INITRD, DISK_SIZE] {
            let _ = write!(text, "\n---\n{script}");
        }
        text
    }

    /// mmdebstrap's arguments; the result is `root.tar`. `mode` is how it gets the
    /// ids that it needs, `mirror` where Debian's packages are.
    #[must_use]
    pub fn bootstrap(&self, mode: &str, mirror: &str) -> Vec<String> {
        let mut packages = PACKAGES.join(",");
        let _ = write!(packages, ",{}", self.kernel.package());
        let mut words = vec![
            format!("--mode={mode}"),
            "--variant=minbase".to_owned(),
            "--format=tar".to_owned(),
            "--architectures=amd64".to_owned(),
            "--aptopt=APT::Install-Recommends \"false\"".to_owned(),
            // Of two versions it takes this release's, unless asked for another.
            format!("--aptopt=APT::Default-Release \"{RELEASE}\""),
            "--dpkgopt=force-unsafe-io".to_owned(),
            format!("--include={packages}"),
            format!("--customize-hook={CUSTOMIZE}"),
        ];
        words.extend(LEFT_OUT.iter().map(|it| format!("--dpkgopt=path-exclude=/usr/share/{it}/*")));
        words.extend([RELEASE.to_owned(), "root.tar".to_owned()]);
        words.push(format!("deb {mirror} {RELEASE} main"));
        if self.kernel.name() != RELEASE {
            // A mirror may stand still for longer than a release file of sid says that
            // it is good; it is signed all the same.
            words.push(format!("deb [check-valid-until=no] {mirror} {} main", self.kernel));
        }
        words
    }

    /// The shell's arguments that make disk, kernel and initrd of `root.tar`.
    #[must_use]
    pub fn disk(&self) -> [&'static str; 5] {
        ["-c", DISK, "disk.sh", INITRD, DISK_SIZE]
    }
}

/// FNV-1a, 64 bits: nobody attacks the name of an image, and it is the same with
/// every compiler.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv() {
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn every_kernel_has_an_image_of_its_own_and_the_same_user_space() {
        let names: Vec<_> = Kernel::ALL.map(|kernel| Recipe { kernel }.name()).into();
        for (name, kernel) in names.iter().zip(Kernel::ALL) {
            assert!(name.starts_with(kernel.name()), "{name}");
            assert_eq!(name.len(), kernel.name().len() + 17);
            let words = Recipe { kernel }.bootstrap("root", "M");
            assert!(words.contains(&"trixie".to_owned()));
            assert!(words.iter().any(|word| word == "deb M trixie main"));
            let suite = format!(" M {kernel} main");
            assert!(words.iter().any(|word| word.ends_with(&suite)), "{words:?}");
        }
    }

    #[test]
    fn every_machine_has_a_name_of_its_own() {
        let mut names: Vec<_> = Which::all().map(Which::name).collect();
        assert_eq!(names.len(), 18);
        assert_eq!(names[6..8], ["trixie", "trixie-hybrid"]);
        assert_eq!(names[9], "trixie-selinux");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 18);
    }

    #[test]
    fn the_text_holds_everything_but_the_machine_that_builds() {
        let recipe = Recipe { kernel: Kernel::Trixie };
        let text = recipe.text();
        for part in [CUSTOMIZE, DISK, INITRD, DISK_SIZE, "crun,", "linux-image-amd64/trixie"] {
            assert!(text.contains(part), "{part}");
        }
        for word in recipe.bootstrap("root", "MIRROR") {
            assert!(text.contains(&word), "{word}");
        }
        assert_eq!(text, Recipe { kernel: Kernel::Trixie }.text());
    }
}
