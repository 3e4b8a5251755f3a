//! The command line.

mod files;
mod generate;
mod listen;
mod log;
mod proxy;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};

use self::files::FileFlags;
use self::generate::Generate;
use self::listen::Listen;
use self::log::LogFlags;
use self::proxy::ProxyFlags;
use crate::config::{Address, address};
use crate::serve::Plan;
use crate::{config, doctor, program};

/// A web server that moves bodies of any size in fixed memory.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the files of a directory.
    Serve {
        /// The directory; nothing outside it is served.
        #[arg(value_name = "DIR", default_value = ".")]
        directory: PathBuf,
        #[command(flatten)]
        listen: Listen,
        #[command(flatten)]
        log: LogFlags,
        #[command(flatten)]
        files: Box<FileFlags>,
    },
    /// Relay requests to one or more servers.
    Proxy {
        /// The servers, which answer the same requests: http://127.0.0.1:9001 or
        /// http://unix:/run/app.sock.
        #[arg(value_name = "URL", required = true, value_parser = address::url)]
        servers: Vec<Address>,
        #[command(flatten)]
        listen: Listen,
        #[command(flatten)]
        log: LogFlags,
        #[command(flatten)]
        proxy: Box<ProxyFlags>,
    },
    /// Serve what a configuration file says.
    Run {
        /// The configuration.
        #[arg(value_name = "CONFIG.toml")]
        config: PathBuf,
    },
    /// Read a configuration file and tell every mistake in it.
    Check {
        /// The configuration.
        #[arg(value_name = "CONFIG.toml")]
        config: PathBuf,
    },
    /// Tell what this kernel, these limits and this network allow, and what to
    /// change.
    Doctor {
        #[command(flatten)]
        options: doctor::Options,
    },
    /// Write man pages or shell completions, for packages.
    #[command(hide = true)]
    Generate(Generate),
}

/// Does what the command line says.
pub(crate) fn run() -> Result<()> {
    match Cli::parse().command {
        Command::Serve { directory, listen, log, files } => {
            let plan = Plan { access_log: log.access_log(), ..listen.plan() };
            program::serve(&directory, files.options()?, plan)
        }
        Command::Proxy { servers, listen, log, proxy } => {
            let plan = Plan { access_log: log.access_log(), ..listen.plan() };
            let config = proxy.config(servers, &plan)?;
            program::proxy(&config, plan)
        }
        Command::Run { config } => program::run(&config),
        Command::Check { config } => check(&config),
        Command::Doctor { options } => doctor::run(&options),
        Command::Generate(generate) => generate.run(&Cli::command()),
    }
}

/// Reads a configuration and tells that nothing is wrong with it.
fn check(path: &Path) -> Result<()> {
    let config = config::load(path)?;
    let routes: usize = config.sites.iter().map(|site| site.routes.len()).sum();
    let counted = |count: usize, noun: &str, plural: &str| {
        format!("{count} {noun}{}", if count == 1 { "" } else { plural })
    };
    let line = format!(
        "{}: correct: {}, {}, {}",
        path.display(),
        counted(config.sites.len(), "site", "s"),
        counted(routes, "route", "s"),
        counted(config.listen.len(), "address", "es"),
    );
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_has_the_promised_defaults_and_flags() {
        let Command::Serve { directory, listen, .. } =
            Cli::try_parse_from(["sluicegate", "serve"]).unwrap().command
        else {
            panic!("another command");
        };
        assert_eq!(directory, PathBuf::from("."));
        assert_eq!(listen.plan().addresses, ["127.0.0.1:8080".parse().unwrap()]);
        let line = ["sluicegate", "serve", "/srv", "--listen", "[::1]:1", "--workers", "3"];
        let Command::Serve { directory, listen, .. } = Cli::try_parse_from(line).unwrap().command
        else {
            panic!("another command");
        };
        assert_eq!(directory, PathBuf::from("/srv"));
        assert_eq!(listen.plan().workers, 3);
        for bad in [["--listen", "8080"], ["--workers", "0"], ["--workers", "x"]] {
            let line = ["sluicegate", "serve"].into_iter().chain(bad);
            assert!(Cli::try_parse_from(line).is_err(), "{bad:?}");
        }
    }
}
