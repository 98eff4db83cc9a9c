//! The streams of processes: when each goes on.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::poller::{Interest, Source};
use crate::shim::{Shim, failed};
use crate::stream::{self, Late, Stream, Turn};
use crate::ttrpc::{Code, Failure};

/// When to look for a client that is not there yet, at first and in the end.
const SOON: Duration = Duration::from_millis(1);
const SELDOM: Duration = Duration::from_secs(1);

impl Shim {
    /// Looks after a stream of a process.
    pub(crate) fn pump(&mut self, task: &str, exec: &str, stream: Stream) -> Result<(), Failure> {
        let number = self.number();
        self.admit(number, task, exec, stream).map_err(|error| failed(&error))?;
        self.count(task, exec, number);
        Ok(())
    }

    fn admit(
        &mut self,
        number: u32,
        task: &str,
        exec: &str,
        stream: Stream,
    ) -> std::io::Result<()> {
        self.poller.add(&stream.from, Source::From(number), Interest::IN)?;
        let gone = stream.lives == Some(false);
        self.streams.insert(number, (stream, task.to_owned(), exec.to_owned()));
        if gone {
            self.pass(number, Source::From(number));
        }
        Ok(())
    }

    fn count(&mut self, task: &str, exec: &str, number: u32) {
        if let Some(process) = self.tasks.get_mut(task).and_then(|task| task.process(exec)) {
            process.streams.push(number);
        }
    }

    fn discount(&mut self, task: &str, exec: &str, number: u32) {
        if let Some(process) = self.tasks.get_mut(task).and_then(|task| task.process(exec)) {
            process.streams.retain(|stream| *stream != number);
        }
    }

    /// Looks after what a process writes, into a pipe or a terminal, once somebody reads it.
    pub(crate) fn pump_out(
        &mut self,
        task: &str,
        exec: &str,
        (from, lives): (OwnedFd, Option<bool>),
        address: &str,
    ) -> Result<(), Failure> {
        let number = self.number();
        let late = Late {
            number,
            from,
            address: address.to_owned(),
            lives,
            task: task.to_owned(),
            exec: exec.to_owned(),
            due: Instant::now(),
            pause: SOON,
        };
        self.count(task, exec, number);
        self.look(late).map_err(|error| {
            // A deletion waits for all that are counted.
            self.discount(task, exec, number);
            let words = format!("{address:?}: {}", failed(&error).message);
            Failure::new(Code::Internal, words)
        })
    }

    /// Begins a stream if somebody reads by now. Nothing else tells of that.
    fn look(&mut self, mut late: Late) -> std::io::Result<()> {
        if let Some((to, fifo)) = stream::open_output(&late.address)? {
            let spliced = late.lives.is_none() && fifo;
            let mut stream = Stream::new(late.from, to, spliced);
            stream.lives = late.lives;
            return self.admit(late.number, &late.task, &late.exec, stream);
        }
        late.due = Instant::now() + late.pause;
        late.pause = (late.pause * 2).min(SELDOM);
        self.late.push(late);
        Ok(())
    }

    pub(crate) fn look_for_readers(&mut self) {
        let now = Instant::now();
        for late in std::mem::take(&mut self.late) {
            if late.due > now {
                self.late.push(late);
                continue;
            }
            let (number, task, exec) = (late.number, late.task.clone(), late.exec.clone());
            if let Err(error) = self.look(late) {
                log::error!("a stream of {task}: {error}");
                self.discount(&task, &exec, number);
            }
        }
    }

    pub(crate) fn pass(&mut self, number: u32, source: Source) {
        let Some((stream, task, exec)) = self.streams.get_mut(&number) else { return };
        let (from, to) = (Source::From(number), Source::To(number));
        let turn = stream.pass();
        let hung = std::mem::replace(&mut stream.hung, turn == Turn::Hung);
        match (turn, source) {
            // It is told at once that it is so, and then when it is otherwise.
            (Turn::Hung, _) if !hung => {
                let _ = self.poller.again(&stream.from, from, Interest::IN | Interest::ET);
            }
            (Turn::Hung, _) => {}
            (Turn::From, Source::From(_)) if hung => {
                let _ = self.poller.again(&stream.from, from, Interest::IN);
            }
            (Turn::From, Source::From(_)) | (Turn::To, Source::To(_)) => {}
            (Turn::To, _) => {
                self.poller.forget(&stream.from);
                let _ = self.poller.add(&stream.to, to, Interest::OUT);
            }
            (Turn::From, _) => {
                self.poller.forget(&stream.to);
                let _ = self.poller.add(&stream.from, from, Interest::IN);
            }
            (Turn::Over, _) => {
                let (task, exec) = (task.clone(), exec.clone());
                if let Some((stream, ..)) = self.streams.remove(&number) {
                    self.part(&stream);
                }
                self.discount(&task, &exec, number);
            }
        }
    }

    /// The process of a terminal is gone.
    pub(crate) fn hang_up(&mut self, id: &str, exec: &str) {
        for late in self.late.iter_mut().filter(|late| late.task == id && late.exec == exec) {
            late.lives = late.lives.map(|_| false);
        }
        let process = self.tasks.get_mut(id).and_then(|task| task.process(exec));
        let Some(process) = process else { return };
        let terminal = process.terminal.is_some();
        // Full of what nobody will read it would be told of for ever.
        let input = process.input.take_if(|_| terminal);
        let streams = process.streams.clone();
        self.cut(input.as_slice());
        for number in streams {
            if let Some((Stream { lives: Some(lives), .. }, ..)) = self.streams.get_mut(&number) {
                *lives = false;
                self.pass(number, Source::From(number));
            }
        }
    }

    /// Before it is closed: a terminal stays open by other descriptors of the shim's, and
    /// would be told of for ever.
    fn part(&self, stream: &Stream) {
        self.poller.forget(&stream.from);
        self.poller.forget(&stream.to);
    }

    /// Closes streams whatever is in them.
    pub(crate) fn cut(&mut self, streams: &[u32]) {
        for stream in streams {
            if let Some((stream, ..)) = self.streams.remove(stream) {
                self.part(&stream);
            }
        }
        self.late.retain(|late| !streams.contains(&late.number));
    }
}
