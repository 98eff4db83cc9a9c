//! newuidmap and newgidmap: a setuid program that writes an id map, started,
//! waited for, its failure explained.
//!
//! Such a program gets nothing of ours but its arguments: no environment, no
//! descriptor but an empty input and a memory file for what it prints. Which ids
//! are mapped, and whether a program is needed for it, the compiler has decided.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::{getegid, geteuid};
use orlop_init::sys::{self, Errno};

use super::program::{Program, printed};
use super::{interrupted, kill, memfd, report, wait_any};
use crate::error::{Error, Kind, Result};
use crate::plan::Extent;

/// How long a program may take, in milliseconds: it reads a few files, or asks a
/// directory service.
const PATIENCE: i64 = 5_000;

/// Most that an error quotes of what a program printed.
const OUTPUT_MAX: u64 = 1024;

/// Execute as another user (chmod(2)).
const SET_UID: u32 = 0o4000;

/// A program and what it shall map.
pub(super) struct Mapper<'a> {
    /// Its path, absolute.
    pub(super) program: &'a Path,
    /// `uid` or `gid`.
    pub(super) ids: &'static str,
    pub(super) extents: &'a [Extent],
}

impl Mapper<'_> {
    /// Has the map of process `pid` written. That is our child, which waits at a
    /// gate and is not waited for yet, so the number stays its own.
    ///
    /// # Errors
    /// Why the program could not be started, or what it said; [`Kind::Timeout`];
    /// [`Kind::Interrupted`] when `interrupt` became readable.
    pub(super) fn run(&self, pid: i32, interrupt: Option<BorrowedFd<'_>>) -> Result<()> {
        let program = self.program;
        let io = |error: &std::io::Error| Error::io(error, format!("starting {program:?}"));
        // Copies have numbers above the standard streams'.
        let input = File::open("/dev/null").and_then(|file| file.try_clone());
        let input = input.map_err(|error| io(&error))?;
        let output = File::from(memfd(c"id-mapper")?);
        let output = output.try_clone().map_err(|error| io(&error))?;
        let (child, pidfd) = self.start(pid, &input, &output)?;
        let status = match wait_any(&[Some(pidfd.as_fd()), interrupt], PATIENCE) {
            Ok(Some(0)) => sys::wait(child).map_err(|Errno(errno)| {
                Error::os(errno, format!("waiting for the end of {program:?}"))
            })?,
            other => {
                kill(child, pidfd.as_fd());
                return Err(match other {
                    Err(error) => error,
                    Ok(None) => {
                        let words = format!("{program:?} did not end within {} s", PATIENCE / 1000);
                        Error::new(Kind::Timeout, words)
                    }
                    Ok(Some(_)) => interrupted(interrupt, format!("waiting for {program:?}")),
                });
            }
        };
        if status != 0 {
            return Err(self.failed(status, &printed(output, OUTPUT_MAX)));
        }
        // Who is found in the caller's PATH may be another program of that name.
        let map = fs::read(format!("/proc/{pid}/{}_map", self.ids));
        match map.map_err(|error| Error::io(&error, "reading the map that was written"))? {
            map if map.is_empty() => {
                let words = format!("{program:?} ended well and has written no map");
                Err(Error::new(Kind::Permission, words))
            }
            _ => Ok(()),
        }
    }

    /// Starts the program as a child of ours.
    fn start(&self, pid: i32, input: &File, output: &File) -> Result<(i32, OwnedFd)> {
        let failed = |errno| Error::os(errno, format!("starting {:?}", self.program));
        let nul = |_| failed(libc::EINVAL);
        let mut words = vec![format!("new{}map", self.ids), pid.to_string()];
        for Extent { inside, outside, count } in self.extents {
            words.extend([inside, outside, count].map(ToString::to_string));
        }
        let path = &CString::new(self.program.as_os_str().as_bytes()).map_err(nul)?;
        let words: Vec<CString> =
            words.into_iter().map(CString::new).collect::<Result<_, _>>().map_err(nul)?;
        let (arguments, environment, directory) = (&*words, &[], None);
        let given = &[input.as_fd(), output.as_fd(), output.as_fd()];
        let program = Program {
            path,
            arguments,
            environment,
            directory,
            given,
            mount: None,
            ends_with_us: false,
            inherited: None,
        };
        program.start().map_err(failed)
    }

    fn failed(&self, status: i32, tail: &str) -> Error {
        let program = self.program;
        let words = format!("running {program:?}: {}{tail}", report::status(status));
        let error = Error::new(Kind::Permission, words);
        match self.reason() {
            Some(reason) => error.hint(reason),
            None => error,
        }
    }

    /// What is wrong, as far as it can be seen from here.
    fn reason(&self) -> Option<String> {
        let Self { program, ids, extents } = self;
        let (file, user) = (format!("/etc/sub{ids}"), geteuid().as_raw());
        if let Some((first, last)) = missing(&given(&file, user), extents, own(ids)) {
            let range =
                if first == last { format!(" {first}") } else { format!("s {first} to {last}") };
            return Some(format!("{file:?} gives user {user} no {ids}{range}"));
        }
        if nix::sys::prctl::get_no_new_privs() == Ok(true) {
            return Some("no_new_privs is set: a setuid program gains nothing".to_owned());
        }
        let mode = fs::metadata(program).map(|data| data.permissions().mode());
        let plain = mode.is_ok_and(|mode| mode & SET_UID == 0);
        plain.then(|| format!("it must be setuid, or have the file capability cap_set{ids}"))
    }
}

