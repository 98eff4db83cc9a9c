//! How cgroups are mounted here: v2 alone, or v1 hierarchies with or without a
//! v2 one beside them (hybrid).
//!
//! Reads the mount table and the caller's own place. It does not know what a
//! container wants.

use std::ffi::{CStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::error::{Error, Result};

/// The source of the file system on which a container has its root that is among the
/// host's mounts (proc_pid_mountinfo(5)).
pub(crate) const ROOT_SOURCE: &CStr = c"orlop-root";

/// Where every distribution mounts cgroups.
const USUAL: &str = "/sys/fs/cgroup";

/// The mounted cgroup hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroups {
    /// None can be used.
    None,
    /// cgroup v2 alone.
    Unified {
        /// Where it is mounted (`/sys/fs/cgroup`).
        mount: PathBuf,
        /// The caller's own cgroup, absolute, seen from the mount.
        own: PathBuf,
        /// The controllers that its root has (`cgroup.controllers`).
        controllers: Vec<String>,
    },
    /// cgroup v1; v2 may be among the hierarchies (with no controllers named).
    Legacy {
        /// In the order of `/proc/self/cgroup`; the v2 one, if any, is the last.
        hierarchies: Vec<Hierarchy>,
    },
}

/// One mounted hierarchy of cgroup v1, or the v2 one of a hybrid host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers as the mount options name them, or `name=systemd`; empty
    /// for the v2 hierarchy of a hybrid host.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The caller's own cgroup, absolute, seen from the mount.
    pub own: PathBuf,
}

impl Cgroups {
    /// Reads the mount table and the caller's place in each hierarchy.
    ///
    /// The mount table can be long, so it is not read where the usual place
    /// tells that the host is v2 alone.
    ///
    /// # Errors
    /// A `/proc` that can't be read.
    pub fn probe() -> Result<Self> {
        let own = read("/proc/self/cgroup")?;
        let (mount, path) = (PathBuf::from(USUAL), own_v2(&own, "/"));
        // In a container without a cgroup namespace a part of the hierarchy may be all
        // that is mounted, where the caller's own is not; only the table tells then.
        let place = mount.join(path.strip_prefix("/").unwrap_or(&path));
        if statfs(&place).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
            && let Ok(controllers) = controllers(&mount)
        {
            return Ok(Self::Unified { mount, own: path, controllers });
        }
        Ok(parse(&own, &read("/proc/self/mountinfo")?))
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::io(&error, "reading").at_path(path))
}

fn unified(mount: PathBuf, own: PathBuf) -> Cgroups {
    let controllers = controllers(&mount).unwrap_or_default();
    Cgroups::Unified { mount, own, controllers }
}

/// The controllers of the hierarchy that is mounted there.
fn controllers(mount: &Path) -> std::io::Result<Vec<String>> {
    let names = fs::read_to_string(mount.join("cgroup.controllers"))?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

/// The caller's v2 cgroup, seen from a mount of `root`. One outside the caller's
/// cgroup namespace is shown as `/..`; nothing of ours can be made there.
fn own_v2(own: &str, root: &str) -> PathBuf {
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    below(path, root)
}

fn below(path: &str, root: &str) -> PathBuf {
    match Path::new(path).strip_prefix(root) {
        Ok(rest) if !path.starts_with("/..") => Path::new("/").join(rest),
        _ => PathBuf::from("/"),
    }
}

/// One line of mountinfo (proc_pid_mountinfo(5)), as far as it matters here.
struct Mount<'a> {
    root: String,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

fn mounts(table: &str) -> Vec<Mount<'_>> {
    let mut found: Vec<Mount<'_>> = host_lines(table).filter_map(mount).collect();
    // Where a hierarchy is mounted twice, the usual place is the one that lasts; of
    // two there the later one, which covers the other.
    found.reverse();
    found.sort_by_key(|mount| !mount.point.starts_with(USUAL));
    found
}

fn mount(line: &str) -> Option<Mount<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut fields = right.split(' ');
    let (kind, options) = (fields.next()?, fields.nth(1)?);
    if !matches!(kind, "cgroup" | "cgroup2") {
        return None;
    }
    let point = PathBuf::from(OsString::from_vec(unescape(point)));
    let root = String::from_utf8_lossy(&unescape(root)).into_owned();
    Some(Mount { root, point, kind, options })
}

/// The lines of a mount table but for what containers have among the host's mounts: that
/// goes with them.
pub(super) fn host_lines(table: &str) -> impl Iterator<Item = &str> {
    let point = |line: &str| line.split(' ').nth(4).map(PathBuf::from);
    let base = format!(" - tmpfs {} ", ROOT_SOURCE.to_string_lossy());
    let bases: Vec<_> =
        table.lines().filter(|line| line.contains(&base)).filter_map(point).collect();
    let below =
        move |line: &str, base: &PathBuf| point(line).is_some_and(|at| at.starts_with(base));
    table.lines().filter(move |line| !bases.iter().any(|base| below(line, base)))
}

/// Where file systems of one kind are mounted whole, by lines of a mount table.
pub(super) fn mount_points<'a>(
    lines: impl Iterator<Item = &'a str>,
    kind: &str,
) -> impl Iterator<Item = PathBuf> {
    lines.filter_map(move |line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let found = root == "/" && right.split(' ').next()? == kind;
        found.then(|| PathBuf::from(OsString::from_vec(unescape(point))))
    })
}

/// Undoes the kernel's octal escapes of space, tab, newline and backslash.
fn unescape(field: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(field.len()), field.as_bytes());
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

