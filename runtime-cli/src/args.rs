//! The global flags, and how a command's own flags are read.
//!
//! Arguments are read in two steps: the flags before the command, then those of
//! the one command that was named. Only that command's part of the tree is ever
//! built, which is a good half of the start-up time. What the flags mean is
//! decided by the commands.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::builder::{StyledStr, ValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use nix::unistd::geteuid;

use crate::{commands, compat};

/// Where the containers of the machine's root are.
pub(crate) const DEFAULT_ROOT: &str = "/run/orlop";

/// COMPAT(runc): the first two lines.
const HELP: &str = "NAME:\n   {name} - {about}\n\nUSAGE:\n   {usage}\n\n{all-args}{after-help}";

/// The command line asks for help, or can't be understood.
#[derive(Debug)]
pub(crate) enum Usage {
    /// The text that was asked for.
    Help(String),
    /// What is wrong, in one line.
    Wrong(String),
    /// There is no such command: the same.
    NoCommand(String),
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Help(text) | Self::Wrong(text) | Self::NoCommand(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Usage {}

/// What stands before the command.
#[derive(Debug, Args)]
pub(crate) struct Globals {
    /// Log what happens in detail
    #[arg(long)]
    pub(crate) debug: bool,
    /// Append the log to this file instead of writing it to stderr
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// How to write the log: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: String,
    /// Where the state of the containers is kept [default: /run/orlop, or
    /// $XDG_RUNTIME_DIR/orlop without privileges]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Have systemd make the cgroup; linux.cgroupsPath is slice:prefix:name then
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,
    /// Who makes the cgroups: cgroupfs, systemd or disabled, for nobody
    #[arg(long, value_name = "MANAGER")]
    pub(crate) cgroup_manager: Option<String>,
    /// Whether cgroups may be out of reach: true, false or auto
    #[arg(long, value_name = "BOOL", default_value = "auto")]
    pub(crate) rootless: String,
    /// Print the version
    #[arg(short, long)]
    pub(crate) version: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND", hide = true)]
    pub(crate) rest: Vec<OsString>,
}

impl Globals {
    /// Reads everything up to the command.
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Self> {
        // The type's own description gives way, here and with the commands.
        let command = Self::augment_args(Command::new(compat::program()))
            .about(compat::ABOUT)
            .override_usage(format!("{} [FLAGS] COMMAND [ARGUMENTS]", compat::program()));
        // Not the command's `after_help`, which would be made for every call.
        parse(command, arguments.collect()).map_err(|error| match error.downcast() {
            Ok(Usage::Help(text)) => {
                Usage::Help(format!("{text}\n{}\n", commands::summary())).into()
            }
            Ok(wrong) => wrong.into(),
            Err(error) => error,
        })
    }

    /// Where the containers are, and whether the user chose the place.
    pub(crate) fn root(&self) -> anyhow::Result<(PathBuf, bool)> {
        if let Some(root) = &self.root {
            let root = std::path::absolute(root).context("the working directory is gone")?;
            let root = clean(&root);
            // COMPAT(runc): every container's files below it are removed by name.
            if root.parent().is_none() {
                anyhow::bail!("option --root must not be \"/\"");
            }
            return Ok((root, true));
        }
        let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        // SPEC: XDG base directories: one that is not absolute is to be ignored.
        match own.filter(|dir| dir.is_absolute() && in_own_name()) {
            Some(dir) => Ok((dir.join("orlop"), false)),
            None => Ok((DEFAULT_ROOT.into(), false)),
        }
    }
}

/// Whether the caller's files belong below `$XDG_RUNTIME_DIR`.
///
/// COMPAT(runc): root in a user namespace counts as a user unless it calls itself
/// root; real root never does.
fn in_own_name() -> bool {
    if !geteuid().is_root() {
        return true;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let first = map.split_whitespace().eq(["0", "0", "4294967295"]);
    !first && std::env::var_os("USER").is_none_or(|user| user != "root")
}

/// `path` without `.` and `..`, by its text alone.
fn clean(path: &std::path::Path) -> PathBuf {
    use std::path::Component;
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

/// Reads `arguments` as those of `command`, whose flags are `T`'s.
pub(crate) fn parse<T: FromArgMatches>(
    command: Command,
    arguments: Vec<OsString>,
) -> anyhow::Result<T> {
    let mut matches = matches(command, arguments)?;
    Ok(T::from_arg_matches_mut(&mut matches).map_err(|error| usage(&error))?)
}

fn matches(command: Command, arguments: Vec<OsString>) -> Result<ArgMatches, Usage> {
    let arguments = like_go_reads(&command, arguments);
    let unreadable: Vec<_> = arguments.iter().filter(|one| one.to_str().is_none()).collect();
    let unreadable = (!unreadable.is_empty()).then(|| format!("{unreadable:?}"));
    let command = command
        .help_template(HELP)
        .no_binary_name(true)
        // COMPAT(runc): of a flag given twice the last one counts.
        .args_override_self(true)
        .disable_help_subcommand(true)
        .disable_version_flag(true)
        .mut_args(like_go);
    command.try_get_matches_from(arguments).map_err(|error| match (error.kind(), unreadable) {
        // Clap's own words name none of them.
        (ErrorKind::InvalidUtf8, Some(which)) => {
            Usage::Wrong(format!("an argument is not UTF-8, among {which}"))
        }
        _ => usage(&error),
    })
}

/// COMPAT(runc): a path that is empty was not given, as scripts say it that pass on what
/// they may not have (`--pid-file "$PID_FILE"`). One hyphen or two are the same (`-debug`,
/// `--b`). And the first `--` ends the options, also behind a container's id
/// (`exec ID -- ls`).
pub(crate) fn like_go_reads(command: &Command, arguments: Vec<OsString>) -> Vec<OsString> {
    let is_odd = |one: &OsString| match one.as_encoded_bytes() {
        [] | [.., b'='] | [b'-', b'-'] | [b'-', b'-', _] => true,
        [b'-', second, _, ..] => *second != b'-',
        _ => false,
    };
    if !arguments.iter().any(is_odd) {
        return arguments;
    }
    let mut kept = Vec::with_capacity(arguments.len());
    let mut arguments = arguments.into_iter().peekable();
    let path = ValueParser::path_buf().type_id();
    let words = command.get_positionals().find(|arg| arg.is_trailing_var_arg_set());
    let names = words.and_then(Arg::get_value_names).unwrap_or_default();
    let begin_with_id = names.first().is_some_and(|name| name == "CONTAINER-ID");
    while let Some(one) = arguments.next() {
        let text = one.to_string_lossy();
        // What follows may be another program's.
        if text == "--" || !text.starts_with('-') && words.is_some() {
            if text != "--" && begin_with_id {
                arguments.next_if(|next| next == "--");
            }
            kept.push(one);
            break;
        }
        let (name, own) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (&*text, None),
        };
        let bare = name.strip_prefix("--").or(name.strip_prefix('-')).unwrap_or_default();
        let is_named = |arg: &&Arg| {
            let short = arg.get_short().is_some_and(|short| bare.chars().eq([short]));
            short || arg.get_long() == Some(bare)
        };
        let named = command.get_arguments().find(is_named);
        let spelled = named.map(|_| {
            let mut spelled = OsString::from(if bare.len() == 1 { "-" } else { "--" });
            spelled.push(OsStr::from_bytes(&one.as_bytes()[name.len() - bare.len()..]));
            spelled
        });
        let takes_next =
            |arg: &&Arg| arg.get_action().takes_values() && !arg.is_require_equals_set();
        let option = named.filter(takes_next);
        let is_path = option.is_some_and(|arg| arg.get_value_parser().type_id() == path);
        let next = if option.is_some() && own.is_none() { arguments.next() } else { None };
        let empty = own == Some("") || next.as_ref().is_some_and(|next| next.is_empty());
        if !(is_path && empty) {
            kept.push(spelled.unwrap_or(one));
            kept.extend(next);
        }
    }
    kept.extend(arguments);
    kept
}

/// COMPAT(runc): a switch may be given a value (`--detach=false`), and an option
/// takes the next argument whatever it looks like (`--cpu-quota -1`).
fn like_go(arg: Arg) -> Arg {
    match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_name("BOOL")
            .value_parser(ValueParser::new(bool_of_go))
            .default_missing_value("true")
            .default_value("false")
            .hide_default_value(true)
            .hide_possible_values(true),
        ArgAction::Set | ArgAction::Append if !arg.is_positional() => arg.allow_hyphen_values(true),
        _ => arg,
    }
}

/// COMPAT(runc): the words for yes and no that Go knows.
pub(crate) fn bool_of_go(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("neither true nor false"),
    }
}

fn usage(error: &clap::Error) -> Usage {
    let text: StyledStr = error.render();
    let text = text.to_string();
    if error.kind() == ErrorKind::DisplayHelp {
        return Usage::Help(text);
    }
    // One line: engines read one, and the rest is what --help prints.
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    Usage::Wrong(first.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globals(line: &str) -> anyhow::Result<Globals> {
        Globals::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn an_empty_path_before_the_command_was_not_given() {
        let line = ["--root", "", "--log=", "--debug", "create", "--bundle", ""];
        let globals = Globals::parse(line.map(OsString::from).into_iter()).unwrap();
        assert_eq!((globals.root, globals.log, globals.debug), (None, None, true));
        assert_eq!(globals.rest, ["create", "--bundle", ""]);
    }

    #[test]
    fn one_hyphen_or_two_are_the_same() {
        let globals = globals("-debug=true -root /r --v list -debug").unwrap();
        assert_eq!(globals.root().unwrap(), ("/r".into(), true));
        assert!(globals.debug && globals.version);
        assert_eq!(globals.rest, ["list", "-debug"]);
    }

    // go-runc/runc.go (Runc.args): --root --debug --log --log-format
    // --systemd-cgroup --rootless=B, then the command.
    #[test]
    fn reads_what_containerd_passes() {
        let globals = globals(
            "--root /r --debug --log /l --log-format json --systemd-cgroup --rootless=true \
             create --bundle /b --pid-file /p id",
        )
        .unwrap();
        assert_eq!(globals.root().unwrap(), ("/r".into(), true));
        assert!(globals.debug && globals.systemd_cgroup);
        assert_eq!(globals.log_format, "json");
        assert_eq!(globals.rootless, "true");
        assert_eq!(globals.rest, ["create", "--bundle", "/b", "--pid-file", "/p", "id"]);
    }

    #[test]
    fn switches_take_a_value_after_an_equals_sign_only() {
        let globals = globals("--debug=false --systemd-cgroup state x").unwrap();
        assert!(!globals.debug && globals.systemd_cgroup);
        assert_eq!(globals.rest, ["state", "x"]);
    }

    #[test]
    fn yes_and_no_are_said_as_in_go() {
        for (yes, no) in [("1", "0"), ("t", "f"), ("T", "F"), ("TRUE", "False")] {
            assert!(globals(&format!("--debug={yes} list")).unwrap().debug, "{yes}");
            assert!(!globals(&format!("--debug={no} list")).unwrap().debug, "{no}");
        }
        for neither in ["yes", "tRUE", "2", ""] {
            let error = globals(&format!("--debug={neither} list")).unwrap_err().to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn the_root_is_never_the_root_directory() {
        for root in ["/", "/a/..", "/../../"] {
            assert!(globals(&format!("--root {root} list")).unwrap().root().is_err(), "{root}");
        }
        let (root, _) = globals("--root /a/./b/../c list").unwrap().root().unwrap();
        assert_eq!(root, PathBuf::from("/a/c"));
    }
}
