//! The program's environment: what is in it, and where programs are looked for.

use std::collections::HashSet;

use oci_spec::runtime::Process;

use crate::error::Error;
use crate::plan::Builder;

/// Where programs are when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// COMPAT(runc): the texts.
pub(super) fn validate(plan: &mut Builder, env: &[String]) {
    for (index, entry) in env.iter().enumerate() {
        let what = match entry.split_once('=') {
            Some(("", _)) => "invalid environment variable: name cannot be empty",
            Some(_) => continue,
            None => "invalid environment variable: missing '='",
        };
        plan.error(Error::config(format!("/process/env/{index}"), what));
    }
}

/// The entries, each name once: the last one holds.
///
/// COMPAT(runc): an empty HOME counts as none, so that it is looked up.
pub(super) fn entries(process: &Process) -> Vec<&str> {
    let mut seen = HashSet::new();
    let all = process.env().as_deref().unwrap_or_default();
    let mut entries: Vec<&str> = all
        .iter()
        .rev()
        .filter(|entry| seen.insert(entry.split('=').next().unwrap_or_default()))
        .map(String::as_str)
        .filter(|entry| *entry != "HOME=")
        .collect();
    entries.reverse();
    entries
}

/// Whether the environment says where home is.
pub(super) fn has_home(process: &Process) -> bool {
    entries(process).iter().any(|entry| entry.starts_with("HOME="))
}

/// The directories in which the program is looked for; an empty one is the
/// working directory.
pub(super) fn path(process: &Process) -> Vec<String> {
    let entries = entries(process);
    let path = entries.iter().find_map(|entry| entry.strip_prefix("PATH="));
    let directories = path.unwrap_or(DEFAULT_PATH).split(':');
    directories.map(|dir| if dir.is_empty() { "." } else { dir }.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(env: &[&str]) -> Process {
        let mut process = Process::default();
        process.set_env(Some(env.iter().map(ToString::to_string).collect()));
        process
    }

    #[test]
    fn the_last_of_a_name_holds_in_its_place() {
        assert_eq!(entries(&process(&["A=1", "B=2", "A=3", "C="])), ["B=2", "A=3", "C="]);
    }

    #[test]
    fn an_empty_home_is_none() {
        assert!(!has_home(&process(&["HOME=/root", "HOME="])));
        assert!(has_home(&process(&["HOME=", "HOME=/root"])));
    }

    #[test]
    fn the_path_has_a_default_and_knows_here() {
        assert_eq!(path(&process(&["PATH=/bin::/x"])), ["/bin", ".", "/x"]);
        assert_eq!(path(&process(&[])).len(), 6);
    }
}
