//! The figures as tables.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::RIVAL;
use super::look::{Holdings, Memory};
use crate::bench::report::{NOISY, kernel, millis, processors, ratio};
use crate::bench::stats::Summary;

/// One shim's figures of one operation.
#[derive(Debug)]
pub struct Figures {
    /// Its name.
    pub shim: &'static str,
    /// From the first call to the last answer.
    pub wall: Summary,
    /// User and system time of all that came of it.
    pub cpu: Duration,
}

/// One operation.
#[derive(Debug)]
pub struct Times {
    /// Its name.
    pub name: &'static str,
    /// Of each shim.
    pub figures: Vec<Figures>,
}

/// A server's memory.
#[derive(Debug)]
pub struct Growth {
    /// The shim's name.
    pub shim: &'static str,
    /// With so many containers in its pod.
    pub sizes: Vec<(usize, Memory)>,
    /// Of so many servers together, each with one container.
    pub pods: Vec<(usize, Memory)>,
}

/// What a server has, and the number of cgroups, before and after many tasks and execs.
#[derive(Debug)]
pub struct Flat {
    /// The shim's name.
    pub shim: &'static str,
    /// How many came and went between.
    pub tasks: usize,
    /// And how many execs.
    pub execs: usize,
    /// After a tenth as many.
    pub before: (Holdings, usize),
    /// After all.
    pub after: (Holdings, usize),
}

impl Flat {
    /// Whether nothing is left but memory.
    #[must_use]
    pub fn is_flat(&self) -> bool {
        let counts = |(had, cgroups): (Holdings, usize)| {
            (had.descriptors, had.mounts, had.children, cgroups)
        };
        counts(self.before) == counts(self.after)
    }
}

/// What a benchmark found.
#[derive(Debug, Default)]
pub struct Report {
    /// Rounds that count.
    pub iterations: usize,
    /// Which cgroup hierarchy the shims saw.
    pub cgroups: String,
    /// Who took part, and what the reader must know of it.
    pub notes: Vec<String>,
    /// Cgroups that were left behind.
    pub leftovers: Vec<PathBuf>,
    /// What takes time.
    pub times: Vec<Times>,
    /// One call of Stats.
    pub stats: Vec<Figures>,
    /// What takes memory.
    pub growth: Vec<Growth>,
    /// Programs executed for a task; None without strace.
    pub executions: Vec<(&'static str, Option<usize>)>,
    /// What is left behind.
    pub flat: Vec<Flat>,
}

fn explain(operation: &str) -> &'static str {
    match operation {
        "start" => "the program, until its answer is read",
        "task" => "start, Create, Wait, Start, the end of /bin/true, Delete, Shutdown, delete",
        _ => "Exec, Wait, Start, the end of /bin/true, Delete, in a container that runs",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kernel, processors) = (kernel(), processors());
        writeln!(f, "Linux {kernel}, {processors} processors, {} rounds", self.iterations)?;
        writeln!(f, "cgroups: {}", self.cgroups)?;
        for line in &self.notes {
            writeln!(f, "{line}")?;
        }
        for place in &self.leftovers {
            writeln!(f, "a cgroup was left behind: {}", place.display())?;
        }
        for times in &self.times {
            writeln!(f, "\n{}: {}", times.name, explain(times.name))?;
            table(f, &times.figures)?;
        }
        if !self.stats.is_empty() {
            writeln!(f, "\nstats: one call")?;
            table(f, &self.stats)?;
            for of in &self.stats {
                let calls = 1.0 / of.cpu.as_secs_f64().max(1e-9);
                writeln!(f, "  {:<10} {calls:.0} calls a second of the server's cpu", of.shim)?;
            }
        }
        self.memory(f)?;
        if !self.executions.is_empty() {
            writeln!(f, "\nprograms executed for a task")?;
        }
        for (shim, count) in &self.executions {
            let count = count.map_or("SKIP: needs strace".to_owned(), |count| count.to_string());
            writeln!(f, "  {shim:<10} {count}")?;
        }
        self.flatness(f)?;
        let figures = self.times.iter().flat_map(|times| &times.figures).chain(&self.stats);
        let worst = figures.map(|figures| figures.wall.spread()).fold(0.0, f64::max);
        if worst > NOISY {
            let percent = worst * 100.0;
            writeln!(
                f,
                "\nThis machine is noisy (spread up to {percent:.0}%): read the medians only."
            )?;
        }
        Ok(())
    }
}

