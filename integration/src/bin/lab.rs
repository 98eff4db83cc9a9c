//! A machine with systemd: see [`integration::lab`].

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use integration::command;
use integration::lab::cache::Cache;
use integration::lab::recipe::Which;
use integration::lab::ssh::User;
use integration::lab::transfer::Load;
use integration::lab::{self, Lab, session};

/// Where the runtime is in the machine.
const ORLOP: &str = "/usr/local/bin/orlop";

/// A virtual machine with systemd, made of Debian's packages.
#[derive(Debug, Parser)]
#[command(name = "lab")]
struct Arguments {
    #[command(flatten)]
    which: Which,
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
        command: Vec<OsString>,
    },
    /// Run a cargo command here, and the programs that it would start in there
    Cargo {
        /// As the ordinary user "lab", not as root
        #[arg(long)]
        user: bool,
        /// The command and its arguments: test, run or an alias
        #[arg(last = true, required = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
    /// What cargo starts in the place of each program
    #[command(hide = true)]
    Runner {
        #[arg(long)]
        user: bool,
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
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
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no failures, and go to standard output.
            let _ = error.print();
            return ExitCode::from(unread(&error));
        }
    };
    match carry_out(arguments) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::from(OUR_OWN)
        }
    }
}

/// The exit status when the command line asks for nothing that is carried out.
fn unread(error: &clap::Error) -> u8 {
    if error.use_stderr() { OUR_OWN } else { 0 }
}

fn carry_out(arguments: Arguments) -> Result<i32> {
    let Arguments { which, install_packages, verb } = arguments;
    let lab = Lab::new(Cache::open(&lab::target()?)?, which, install_packages);
    match verb {
        Verb::Up => lab.up().map(drop)?,
        Verb::Run { user, release, with, command } => {
            return run(&lab, who(user), lab::build_runtime(release)?, &with, &command);
        }
        Verb::Cargo { user, arguments } => return cargo(which, user, &arguments),
        Verb::Runner { user, mut command } => {
            // Cargo gives a path below its own folder; tests are one level deeper.
            let program = Path::new(&command[0]).canonicalize()?;
            let profile = program.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
            let release = profile.is_some_and(|profile| profile.ends_with("release"));
            let orlop = lab::build_runtime(release)?;
            command[0] = program.clone().into_os_string();
            command.splice(..0, settings());
            let with: Vec<_> = [program, orlop.clone()].into_iter().chain(programs()).collect();
            return run(&lab, who(user), orlop, &with, &command);
        }
        Verb::Ssh { user } => {
            let user = who(user);
            let status = lab.enter(user, &[])?.login(user).status().context("starting ssh")?;
            return Ok(command::code(status));
        }
        Verb::Copy { files, to } => lab.copy(&files, &to)?,
        Verb::Down => {
            if !lab.down()? {
                eprintln!("{which} is off");
            }
        }
        Verb::List => print!("{}", lab.list()?),
    }
    Ok(0)
}

fn who(ordinary: bool) -> User {
    if ordinary { User::Ordinary } else { User::Root }
}

fn run(
    lab: &Lab,
    user: User,
    orlop: PathBuf,
    with: &[PathBuf],
    command: &[OsString],
) -> Result<i32> {
    let mut loads: Vec<_> = with.iter().map(|file| Load::in_place(file)).collect::<Result<_>>()?;
    loads.push(Load { from: orlop, to: PathBuf::from(ORLOP) });
    session::run(&lab.enter(user, &loads)?, user, command)
}

/// The programs of the package that is tested: its tests know them by their paths here.
fn programs() -> impl Iterator<Item = PathBuf> {
    let ours = |name: &OsStr| name.as_encoded_bytes().starts_with(b"CARGO_BIN_EXE_");
    std::env::vars_os().filter(move |(name, _)| ours(name)).map(|(_, path)| path.into())
}

/// What our tests are told by the environment goes along.
fn settings() -> Vec<OsString> {
    let ours =
        std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"ORLOP_TEST_"));
    let pairs = ours.map(|(name, value)| [name, value].join(OsStr::new("=")));
    std::iter::once("env".into()).chain(pairs).collect()
}

