//! What `examples/pages` writes: pages that groff takes without a word, completions that
//! complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::{TempDir, tempdir};

const ORLOP: &str = env!("CARGO_BIN_EXE_orlop");

/// What the example has written, if it is built: cargo does that for all tests at once,
/// and not for this one alone.
fn written(test: &str) -> Option<TempDir> {
    let example = Path::new(ORLOP).with_file_name("examples").join("pages");
    if !example.exists() {
        println!("SKIP {test}: the example is not built");
        return None;
    }
    let directory = tempdir().unwrap();
    let written = Command::new(example).arg(directory.path()).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    Some(directory)
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(ORLOP).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that the help lists.
fn commands() -> BTreeSet<String> {
    let all = help(&["--help"]);
    let lists = all.split("Options:").nth(1).unwrap().split("Examples:").next().unwrap();
    let name = |line: &str| {
        let name = line.strip_prefix("  ").and_then(|line| line.split(' ').next())?;
        name.starts_with(char::is_alphabetic).then(|| name.to_owned())
    };
    // The groups of commands follow the flags, each with a title.
    let groups = lists.lines().skip_while(|line| !line.ends_with(':'));
    let names: BTreeSet<_> = groups.filter_map(name).collect();
    assert!(names.len() > 15 && names.contains("create"), "{names:?}");
    names
}

/// The long flags that the help of a command lists.
fn flags(command: &str) -> BTreeSet<String> {
    let text = help(&["help", command]);
    let long = |line: &str| {
        let line = line.trim_start();
        let flag = line.split("--").nth(1).filter(|_| line.starts_with('-'))?;
        let end = flag.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        Some(format!("--{}", &flag[..end.unwrap_or(flag.len())]))
    };
    text.lines().filter_map(long).collect()
}

fn read(directory: &TempDir, name: &str) -> String {
    fs::read_to_string(directory.path().join(name)).unwrap()
}

#[test]
fn every_command_has_a_page_with_all_its_flags() {
    let Some(directory) = written("every_command_has_a_page_with_all_its_flags") else { return };
    let mut pages: BTreeSet<String> = fs::read_dir(directory.path().join("man/man8"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let whole = read(&directory, "man/man8/orlop.8");
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXAMPLES"] {
        assert!(whole.contains(&format!("\n.SH {section}\n")), "{section}");
    }
    assert!(whole.contains("\\-\\-systemd\\-cgroup") && pages.remove("orlop.8"));
    for command in commands() {
        let name = format!("orlop-{command}.8");
        assert!(pages.remove(&name), "no {name}");
        assert!(whole.contains(&format!("\\fBorlop\\-{command}\\fR(8)")), "{command}");
        let page = read(&directory, &format!("man/man8/{name}"));
        for flag in flags(&command) {
            let bold = format!("\\fB{}\\fR", flag.replace('-', "\\-"));
            assert!(page.contains(&bold), "{name} lacks {flag}");
        }
        for section in ["DESCRIPTION", "EXAMPLES", "\"EXIT STATUS\"", "\"SEE ALSO\""] {
            assert!(page.contains(&format!("\n.SH {section}\n")), "{name} lacks {section}");
        }
    }
    assert!(pages.is_empty(), "of no command: {pages:?}");
    let update = read(&directory, "man/man8/orlop-update.8");
    assert!(!update.contains("kernel\\-memory"), "a hidden flag");
}

#[test]
fn the_pages_are_set_without_a_warning() {
    let Some(directory) = written("the_pages_are_set_without_a_warning") else { return };
    for entry in fs::read_dir(directory.path().join("man/man8")).unwrap() {
        let path = entry.unwrap().path();
        let mut groff = Command::new("groff");
        groff.args(["-man", "-Tutf8", "-wall"]).arg(&path).stdin(Stdio::null());
        let Ok(set) = groff.output() else {
            println!("SKIP the_pages_are_set_without_a_warning: groff is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&set.stderr);
        assert!(set.status.success() && said.is_empty(), "{}: {said}", path.display());
        let page = String::from_utf8_lossy(&set.stdout);
        assert!(page.contains(concat!("orlop ", env!("CARGO_PKG_VERSION"))), "{page}");
    }
}

/// What bash offers for the last of these words.
fn completed(directory: &TempDir, words: &[&str]) -> BTreeSet<String> {
    let file = directory.path().join("bash-completion/completions/orlop");
    // As bash calls it (bash(1), Programmable Completion).
    let script = r#"source "$0" && COMP_WORDS=("$@") && COMP_CWORD=$(($# - 1)) &&
        _orlop orlop "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" &&
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    let output = bash.args(["-c", script]).arg(file).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_flags() {
    let Some(directory) = written("bash_completes_commands_and_flags") else { return };
    if Command::new("bash").arg("--version").output().is_err() {
        println!("SKIP bash_completes_commands_and_flags: bash is not installed");
        return;
    }
    let mut offered = completed(&directory, &["orlop", ""]);
    assert!(offered.remove("help"));
    offered.retain(|word| !word.starts_with('-'));
    assert_eq!(offered, commands());
    assert_eq!(completed(&directory, &["orlop", "fea"]), ["features".to_owned()].into());
    for command in commands() {
        let offered = completed(&directory, &["orlop", &command, "--"]);
        assert_eq!(offered, flags(&command), "{command}");
    }
    let after_a_flag = completed(&directory, &["orlop", "--debug", "exec", "--cw"]);
    assert_eq!(after_a_flag, ["--cwd".to_owned()].into());
    assert_eq!(completed(&directory, &["orlop", "help", "upd"]), ["update".to_owned()].into());
}

#[test]
fn the_other_shells_have_every_command_and_flag() {
    let Some(directory) = written("the_other_shells_have_every_command_and_flag") else { return };
    let zsh = read(&directory, "zsh/site-functions/_orlop");
    let fish = read(&directory, "fish/vendor_completions.d/orlop.fish");
    for command in commands() {
        assert!(zsh.contains(&format!("\n'{command}:")), "{command}");
        assert!(fish.contains(&format!(" -f -a \"{command}\"")), "{command}");
        for flag in flags(&command) {
            // With a value, without one, and more than once.
            let forms = [format!("\n'{flag}="), format!("\n'{flag}["), format!("\n'*{flag}=")];
            assert!(forms.iter().any(|form| zsh.contains(form)), "{command} {flag}");
            let long = flag.trim_start_matches('-');
            let line = |line: &str| {
                line.contains(&format!("__fish_orlop_using_subcommand {command}\""))
                    && line.contains(&format!(" -l {long} "))
            };
            assert!(fish.lines().any(line), "{command} {flag}");
        }
    }
    assert!(!zsh.contains("--guard") && !fish.contains("-l guard"), "a hidden flag");
}
