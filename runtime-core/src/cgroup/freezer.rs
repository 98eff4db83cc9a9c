//! Freezing a cgroup, always with a deadline and never half: what can't be
//! frozen in time is thawed again.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek};

use super::directory::{Directory, read_text, refused};
use crate::error::{Error, Kind, Result};

/// Which freezer a cgroup has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freezer {
    /// v1's controller of that name.
    V1,
    /// Built into v2. KERNEL(<5.2): absent.
    V2,
}

impl Freezer {
    /// Freezes all processes and waits until they are, or thaws them again.
    pub(super) fn freeze(self, cgroup: &Directory, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        let frozen = match self {
            Self::V1 => freeze_v1(cgroup, deadline),
            Self::V2 => freeze_v2(cgroup, deadline),
        };
        match frozen {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let _ = self.thaw(cgroup);
                Err(Error::new(Kind::Timeout, "freezing the cgroup took too long"))
            }
            Err(errno) => {
                let _ = self.thaw(cgroup);
                return Err(refused(errno, "freezing the cgroup", cgroup.path()));
            }
        }
        .map_err(|error: Error| error.at_path(cgroup.path()))
    }

    /// Lets all processes go on.
    pub(super) fn thaw(self, cgroup: &Directory) -> Result<()> {
        match self {
            Self::V1 => cgroup.write("freezer.state", "THAWED"),
            Self::V2 => cgroup.write("cgroup.freeze", "0"),
        }
        .map_err(|errno| refused(errno, "thawing the cgroup", cgroup.path()))
    }

    /// Whether this cgroup itself was told to freeze; one above it does not
    /// count. A cgroup that vanishes is not frozen.
    pub(super) fn is_frozen(self, cgroup: &Directory) -> Result<bool> {
        let file = match self {
            Self::V1 => "freezer.self_freezing",
            Self::V2 => "cgroup.freeze",
        };
        match cgroup.read(file) {
            Ok(text) => Ok(text.trim_end() == "1"),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
            Err(errno) => Err(refused(errno, "asking whether the cgroup is frozen", cgroup.path())),
        }
    }
}

/// v1 may hang in FREEZING while processes appear; telling it again helps, and
/// so does a thaw now and then.
fn freeze_v1(cgroup: &Directory, deadline: Instant) -> Result<bool, Errno> {
    let mut pause = Duration::from_micros(20);
    for round in 1u32.. {
        cgroup.write("freezer.state", "FROZEN")?;
        if cgroup.read("freezer.state")?.trim_end() == "FROZEN" {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            break;
        }
        if round.is_multiple_of(50) {
            cgroup.write("freezer.state", "THAWED")?;
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(false)
}

/// How long it may stay unnoticed that somebody has thawed what is being frozen.
const GLANCE: Duration = Duration::from_millis(50);

/// v2 tells by an event on `cgroup.events` when the last process stands still, and by
/// none that it was told otherwise meanwhile: who kills a container thaws it.
fn freeze_v2(cgroup: &Directory, deadline: Instant) -> Result<bool, Errno> {
    cgroup.write("cgroup.freeze", "1")?;
    let path = cgroup.path().join("cgroup.events");
    let events = open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    loop {
        if read_text(&events)?.lines().any(|line| line == "frozen 1") {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = PollTimeout::try_from(left.min(GLANCE) + Duration::from_millis(1))
            .unwrap_or(PollTimeout::from(u16::MAX));
        match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        if cgroup.read("cgroup.freeze")?.trim_end() == "0" {
            return Err(Errno::ECANCELED);
        }
        lseek(&events, 0, Whence::SeekSet)?;
    }
}