fn own(ids: &str) -> u32 {
    if ids == "uid" { geteuid().as_raw() } else { getegid().as_raw() }
}

/// First ids and numbers of ids that subuid(5) or subgid(5) gives to a user.
fn given(file: &str, user: u32) -> Vec<(u32, u32)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let passwd = read("/etc/passwd");
    let mut names = vec![user.to_string()];
    names.extend(passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(user)).then(|| name.to_owned())
    }));
    let text = read(file);
    let line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.trim_end().parse().ok()?);
        names.iter().any(|known| known == name).then_some(range)
    };
    text.lines().filter_map(line).collect()
}

/// The first of the ids that nobody gave, up to where they are given again.
fn missing(given: &[(u32, u32)], extents: &[Extent], own: u32) -> Option<(u32, u32)> {
    let end_of = |(first, count): (u32, u32)| u64::from(first) + u64::from(count);
    let wanted = extents.iter().filter(|extent| (extent.outside, extent.count) != (own, 1));
    wanted.into_iter().find_map(|extent| {
        let end = end_of((extent.outside, extent.count));
        let mut at = u64::from(extent.outside);
        let holds =
            |at: u64| move |range: &&(u32, u32)| u64::from(range.0) <= at && at < end_of(**range);
        while let Some(range) = given.iter().find(holds(at)) {
            at = end_of(*range);
            if at >= end {
                return None;
            }
        }
        let starts = given.iter().map(|range| u64::from(range.0)).filter(|first| *first > at);
        let last = starts.min().unwrap_or(end).min(end) - 1;
        Some((u32::try_from(at).ok()?, u32::try_from(last).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[(u32, u32)], wanted: &[(u32, u32)], expected: Option<(u32, u32)>) {
        let extent = |&(outside, count): &(u32, u32)| Extent { inside: 0, outside, count };
        let extents: Vec<Extent> = wanted.iter().map(extent).collect();
        assert_eq!(missing(given, &extents, 1000), expected, "{given:?} {wanted:?}");
    }

    #[test]
    fn what_nobody_gave_is_found() {
        check(&[], &[(1000, 1)], None);
        check(&[], &[(1000, 2)], Some((1000, 1001)));
        check(&[(100, 10)], &[(1000, 1), (100, 10)], None);
        check(&[(100, 10)], &[(100, 11)], Some((110, 110)));
        check(&[(100, 10)], &[(90, 20)], Some((90, 99)));
        check(&[(100, 10), (110, 5)], &[(100, 15)], None);
        check(&[(100, 10), (112, 5)], &[(100, 15)], Some((110, 111)));
        check(&[(0, u32::MAX)], &[(5, 7)], None);
        let last = u32::MAX - 1;
        check(&[(u32::MAX, u32::MAX)], &[(last - 1, 2)], Some((last - 1, last)));
    }
}
