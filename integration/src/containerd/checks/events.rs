//! Events: each once, and in the order that clients go by.

use std::thread;

use anyhow::{Result, bail, ensure};

use crate::command;
use crate::containerd::container::Container;
use crate::containerd::daemon::{Daemon, IMAGE};
use crate::containerd::events::Listener;
use crate::engine::{PATIENCE, same};

pub(super) fn order(daemon: &Daemon) -> Result<()> {
    let listener = Listener::start(daemon)?;
    let container = Container::sleeping(daemon, &[])?;
    let (mut client, ends) = container.exec_client(&[], &["sh", "-c", "exit 3"])?;
    command::run(&mut client, "", PATIENCE)?.exits_with(3)?;
    let (mut client, stays) = container.exec_client(&["--detach"], &["sleep", "1000"])?;
    command::run(&mut client, "", PATIENCE)?.exits_with(0)?;
    container.must(&["pause"])?;
    container.must(&["resume"])?;
    // What is left of it ends with the first process.
    container.end()?;
    let events = listener.until(&container.id, "delete")?;
    let expected = [
        "create".to_owned(),
        "start".to_owned(),
        format!("exec-added of {ends}"),
        format!("exec-started of {ends}"),
        format!("exit of {ends}"),
        format!("exec-added of {stays}"),
        format!("exec-started of {stays}"),
        "paused".to_owned(),
        "resumed".to_owned(),
        format!("exit of {stays}"),
        "exit".to_owned(),
        "delete".to_owned(),
    ];
    same("what was told", &listener.told(&container.id), &expected.join(", "))?;
    let status = |words: &str| {
        events.iter().find(|event| event.words() == words).map_or(999, |event| event.status)
    };
    for (words, code) in [
        (format!("exit of {ends}").as_str(), 3),
        (&format!("exit of {stays}"), 137),
        ("exit", 137),
        ("delete", 137),
    ] {
        ensure!(status(words) == code, "{words} was told with {} for {code}", status(words));
    }
    Ok(())
}

/// A task that ends at once: its end must not be told before its start.
const SHORT: &str = "create, start, exit, delete";

pub(super) fn in_a_row(daemon: &Daemon) -> Result<()> {
    let listener = Listener::start(daemon)?;
    let mut names = Vec::new();
    for _ in 0..50 {
        let id = daemon.fresh("row");
        let run = ["run", "--rm", "--runtime", daemon.runtime(), IMAGE, &id, "true"];
        daemon.ctr(&run)?.exits_with(0)?;
        names.push(id);
    }
    check(&listener, &names)
}

/// Eight at once, five times.
pub(super) fn in_parallel(daemon: &Daemon) -> Result<()> {
    let listener = Listener::start(daemon)?;
    let mut names = Vec::new();
    for _ in 0..5 {
        let mut clients = Vec::new();
        for _ in 0..8 {
            let id = daemon.fresh("parallel");
            let run = ["run", "--rm", "--runtime", daemon.runtime(), IMAGE, &id, "true"];
            let mut client = daemon.client(&run)?;
            clients.push(thread::spawn(move || command::run(&mut client, "", PATIENCE)));
            names.push(id);
        }
        for client in clients {
            let Ok(output) = client.join() else { bail!("the client's thread died") };
            output?.exits_with(0)?;
        }
    }
    check(&listener, &names)
}

fn check(listener: &Listener, names: &[String]) -> Result<()> {
    for name in names {
        listener.until(name, "delete")?;
    }
    for name in names {
        same(&format!("what was told of {name}"), &listener.told(name), SHORT)?;
    }
    Ok(())
}
