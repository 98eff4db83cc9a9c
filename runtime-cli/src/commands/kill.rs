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

/// The real-time signals, by the numbers that the C library leaves to programs (signal(7)).
const REAL_TIME: [i32; 2] = [34, 64];

/// COMPAT(runc): a number as it is, else a name in any case, with or without SIG. Those of
/// real-time signals are crun's: RTMIN+3, RTMAX-1.
fn number(signal: &str) -> anyhow::Result<i32> {
    if let Ok(number) = signal.parse() {
        return Ok(number);
    }
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = real_time(name) {
        return Ok(number);
    }
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

fn real_time(name: &str) -> Option<i32> {
    let [least, most] = REAL_TIME;
    let (from, way, distance) = if let Some(distance) = name.strip_prefix("RTMIN") {
        (least, '+', distance)
    } else {
        (most, '-', name.strip_prefix("RTMAX")?)
    };
    let distance = match distance.strip_prefix(way) {
        _ if distance.is_empty() => 0,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    let number = if way == '+' { from.checked_add(distance)? } else { from.checked_sub(distance)? };
    (least..=most).contains(&number).then_some(number)
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

    // What systemd in a container is stopped by, and what kill(1) calls it.
    #[test]
    fn real_time_signals_have_names() {
        for (text, wanted) in [
            ("SIGRTMIN+3", 37),
            ("rtmin", 34),
            ("RTMIN+30", 64),
            ("SIGRTMAX", 64),
            ("RTMAX-30", 34),
        ] {
            assert_eq!(number(text).unwrap(), wanted, "{text}");
        }
        for text in ["RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMIN++1", "RTMINX"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
