//! Writes the manual pages and the completions of shells, for who packages Orlop:
//!
//! ```sh
//! cargo run -p orlop-cli --example pages -- /usr/share
//! ```
//!
//! They are made of the program's own flags: its modules are part of this program, and
//! nothing of this one is part of it.

#![allow(dead_code)] // most of it is not called here

#[path = "../../src/args.rs"]
mod args;
#[path = "../../src/commands/mod.rs"]
mod commands;
#[path = "../../src/compat.rs"]
mod compat;
#[path = "../../src/ending.rs"]
mod ending;
#[path = "../../src/foreground.rs"]
mod foreground;
#[path = "../../src/herald.rs"]
mod herald;
#[path = "../../src/log.rs"]
mod log;
mod manual;
#[path = "../../src/streams.rs"]
mod streams;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Arg, Args as _, Command};
use clap_complete::Shell;

use commands::GROUPS;

/// What the program is called.
const NAME: &str = "orlop";

fn main() -> anyhow::Result<()> {
    let directory = std::env::args_os().nth(1).context("usage: pages DIRECTORY")?;
    let directory = PathBuf::from(directory);
    for (group, commands) in GROUPS {
        for command in *commands {
            let page = manual::of_command(command)
                .with_context(|| format!("{group}: {}", command.name))?;
            write(&directory.join(format!("man/man8/{NAME}-{}.8", command.name)), &page)?;
        }
    }
    write(&directory.join(format!("man/man8/{NAME}.8")), &manual::of_program()?)?;
    for (shell, path) in [
        (Shell::Bash, "bash-completion/completions/orlop"),
        (Shell::Zsh, "zsh/site-functions/_orlop"),
        (Shell::Fish, "fish/vendor_completions.d/orlop.fish"),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut whole(), NAME, &mut text);
        write(&directory.join(path), &text)?;
    }
    Ok(())
}

fn write(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {folder:?}"))?;
    fs::write(path, text).with_context(|| format!("writing {path:?}"))
}

/// The flags before the command.
fn globals() -> Command {
    args::Globals::augment_args(Command::new(NAME)).about(compat::ABOUT).disable_version_flag(true)
}

/// The program with all its commands, which it never has itself.
fn whole() -> Command {
    let all = || GROUPS.iter().flat_map(|(_, commands)| *commands);
    let names = all().map(|command| command.name);
    let help = Command::new("help")
        .about("Print what a command is for")
        .arg(Arg::new("COMMAND").value_parser(names.collect::<Vec<_>>()));
    let commands = all().map(|command| shown(command.name, &command.flags()));
    // The command and what follows it are a hidden argument of the flags before it.
    shown(NAME, &globals()).subcommands(commands).subcommand(help)
}

/// Without what is hidden, which completions would offer all the same.
fn shown(name: &'static str, command: &Command) -> Command {
    Command::new(name)
        .about(command.get_about().cloned().unwrap_or_default())
        .args(command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned())
        .disable_help_subcommand(true)
        .disable_version_flag(true)
}
