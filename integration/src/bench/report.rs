//! The figures as a table for people and as JSON for programs.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::stats::Summary;
use super::subject::{FLOOR, Operation, RIVAL};

/// Above this share of the median, a spread says that something else ran.
pub(crate) const NOISY: f64 = 0.5;

/// One subject's figures of one operation.
#[derive(Debug)]
pub struct Figures {
    /// Its name.
    pub subject: String,
    /// From start to end.
    pub wall: Summary,
    /// User and system time of all processes.
    pub cpu: Summary,
    /// Of the largest process.
    pub peak_kib: u64,
}

/// What a benchmark found.
#[derive(Debug, Default)]
pub struct Report {
    /// Rounds that count.
    pub iterations: usize,
    /// Which cgroup hierarchy the subjects saw.
    pub cgroups: String,
    /// What the reader must know about who took part, and how.
    pub notes: Vec<String>,
    /// Cgroups that a subject left behind.
    pub leftovers: Vec<PathBuf>,
    /// The figures.
    pub operations: Vec<(Operation, Vec<Figures>)>,
}

impl Report {
    /// Times in microseconds, memory in KiB.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let summary = |summary: &Summary| {
            json!({
                "min": micros(summary.min),
                "p10": micros(summary.p10),
                "median": micros(summary.median),
                "p90": micros(summary.p90),
            })
        };
        let mut results = Vec::new();
        for (operation, figures) in &self.operations {
            for of in figures {
                results.push(json!({
                    "operation": operation.title(),
                    "subject": of.subject,
                    "wall_us": summary(&of.wall),
                    "cpu_us": summary(&of.cpu),
                    "peak_kib": of.peak_kib,
                }));
            }
        }
        json!({
            "kernel": kernel(),
            "processors": processors(),
            "cgroups": self.cgroups,
            "iterations": self.iterations,
            "notes": self.notes,
            "leftovers": self.leftovers,
            "results": results,
        })
    }
}

pub(crate) fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(0, std::num::NonZero::get)
}

fn explain(operation: Operation) -> &'static str {
    match operation {
        Operation::Run => "one command: /bin/true in a new container",
        Operation::Lifecycle => "three commands, and a wait for /bin/true (floors: as in run)",
        Operation::Exec => "/bin/true in a running container",
    }
}

pub(crate) fn ratio(of: Duration, to: Option<Duration>) -> String {
    match to {
        Some(to) if !to.is_zero() => format!("{:.2}", of.as_secs_f64() / to.as_secs_f64()),
        _ => "-".to_owned(),
    }
}

pub(crate) fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
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
            writeln!(f, "a subject left a cgroup behind: {}", place.display())?;
        }
        for (operation, figures) in &self.operations {
            writeln!(f, "\n{}: {}", operation.title(), explain(*operation))?;
            table(f, figures)?;
        }
        writeln!(
            f,
            "\nTimes in ms; cpu is user and system time of all processes; spread is p10 to p90\n\
             as a share of the median; peak is the resident memory of the largest process.\n\
             floor is the kernel's part of the container alone (integration/src/floor.rs), made\n\
             by a small static program; start is what starting that program costs."
        )?;
        let spreads = self.operations.iter().flat_map(|(_, figures)| figures);
        let worst = spreads.map(|figures| figures.wall.spread()).fold(0.0, f64::max);
        if worst > NOISY {
            let percent = worst * 100.0;
            writeln!(
                f,
                "This machine is noisy (spread up to {percent:.0}%): read the medians only."
            )?;
        }
        Ok(())
    }
}

fn table(f: &mut fmt::Formatter<'_>, figures: &[Figures]) -> fmt::Result {
    let named = |name: &str| figures.iter().find(|figures| figures.subject == name);
    let (floor, rival) = (named(FLOOR), named(RIVAL));
    writeln!(
        f,
        "  {:<13} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8} {:>8} {:>7} {:>8}",
        "",
        "median",
        "p90",
        "min",
        "spread",
        "/floor",
        "/crun",
        "cpu",
        "cpu/flr",
        "cpu/crn",
        "peak MiB"
    )?;
    for of in figures {
        writeln!(
            f,
            "  {:<13} {:>7} {:>7} {:>7} {:>6.0}% {:>7} {:>7} {:>8} {:>8} {:>7} {:>8.1}",
            of.subject,
            millis(of.wall.median),
            millis(of.wall.p90),
            millis(of.wall.min),
            of.wall.spread() * 100.0,
            ratio(of.wall.median, floor.map(|floor| floor.wall.median)),
            ratio(of.wall.median, rival.map(|rival| rival.wall.median)),
            millis(of.cpu.median),
            ratio(of.cpu.median, floor.map(|floor| floor.cpu.median)),
            ratio(of.cpu.median, rival.map(|rival| rival.cpu.median)),
            of.peak_kib as f64 / 1024.0,
        )?;
    }
    Ok(())
}
