//! Flags of every command that listens.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use sluicegate::{LocalityRule, Strategy, Way};
use sluicegate_http::Limits;

use crate::config::{LISTEN, parse};
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
    #[arg(long, value_enum, default_value_t = StrategyName::Auto)]
    strategy: StrategyName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StrategyName {
    Auto,
    Copy,
    Sendfile,
    Splice,
    Zerocopy,
}

impl StrategyName {
    fn strategy(self) -> Strategy {
        let forced = match self {
            StrategyName::Auto => None,
            StrategyName::Copy => Some(Way::Copy),
            StrategyName::Sendfile => Some(Way::Sendfile),
            StrategyName::Splice => Some(Way::Splice),
            StrategyName::Zerocopy => Some(Way::Zerocopy),
        };
        Strategy { forced, ..Strategy::default() }
    }
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
            strategy: self.strategy.strategy(),
            access_log: None,
            locality: LocalityRule::default(),
            // Files take no request bodies: who sends one, of whatever size, is
            // to learn that the method is not allowed, and not that the body is
            // too large.
            limits: Limits { body: u64::MAX, ..Limits::default() },
            drain: DRAIN,
            user: None,
            admin: None,
        }
    }
}
