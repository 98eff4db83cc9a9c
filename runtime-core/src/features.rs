//! What this build can do, whatever the host can (runtime-spec, features.md).
//!
//! The lists say what the library carries out; engines decide by them. containerd
//! turns recursive read-only mounts on by `rro`, and pods' user namespaces by `user`
//! with `mountExtensions.idmap`.

use std::collections::BTreeMap;

use serde::Serialize;

/// The newest version of the runtime specification whose fields are all known.
pub const SPEC: &str = "1.3.0";

/// Written, it is the structure of the specification. A field that is absent is not known
/// to the reader.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: &'static [&'static str],
    mount_options: &'static [&'static str],
    linux: Linux,
    annotations: BTreeMap<String, String>,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: &'static [&'static str],
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    memory_policy: MemoryPolicy,
    intel_rdt: IntelRdt,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: &'static [&'static str],
    operators: &'static [&'static str],
    archs: &'static [&'static str],
    known_flags: &'static [&'static str],
    supported_flags: &'static [&'static str],
}

#[derive(Debug, Serialize)]
struct MemoryPolicy {
    modes: &'static [&'static str],
    flags: &'static [&'static str],
}

#[derive(Debug, Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

#[derive(Debug, Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Debug, Serialize)]
struct Enabled {
    enabled: bool,
}

const HOOKS: &[&str] =
    &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

const NAMESPACES: &[&str] = &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

const ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const OPERATORS: &[&str] = &[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

const MEMORY_MODES: &[&str] = &[
    "MPOL_BIND",
    "MPOL_DEFAULT",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

const MEMORY_FLAGS: &[&str] =
    &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// All that a config may name: those that a machine can't run say nothing there.
const ARCHS: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

const FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// What the library can do; `annotations` say what whoever links it has to say of itself.
#[must_use]
pub fn features(mut annotations: BTreeMap<String, String>) -> Features {
    let mut note = |name: &str, value: &str| annotations.insert(name.to_owned(), value.to_owned());
    note("io.orlop.version", env!("CARGO_PKG_VERSION"));
    // COMPAT(runc): the name that engines look for.
    note("org.opencontainers.runc.checkpoint.enabled", "true");
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: SPEC,
        hooks: HOOKS,
        mount_options: MOUNT_OPTIONS,
        linux: linux(),
        annotations,
        // The final dot makes it a prefix.
        potentially_unsafe_config_annotations: &["org.criu.config", "org.systemd.property."],
    }
}

fn linux() -> Linux {
    // In the order of their bits.
    let mut capabilities: Vec<_> = caps::all().into_iter().collect();
    capabilities.sort_by_key(caps::Capability::index);
    Linux {
        namespaces: NAMESPACES,
        capabilities: capabilities.iter().map(ToString::to_string).collect(),
        cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
        seccomp: Seccomp {
            enabled: true,
            actions: ACTIONS,
            operators: OPERATORS,
            archs: ARCHS,
            known_flags: FLAGS,
            supported_flags: FLAGS,
        },
        apparmor: Enabled { enabled: true },
        selinux: Enabled { enabled: true },
        memory_policy: MemoryPolicy { modes: MEMORY_MODES, flags: MEMORY_FLAGS },
        intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
        mount_extensions: MountExtensions { idmap: Enabled { enabled: true } },
        net_devices: Enabled { enabled: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // containerd internal/cri/server/service.go (introspectRuntimeHandler).
    #[test]
    fn containerd_finds_what_it_looks_for() {
        let value = serde_json::to_value(features(BTreeMap::new())).unwrap();
        let has = |list: &serde_json::Value, name: &str| {
            list.as_array().is_some_and(|list| list.iter().any(|one| one == name))
        };
        assert!(has(&value["mountOptions"], "rro"));
        assert!(has(&value["linux"]["namespaces"], "user"));
        assert_eq!(value["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    }

    #[test]
    fn the_output_is_the_specifications_struct() {
        let text = serde_json::to_string(&features(BTreeMap::new())).unwrap();
        let parsed: oci_spec::runtime::Features = serde_json::from_str(&text).unwrap();
        let linux = parsed.linux().as_ref().unwrap();
        assert_eq!(linux.cgroup().as_ref().unwrap().systemd(), &Some(true));
        assert_eq!(linux.capabilities().as_ref().unwrap()[0], "CAP_CHOWN");
        assert_eq!(linux.capabilities().as_ref().unwrap().len(), 41);
    }

    #[test]
    fn memory_policies_are_those_of_a_config() {
        use oci_spec::runtime::{Arch, MemoryPolicyFlagType, MemoryPolicyModeType};
        let each = |names: &[&str], known: &dyn Fn(serde_json::Value) -> bool| {
            names.iter().all(|name| known(serde_json::json!(name)))
        };
        let mode = |name| serde_json::from_value::<MemoryPolicyModeType>(name).is_ok();
        let flag = |name| serde_json::from_value::<MemoryPolicyFlagType>(name).is_ok();
        assert!(each(MEMORY_MODES, &mode) && each(MEMORY_FLAGS, &flag));
        let arch = |name| serde_json::from_value::<Arch>(name).is_ok();
        assert!(each(ARCHS, &arch));
    }

    #[test]
    fn lists_are_sorted_and_name_everything_once() {
        for list in
            [MOUNT_OPTIONS, NAMESPACES, ACTIONS, OPERATORS, MEMORY_MODES, MEMORY_FLAGS, ARCHS]
        {
            assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
        }
    }
}
