//! The kernel floor: what the kernel itself needs for the benchmark's container.
//!
//! Makes the system calls that the default bundle demands, each once, in an order
//! that works, and nothing else: no state on disk, no checks, no messages between
//! processes. It is not a runtime: it trusts the root file system and takes
//! nothing from a config. What a runtime needs above this is its own doing.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use orlop_init::sys::{self, Errno, Fd, abi};

mod container;

use container::{Container, Process};

/// Words of stack for the child between clone and exec.
const STACK: usize = 8192;

/// How the container sees its cgroups, and where it is put.
#[derive(Debug, Clone, Default)]
pub struct Cgroups {
    /// Empty on a pure cgroup v2 host: the container mounts cgroup2. Otherwise the
    /// mounted hierarchies, which the container sees as bind mounts.
    pub hierarchies: Vec<PathBuf>,
    /// A name to create in the root (of every hierarchy), join and remove.
    pub group: Option<String>,
}

impl Cgroups {
    fn places(&self) -> Vec<PathBuf> {
        let Some(group) = &self.group else { return Vec::new() };
        if self.hierarchies.is_empty() {
            return vec![Path::new("/sys/fs/cgroup").join(group)];
        }
        self.hierarchies.iter().map(|top| top.join(group)).collect()
    }

    fn is_v2(&self) -> bool {
        self.hierarchies.is_empty()
    }
}

fn failed(doing: &str, errno: Errno) -> io::Error {
    let error = io::Error::from_raw_os_error(errno.0);
    io::Error::new(error.kind(), format!("{doing}: {error}"))
}

/// Paths of this program never hold a NUL; one that does is refused.
fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_encoded_bytes())?)
}

/// Runs `program` in a new container on `root` and waits: its wait(2) status.
///
/// # Errors
/// Names the step that the kernel refused.
pub fn run(root: &Path, program: &CStr, cgroups: &Cgroups) -> io::Result<i32> {
    let places = cgroups.places();
    for place in &places {
        make_group(place)?;
    }
    let status = run_in(root, program, cgroups, &places);
    for place in &places {
        fs::remove_dir(place)?;
    }
    status
}

fn run_in(root: &Path, program: &CStr, cgroups: &Cgroups, places: &[PathBuf]) -> io::Result<i32> {
    let root = c_string(root)?;
    let hierarchies =
        cgroups.hierarchies.iter().map(|path| c_string(path)).collect::<io::Result<Vec<_>>>()?;
    let names = cgroups
        .hierarchies
        .iter()
        .map(|path| c_string(Path::new(path.file_name().unwrap_or_default())))
        .collect::<io::Result<Vec<_>>>()?;
    let mut args = abi::CloneArgs {
        flags: u64::from(
            abi::CLONE_NEWPID
                | abi::CLONE_NEWNET
                | abi::CLONE_NEWIPC
                | abi::CLONE_NEWUTS
                | abi::CLONE_NEWNS,
        ),
        exit_signal: abi::SIGCHLD,
        ..abi::CloneArgs::default()
    };
    let groups = Groups::open(places, cgroups.is_v2(), &mut args)?;
    if cgroups.is_v2() {
        args.flags |= u64::from(abi::CLONE_NEWCGROUP);
    }
    let mut container = Container {
        root: &root,
        hierarchies: &hierarchies,
        names: &names,
        process: Process { program, groups: &groups.join, failed: None },
    };
    let mut stack = vec![0; STACK];
    let pid = sys::vfork(&mut args, &mut stack, Container::start, &mut container)
        .map_err(|errno| failed("clone3", errno))?;
    finish(pid, &container.process)
}

/// Runs `program` in the container whose init is `pid` and waits: its wait(2)
/// status.
///
/// # Errors
/// Names the step that the kernel refused.
pub fn exec(pid: u32, program: &CStr, cgroups: &Cgroups) -> io::Result<i32> {
    let kinds: &[(&str, u32)] = &[
        ("ipc", abi::CLONE_NEWIPC),
        ("uts", abi::CLONE_NEWUTS),
        ("net", abi::CLONE_NEWNET),
        ("pid", abi::CLONE_NEWPID),
        ("cgroup", abi::CLONE_NEWCGROUP),
        ("mnt", abi::CLONE_NEWNS),
    ];
    let mut args = abi::CloneArgs { exit_signal: abi::SIGCHLD, ..abi::CloneArgs::default() };
    let groups = Groups::open(&cgroups.places(), cgroups.is_v2(), &mut args)?;
    let mut namespaces = Vec::new();
    for (name, kind) in kinds {
        if *name != "cgroup" || cgroups.is_v2() {
            namespaces.push((File::open(format!("/proc/{pid}/ns/{name}"))?, *kind));
        }
    }
    for (file, kind) in &namespaces {
        sys::setns(file.as_raw_fd(), *kind).map_err(|errno| failed("setns", errno))?;
    }
    let mut process = Process { program, groups: &groups.join, failed: None };
    let mut stack = vec![0; STACK];
    let pid = sys::vfork(&mut args, &mut stack, Process::start, &mut process)
        .map_err(|errno| failed("clone3", errno))?;
    finish(pid, &process)
}

fn finish(pid: i32, process: &Process<'_>) -> io::Result<i32> {
    let status = sys::wait(pid).map_err(|errno| failed("wait4", errno))?;
    match process.failed {
        Some((step, errno)) => Err(failed(step, errno)),
        None => Ok(status),
    }
}

/// The cgroups of a container, opened for its first process.
struct Groups {
    /// Hierarchies that are joined by a write of the process itself.
    join: Vec<Fd>,
    _files: Vec<File>,
}

impl Groups {
    fn open(places: &[PathBuf], is_v2: bool, args: &mut abi::CloneArgs) -> io::Result<Self> {
        let mut files = Vec::new();
        let mut join = Vec::new();
        for place in places {
            if is_v2 {
                let directory = File::open(place)?;
                args.flags |= abi::CLONE_INTO_CGROUP;
                args.cgroup = u64::from(directory.as_raw_fd().cast_unsigned());
                files.push(directory);
            } else {
                let file = File::options().write(true).open(place.join("cgroup.procs"))?;
                join.push(file.as_raw_fd());
                files.push(file);
            }
        }
        Ok(Self { join, _files: files })
    }
}

/// Makes a cgroup that can be joined: in a v1 cpuset only after it has processors
/// and memory nodes.
fn make_group(place: &Path) -> io::Result<()> {
    fs::create_dir(place)?;
    if let Some(parent) = place.parent().filter(|path| path.ends_with("cpuset")) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            fs::write(place.join(file), fs::read(parent.join(file))?)?;
        }
    }
    Ok(())
}

/// `map_err(step("pivoting"))`: the name that a failure of the child bears.
fn step(name: &'static str) -> impl Fn(Errno) -> (&'static str, Errno) {
    move |errno| (name, errno)
}
