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
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;

use anyhow::{anyhow, ensure};
use clap::{Args, FromArgMatches};
use orlop::bundle::LARGEST;
use orlop::container::{Container, Store};

use crate::args::{self, Globals, Usage};
use crate::compat;

/// A command.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// What a person may want to type, behind the program's name.
    pub(crate) examples: &'static [&'static str],
    /// Adds its flags and arguments.
    flags: fn(clap::Command) -> clap::Command,
    run: fn(Call) -> anyhow::Result<u8>,
}

impl Command {
    /// Its flags and arguments, as clap takes them.
    pub(crate) fn flags(&self) -> clap::Command {
        (self.flags)(clap::Command::new(self.name)).about(self.about)
    }
}

/// The commands by what they are for, as help shows them.
pub(crate) const GROUPS: &[(&str, &[Command])] = &[
    ("To look around", TRYING),
    ("The life of a container", LIFE),
    ("What it does now", LOOKING),
    ("While it runs", CHANGING),
    ("Bundles, and this program", BUNDLES),
];

const TRYING: &[Command] = &[Command {
    name: "try",
    about: "Run a command or a shell, isolated",
    examples: &["try", "try ls -l /"],
    flags: throwaway::Arguments::augment_args,
    run: throwaway::run,
}];

const LIFE: &[Command] = &[
    Command {
        name: "run",
        about: "Create a container, start it and wait for it",
        examples: &["run --bundle DIR box", "run --detach --bundle DIR box"],
        flags: run::Arguments::augment_args,
        run: run::run,
    },
    Command {
        name: "create",
        about: "Create a container from a bundle",
        examples: &["create --bundle DIR box", "create --config OTHER.json box"],
        flags: bundle::Creation::augment_args,
        run: create::run,
    },
    Command {
        name: "start",
        about: "Start the process of a created container",
        examples: &["start box"],
        flags: Id::augment_args,
        run: start::run,
    },
    Command {
        name: "exec",
        about: "Run a further process in a container",
        examples: &["exec --tty box sh", "exec --user 1000:1000 --cwd /tmp box id"],
        flags: exec::Arguments::augment_args,
        run: exec::run,
    },
    Command {
        name: "kill",
        about: "Send a signal to a container's process",
        examples: &["kill box", "kill box KILL", "kill --regex '^test-' TERM"],
        flags: kill::Arguments::augment_args,
        run: kill::run,
    },
    Command {
        name: "delete",
        about: "Delete a container that has stopped",
        examples: &["delete box", "delete --force box", "delete --force --regex '^test-'"],
        flags: delete::Arguments::augment_args,
        run: delete::run,
    },
    Command {
        name: "checkpoint",
        about: "Save a running container",
        examples: &["checkpoint --image-path DIR box", "checkpoint --leave-running box"],
        flags: checkpoint::Arguments::augment_args,
        run: checkpoint::run,
    },
    Command {
        name: "restore",
        about: "Bring a saved container back",
        examples: &["restore --detach --bundle DIR --image-path DIR box"],
        flags: restore::Arguments::augment_args,
        run: restore::run,
    },
];

const LOOKING: &[Command] = &[
    Command {
        name: "list",
        about: "List the containers",
        examples: &["list", "list --quiet", "list --format json"],
        flags: list::Arguments::augment_args,
        run: list::run,
    },
    Command {
        name: "state",
        about: "Print a container's state",
        examples: &["state box"],
        flags: Id::augment_args,
        run: state::run,
    },
    Command {
        name: "ps",
        about: "List a container's processes",
        examples: &["ps box", "ps --format json box"],
        flags: ps::Arguments::augment_args,
        run: ps::run,
    },
    Command {
        name: "events",
        about: "Print what a container uses",
        examples: &["events --stats box", "events --interval 1s box"],
        flags: events::Arguments::augment_args,
        run: events::run,
    },
];

