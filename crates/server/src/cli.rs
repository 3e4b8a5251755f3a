//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::files::Files;
use crate::serve::{self, Plan};

/// The address that every command listens on unless it is told otherwise: this
/// host alone.
const LISTEN: &str = "127.0.0.1:8080";

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
    },
}

#[derive(Debug, Args)]
struct Listen {
    /// Address and port to listen on; may be given several times.
    #[arg(long = "listen", value_name = "ADDRESS:PORT", default_value = LISTEN, value_parser = address)]
    addresses: Vec<SocketAddr>,
    /// Threads that serve connections [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

/// An address and a port, as `--listen` takes them.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned()
    })
}

impl Listen {
    fn plan(self) -> Plan {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Plan { addresses: self.addresses, workers: self.workers.map_or(cores, usize::from) }
    }
}

/// Does what the command line says.
pub(crate) fn run() -> Result<()> {
    match Cli::parse().command {
        Command::Serve { directory, listen } => {
            let shown = directory.display().to_string();
            // Opened here so that a mistake is told before anything listens.
            Files::new(&directory).with_context(|| format!("cannot serve `{shown}`"))?;
            let subject = std::path::absolute(&directory).unwrap_or(directory);
            let named = subject.display().to_string();
            serve::run(&listen.plan(), &named, move || Files::new(&subject))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_has_the_promised_defaults_and_flags() {
        let Command::Serve { directory, listen } =
            Cli::try_parse_from(["sluicegate", "serve"]).unwrap().command;
        assert_eq!(directory, PathBuf::from("."));
        assert_eq!(listen.addresses, ["127.0.0.1:8080".parse().unwrap()]);
        let line = ["sluicegate", "serve", "/srv", "--listen", "[::1]:1", "--workers", "3"];
        let Command::Serve { directory, listen } = Cli::try_parse_from(line).unwrap().command;
        assert_eq!(directory, PathBuf::from("/srv"));
        assert_eq!(listen.plan().workers, 3);
        for bad in [["--listen", "8080"], ["--workers", "0"], ["--workers", "x"]] {
            let line = ["sluicegate", "serve"].into_iter().chain(bad);
            assert!(Cli::try_parse_from(line).is_err(), "{bad:?}");
        }
    }
}
