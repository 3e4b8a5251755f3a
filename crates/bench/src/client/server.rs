//! The server under load, as its client is told of it.

use anyhow::Result;
use clap::Args;

use crate::harness::cpu::{CoreTime, others_time, thread_time};
use crate::harness::distance::round_trip;

/// Where the server runs, for its accounts.
#[derive(Debug, Clone, Args)]
pub(crate) struct Server {
    /// The core of the server.
    #[arg(long = "server-cpu")]
    pub(crate) cpu: usize,
    /// The process of the server.
    #[arg(long = "server-pid")]
    pub(crate) pid: u32,
    /// Processes that are no noise.
    #[arg(long)]
    apart: Vec<u32>,
}

impl Server {
    /// Round trip between its core and that of this thread, in nanoseconds.
    pub(crate) fn distance(&self) -> Result<f64> {
        round_trip(self.cpu)
    }

    /// What its core was busy with so far.
    pub(crate) fn core(&self) -> Result<CoreTime> {
        CoreTime::read(self.cpu)
    }

    /// The time of its own threads so far, in seconds.
    pub(crate) fn threads(&self) -> Result<f64> {
        thread_time(self.pid)
    }

    /// That of all programs but it, its client and those that are no noise, in seconds.
    pub(crate) fn others(&self) -> Result<f64> {
        others_time(&[&[std::process::id(), self.pid][..], &self.apart].concat())
    }
}
