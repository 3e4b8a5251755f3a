//! Flags of every command that listens.

use std::net::SocketAddr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use sluicegate::{LocalityRule, Strategy};

use crate::config::parse::{self, STRATEGIES};
use crate::config::{self, LISTEN};
use crate::serve::{DRAIN, Plan};

#[derive(Debug, Args)]
pub(super) struct Listen {
    /// Address and port to listen on; may be given several times. Where a
    /// service manager has opened sockets, those are served [default:
    /// 127.0.0.1:8080].
    #[arg(long = "listen", value_name = "ADDRESS:PORT", value_parser = parse::address)]
    addresses: Vec<SocketAddr>,
    /// Threads that serve connections [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// The way in which content is sent: chosen by kind and size, or always the
    /// one named (for a bug or a measurement). `copy` is for files and memory,
    /// `sendfile` and `splice` for files, `zerocopy` for memory.
    #[arg(long, value_parser = strategies(), default_value = "auto")]
    strategy: Strategy,
}

/// The names that the configuration has for them.
fn strategies() -> impl TypedValueParser<Value = Strategy> {
    let names = STRATEGIES.map(|(name, _)| name);
    PossibleValuesParser::new(names).map(|given| {
        let known = STRATEGIES.into_iter().find(|(name, _)| *name == given);
        Strategy { forced: known.and_then(|(_, way)| way), ..Strategy::default() }
    })
}

impl Listen {
    pub(super) fn plan(self) -> Plan {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let is_default_address = self.addresses.is_empty();
        let default = LISTEN.parse().into_iter().collect();
        Plan {
            addresses: if is_default_address { default } else { self.addresses },
            is_default_address,
            workers: self.workers.map_or(cores, usize::from),
            strategy: self.strategy,
            access_log: None,
            spool_budget: 0,
            locality: LocalityRule::default(),
            limits: config::limits(),
            drain: DRAIN,
            user: None,
            admin: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        listen: Listen,
    }

    #[test]
    fn a_strategy_has_its_name_of_the_configuration() {
        let strategy = |name| {
            let line = Line::try_parse_from(["program", "--strategy", name]);
            line.map(|line| line.listen.plan().strategy.forced)
        };
        for (name, way) in STRATEGIES {
            assert_eq!(strategy(name).unwrap(), way);
        }
        let told = strategy("send").unwrap_err().to_string();
        assert!(told.contains("auto, copy, sendfile, splice, zerocopy"), "{told}");
        assert_eq!(Line::parse_from(["program"]).listen.plan().strategy, Strategy::default());
    }
}