/// Cargo builds here and is told that this program runs what it has built.
fn cargo(which: Which, user: bool, arguments: &[OsString]) -> Result<i32> {
    let this = std::env::current_exe()?;
    let triple = this.ancestors().nth(2).and_then(Path::file_name);
    let triple = triple.context("the target of this program")?.to_string_lossy();
    let mut runner = vec![this.to_str().context("the path of this program")?, "--kernel"];
    runner.extend([which.kernel.name(), "--lsm", which.lsm.name()]);
    runner.extend(["--cgroups", which.cgroups.name(), "runner"]);
    if user {
        runner.push("--user");
    }
    // A list of strings is the same in JSON and in TOML.
    let runner = format!("target.{triple}.runner={}", serde_json::to_string(&runner)?);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["--config", &runner]).args(arguments);
    Ok(command::code(command.status().context("starting cargo")?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use clap::CommandFactory;
    use integration::lab::recipe::{Cgroups, Kernel, Lsm};

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
    fn a_command_line_that_is_wrong_is_the_labs_own_failure() {
        for line in ["nothing", "run ls", "run --user", "--kernel buster up"] {
            assert_eq!(unread(&parse(line).unwrap_err()), OUR_OWN, "{line}");
        }
        assert_eq!(unread(&parse("run --help").unwrap_err()), 0);
    }

    #[test]
    fn an_argument_need_not_be_utf_8() {
        let odd = OsStr::from_bytes(b"\xff");
        let words = [OsStr::new("lab"), OsStr::new("run"), OsStr::new("--"), odd];
        let Verb::Run { command, .. } = Arguments::try_parse_from(words).unwrap().verb else {
            panic!()
        };
        assert_eq!(command, [odd]);
    }

    #[test]
    fn what_cargo_starts_has_its_own_arguments() {
        let arguments = parse("cargo --user -- test -p x -- --nocapture").unwrap();
        let Verb::Cargo { user, arguments } = arguments.verb else { panic!() };
        assert!(user);
        assert_eq!(arguments, ["test", "-p", "x", "--", "--nocapture"]);
        let arguments = parse("--kernel sid runner program --user --nocapture life").unwrap();
        let Verb::Runner { user, command } = arguments.verb else { panic!() };
        assert!(!user);
        assert_eq!(command, ["program", "--user", "--nocapture", "life"]);
    }

    #[test]
    fn the_kernel_is_said_anywhere_and_is_trixies_else() {
        assert_eq!(parse("up").unwrap().which.kernel, Kernel::Trixie);
        assert_eq!(parse("up --kernel bookworm").unwrap().which.kernel, Kernel::Bookworm);
        assert_eq!(parse("--kernel sid down").unwrap().which.kernel, Kernel::Sid);
        assert!(parse("--kernel buster up").is_err());
    }

    #[test]
    fn the_security_module_is_said_anywhere_and_is_debians_else() {
        assert_eq!(parse("up").unwrap().which.lsm, Lsm::Apparmor);
        assert_eq!(parse("up --lsm selinux").unwrap().which.lsm, Lsm::Selinux);
        assert_eq!(parse("--lsm selinux down").unwrap().which.lsm, Lsm::Selinux);
        assert!(parse("--lsm smack up").is_err());
    }

    #[test]
    fn cgroups_are_said_anywhere_and_are_v2_else() {
        assert_eq!(parse("up").unwrap().which.cgroups, Cgroups::V2);
        assert_eq!(parse("up --cgroups hybrid").unwrap().which.cgroups, Cgroups::Hybrid);
        assert_eq!(parse("--cgroups v1 down").unwrap().which.cgroups, Cgroups::V1);
        assert!(parse("--cgroups v3 up").is_err());
    }

    #[test]
    fn the_last_of_a_copy_is_the_place() {
        let Verb::Copy { files, to } = parse("copy a b /root").unwrap().verb else { panic!() };
        assert_eq!((files.len(), to.as_str()), (2, "/root"));
        assert!(parse("copy a").is_err());
    }
}
