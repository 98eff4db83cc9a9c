//! Loading a device program and putting it in the place of the one before, in
//! one step. The program stays with the cgroup when its descriptor is closed.

use orlop_init::sys::bpf;
use orlop_init::sys::{self, Errno, Fd};

use super::directory::Directory;
use super::program;
use crate::error::{Error, Kind, Result};

/// As many programs as the kernel lets one cgroup have.
const MOST: usize = 64;

/// How often an interrupted load is tried again.
const LOADS: usize = 30;

/// A descriptor of a program, closed when it goes.
struct Program(Fd);

impl Drop for Program {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

/// Attaches `rules` to the cgroup; whatever was attached to it before is gone.
pub(super) fn attach(cgroup: &Directory, rules: &super::devices::Rules) -> Result<()> {
    let old = attached(cgroup)?;
    if rules.allow_all() {
        return detach(cgroup, &old);
    }
    let new = load(&program::compile(rules)?)?;
    let replaced = if let [only] = &old[..] { Some(only.0) } else { None };
    bpf::attach_device_program(cgroup.fd(), new.0, replaced)
        .map_err(|errno| failed(errno, "attaching the device program to", cgroup))?;
    if replaced.is_some() { Ok(()) } else { detach(cgroup, &old) }
}

/// The same for a container that runs, in one step: no process is without rules, or
/// without a device that it keeps, at any time.
///
/// # Errors
/// [`Kind::Unsupported`] where others have attached programs too: which one is ours is
/// not known.
pub(super) fn replace(cgroup: &Directory, rules: &super::devices::Rules) -> Result<()> {
    if attached(cgroup)?.len() > 1 {
        let what = "others have attached device programs too";
        return Err(Error::new(Kind::Unsupported, what).at_path(cgroup.path()));
    }
    attach(cgroup, rules)
}

fn detach(cgroup: &Directory, old: &[Program]) -> Result<()> {
    for program in old {
        bpf::detach_device_program(cgroup.fd(), program.0)
            .map_err(|errno| failed(errno, "taking the old device program from", cgroup))?;
    }
    Ok(())
}

/// The programs that are attached to this very cgroup.
fn attached(cgroup: &Directory) -> Result<Vec<Program>> {
    let mut ids = [0; MOST];
    let count = bpf::device_programs(cgroup.fd(), &mut ids)
        .map_err(|errno| failed(errno, "asking for the device programs of", cgroup))?;
    let mut programs = Vec::with_capacity(count);
    for &id in ids.iter().take(count) {
        match bpf::program_by_id(id) {
            Ok(fd) => programs.push(Program(fd)),
            // An LSM may hide another's program. It can only refuse more, so
            // leaving it there takes nothing from the rules.
            Err(Errno(libc::EPERM | libc::EACCES)) => {}
            // It went between the two calls.
            Err(Errno(libc::ENOENT)) => {}
            Err(errno) => return Err(failed(errno, "opening a device program of", cgroup)),
        }
    }
    Ok(programs)
}

fn load(program: &[u64]) -> Result<Program> {
    // No helper of the kernel is called, so any license will do.
    let license = c"Apache-2.0";
    for _ in 0..LOADS {
        match bpf::load_device_program(program, license, &mut []) {
            Ok(fd) => return Ok(Program(fd)),
            // A signal interrupts the verifier.
            Err(Errno(libc::EAGAIN)) => {}
            Err(Errno(errno)) => {
                let error = Error::os(errno, "loading the device program");
                return Err(match why(program, license) {
                    Some(line) if errno == libc::EINVAL || errno == libc::EACCES => {
                        error.hint(line)
                    }
                    _ => error,
                });
            }
        }
    }
    Err(Error::new(Kind::Cgroup, "loading the device program was interrupted again and again"))
}

/// The verifier's last words, when it is the one that refused.
fn why(program: &[u64], license: &std::ffi::CStr) -> Option<String> {
    let mut log = vec![0; 64 * 1024];
    if let Ok(fd) = bpf::load_device_program(program, license, &mut log) {
        sys::close(fd);
        return None;
    }
    let text = String::from_utf8_lossy(log.split(|byte| *byte == 0).next()?).into_owned();
    text.lines().rev().find(|line| !line.starts_with("processed ")).map(str::to_owned)
}

fn failed(Errno(errno): Errno, doing: &str, cgroup: &Directory) -> Error {
    Error::os(errno, format!("{doing} the cgroup")).at_path(cgroup.path())
}
