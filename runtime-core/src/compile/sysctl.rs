//! Kernel parameters: only those that belong to a namespace of the container.

use super::Context;
use super::namespaces::{IPC, NETWORK, UTS};
use crate::error::Error;
use crate::plan::{Builder, Op};

/// Parameters of an ipc namespace (ipc_namespaces(7)), but for `fs.mqueue`.
const OF_IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Writes the parameters, in the order of their names.
pub(super) fn sysctl(plan: &mut Builder, context: &Context) {
    let Some(wanted) = context.linux.sysctl() else { return };
    let mut wanted: Vec<_> = wanted.iter().collect();
    wanted.sort();
    for (key, value) in wanted {
        let pointer = format!("/linux/sysctl/{}", crate::bundle::escape(key));
        let Some(path) = path_of(key) else {
            plan.error(Error::config(
                &pointer,
                format!("sysctl {key:?} is not a parameter's name"),
            ));
            continue;
        };
        if let Err(error) = allowed(context, key, &path) {
            plan.error(Error::config(&pointer, error));
            continue;
        }
        open_proc(plan);
        let value = plan.bytes(value.as_bytes());
        let doing = format!("writing the sysctl {key:?}");
        let path = plan.str(&path);
        plan.push(Op::Sysctl { key: path, value }, pointer, doing);
    }
}

/// A procfs for our own writes, unless the container's is one that will do.
pub(super) fn open_proc(plan: &mut Builder) {
    if !plan.has_procfs() {
        plan.push(Op::OpenProc {}, "", "opening a procfs");
    }
}

/// The path below /proc/sys. Whichever of `.` and `/` comes first separates, the
/// other is part of a name, such as an interface `eth0.100` (sysctl(8)).
fn path_of(key: &str) -> Option<String> {
    let dots = key.find(['.', '/']).is_some_and(|at| key.as_bytes().get(at) == Some(&b'.'));
    let path = if dots {
        key.chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect()
    } else {
        key.to_owned()
    };
    let sound = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    sound.then_some(path)
}

/// COMPAT(runc): the texts.
fn allowed(context: &Context, key: &str, path: &str) -> Result<(), String> {
    let dotted = path.replace('/', ".");
    let conflict = |field: &str| {
        format!("sysctl {key:?} is not allowed as it conflicts with the OCI {field:?} field")
    };
    let own = if OF_IPC.contains(&dotted.as_str()) || path.starts_with("fs/mqueue/") {
        context.is_private(IPC)
    } else if path.starts_with("net/") {
        if !context.is_private(NETWORK) {
            return Err(format!("sysctl {key:?} not allowed in host network namespace"));
        }
        true
    } else if dotted == "kernel.hostname" && context.is_private(UTS) {
        return Err(conflict("hostname"));
    } else if dotted == "kernel.domainname" && context.is_private(UTS) {
        if context.spec.domainname().as_ref().is_some_and(|name| !name.is_empty()) {
            return Err(conflict("domainname"));
        }
        true
    } else {
        false
    };
    if own { Ok(()) } else { Err(format!("sysctl {key:?} is not in a separate kernel namespace")) }
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn the_first_separator_decides() {
        assert_eq!(path_of("net.ipv4.ip_forward").as_deref(), Some("net/ipv4/ip_forward"));
        assert_eq!(path_of("net/ipv4/ip_forward").as_deref(), Some("net/ipv4/ip_forward"));
        assert_eq!(
            path_of("net.ipv4.conf.eth0/100.forwarding").as_deref(),
            Some("net/ipv4/conf/eth0.100/forwarding")
        );
        assert_eq!(
            path_of("net/ipv4/conf/eth0.100/forwarding").as_deref(),
            Some("net/ipv4/conf/eth0.100/forwarding")
        );
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for bad in
            ["", ".", "net/../vm/x", "net..ipv4", "/etc/passwd", "net/", "net.ipv4.", "net./.x"]
        {
            assert_eq!(path_of(bad), None, "{bad:?}");
        }
    }
}