impl Report {
    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.growth.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nmemory of the server, in KiB (private: what is in no file; share: files divided among who maps them)"
        )?;
        let mut row = |shim: &str, what: &str, [private, share, resident]: [&str; 3]| {
            writeln!(f, "  {shim:<10} {what:<22} {private:>8} {share:>8} {resident:>9}")
        };
        row("", "", ["private", "share", "resident"])?;
        for Growth { shim, sizes, pods } in &self.growth {
            let numbers = |memory: &Memory| {
                [memory.private, memory.proportional, memory.resident].map(|kib| kib.to_string())
            };
            for (size, memory) in sizes {
                let numbers = numbers(memory);
                let what = format!("{size} in a pod");
                row(shim, &what, numbers.each_ref().map(String::as_str))?;
            }
            if let [(few, first), .., (many, last)] = &sizes[..] {
                let each = |few_kib: u64, many_kib: u64| {
                    let more = many_kib as f64 - few_kib as f64;
                    format!("{:.1}", more / (*many - *few) as f64)
                };
                let each = [
                    each(first.private, last.private),
                    each(first.proportional, last.proportional),
                    each(first.resident, last.resident),
                ];
                row(shim, "each further", each.each_ref().map(String::as_str))?;
            }
            for (count, together) in pods {
                let what = format!("{count} pods together");
                row(shim, &what, numbers(together).each_ref().map(String::as_str))?;
            }
        }
        Ok(())
    }

    fn flatness(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for of in &self.flat {
            let Flat { shim, tasks, execs, .. } = of;
            writeln!(f, "\n{shim}: before and after {tasks} tasks and {execs} execs in a pod")?;
            let ((before, groups), (after, groups_after)) = (of.before, of.after);
            let rows = [
                ("descriptors", before.descriptors, after.descriptors),
                ("mounts", before.mounts, after.mounts),
                ("children", before.children, after.children),
                ("cgroups", groups, groups_after),
                ("private KiB", before.memory.private as usize, after.memory.private as usize),
                ("resident KiB", before.memory.resident as usize, after.memory.resident as usize),
            ];
            for (name, before, after) in rows {
                writeln!(f, "  {name:<13} {before:>7} {after:>7}")?;
            }
            if !of.is_flat() {
                writeln!(f, "  NOT FLAT")?;
            }
        }
        Ok(())
    }
}

fn table(f: &mut fmt::Formatter<'_>, figures: &[Figures]) -> fmt::Result {
    let rival = figures.iter().find(|figures| figures.shim == RIVAL);
    writeln!(
        f,
        "  {:<10} {:>8} {:>8} {:>8} {:>7} {:>8} {:>8} {:>8}",
        "", "median", "p90", "min", "spread", "/runc-v2", "cpu", "cpu/v2"
    )?;
    for of in figures {
        writeln!(
            f,
            "  {:<10} {:>8} {:>8} {:>8} {:>6.0}% {:>8} {:>8} {:>8}",
            of.shim,
            millis(of.wall.median),
            millis(of.wall.p90),
            millis(of.wall.min),
            of.wall.spread() * 100.0,
            ratio(of.wall.median, rival.map(|rival| rival.wall.median)),
            millis(of.cpu),
            ratio(of.cpu, rival.map(|rival| rival.cpu)),
        )?;
    }
    Ok(())
}
