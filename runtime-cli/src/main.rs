//! Orlop's command line: runc's commands, exit codes and texts over the library.
//!
//! This file decides the order of things: arguments, log, command, report. It
//! knows nothing of containers.
//!
//! Descriptors 0 to 2 need no care here: before `main`, `/dev/null` takes the place of
//! a closed one, so no file of ours lands there.
#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

mod args;
mod commands;
mod compat;
mod ending;
mod foreground;
mod herald;
mod log;
mod streams;

use std::io::{IsTerminal as _, Write as _};

use args::{Globals, Usage};
use nix::sys::signal::{SigSet, Signal};

orlop_init::program!(start);

fn start() -> u8 {
    // A write beyond RLIMIT_FSIZE shall fail, not kill: what was made is taken back
    // then. Blocked and not ignored, since no program that is started inherits that.
    let _ = SigSet::from(Signal::SIGXFSZ).thread_block();
    // Who ignores it, and may have started us so, gets no status of a child (wait(2)).
    orlop_init::sys::signal::reset(Signal::SIGCHLD as i32);
    let mut to_file = false;
    let mut verb = "";
    let result = run(&mut to_file, &mut verb);
    let error = match result {
        Ok(status) => return status,
        Err(error) => error,
    };
    let mut stderr = std::io::stderr();
    if let Some(not_executed) = error.downcast_ref::<compat::NotExecuted>()
        && !to_file
        && !stderr.is_terminal()
    {
        let _ = writeln!(stderr, "{}", not_executed.bare());
        return compat::failure(verb, &error);
    }
    let message = match error.downcast_ref::<Usage>() {
        Some(Usage::Help(text)) => return help(text),
        Some(Usage::Wrong(text) | Usage::NoCommand(text)) => text.clone(),
        None => compat::message(verb, &error, &told(&error)),
    };
    ::log::error!("{message}");
    if to_file {
        // COMPAT(runc): the log file is for the engine, stderr for the person.
        let _ = writeln!(stderr, "{message}");
    }
    match error.downcast_ref::<Usage>() {
        Some(Usage::NoCommand(_)) => compat::NO_COMMAND,
        Some(_) => compat::FAILURE,
        None => compat::failure(verb, &error),
    }
}

fn run(to_file: &mut bool, verb: &mut &'static str) -> anyhow::Result<u8> {
    let globals = match Globals::parse(std::env::args_os().skip(1)) {
        Ok(globals) => globals,
        Err(error) => {
            log::start(None, "text", false)?;
            return Err(error);
        }
    };
    if globals.version {
        commands::print(&compat::version())?;
        return Ok(0);
    }
    *to_file = log::start(globals.log.as_deref(), &globals.log_format, globals.debug)?;
    commands::dispatch(globals, verb)
}

/// What went wrong, from the outside in; the kernel's numbers in the library's words.
fn told(error: &anyhow::Error) -> String {
    let one = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        let errno = cause.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32);
        errno.or(io).map_or_else(|| cause.to_string(), orlop::error::errno_text)
    };
    error.chain().map(one).collect::<Vec<_>>().join(": ")
}

fn help(text: &str) -> u8 {
    match commands::print(text) {
        Ok(()) => 0,
        Err(_) => compat::FAILURE,
    }
}