/// The picture from the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn parse(own: &str, table: &str) -> Cgroups {
    let mounts = mounts(table);
    let v2 = mounts.iter().find(|mount| mount.kind == "cgroup2");
    let mut hierarchies = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else { continue };
        let controllers: Vec<String> =
            names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let Some(first) = controllers.first() else { continue };
        let mounted = mounts.iter().find(|mount| {
            mount.kind == "cgroup" && mount.options.split(',').any(|option| option == first)
        });
        if let Some(mounted) = mounted {
            let (mount, own) = (mounted.point.clone(), below(path, &mounted.root));
            hierarchies.push(Hierarchy { controllers, mount, own });
        }
    }
    match (hierarchies.is_empty(), v2) {
        (true, None) => Cgroups::None,
        (true, Some(v2)) => unified(v2.point.clone(), own_v2(own, &v2.root)),
        (false, None) => Cgroups::Legacy { hierarchies },
        (false, Some(v2)) => {
            let (mount, own) = (v2.point.clone(), own_v2(own, &v2.root));
            hierarchies.push(Hierarchy { controllers: Vec::new(), mount, own });
            Cgroups::Legacy { hierarchies }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_has_its_v2_hierarchy_last() {
        let own = "4:memory:/job/7\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n";
        let table = "\
            31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            50 23 0:31 /job /mnt/a\\040b rw - cgroup cgroup rw,memory\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let Cgroups::Legacy { hierarchies } = parse(own, table) else { panic!("not legacy") };
        let seen: Vec<_> = hierarchies
            .iter()
            .map(|h| {
                let (mount, own) = (h.mount.to_str().unwrap(), h.own.to_str().unwrap());
                (h.controllers.join(","), mount, own)
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("memory".into(), "/sys/fs/cgroup/memory", "/job/7"),
                ("cpu,cpuacct".into(), "/sys/fs/cgroup/cpu,cpuacct", "/"),
                ("name=systemd".into(), "/sys/fs/cgroup/systemd", "/"),
                (String::new(), "/sys/fs/cgroup/unified", "/"),
            ]
        );
    }

    #[test]
    fn file_systems_are_found_by_their_kind() {
        let table = "\
            31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            50 23 0:31 / /mnt/a\\040b rw shared:4 - resctrl resctrl rw\n\
            51 23 0:32 / /mnt/c rw - fuse.resctrl resctrl rw\n\
            52 23 0:33 / /mnt/d\\040/root ro - tmpfs orlop-root ro\n\
            53 52 0:31 / /mnt/d\\040/root/rootfs/sys/fs/resctrl ro - resctrl resctrl ro\n\
            54 23 0:31 / /mnt/d\\040/rooted rw - resctrl resctrl ro\n";
        let found: Vec<_> = mount_points(host_lines(table), "resctrl").collect();
        // Not that of a container.
        assert_eq!(found, [Path::new("/mnt/a b"), Path::new("/mnt/d /rooted")]);
    }

    #[test]
    fn what_a_container_has_among_the_hosts_mounts_is_not_the_hosts() {
        let own = "4:memory:/\n0::/\n";
        let table = "\
            5 1 0:3 / /cg/memory rw - cgroup cgroup rw,memory\n\
            6 1 0:4 / /cg/unified rw - cgroup2 cgroup2 rw\n\
            7 1 0:5 / /run/orlop/a/root ro - tmpfs orlop-root ro\n\
            8 7 0:6 / /run/orlop/a/root/rootfs rw - ext4 /dev/vda rw\n\
            9 8 0:3 /a /run/orlop/a/root/rootfs/sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
            10 8 0:4 /a /run/orlop/a/root/rootfs/sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n";
        let Cgroups::Legacy { hierarchies } = parse(own, table) else { panic!("not legacy") };
        let seen: Vec<_> = hierarchies.iter().map(|found| found.mount.to_str().unwrap()).collect();
        assert_eq!(seen, ["/cg/memory", "/cg/unified"]);
    }

    #[test]
    fn a_nested_caller_sees_itself_from_the_mount() {
        let own = "4:memory:/docker/abc/inner\n";
        let table = "9 8 0:3 /docker/abc /a\\040b rw - cgroup cgroup rw,memory\n";
        let Cgroups::Legacy { hierarchies } = parse(own, table) else { panic!("not legacy") };
        assert_eq!(hierarchies[0].own, Path::new("/inner"));
        assert_eq!(hierarchies[0].mount, Path::new("/a b"));
        assert_eq!(below("/../x", "/"), Path::new("/"));
        assert_eq!(below("/elsewhere", "/docker/abc"), Path::new("/"));
    }

    #[test]
    fn what_is_covered_or_mounted_in_part_is_seen_as_it_is() {
        let own = "4:memory:/job/7\n0::/x/inner\n";
        let table = "\
            1 0 0:3 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
            2 0 0:4 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n\
            3 0 0:5 / /sys/fs/cgroup ro - tmpfs tmpfs rw\n\
            4 3 0:3 /job/7 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
            5 3 0:4 /x /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n";
        let Cgroups::Legacy { hierarchies } = parse(own, table) else { panic!("not legacy") };
        assert_eq!(hierarchies[0].own, Path::new("/"));
        assert_eq!(hierarchies[1].own, Path::new("/inner"));
        let table = "5 3 0:4 /x /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        let Cgroups::Unified { own, .. } = parse("0::/x\n", table) else { panic!("not v2") };
        assert_eq!(own, Path::new("/"));
    }

    #[test]
    fn no_mount_no_cgroups() {
        assert_eq!(parse("0::/\n", "1 0 0:1 / / rw - ext4 /dev/a rw\n"), Cgroups::None);
    }

    #[test]
    fn this_host_can_be_probed() {
        assert!(Cgroups::probe().is_ok());
    }
}
