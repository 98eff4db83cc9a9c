//! `kill`: a signal by name or number.

use std::str::FromStr as _;

use anyhow::bail;
use clap::Args;
use nix::sys::signal::Signal;

use super::{Call, matching};
use crate::compat;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Signal every process; a stopped container is no error then
    #[arg(short, long, hide = true)]
    all: bool,
    /// Signal every container whose id this regular expression matches
    #[arg(short, long)]
    regex: bool,
    /// The container, and the signal's name or number [default: SIGTERM]
    #[arg(trailing_var_arg = true, required = true, value_names = ["CONTAINER-ID", "SIGNAL"], num_args = 1..=2)]
    arguments: Vec<String>,
}

pub(super) fn run(mut call: Call) -> anyhow::Result<u8> {
    let Arguments { all, regex, arguments } = call.parse()?;
    let signal = number(arguments.get(1).map_or("SIGTERM", String::as_str))?;
    let one = |id: &str| {
        let container = call.open(id)?;
        let result = if all { container.signal_all(signal) } else { container.kill(signal) };
        result.map_err(compat::not_signalled)
    };
    if regex {
        matching::each(&call, &arguments[0], one)?;
    } else {
        one(&arguments[0])?;
    }
    Ok(0)
}

/// COMPAT(runc): a number as it is, else a name in any case, with or without SIG.
fn number(signal: &str) -> anyhow::Result<i32> {
    if let Ok(number) = signal.parse() {
        return Ok(number);
    }
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let name = match name {
        "CLD" => "CHLD",
        "POLL" => "IO",
        "IOT" => "ABRT",
        name => name,
    };
    match Signal::from_str(&format!("SIG{name}")) {
        Ok(signal) => Ok(signal as i32),
        Err(_) => bail!("unknown signal {signal:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // containerd sends numbers (go-runc Kill: strconv.Itoa), docker's and runc's own
    // users names.
    #[test]
    fn signals_have_names_and_numbers() {
        for (text, wanted) in
            [("9", 9), ("KILL", 9), ("sigkill", 9), ("SIGTERM", 15), ("37", 37), ("0", 0)]
        {
            assert_eq!(number(text).unwrap(), wanted, "{text}");
        }
        assert_eq!(number("SIGCLD").unwrap(), number("CHLD").unwrap());
        assert_eq!(number("FOO").unwrap_err().to_string(), "unknown signal \"FOO\"");
        assert!(number("").is_err());
    }
}
