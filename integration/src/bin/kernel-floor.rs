//! `kernel-floor run ROOT PROGRAM [--group NAME] [HIERARCHY...]` and
//! `kernel-floor exec PID PROGRAM [--group NAME] [HIERARCHY...]`: see
//! [`integration::floor`]. Exits with the program's status. `kernel-floor nothing`
//! shows what the start of this program costs.

use std::ffi::CString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use integration::floor::{self, Cgroups};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["nothing"] {
        return ExitCode::SUCCESS;
    }
    match container(&arguments) {
        Ok(status) if status & 0x7f == 0 => ExitCode::from((status >> 8 & 0xff) as u8),
        Ok(status) => ExitCode::from((128 + (status & 0x7f)) as u8),
        Err(error) => {
            eprintln!("kernel-floor: {error}");
            ExitCode::from(125)
        }
    }
}

fn container(arguments: &[String]) -> io::Result<i32> {
    let usage = || io::Error::other("usage: kernel-floor run|exec ROOT|PID PROGRAM");
    let [verb, place, program, rest @ ..] = arguments else { return Err(usage()) };
    let (group, hierarchies) = match rest {
        [flag, name, hierarchies @ ..] if flag == "--group" => (Some(name.clone()), hierarchies),
        hierarchies => (None, hierarchies),
    };
    let cgroups = Cgroups { hierarchies: hierarchies.iter().map(Into::into).collect(), group };
    let program = CString::new(program.as_str())?;
    match verb.as_str() {
        "run" => floor::run(Path::new(place), &program, &cgroups),
        "exec" => floor::exec(place.parse().map_err(io::Error::other)?, &program, &cgroups),
        _ => Err(usage()),
    }
}