const CHANGING: &[Command] = &[
    Command {
        name: "update",
        about: "Change a container's limits",
        examples: &["update --memory 256m --pids-limit 100 box", "update --resources FILE box"],
        flags: update::Arguments::augment_args,
        run: update::run,
    },
    Command {
        name: "mounts",
        about: "Mount in a running container",
        examples: &["mounts add box MOUNTS.json", "mounts remove box MOUNTS.json"],
        flags: mounts::Arguments::augment_args,
        run: mounts::run,
    },
    Command {
        name: "pause",
        about: "Freeze a container's processes",
        examples: &["pause box"],
        flags: Id::augment_args,
        run: freeze::pause,
    },
    Command {
        name: "resume",
        about: "Thaw a container's processes",
        examples: &["resume box"],
        flags: Id::augment_args,
        run: freeze::resume,
    },
];

const BUNDLES: &[Command] = &[
    Command {
        name: "spec",
        about: "Write a bundle's first config.json",
        examples: &["spec --bundle DIR", "spec --rootless"],
        flags: spec::Arguments::augment_args,
        run: spec::run,
    },
    Command {
        name: "plan",
        about: "Print what creating a bundle would do",
        examples: &["plan DIR", "plan --json DIR"],
        flags: plan::Arguments::augment_args,
        run: plan::run,
    },
    Command {
        name: "features",
        about: "Print what this build can do",
        examples: &["features"],
        flags: features::Arguments::augment_args,
        run: features::run,
    },
    Command {
        name: "stage",
        about: "Write the init stage to a file",
        examples: &["stage FILE"],
        flags: stage::Arguments::augment_args,
        run: stage::run,
    },
];

fn all() -> impl Iterator<Item = &'static Command> {
    GROUPS.iter().flat_map(|(_, commands)| *commands)
}

/// One call of a command.
struct Call {
    command: &'static Command,
    globals: Globals,
    arguments: Vec<OsString>,
}

impl Call {
    /// The command's own arguments.
    fn parse<T: FromArgMatches>(&mut self) -> anyhow::Result<T> {
        let name = format!("{} {}", compat::program(), self.command.name);
        let command = self.command.flags().display_name(&name).bin_name(name);
        let arguments = std::mem::take(&mut self.arguments);
        // Made for who asks alone: the others wait for every line.
        let asked = arguments.iter().any(|one| one == "-h" || one == "--help");
        let command = if asked { command.after_help(examples(self.command)) } else { command };
        args::parse(command, arguments)
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
    let Some(command) = all().find(|command| command.name == name) else {
        // COMPAT(runc): its words.
        let wrong = format!("unknown command: No help topic for '{name}'");
        return Err(Usage::NoCommand(wrong).into());
    };
    *verb = command.name;
    (command.run)(Call { command, globals, arguments })
}

/// The list of commands, for the help.
pub(crate) fn summary() -> String {
    let mut text = String::new();
    for (group, commands) in GROUPS {
        let _ = writeln!(text, "{group}:");
        for Command { name, about, .. } in *commands {
            let _ = writeln!(text, "  {name:<10} {about}");
        }
        text.push('\n');
    }
    let program = compat::program();
    let _ = write!(
        text,
        "Examples:\n  {program} try\n  {program} run --bundle DIR box\n  {program} help exec"
    );
    text
}

fn examples(command: &Command) -> String {
    let mut text = String::from("Examples:");
    for example in command.examples {
        let _ = write!(text, "\n  {} {example}", compat::program());
    }
    text
}

/// Tells what a person should know though it is no failure.
fn warn(warnings: &[String]) {
    for warning in warnings {
        log::warn!("{warning}");
    }
}

/// The text in a file that an argument names, be it a pipe of the caller's shell: no
/// more than of a config.
fn text_of(file: &Path) -> anyhow::Result<String> {
    text(File::open(file), file)
}

/// The same of what is opened already.
fn text(from: std::io::Result<impl Read>, file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = from.and_then(|from| from.take(LARGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| orlop::Error::io(&error, "reading").at_path(file))?;
    // Not to be filled without an end.
    ensure!(bytes.len() as u64 <= LARGEST, "{file:?} has more than {} MiB", LARGEST >> 20);
    String::from_utf8(bytes).map_err(|error| {
        anyhow!("{file:?} is not UTF-8 at byte {}", error.utf8_error().valid_up_to())
    })
}

/// Prints an answer.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(written.map_err(|error| orlop::Error::io(&error, "writing the answer"))?)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_path_that_is_empty_was_not_given() {
        let left = |name: &str, line: &[&str]| {
            let command = all().find(|command| command.name == name).unwrap().flags();
            let arguments = line.iter().map(OsString::from).collect();
            args::like_go_reads(&command, arguments).join(" ".as_ref()).into_string().unwrap()
        };
        assert_eq!(left("create", &["--pid-file", "", "-b", "", "--bundle=", "x"]), "x");
        assert_eq!(left("create", &["x", "--console-socket", ""]), "x");
        assert_eq!(left("create", &["--pid-file", "--detach", "x"]), "--pid-file --detach x");
        // A value that looks like an option, one that is no path, and what is the program's.
        assert_eq!(left("exec", &["--env", "--pid-file", "", "x"]), "--env --pid-file  x");
        assert_eq!(left("exec", &["--user", "", "-p", "", "x"]), "--user  x");
        assert_eq!(left("exec", &["x", "sh", "--pid-file", ""]), "x sh --pid-file ");
        assert_eq!(left("exec", &["--no-new-privs", "", "x"]), "--no-new-privs  x");
        assert_eq!(left("create", &["--", "--pid-file", ""]), "-- --pid-file ");
    }

