//! The manual pages: clap_mangen's sections for what the flags say, our own for the
//! rest.

use anyhow::Context as _;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::commands::{Command, GROUPS};
use crate::{NAME, globals, words};

const SECTION: &str = "8";

/// The page of the program.
pub(crate) fn of_program() -> anyhow::Result<Vec<u8>> {
    let usage = format!("{NAME} [FLAGS] COMMAND [ARGUMENTS]");
    let mut page = Page::new(globals(), usage)?;
    page.paragraphs(words::PROGRAM);
    page.options()?;
    let mut commands = Roff::default();
    commands.control("SH", ["COMMANDS"]);
    for (group, members) in GROUPS {
        commands.control("SS", [*group]);
        for Command { name, about, .. } in *members {
            term(&mut commands, &[bold(format!("{NAME}-{name}")), roman(format!("({SECTION})"))]);
            commands.text([roman(*about)]);
        }
    }
    page.add(&commands)?;
    page.examples(&["try", "run --bundle DIR box", "help exec"])?;
    let mut status = vec![("0", "It is done.")];
    status.push(("1", "It failed, or was called wrongly. The pages of the commands have more."));
    page.terms("EXIT STATUS", &status)?;
    page.terms("ENVIRONMENT", words::ENVIRONMENT)?;
    page.terms("FILES", words::FILES)?;
    page.see_also(words::ELSEWHERE)?;
    Ok(page.text)
}

/// The page of one command.
pub(crate) fn of_command(command: &Command) -> anyhow::Result<Vec<u8>> {
    let name = format!("{NAME}-{}", command.name);
    let flags = command.flags().display_name(&name).bin_name(format!("{NAME} {}", command.name));
    // The line that --help has.
    let usage = flags.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").context("no usage")?.to_owned();
    let mut page = Page::new(flags.disable_version_flag(true), usage)?;
    let described = words::DESCRIPTIONS.iter().find(|(name, _)| *name == command.name);
    page.paragraphs(described.context("nothing is said of it")?.1);
    page.options()?;
    page.examples(command.examples)?;
    page.terms("EXIT STATUS", words::exit_status(command.name))?;
    page.terms("FILES", words::files(command.name))?;
    page.see_also(&[(NAME, SECTION)])?;
    Ok(page.text)
}

/// A page, as far as it is written.
struct Page {
    man: Man,
    text: Vec<u8>,
}

impl Page {
    /// With its name and its synopsis.
    fn new(command: clap::Command, usage: String) -> anyhow::Result<Self> {
        // What is no flag has a section of its own.
        let grouped = command.override_usage(usage).mut_args(|arg| match arg.is_positional() {
            true => arg.help_heading("Arguments"),
            false => arg,
        });
        let title = grouped.get_display_name().unwrap_or(NAME).to_uppercase();
        let version = format!("{NAME} {}", env!("CARGO_PKG_VERSION"));
        // Without a date: a page is the same whenever it is made.
        let man = Man::new(grouped).title(title).section(SECTION).source(version);
        let man = man.manual("Orlop's manual").date(" ");
        let mut text = Vec::new();
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        Ok(Self { man, text })
    }

    fn add(&mut self, part: &Roff) -> anyhow::Result<()> {
        Ok(part.to_writer(&mut self.text)?)
    }

    fn paragraphs(&mut self, paragraphs: &[&str]) {
        let mut part = Roff::default();
        part.control("SH", ["DESCRIPTION"]);
        for paragraph in paragraphs {
            part.control("PP", []);
            part.text([roman(*paragraph)]);
        }
        self.text.extend(part.render().into_bytes());
    }

    fn options(&mut self) -> anyhow::Result<()> {
        Ok(self.man.render_options_section(&mut self.text)?)
    }

    fn examples(&mut self, examples: &[&str]) -> anyhow::Result<()> {
        let mut part = Roff::default();
        part.control("SH", ["EXAMPLES"]);
        part.control("EX", []);
        for example in examples {
            part.text([roman(format!("{NAME} {example}"))]);
        }
        part.control("EE", []);
        self.add(&part)
    }

    fn terms(&mut self, title: &str, terms: &[(&str, &str)]) -> anyhow::Result<()> {
        if terms.is_empty() {
            return Ok(());
        }
        let mut part = Roff::default();
        part.control("SH", [title]);
        for (name, text) in terms {
            term(&mut part, &[italic(*name)]);
            part.text([roman(*text)]);
        }
        self.add(&part)
    }

    fn see_also(&mut self, pages: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut part = Roff::default();
        part.control("SH", ["SEE ALSO"]);
        let one = |(name, section): &(&str, &str)| {
            [bold(*name), roman(format!("({section})")), roman(", ")]
        };
        let mut line: Vec<Inline> = pages.iter().flat_map(one).collect();
        line.pop();
        part.text(line);
        self.add(&part)
    }
}

fn term(part: &mut Roff, words: &[Inline]) {
    part.control("TP", []);
    part.text(words);
}
