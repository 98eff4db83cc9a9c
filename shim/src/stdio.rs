//! The streams of a process: what it is given, and what becomes of the other ends.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::fs::{Gid, Uid, fchown};

use crate::console;
use crate::logger::{Begun, Program, Wait};
use crate::messages::options::Options;
use crate::shim::{Ends, Shim, failed};
use crate::stream::{self, Stream};
use crate::task::Stdio;
use crate::ttrpc::{Code, Failure};

/// What a process is given: ends of pipes, or what its terminal is told through, which
/// comes out at the other end.
pub(crate) struct Given {
    pub ends: Ends,
    pub ours: Option<UnixStream>,
    pub theirs: Option<OwnedFd>,
    /// A logger is to be waited for.
    pub wait: Option<Wait>,
}

impl Shim {
    /// Ends of pipes for a process and streams at the others; or both ends of what its
    /// terminal comes through.
    pub(crate) fn streams_of(
        &mut self,
        id: &str,
        exec: &str,
        stdio: &Stdio,
    ) -> Result<Given, Failure> {
        let at = |name: &str, error: &std::io::Error| {
            Failure::new(Code::Internal, format!("{name:?}: {}", failed(error).message))
        };
        let (logs, wait) = self.logger_of(id, exec, stdio)?;
        if stdio.terminal {
            let (ours, theirs) = UnixStream::pair().map_err(|error| failed(&error))?;
            ours.set_nonblocking(true).map_err(|error| failed(&error))?;
            return Ok(Given {
                ends: [None, None, None],
                ours: Some(ours),
                theirs: Some(theirs.into()),
                wait,
            });
        }
        let Options { io_uid, io_gid, .. } = self.task(id)?.options;
        let owned = |end: OwnedFd| {
            // It is root's already.
            if (io_uid, io_gid) != (0, 0) {
                let (uid, gid) = (Uid::from_raw(io_uid), Gid::from_raw(io_gid));
                fchown(&end, Some(uid), Some(gid)).map_err(|errno| failed(&errno.into()))?;
            }
            Ok(Some(end))
        };
        let mut ends: Ends = [None, None, None];
        if !stdio.stdin.is_empty() {
            let fifo = stream::open_input(&stdio.stdin).map_err(|e| at(&stdio.stdin, &e))?;
            let held = stream::hold_input(&stdio.stdin).map_err(|e| at(&stdio.stdin, &e))?;
            let (reading, writing) = stream::pipe().map_err(|error| failed(&error))?;
            ends[0] = owned(reading)?;
            self.process(id, exec)?.held = Some(held);
            self.pump(id, exec, Stream::new(fifo, writing, true))?;
            // It ends with its writers, not with the process.
            let process = self.process(id, exec)?;
            process.input = process.streams.pop();
        }
        if let Some([out, error]) = logs {
            (ends[1], ends[2]) = (owned(out)?, owned(error)?);
            return Ok(Given { ends, ours: None, theirs: None, wait });
        }
        for (end, address) in [(1, &stdio.stdout), (2, &stdio.stderr)] {
            if address.is_empty() {
                continue;
            }
            let (reading, writing) = stream::pipe().map_err(|error| failed(&error))?;
            // A process can open this end, too, and take what has been seen there.
            rustix::io::ioctl_fionbio(&reading, true).map_err(|errno| failed(&errno.into()))?;
            ends[end] = owned(writing)?;
            self.pump_out(id, exec, (reading, None), address)?;
        }
        Ok(Given { ends, ours: None, theirs: None, wait })
    }

    /// Begins the logger, if the address is that of one: the ends for a process without a
    /// terminal, and what to wait for.
    fn logger_of(
        &mut self,
        id: &str,
        exec: &str,
        stdio: &Stdio,
    ) -> Result<(Option<[OwnedFd; 2]>, Option<Wait>), Failure> {
        let Some(program) = Program::of(&stdio.stdout) else { return Ok((None, None)) };
        let whose = if exec.is_empty() { id } else { exec };
        let Begun { mut logger, writing, wait } = program.begin(whose, &self.namespace)?;
        let [out, error] = writing;
        let ends = match stdio.terminal {
            true => {
                logger.writing = Some(out);
                None
            }
            false => Some([out, error]),
        };
        self.process(id, exec)?.logger = Some(logger);
        Ok((ends, Some(wait)))
    }

    pub(crate) fn take_terminal(
        &mut self,
        id: &str,
        exec: &str,
        console: Option<UnixStream>,
    ) -> Result<(), Failure> {
        let Some(console) = console else { return Ok(()) };
        let master = console::receive(&console).map_err(|error| failed(&error))?;
        let stdio = self.process(id, exec)?.stdio.clone();
        let another = || master.try_clone().map_err(|error| failed(&error));
        if !stdio.stdin.is_empty() {
            let fifo = stream::open_input(&stdio.stdin).map_err(|error| failed(&error))?;
            let held = stream::hold_input(&stdio.stdin).map_err(|error| failed(&error))?;
            self.process(id, exec)?.held = Some(held);
            self.pump(id, exec, Stream::new(fifo, another()?, false))?;
            let process = self.process(id, exec)?;
            process.input = process.streams.pop();
        }
        // It is written to by the shim, which waits for nobody.
        rustix::io::ioctl_fionbio(&master, true).map_err(|errno| failed(&errno.into()))?;
        let logger = self.process(id, exec)?.logger.as_mut();
        let log = logger.and_then(|logger| logger.writing.take());
        if let Some(log) = log {
            rustix::io::ioctl_fionbio(&log, true).map_err(|errno| failed(&errno.into()))?;
            self.pump(id, exec, Stream::of_terminal(another()?, log))?;
        } else if !stdio.stdout.is_empty() {
            self.pump_out(id, exec, (another()?, Some(true)), &stdio.stdout)?;
        }
        self.process(id, exec)?.terminal = Some(master);
        Ok(())
    }
}