    #[test]
    fn one_hyphen_or_two_are_the_same() {
        let left = |name: &str, line: &[&[u8]]| {
            let command = all().find(|command| command.name == name).unwrap().flags();
            let line = line.iter().map(|one| OsString::from_vec(one.to_vec())).collect();
            args::like_go_reads(&command, line).join(OsStr::new(" ")).into_vec()
        };
        let line: &[&[u8]] = &[b"-pid-file", b"-p", b"--b=\xff", b"-x", b"-9", b"\xff\xff"];
        assert_eq!(left("create", line), b"--pid-file -p -b=\xff -x -9 \xff\xff");
        assert_eq!(left("exec", &[b"-tty", b"x", b"ls", b"-tty"]), b"--tty x ls -tty");
    }

    // As runc 1.5 does it, whose flags are read by urfave/cli.
    #[test]
    fn the_first_two_dashes_end_the_options() {
        let left = |name: &str, line: &str| {
            let command = all().find(|command| command.name == name).unwrap().flags();
            let arguments = line.split(' ').map(OsString::from).collect();
            args::like_go_reads(&command, arguments).join(" ".as_ref()).into_string().unwrap()
        };
        assert_eq!(left("exec", "x -- ls"), "x ls");
        assert_eq!(left("exec", "--env -- x -- ls -- a"), "--env -- x ls -- a");
        assert_eq!(left("exec", "x -- -- ls"), "x -- ls");
        assert_eq!(left("exec", "-- x -- ls"), "-- x -- ls");
        assert_eq!(left("exec", "x sh -- a"), "x sh -- a");
        assert_eq!(left("kill", "x -- 9"), "x 9");
        assert_eq!(left("ps", "--format json x -- -o pid"), "--format json x -o pid");
        // No id.
        assert_eq!(left("try", "ls -- x"), "ls -- x");
    }

    // Examples are read by people who copy them.
    #[test]
    fn every_command_is_there_once_and_has_examples_of_its_own() {
        let mut names: Vec<_> = all().map(|command| command.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for Command { name, examples, .. } in all() {
            assert!(!examples.is_empty(), "{name}");
            let own = |example: &&&str| example.split(' ').next() == Some(name);
            assert!(examples.iter().all(|example| own(&example)), "{name}");
        }
    }
}
