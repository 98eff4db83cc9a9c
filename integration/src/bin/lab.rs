//! A machine with systemd and cgroup v2: see [`integration::lab`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use integration::command;
use integration::lab::cache::Cache;
use integration::lab::recipe::Kernel;
use integration::lab::ssh::User;
use integration::lab::transfer::Load;
use integration::lab::{self, Lab, session};

/// Where the runtime is in the machine.
const ORLOP: &str = "/usr/local/bin/orlop";

/// A virtual machine with systemd and cgroup v2, made of Debian's packages.
#[derive(Debug, Parser)]
#[command(name = "lab")]
struct Arguments {
    /// Whose kernel it runs; everything else is trixie's
    #[arg(long, global = true, value_enum, default_value = "trixie")]
    kernel: Kernel,
    /// Install on this machine what the lab needs and is missing
    #[arg(long, global = true)]
    install_packages: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Boot it; make its image if there is none
    Up,
    /// Run a command in it, with orlop in /usr/local/bin; boot it if it is off
    Run {
        /// As the ordinary user "lab", with a systemd manager of its own, not as root
        #[arg(long)]
        user: bool,
        /// With the release build of orlop
        #[arg(long)]
        release: bool,
        /// Bring this program too, to the same path there; may be given more than once
        #[arg(long, value_name = "FILE")]
        with: Vec<PathBuf>,
        /// The command, no shell's line
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Log in; boot it if it is off
    Ssh {
        /// As the ordinary user, not as root
        #[arg(long)]
        user: bool,
    },
    /// Copy files and folders into it, as root
    Copy {
        /// What
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Where to, in the machine
        #[arg(value_name = "DEST")]
        to: String,
    },
    /// End it; what was changed in it is gone
    Down,
    /// Show what runs, and the images that are kept
    List,
}

/// The exit status of a failure that is the lab's own, as engines have it.
const OUR_OWN: u8 = 125;

fn main() -> ExitCode {
    match carry_out(Arguments::parse()) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::from(OUR_OWN)
        }
    }
}

fn carry_out(arguments: Arguments) -> Result<i32> {
    let Arguments { kernel, install_packages, verb } = arguments;
    let lab = Lab::new(Cache::open(&target()?)?, kernel, install_packages);
    match verb {
        Verb::Up => lab.up().map(drop)?,
        Verb::Run { user, release, with, command } => {
            return run(&lab, who(user), release, &with, &command);
        }
        Verb::Ssh { user } => {
            let user = who(user);
            let status = lab.enter(user, &[])?.login(user).status().context("starting ssh")?;
            return Ok(command::code(status));
        }
        Verb::Copy { files, to } => lab.copy(&files, &to)?,
        Verb::Down => {
            if !lab.down()? {
                eprintln!("{kernel} is off");
            }
        }
        Verb::List => print!("{}", lab.list()?),
    }
    Ok(0)
}

fn who(ordinary: bool) -> User {
    if ordinary { User::Ordinary } else { User::Root }
}

fn run(lab: &Lab, user: User, release: bool, with: &[PathBuf], command: &[String]) -> Result<i32> {
    let mut loads: Vec<_> = with.iter().map(|file| Load::in_place(file)).collect::<Result<_>>()?;
    let from = lab::build_runtime(release)?;
    loads.push(Load { from, to: PathBuf::from(ORLOP) });
    session::run(&lab.enter(user, &loads)?, user, command)
}

/// Where cargo puts what it makes: three levels above this program.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3).map(Path::to_owned);
    target.context("the target directory of this program")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("lab").chain(line.split(' ')))
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_command_is_behind_the_dashes() {
        let arguments = parse("run --user --with a --with b -- ls --user -l").unwrap();
        let Verb::Run { user, release, with, command } = arguments.verb else { panic!() };
        assert!(user && !release);
        assert_eq!(with, [Path::new("a"), Path::new("b")]);
        assert_eq!(command, ["ls", "--user", "-l"]);
        assert!(parse("run ls").is_err() && parse("run").is_err() && parse("run --").is_err());
    }

    #[test]
    fn the_kernel_is_said_anywhere_and_is_trixies_else() {
        assert_eq!(parse("up").unwrap().kernel, Kernel::Trixie);
        assert_eq!(parse("up --kernel bookworm").unwrap().kernel, Kernel::Bookworm);
        assert_eq!(parse("--kernel sid down").unwrap().kernel, Kernel::Sid);
        assert!(parse("--kernel buster up").is_err());
    }

    #[test]
    fn the_last_of_a_copy_is_the_place() {
        let Verb::Copy { files, to } = parse("copy a b /root").unwrap().verb else { panic!() };
        assert_eq!((files.len(), to.as_str()), (2, "/root"));
        assert!(parse("copy a").is_err());
    }
}
