//! `events`: what a container uses, once or again and again, and when the kernel ends
//! a process of it for want of memory. One JSON object a line.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use orlop::container::{Container, Happening, Stats};
use serde::Serialize;

use super::{Call, print};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How long from one object to the next, as in 5s or 100ms
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Print one object, and no more
    #[arg(long)]
    stats: bool,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

/// COMPAT(runc): the names and their order; engines read them.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Serialize)]
struct Data {
    #[serde(flatten)]
    stats: Stats,
    /// Always nothing: no config has interfaces that a runtime makes.
    network_interfaces: (),
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { interval, stats, id } = call.parse()?;
    ensure!(!interval.is_zero(), "duration interval must be greater than 0");
    let container = call.open(&id)?;
    let mut watch = container.watch()?;
    if stats {
        tell(&container)?;
        return Ok(0);
    }
    let mut due = Instant::now() + interval;
    loop {
        match watch.next(due.saturating_duration_since(Instant::now()))? {
            Some(Happening::Over) => return Ok(0),
            Some(Happening::OutOfMemory) => line(&Event { kind: "oom", id: &id, data: None })?,
            None if Instant::now() < due => {}
            None => {
                due = Instant::now() + interval;
                // It may be on its way out, and one that goes on has more to tell.
                if let Err(error) = tell(&container) {
                    log::error!("{error:#}");
                }
            }
        }
    }
}

fn tell(container: &Container) -> anyhow::Result<()> {
    let data = Data { stats: container.stats()?, network_interfaces: () };
    line(&Event { kind: "stats", id: container.id(), data: Some(data) })
}

fn line(event: &Event<'_>) -> anyhow::Result<()> {
    print(&(serde_json::to_string(event)? + "\n"))
}
