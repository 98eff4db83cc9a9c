//! The commands by name, one file each, and what several of them share: their
//! arguments' shape, the store, and how an answer is printed.

mod activation;
mod bundle;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod freeze;
mod images;
mod kill;
mod list;
mod matching;
mod mounts;
mod notify;
mod plan;
mod ps;
mod restore;
mod run;
mod size;
mod spec;
mod stage;
mod start;
mod state;
mod throwaway;
mod update;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;

use clap::Args;
use orlop::container::{Container, Store};

use crate::args::{self, Globals, Usage};
use crate::compat;

/// A command.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(Call) -> anyhow::Result<u8>,
}

const COMMANDS: &[Command] = &[
    Command { name: "checkpoint", about: "Save a running container", run: checkpoint::run },
    Command { name: "create", about: "Create a container from a bundle", run: create::run },
    Command { name: "delete", about: "Delete a container that has stopped", run: delete::run },
    Command { name: "events", about: "Print what a container uses", run: events::run },
    Command { name: "exec", about: "Run a further process in a container", run: exec::run },
    Command { name: "features", about: "Print what this build can do", run: features::run },
    Command { name: "kill", about: "Send a signal to a container's process", run: kill::run },
    Command { name: "list", about: "List the containers", run: list::run },
    Command { name: "mounts", about: "Mount in a running container", run: mounts::run },
    Command { name: "pause", about: "Freeze a container's processes", run: freeze::pause },
    Command { name: "plan", about: "Print what creating a bundle would do", run: plan::run },
    Command { name: "ps", about: "List a container's processes", run: ps::run },
    Command { name: "restore", about: "Bring a saved container back", run: restore::run },
    Command { name: "resume", about: "Thaw a container's processes", run: freeze::resume },
    Command { name: "run", about: "Create a container, start it and wait for it", run: run::run },
    Command { name: "spec", about: "Write a bundle's first config.json", run: spec::run },
    Command { name: "stage", about: "Write the init stage to a file", run: stage::run },
    Command { name: "start", about: "Start the process of a created container", run: start::run },
    Command { name: "state", about: "Print a container's state", run: state::run },
    Command { name: "try", about: "Run a command or a shell, isolated", run: throwaway::run },
    Command { name: "update", about: "Change a container's limits", run: update::run },
];

/// One call of a command.
struct Call {
    command: &'static Command,
    globals: Globals,
    arguments: Vec<OsString>,
}

impl Call {
    /// The command's own arguments.
    fn parse<T: Args>(&mut self) -> anyhow::Result<T> {
        let Command { name, about, .. } = self.command;
        let command = clap::Command::new(*name)
            .display_name(format!("{} {name}", compat::program()))
            .bin_name(format!("{} {name}", compat::program()))
            .about(*about);
        args::parse(command, std::mem::take(&mut self.arguments).into_iter())
    }

    /// Where the containers are.
    fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::new(self.globals.root()?.0))
    }

    /// One container.
    fn open(&self, id: &str) -> anyhow::Result<Container> {
        self.store()?.open(id).map_err(compat::not_opened)
    }
}

/// The argument of a command that takes nothing but a container.
#[derive(Debug, Args)]
struct Id {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

/// Runs the command that `globals` ends in, after writing its name to `verb`.
pub(crate) fn dispatch(mut globals: Globals, verb: &mut &'static str) -> anyhow::Result<u8> {
    let mut arguments = std::mem::take(&mut globals.rest);
    if arguments.is_empty() {
        arguments.push("help".into());
    }
    let mut name = arguments.remove(0).to_string_lossy().into_owned();
    if name == "help" {
        // `help x` is `x --help`.
        let Some(of) = arguments.first() else {
            return Globals::parse(["--help".into()].into_iter()).map(|_| 0);
        };
        name = of.to_string_lossy().into_owned();
        arguments = vec!["--help".into()];
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        // COMPAT(runc): its words.
        let wrong = format!("unknown command: No help topic for '{name}'");
        return Err(Usage::Wrong(wrong).into());
    };
    *verb = command.name;
    (command.run)(Call { command, globals, arguments })
}

/// The list of commands, for the help.
pub(crate) fn summary() -> String {
    let mut text = String::from("Commands:\n");
    for Command { name, about, .. } in COMMANDS {
        let _ = writeln!(text, "  {name:<10} {about}");
    }
    text.push_str("  help       Print this, or the help of a command");
    text
}

/// Tells what a person should know though it is no failure.
fn warn(warnings: &[String]) {
    for warning in warnings {
        log::warn!("{warning}");
    }
}

/// Prints an answer.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(written.map_err(|error| orlop::Error::io(&error, "writing the answer"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_sorted() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
    }
}
