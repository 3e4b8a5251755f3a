//! Man pages and shell completions, made of the command line itself: what a
//! package ships.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Command, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

/// What the command line does not know of itself: exit status, signals, files,
/// environment.
const MORE: &[u8] = include_bytes!("../../../../packaging/man/sluicegate.1.more");

/// How the manual is called at the head of its pages.
const MANUAL: &str = "Sluicegate";

#[derive(Debug, Args)]
pub(super) struct Generate {
    #[command(subcommand)]
    what: What,
    /// The directory that they are written to; it is made if need be.
    #[arg(long, value_name = "DIR", global = true, default_value = ".")]
    to: PathBuf,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Man pages in section 1: one of the program and one of each command.
    Man {
        /// What the pages give as their date.
        #[arg(long, value_name = "YYYY-MM-DD", default_value = "")]
        date: String,
    },
    /// The completion of a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

impl Generate {
    /// Writes the files, named as the system looks for them.
    pub(super) fn run(self, program: &Command) -> Result<()> {
        let program = presentable(program);
        let to = &self.to;
        let done = fs::create_dir_all(to).and_then(|()| match self.what {
            What::Man { date } => man(program, &date, to),
            What::Completions { shell } => completions(program, shell, to),
        });
        done.with_context(|| format!("cannot write to `{}`", to.display()))
    }
}

/// As users are to see it: without what is only there to make it, and without
/// a `help` command, which `--help` and the pages stand in for.
fn presentable(program: &Command) -> Command {
    let shown = program.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let shown: Vec<_> = shown.collect();
    // clap cannot take a command away: the program is put together anew.
    let anew = Command::new(env!("CARGO_BIN_NAME"))
        .version(env!("CARGO_PKG_VERSION"))
        .arg_required_else_help(true)
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommands(shown);
    match program.get_about() {
        Some(about) => anew.about(about.clone()),
        None => anew,
    }
}

fn man(mut program: Command, date: &str, to: &Path) -> std::io::Result<()> {
    program.build();
    let source = format!("Sluicegate {}", program.get_version().unwrap_or_default());
    let page = |command: Command| {
        let title = command.get_display_name().unwrap_or_else(|| command.get_name()).to_uppercase();
        Man::new(command).title(title).date(date).source(source.as_str()).manual(MANUAL)
    };
    for command in program.get_subcommands().cloned().collect::<Vec<_>>() {
        page(command).generate_to(to)?;
    }
    let page = page(program);
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    page.render_subcommands_section(&mut text)?;
    text.extend_from_slice(MORE);
    fs::write(to.join(page.get_filename()), text)
}

fn completions(mut program: Command, shell: Shell, to: &Path) -> std::io::Result<()> {
    let name = program.get_name().to_owned();
    clap_complete::generate_to(shell, &mut program, name, to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Command {
        Command::new("sluicegate")
            .about("Does things.")
            .subcommand(Command::new("go").about("Goes."))
            .subcommand(Command::new("secret").hide(true))
    }

    #[test]
    fn hidden_commands_are_in_no_page_and_no_completion() {
        let to = tempfile::tempdir().unwrap();
        let all = [
            What::Man { date: "2026-01-01".to_owned() },
            What::Completions { shell: Shell::Bash },
            What::Completions { shell: Shell::Zsh },
            What::Completions { shell: Shell::Fish },
        ];
        for what in all {
            Generate { what, to: to.path().join("made") }.run(&program()).unwrap();
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(to.path().join("made")).unwrap() {
            let entry = entry.unwrap();
            let text = fs::read_to_string(entry.path()).unwrap();
            assert!(!text.contains("secret"), "{:?}", entry.path());
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(
            names,
            [
                "_sluicegate",
                "sluicegate-go.1",
                "sluicegate.1",
                "sluicegate.bash",
                "sluicegate.fish",
            ]
        );
        let page = fs::read_to_string(to.path().join("made/sluicegate.1")).unwrap();
        assert!(page.contains(" 2026-01-01 "), "{page}");
        for section in ["NAME", "SYNOPSIS", "SIGNALS", "FILES"] {
            assert!(page.contains(&format!(".SH {section}\n")), "{section}: {page}");
        }
        assert!(page.contains("\"EXIT STATUS\"") && page.contains("sluicegate\\-go(1)"), "{page}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let to = file.path().join("beneath");
        let error =
            Generate { what: What::Man { date: String::new() }, to }.run(&program()).unwrap_err();
        assert!(format!("{error:#}").contains("beneath"), "{error:#}");
    }
}
